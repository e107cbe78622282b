"""What a profiler's events amount to, on events written by hand: two steps of a hundred microseconds."""

import pytest

from hotlap.train.profiled_events import Event, Region, composition, family, gaps_in, merged, overlap, summarise

REGIONS = [
    Region(part, base + start, base + end)
    for base in (0.0, 10_000.0)
    for part, start, end in (("data", 0, 1000), ("forward", 1000, 2000), ("optimizer", 2000, 6000))
]


def events(base: float, pause: float = 0.0) -> list[Event]:
    """Return a step's events: the optimizer does nothing for its first three milliseconds."""
    return [
        Event("aten::mm", base + 1000, base + 1600 + pause, self_micros=590.0, num_bytes=4096, is_outermost=True),
        Event("aten::copy_", base + 1100, base + 1110, self_micros=10.0, num_bytes=64),
        Event("aten::add", base + 1700, base + 1720, self_micros=20.0, num_bytes=-64, is_outermost=True),
        Event("aten::_fused_adamw_", base + 5000, base + 6000, self_micros=1000.0, is_outermost=True),
    ]


def test_gaps_are_what_no_operator_covers() -> None:
    figures = summarise([*events(0.0), *events(10_000.0)], REGIONS, "cpu")
    forward, optimizer = figures["parts"]["forward"], figures["parts"]["optimizer"]
    assert forward["seconds"] == pytest.approx(1000e-6)
    assert forward["gap_seconds"] == pytest.approx(380e-6)
    assert forward["long_gap_seconds"] == 0.0
    assert forward["calls"] == 2
    assert optimizer["long_gap_seconds"] == pytest.approx(3000e-6)
    assert figures["parts"]["data"]["gap_seconds"] == pytest.approx(1000e-6)
    assert figures["device_busy_seconds"] == pytest.approx(1620e-6)
    assert figures["device_idle_ratio"] == pytest.approx(1 - 1620 / 6000)


def test_operators_are_added_up_by_name_for_one_step() -> None:
    figures = summarise([*events(0.0), *events(10_000.0)], REGIONS, "cpu")
    first = figures["operators"][0]
    assert (first["name"], first["calls"]) == ("aten::_fused_adamw_", 1)
    assert first["seconds"] == pytest.approx(1000e-6)
    assert sum(each["ratio"] for each in figures["operators"]) == pytest.approx(1.0)
    assert figures["memory"][0] == {**figures["memory"][0], "name": "aten::mm", "bytes": 4096.0}
    assert figures["families"] == pytest.approx(
        {"optimizer": 1e-3, "matmul": 590e-6, "element by element": 2e-5, "copies": 1e-5}
    )


def test_only_operators_that_nobody_called_are_kernels_of_a_cpu() -> None:
    figures = summarise([*events(0.0), *events(10_000.0)], REGIONS, "cpu")
    assert figures["kernels"] == 3
    assert figures["small_kernel_seconds"] == pytest.approx(20e-6)
    assert figures["kernel_seconds"] == pytest.approx(1620e-6)


def test_a_pause_in_one_of_three_steps_does_not_count() -> None:
    steps = [*events(0.0), *events(10_000.0, pause=90.0), *events(20_000.0)]
    regions = [*REGIONS, *(Region(one.part, one.start + 20_000, one.end + 20_000) for one in REGIONS[:3])]
    figures = summarise(steps, regions, "cpu")
    assert figures["kernel_seconds"] == pytest.approx(1620e-6)
    assert figures["parts"]["forward"]["gap_seconds"] == pytest.approx(380e-6)


def test_a_gpu_is_busy_with_its_kernels_alone() -> None:
    device = [Event("sm90_gemm", base + 1200, base + 1205, self_micros=5.0, on_device=True) for base in (0.0, 10_000.0)]
    figures = summarise([*events(0.0), *events(10_000.0), *device], REGIONS, "cuda")
    assert figures["device_busy_seconds"] == pytest.approx(5e-6)
    assert figures["parts"]["forward"]["device_seconds"] == pytest.approx(5e-6)
    assert [each["name"] for each in figures["operators"]] == ["sm90_gemm"]
    assert figures["kernels"] == 1 and figures["small_kernel_seconds"] == pytest.approx(5e-6)


def test_on_a_cpu_all_that_ran_is_the_work_of_a_step() -> None:
    compiled = Event("## Call CompiledFxGraph abc ##", 7000.0, 7300.0, self_micros=300.0, is_outermost=True)
    found = composition([*events(0.0), compiled, Event("aten::view", 900.0, 901.0, self_micros=1.0)], "cpu")
    assert found["num_operations"] == 5 and found["num_kernels"] == 0
    assert found["busy_seconds"] == pytest.approx(1921e-6)
    assert found["product_seconds"] == pytest.approx(590e-6)
    assert found["small_ratio"] == pytest.approx(1 / 6)
    assert (found["small_seconds"], found["small_product_seconds"]) == pytest.approx((31e-6, 0.0))


def test_the_optimizers_share_and_long_gaps_are_told_apart() -> None:
    found = composition(events(0.0), "cpu", REGIONS[:3])
    assert found["optimizer_num_operations"] == 1
    assert found["optimizer_busy_seconds"] == pytest.approx(1000e-6)
    assert found["optimizer_product_seconds"] == 0.0
    assert found["long_gap_seconds"] == found["optimizer_long_gap_seconds"] == pytest.approx(3000e-6)


def test_a_gap_of_a_millisecond_before_an_operator_of_the_forward_pass_is_long_and_waiting_for_data_is_none() -> None:
    regions = [Region("data", 0.0, 5000.0), Region("forward", 5000.0, 9000.0)]
    found = composition([Event("aten::mm", 7000.0, 8500.0, self_micros=1500.0, is_outermost=True)], "cpu", regions)
    assert (found["long_gap_seconds"], found["optimizer_long_gap_seconds"]) == (pytest.approx(2000e-6), 0.0)


def test_on_a_gpu_the_kernels_are_the_work_of_a_step() -> None:
    kernels = [
        Event(name, 1200.0, 1200.0 + micros, self_micros=micros, on_device=True)
        for name, micros in (("nvjet_tst_64x8", 40.0), ("flash_fwd_kernel", 8.0), ("elementwise_kernel", 2.0))
    ]
    found = composition([*events(0.0), Event("cudaLaunchKernel", 0.0, 1.0, self_micros=1.0), *kernels], "cuda")
    assert found["num_operations"] == 4 and found["num_kernels"] == 3
    assert found["busy_seconds"] == pytest.approx(50e-6)
    assert found["product_seconds"] == pytest.approx(48e-6)
    assert found["small_ratio"] == pytest.approx(2 / 3)
    assert (found["small_seconds"], found["small_product_seconds"]) == pytest.approx((10e-6, 8e-6))


def test_nothing_that_ran_is_no_work() -> None:
    assert set(composition([], "cuda").values()) == {0.0}


def test_intervals() -> None:
    found = merged([(5.0, 6.0), (0.0, 2.0), (1.0, 3.0), (3.0, 4.0)])
    assert found == [(0.0, 4.0), (5.0, 6.0)]
    assert overlap(found, 1.0, 5.5) == 3.5
    assert overlap([], 0.0, 1.0) == 0.0
    assert gaps_in(found, 1.0, 8.0) == [1.0, 2.0]
    assert gaps_in(found, 4.25, 4.75) == [0.5]
    assert gaps_in(found, 1.0, 2.0) == []


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("aten::addmm", "matmul"),
        ("aten::addmv_", "matmul"),
        ("aten::mv", "matmul"),
        ("nvjet_tst_128x256_64x4_2x1_v_bz_coopA_TNT", "matmul"),
        ("gemv2T_kernel_val", "matmul"),
        ("aten::_scaled_dot_product_flash_attention", "attention"),
        ("aten::_fused_adamw_", "optimizer"),
        ("ncclDevKernel_AllReduce_Sum_f32", "communication"),
        ("aten::gelu", "element by element"),
        ("aten::embedding", "indexing"),
        ("triton_poi_fused_add_0", "compiled"),
        ("triton_poi_fused_addmm_gelu_3", "compiled"),
        ("triton_red_fused_embedding_native_layer_norm_0", "compiled"),
        ("triton_tem_fused_addmm_7", "matmul"),
        ("aten::_log_softmax", "loss and softmax"),
    ],
)
def test_operators_have_kinds(name: str, kind: str) -> None:
    assert family(name) == kind
