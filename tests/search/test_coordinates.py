"""From configs to points and back: the same recipe, nothing of the protocol, and always a config that can be run."""

import json
import math
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hotlap.config.load import config_from_values, refuse_protocol_keys
from hotlap.config.schema import RunConfig
from hotlap.search.coordinates import Coordinates, make_coordinates, rest_of
from hotlap.search.pace import Pace, examples_per_step, step_work
from hotlap.search.patches import patched
from hotlap.search.recipes import Frame

STEP_SECONDS = 0.05
REFERENCE = 50.0


def config(patch: dict[str, Any] | None = None) -> RunConfig:
    plain = {
        "training.per_device_train_batch_size": 32,
        "training.learning_rate": 1e-3,
        "training.optim": "adamw_torch",
        "training.max_steps": 5000,
    }
    return config_from_values({}, {**plain, **(patch or {})})


def coordinates(parent: RunConfig, reference: float = REFERENCE, limit: float = math.inf) -> Coordinates:
    pace = Pace(work=step_work(parent), seconds_per_step=STEP_SECONDS, exponent=0.8)
    frame = Frame(parent=parent, base=config(), pace=pace, reference_seconds=reference, micro_batch_limit=limit)
    return make_coordinates(frame, [config()])


def point_of(parent: RunConfig) -> dict[str, Any]:
    return coordinates(parent).point(parent, STEP_SECONDS)


PARENTS = st.fixed_dictionaries(
    {},
    optional={
        "model.hidden_size": st.sampled_from([48, 96, 128]),
        "model.num_attention_heads": st.sampled_from([1, 2, 4]),
        "model.num_hidden_layers": st.integers(1, 4),
        "model.positions": st.sampled_from(["learned", "rope"]),
        "training.learning_rate": st.floats(1e-4, 1e-2),
        "training.optim": st.sampled_from(["adamw_torch", "adamw_torch_fused", "muon", "sgd", "adafactor"]),
        "training.lr_scheduler_type": st.sampled_from(["linear", "cosine", "constant", "triangular"]),
        "training.max_steps": st.sampled_from([-1, 1, 300, 5000]),
        "training.warmup_steps": st.sampled_from([0.0, 0.1, 50.0]),
        "training.weight_decay": st.sampled_from([0.0, 0.01]),
        "training.max_grad_norm": st.sampled_from([0.0, 0.5, 1.0]),
        "training.adam_beta2": st.sampled_from([0.95, 0.999]),
        "training.gradient_accumulation_steps": st.integers(1, 3),
        "training.per_device_train_batch_size": st.integers(1, 64),
        "devices": st.sampled_from([1, 2, 3]),
    },
)


@given(PARENTS, st.integers(0, 1000), st.floats(0.5, 500), st.sampled_from([4.0, math.inf]))
@settings(deadline=None, max_examples=150)
def test_any_point_is_a_config_that_can_be_run(
    patch: dict[str, Any], seed: int, reference: float, limit: float
) -> None:
    parent = config(patch)
    made = coordinates(parent, reference, limit)
    found = made.patch(made.space.sample_prior(random.Random(seed), 3.0))
    refuse_protocol_keys(found)
    child = config_from_values(parent.model_dump(mode="json"), found)
    assert json.dumps(child.model_dump(mode="json")) == json.dumps(patched(parent, found).model_dump(mode="json"))
    values = parent.model_dump(mode="json")
    for key, value in found.items():
        section, name = key.split(".")
        assert values[section][name] != value, key  # only what really changes
    if "training.max_steps" in found and child.training.max_steps > 20:
        seconds = child.training.max_steps * made.frame.pace.seconds_per_step_of(child)
        assert seconds <= 1.06 * reference  # rounded to two digits
    if "training.per_device_train_batch_size" in found:
        assert found["training.per_device_train_batch_size"] <= max(limit, 1)


@given(PARENTS)
@settings(deadline=None)
def test_going_to_where_one_is_changes_nothing(patch: dict[str, Any]) -> None:
    parent = config(patch)
    if -1 < parent.training.max_steps < 20 or examples_per_step(parent) % parent.devices:
        return  # a schedule of a step is made a little longer
    found = coordinates(parent).patch(point_of(parent))
    assert found.keys() <= {"training.per_device_train_batch_size", "training.gradient_accumulation_steps"}
    rows = found.get("training.per_device_train_batch_size", parent.training.per_device_train_batch_size)
    assert rows  # an odd batch becomes an even one only where it is far from one


def test_a_larger_batch_takes_a_larger_rate_and_fewer_steps() -> None:
    parent = config({"training.max_steps": 800, "training.lr_scheduler_type": "linear"})
    moved = {**point_of(parent), "examples_per_step": 128.0}
    found = coordinates(parent).patch(moved)
    assert found["training.per_device_train_batch_size"] == 128
    assert found["training.learning_rate"] == pytest.approx(2e-3)
    assert found["training.max_steps"] == pytest.approx(800 / 4**0.8, rel=0.02)  # steps take longer
    assert set(found) == {
        "training.per_device_train_batch_size",
        "training.learning_rate",
        "training.max_steps",
    }


def test_another_optimizer_takes_its_own_rate() -> None:
    parent = config({"training.optim_args": "eps=1e-6"})
    found = coordinates(parent).patch({**point_of(parent), "optim": "muon"})
    assert found["training.optim"] == "muon"
    assert found["training.optim_args"] is None
    assert found["training.learning_rate"] == pytest.approx(3e-3)  # as far from the usual rate as before
    back = coordinates(config({"training.optim": "muon"}))
    assert back.patch({**back.point(back.frame.parent, STEP_SECONDS), "optim": "adamw"})["training.optim"] == (
        "adamw_torch_fused"
    )


def test_a_batch_that_does_not_fit_is_made_in_several_passes() -> None:
    parent = config()
    found = coordinates(parent, limit=64).patch({**point_of(parent), "examples_per_step": 256.0})
    assert found["training.per_device_train_batch_size"] == 64
    assert found["training.gradient_accumulation_steps"] == 4
    automatic = config({"training.per_device_train_batch_size": "auto", "training.total_batch_size": 32})
    wanted = {**point_of(automatic), "examples_per_step": 64.0}
    assert coordinates(automatic).patch(wanted)["training.total_batch_size"] == 64


def test_the_schedule_is_no_longer_than_the_incumbents_time() -> None:
    short = config({"training.max_steps": 400})  # 20 s
    longer = coordinates(short).patch({**point_of(short), "horizon_seconds": 500.0})
    assert longer["training.max_steps"] == 1000
    far = config()  # 250 s, far behind the target
    assert coordinates(far).patch({**point_of(far), "horizon_seconds": 500.0}) == {}
    assert coordinates(far).patch({**point_of(far), "horizon_seconds": 25.0}) == {"training.max_steps": 500}


def test_a_schedule_in_seconds_or_epochs_becomes_one_in_steps() -> None:
    by_seconds = config({"training.schedule_by": "seconds", "budget.run": "2m"})
    assert point_of(by_seconds)["horizon_seconds"] == 120
    found = coordinates(by_seconds).patch({**point_of(by_seconds), "horizon_seconds": 25.0})
    assert found == {"training.schedule_by": "steps", "training.max_steps": 500}
    by_epochs = config({"training.max_steps": -1, "training.num_train_epochs": 2.0})
    assert coordinates(by_epochs).patch({**point_of(by_epochs), "horizon_seconds": 25.0}) == {"training.max_steps": 500}
    by_tokens = config({"training.schedule_by": "tokens", "training.max_tokens": 10**6, "training.warmup_ratio": 0})
    assert "horizon_seconds" not in coordinates(by_tokens).space.names


def test_warm_up_keeps_its_steps_but_takes_no_more_than_a_fifth() -> None:
    parent = config({"training.warmup_ratio": 0.02})  # 100 of 5000 steps
    found = coordinates(parent).patch({**point_of(parent), "horizon_seconds": 45.0})
    assert found == {"training.max_steps": 900, "training.warmup_steps": 100, "training.warmup_ratio": 0}
    found = coordinates(parent).patch({**point_of(parent), "horizon_seconds": 10.0})
    assert found["training.warmup_steps"] == 40
    assert coordinates(parent).patch({**point_of(parent), "warmup_steps": 1.0}) == {"training.warmup_ratio": 0}
    constant = config({"training.lr_scheduler_type": "constant"})
    assert coordinates(constant).patch({**point_of(constant), "warmup_steps": 60.0}) == {}


def test_arguments_that_count_steps_move_with_the_end() -> None:
    parent = config(
        {
            "training.lr_scheduler_type": "warmup_stable_decay",
            "training.lr_scheduler_kwargs": {"num_decay_steps": 1000, "min_lr_ratio": 0.1},
        }
    )
    made = coordinates(parent)
    found = made.patch({**made.point(parent, STEP_SECONDS), "horizon_seconds": 25.0})
    assert found["training.lr_scheduler_kwargs"] == {"num_decay_steps": 100, "min_lr_ratio": 0.1}
    other = made.patch({**made.point(parent, STEP_SECONDS), "lr_scheduler_type": "cosine"})
    assert other["training.lr_scheduler_kwargs"] == {}


def test_parts_of_the_project_stay_as_they_are() -> None:
    parent = config(
        {
            "training.optim": "mine:make",
            "training.lr_scheduler_type": "mine:schedule",
            "model": {"name": "mine:model"},
        }
    )
    made = coordinates(parent)
    assert set(made.space.names) == {"learning_rate_ratio", "examples_per_step"}
    for seed in range(20):
        found = made.patch(made.space.sample_prior(random.Random(seed)))
        assert not found.keys() & {"training.optim", "training.lr_scheduler_type", "training.max_steps"}
        config_from_values(parent.model_dump(mode="json"), found)


def test_the_rest_is_what_no_coordinate_tells() -> None:
    same = [config(), config({"training.learning_rate": 0.1, "training.seed": 7, "training.max_steps": 10})]
    assert rest_of(same[0]) == rest_of(same[1])
    for patch in ({"model.smear": True}, {"training.weight_decay": 0.1}, {"model.num_attention_heads": 2}):
        assert rest_of(config(patch)) != rest_of(config())
    assert rest_of(config({"model.num_attention_heads": 2, "model.hidden_size": 64})) == rest_of(config())
