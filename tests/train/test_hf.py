"""The backend hf: the Trainer takes the same steps as hotlap's own loop, from the same weights, in the same order."""

import itertools
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from hotlap.config.load import config_from_values
from hotlap.config.schema import GPTConfig
from hotlap.core.clock import TrainClock
from hotlap.core.errors import ConfigError, DivergedError
from hotlap.data.batches import Batch, collate
from hotlap.data.tokenizers import ByteTokenizer
from hotlap.models.gpt import GPT
from hotlap.train.evaluate import Evaluator
from hotlap.train.hf import IGNORED, TrainerTraining, hf_training_arguments, trainer_batch
from hotlap.train.hf_model import hf_model, own_weights, refuse_unsupported, share_weights
from hotlap.train.loop import Signs, Step, StepTimer, train_steps
from hotlap.train.parts import Parts

MakeParts = Callable[..., Parts]
SIGNS = Signs(lambda: 0.0, lambda: False)
PARITY = {
    "training.optim": "adamw_torch",
    "training.lr_scheduler_type": "linear",
    "training.warmup_steps": 5,
    "training.max_steps": 20,
    "training.max_grad_norm": 1.0,
    "training.gradient_accumulation_steps": 2,
    "training.padding": "longest",
}

pytestmark = pytest.mark.filterwarnings("default")  # other people's packages may warn


@pytest.fixture
def trainer_side() -> None:
    """Skip where the extra is not installed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pytest.importorskip("transformers")
        pytest.importorskip("accelerate")


needs_trainer = pytest.mark.usefixtures("trainer_side")


def own_steps(parts: Parts) -> list[Step]:
    return list(train_steps(parts, TrainClock(), StepTimer(), SIGNS))


def trainer_steps(parts: Parts, folder: Path, take: Callable[[Step], bool] = lambda _: False) -> list[Step]:
    """Train with the Trainer; `take` says of a step that it was enough."""
    steps: list[Step] = []

    def note(step: Step) -> bool:
        steps.append(step)
        return take(step)

    training = TrainerTraining(parts, folder)
    training.run(TrainClock(), StepTimer(), SIGNS, note)
    training.release()
    return steps


def test_a_batch_becomes_the_trainers() -> None:
    """Two rows, `ab` + `cd` + EOS and `a` + `b` + EOS; the labels are shifted by the model."""
    batch = Batch(
        input_ids=torch.tensor([[97, 98, 99, 100], [97, 98, 0, 0]]),
        target_positions=torch.tensor([1, 2, 3, 4, 5]),
        targets=torch.tensor([99, 100, 3, 98, 3]),
        num_tokens=6,
    )
    found = {name: tensor.tolist() for name, tensor in trainer_batch(batch).items()}
    assert found == {
        "input_ids": [[97, 98, 99, 100, 3], [97, 98, 3, 0, 0]],
        "attention_mask": [[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]],
        "labels": [[IGNORED, IGNORED, 99, 100, 3], [IGNORED, 98, 3, IGNORED, IGNORED]],
    }


def test_a_batch_of_the_task_loses_nothing(make_parts: MakeParts) -> None:
    parts = make_parts()
    examples = [parts.train[row] for row in range(5)]
    found = trainer_batch(collate(examples))
    for row, example in enumerate(examples):
        length = len(example.ids)
        assert found["input_ids"][row, :length].tolist() == example.ids.tolist()
        assert found["attention_mask"][row].sum() == length
        targets = found["labels"][row, example.prefix_length : length]
        assert targets.tolist() == example.ids[example.prefix_length :].tolist()
    assert (found["labels"] != IGNORED).sum() == sum(example.num_targets for example in examples)


def test_every_setting_that_the_trainer_has_nothing_for_is_named_at_once() -> None:
    patch = {
        "model.positions": "rope",
        "model.norm": "rms_norm",
        "model.qk_norm": True,
        "model.smear": True,
        "model.use_bias": False,
        "model.hidden_act": "swiglu",
        "training.optim": "muon",
        "training.lr_scheduler_type": "triangular",
        "training.padding": "packed",
        "training.head_learning_rate": 1e-3,
        "training.vector_weight_decay": 0.1,
        "training.measure_update_norm": True,
        "devices": 2,
    }
    with pytest.raises(ConfigError) as caught:
        refuse_unsupported(config_from_values({}, patch))
    assert [line.split(":")[0].strip() for line in str(caught.value).splitlines()[1:]] == list(patch)


@pytest.mark.parametrize("act", ["gelu_new", "gelu", "relu_squared"])
def test_what_gpt2_can_express_is_not_refused(act: str) -> None:
    patch = {"model.hidden_act": act, "model.tie_word_embeddings": False, "model.zero_init_projections": True}
    refuse_unsupported(config_from_values({}, {**patch, "training.optim": "sgd"}))


SHAPES = [
    {},
    {"hidden_act": "gelu", "intermediate_size": 24},
    {"hidden_act": "relu_squared", "tie_word_embeddings": False, "zero_init_projections": True},
]


def own_model(shape: dict[str, Any]) -> GPT:
    """Return a GPT with every weight drawn, so that biases and norms count."""
    torch.manual_seed(3)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "max_position_embeddings": 12}
    model = GPT(GPTConfig(**{**sizes, **shape}), ByteTokenizer.vocab_size)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.3)
    return model.eval()


def own_logits(model: GPT, ids: Tensor) -> Tensor:
    with torch.no_grad():
        return model.logits(model.hidden(ids))


@needs_trainer
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_models_say_the_same(shape: dict[str, Any]) -> None:
    own = own_model(shape)
    theirs = hf_model(own.config, ByteTokenizer(), dict(own.named_parameters())).eval()
    ids = torch.randint(ByteTokenizer.vocab_size, (3, 12))
    with torch.no_grad():
        torch.testing.assert_close(theirs(input_ids=ids).logits, own_logits(own, ids), atol=2e-5, rtol=1e-4)
    extra = 16  # its position for the last target, which is no input of ours
    assert sum(p.numel() for p in theirs.parameters()) == sum(p.numel() for p in own.parameters()) + extra


@needs_trainer
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_shared_weights_follow_and_released_ones_stay(shape: dict[str, Any]) -> None:
    own = own_model(shape)
    theirs = hf_model(own.config, ByteTokenizer(), dict(own.named_parameters())).eval()
    share_weights(theirs, own, own.config)
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.mul_(0.9)
    ids = torch.randint(ByteTokenizer.vocab_size, (3, 12))
    with torch.no_grad():
        torch.testing.assert_close(theirs(input_ids=ids).logits, own_logits(own, ids), atol=2e-5, rtol=1e-4)
    own_weights(own)
    before = own_logits(own, ids)
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.zero_()
    assert torch.equal(own_logits(own, ids), before)
    assert all(parameter.is_contiguous() for parameter in own.parameters())


@needs_trainer
def test_weights_without_a_place_are_refused() -> None:
    own = own_model({})
    state = {**dict(own.named_parameters()), "gate": torch.zeros(2)}
    with pytest.raises(ConfigError, match="differ in gate"):
        hf_model(own.config, ByteTokenizer(), state)


@needs_trainer
def test_the_settings_reach_the_trainer(make_parts: MakeParts, tmp_path: Path) -> None:
    patch = {
        "training.learning_rate": 2e-3,
        "training.lr_scheduler_type": "cosine",
        "training.warmup_ratio": 0.26,
        "training.adam_beta2": 0.95,
        "training.weight_decay": 0.1,
        "training.seed": 7,
        "training.gradient_accumulation_steps": 2,
    }
    arguments = hf_training_arguments(make_parts(patch), tmp_path)
    assert (arguments.learning_rate, arguments.adam_beta2, arguments.weight_decay) == (2e-3, 0.95, 0.1)
    assert arguments.get_warmup_steps(8) == 3
    assert (arguments.max_steps, arguments.gradient_accumulation_steps, arguments.seed) == (8, 2, 7)
    assert arguments.lr_scheduler_type == "cosine"
    assert str(arguments.device) == "cpu"


@needs_trainer
@pytest.mark.parametrize(
    "patch",
    [
        {},
        {"training.padding": "bucketed"},
        {"training.padding": "max_length", "training.optim": "adamw_torch_fused"},
        {
            "training.lr_scheduler_type": "cosine",
            "training.weight_decay": 0.1,
            "training.adam_beta2": 0.95,
            "model.hidden_act": "relu_squared",
            "model.tie_word_embeddings": False,
        },
        {"training.gradient_accumulation_steps": 1, "training.max_grad_norm": 0.05},
    ],
    ids=["longest", "bucketed", "max_length", "cosine", "clipped"],
)
def test_twenty_steps_have_the_losses_of_hotlaps_own(
    make_parts: MakeParts, tmp_path: Path, patch: dict[str, Any]
) -> None:
    own = own_steps(make_parts({**PARITY, **patch}))
    theirs = trainer_steps(make_parts({**PARITY, **patch}), tmp_path)
    assert len(own) == len(theirs) == 20
    for mine, other in zip(own, theirs, strict=True):
        assert other.loss == pytest.approx(mine.loss, abs=1e-5)
        assert other.learning_rate == pytest.approx(mine.learning_rate, rel=1e-9)
        assert other.grad_norm == pytest.approx(mine.grad_norm, rel=1e-3)
        assert (other.number, other.num_tokens, other.num_slots) == (mine.number, mine.num_tokens, mine.num_slots)
    assert own[-1].loss < own[0].loss


@needs_trainer
def test_our_model_has_the_trained_weights(make_parts: MakeParts, tmp_path: Path) -> None:
    own, theirs = make_parts(PARITY), make_parts(PARITY)
    own_steps(own)
    before = Evaluator(theirs).cheap_metrics()["eval_loss"]
    trainer_steps(theirs, tmp_path)
    losses = [Evaluator(parts).cheap_metrics()["eval_loss"] for parts in (own, theirs)]
    assert losses[1] == pytest.approx(losses[0], abs=1e-4)
    assert losses[1] < before - 1e-3


@needs_trainer
def test_only_the_steps_are_on_the_clock(make_parts: MakeParts, tmp_path: Path) -> None:
    ticks = itertools.count()
    clock, timer = TrainClock(lambda: float(next(ticks))), StepTimer()
    readings = []

    def take(step: Step) -> bool:
        readings.append(step.train_seconds)
        next(ticks)  # time that passes between the steps
        return False

    TrainerTraining(make_parts(PARITY), tmp_path).run(clock, timer, SIGNS, take)
    assert readings == list(range(1, 21))
    assert all(seconds > 0 for part, seconds in timer.seconds.items() if part != "waiting")


@needs_trainer
def test_training_ends_where_it_was_enough(make_parts: MakeParts, tmp_path: Path) -> None:
    steps = trainer_steps(make_parts(PARITY), tmp_path, lambda step: step.number == 3)
    assert [step.number for step in steps] == [1, 2, 3]


@needs_trainer
def test_a_loss_that_is_not_a_number_ends_the_training(make_parts: MakeParts, tmp_path: Path) -> None:
    parts = make_parts(PARITY)
    with torch.no_grad():
        parts.model.embedding.weight[ord("<")] = float("nan")
    with pytest.raises(DivergedError, match=r"the training loss is nan .* at step 1; lower the learning rate"):
        trainer_steps(parts, tmp_path)


@needs_trainer
@pytest.mark.parametrize("rows", [1, 3, 1000])
def test_the_trainers_own_eval_loss_is_weighted_by_rows(make_parts: MakeParts, tmp_path: Path, rows: int) -> None:
    parts = make_parts({"training.per_device_eval_batch_size": rows})
    training = TrainerTraining(parts, tmp_path)
    state = torch.get_rng_state()
    found = training.row_weighted_loss()
    assert torch.equal(torch.get_rng_state(), state)
    parts.model.eval()
    total = 0.0
    for start in range(0, len(parts.eval), rows):
        examples = [parts.eval[row] for row in range(start, min(start + rows, len(parts.eval)))]
        batch = collate(examples)
        with torch.no_grad():
            hidden = parts.model.hidden(batch.input_ids).flatten(0, 1)[batch.target_positions]
            loss = torch.nn.functional.cross_entropy(parts.model.logits(hidden), batch.targets)
        total += len(examples) * loss.item()
    assert found == pytest.approx(total / len(parts.eval), abs=1e-5)
    by_tokens = Evaluator(parts).cheap_metrics()["eval_loss"]
    assert (found == pytest.approx(by_tokens, abs=1e-5)) == (rows == 1000)
