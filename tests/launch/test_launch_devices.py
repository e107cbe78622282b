"""Which devices a run gets, on machines with any number of GPUs."""

import pytest

from hotlap.core.errors import NotSupportedError
from hotlap.launch import devices
from hotlap.launch.devices import devices_notice, run_devices, visible_gpus


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A machine with three GPUs."""

    class Reader:
        def names(self) -> list[str]:
            return ["Toy, 8 GiB"] * 3

        def close(self) -> None:
            pass

    monkeypatch.setattr(devices, "GpuReader", Reader)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return monkeypatch


@pytest.mark.usefixtures("gpus")
def test_each_process_gets_a_gpu() -> None:
    assert run_devices() == ("cuda:0",)
    assert run_devices(3) == ("cuda:0", "cuda:1", "cuda:2")
    assert run_devices(2, use_cpu=True) == ("cpu",)


def test_too_few_gpus_are_refused(gpus: pytest.MonkeyPatch) -> None:
    with pytest.raises(NotSupportedError, match="devices: 4 needs 4 GPUs, this machine shows 3; set devices: 3"):
        run_devices(4)
    gpus.setenv("CUDA_VISIBLE_DEVICES", "2")
    with pytest.raises(NotSupportedError, match=r"this machine shows 1; .* CUDA_VISIBLE_DEVICES"):
        run_devices(2)


@pytest.mark.parametrize(
    ("listed", "count"),
    [("", 0), ("-1", 0), ("1", 1), ("2,0", 2), (" 1 , 2 ", 2), ("0,9,1", 1), ("GPU-8a,MIG-1b", 2), ("0,,1", 1)],
)
def test_gpus_are_counted_as_cuda_does(gpus: pytest.MonkeyPatch, listed: str, count: int) -> None:
    gpus.setenv("CUDA_VISIBLE_DEVICES", listed)
    assert visible_gpus() == count
    assert run_devices() == (("cuda:0",) if count else ("cpu",))


def test_without_gpus_all_processes_share_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "visible_gpus", lambda: 0)
    assert run_devices(4) == ("cpu",)


def test_sharing_the_cpu_is_told_once_and_nothing_else() -> None:
    assert "2 processes share the cores" in devices_notice(2, ("cpu",))
    assert devices_notice(1, ("cpu",)) == devices_notice(2, ("cuda:0", "cuda:1")) == ""
