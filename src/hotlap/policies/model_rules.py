"""Rules about the model and the machine: precision, padding, positions, norms, initialisation, look-back, shape."""

from collections.abc import Iterator, Mapping
from typing import Final

from hotlap.policies.evidence import Evidence
from hotlap.policies.ideas import Idea, Rule
from hotlap.policies.measured_speed import measured_ratio, measured_steps


def precision(evidence: Evidence) -> Iterator[Idea]:
    """bf16 where the hardware multiplies it; elsewhere it would be slower. A bench that measured it knows better."""
    if evidence.config.training.bf16 or not evidence.environment.get("bf16_is_fast"):
        return
    if measured_ratio(evidence, "training.bf16", True) is not None:
        return
    yield Idea(
        family="precision",
        title="bf16",
        observation=(
            f"The forward and backward passes take "
            f"{evidence.share_of_step('forward') + evidence.share_of_step('backward'):.0%} "
            f"of a step in fp32, and {evidence.environment.get('device_name')} multiplies bfloat16 in hardware."
        ),
        hypothesis="Under bf16 autocast each step is at least a quarter cheaper at the same loss.",
        patch={"training.bf16": True},
        predicted_ratio=0.7,
        confidence=0.7,
    )


def padding(evidence: Evidence) -> Iterator[Idea]:
    """Rows of like length in one batch leave little to pad."""
    share = evidence.metric("padding_ratio")
    if evidence.config.training.batch_order in ("bucketed", "packed") or not share > 0.03:
        return
    yield Idea(
        family="padding",
        title=f"padding {evidence.config.training.padding} → bucketed",
        observation=f"{share:.0%} of the tokens in a batch are padding.",
        hypothesis="Batches of rows of like length save that share of the work.",
        patch={"training.padding": "bucketed"},
        predicted_ratio=1 - 0.8 * share,
        confidence=0.7,
    )


def positions(evidence: Evidence) -> Iterator[Idea]:
    """A position table has to be learned row by row; rotary positions are there from the first step."""
    if evidence.gpt.positions == "rope":
        return
    yield Idea(
        family="positions",
        title="positions learned → rope",
        observation=(
            f"A learned table of {evidence.gpt.max_position_embeddings} positions is trained for only "
            f"{evidence.steps_to_target} steps."
        ),
        hypothesis="Rotary positions compare places by their distance without learning it first: a third fewer steps.",
        patch={"model.positions": "rope"},
        predicted_ratio=0.75,
        confidence=0.5,
    )


def look_back(evidence: Evidence) -> Iterator[Idea]:
    """Copying and most n-gram statistics need the previous token; give it instead of having it learned."""
    model = evidence.gpt
    if model.smear:
        return
    if model.num_hidden_layers > 1:
        layers = model.num_hidden_layers
        yield Idea(
            family="look_back",
            title=f"look-back (smear) in place of a layer ({layers} → {layers - 1})",
            observation=(
                f"The {layers} layers take {evidence.runs[-1].seconds_per_step * 1e3:.0f} ms a step. Copying takes two "
                "attentions in a row: one that looks at the token before, one that looks for its earlier occurrence."
            ),
            hypothesis="Mixing in the previous token's embedding does the first one's work, so a layer can go with it.",
            patch={"model.smear": True, "model.num_hidden_layers": layers - 1},
            predicted_ratio=0.65,
            confidence=0.55,
        )
    yield Idea(
        family="look_back",
        title="one-token look-back (smear)",
        observation=(
            f"eval_loss falls by {evidence.metric('eval_loss_gain_last_tenth'):.2f} nats over the last tenth of the "
            "clock: copying comes late, because the model first has to find out how to look at the token before."
        ),
        hypothesis=(
            "Mixing in the previous token's embedding gives each position its predecessor; the plateau shortens."
        ),
        patch={"model.smear": True},
        predicted_ratio=0.75,
        confidence=0.5,
    )


def normalisation(evidence: Evidence) -> Iterator[Idea]:
    """Weightless RMSNorm with normalised queries and keys: cheaper, and stable at higher learning rates."""
    model = evidence.gpt
    if not model.qk_norm:
        yield Idea(
            family="normalisation",
            title="QK-norm",
            observation=(
                f"Queries and keys are not normalised; their scale has to grow from initializer_range "
                f"{model.initializer_range:g} "
                f"before attention becomes sharp, over {evidence.steps_to_target} steps."
            ),
            hypothesis=(
                "Normalised queries and keys give sharp attention from the start and bear a higher learning rate."
            ),
            patch={"model.qk_norm": True},
            predicted_ratio=0.8,
            confidence=0.5,
        )
    if model.norm == "layer_norm":
        yield Idea(
            family="normalisation",
            title="LayerNorm → RMSNorm",
            observation=(
                f"{2 * model.num_hidden_layers + 1} LayerNorms with weights and biases stand in the forward pass."
            ),
            hypothesis="RMSNorm without weights does less work and trains alike.",
            patch={"model.norm": "rms_norm"},
            predicted_ratio=0.93,
            confidence=0.45,
        )


def initialisation(evidence: Evidence) -> Iterator[Idea]:
    """Blocks that start as the identity let the first gradients through."""
    model = evidence.gpt
    if not model.zero_init_projections:
        yield Idea(
            family="initialisation",
            title="zero-initialised projections",
            observation=(
                f"The projections into the residual stream start at random with deviation {model.initializer_range:g}."
            ),
            hypothesis="Starting them at zero lets the embedding and head learn first, undisturbed.",
            patch={"model.zero_init_projections": True},
            predicted_ratio=0.9,
            confidence=0.35,
        )
    if model.tie_word_embeddings:
        yield Idea(
            family="initialisation",
            title="untied head",
            observation=(
                "One table serves as embedding and head; with 256 tokens a second one costs "
                f"{256 * model.hidden_size / max(1, evidence.environment.get('num_parameters', 1)):.0%} more "
                f"parameters."
            ),
            hypothesis="Apart, each takes the scale that it needs.",
            patch={"model.tie_word_embeddings": False},
            predicted_ratio=0.88,
            confidence=0.35,
        )


def activation(evidence: Evidence) -> Iterator[Idea]:
    """ReLU² is cheaper than GELU and does as well or better in small models."""
    if evidence.gpt.hidden_act not in ("gelu_new", "gelu"):
        return
    yield Idea(
        family="activation",
        title=f"{evidence.gpt.hidden_act} → relu_squared",
        observation=(
            f"{evidence.gpt.hidden_act} is evaluated {4 * evidence.gpt.hidden_size} times a "
            f"token and layer; the "
            f"forward pass takes {evidence.share_of_step('forward'):.0%} of a step."
        ),
        hypothesis="ReLU² costs less and learns at least as fast.",
        patch={"model.hidden_act": "relu_squared"},
        predicted_ratio=0.9,
        confidence=0.45,
    )


def biases(evidence: Evidence) -> Iterator[Idea]:
    """Linear layers behind a norm hardly need biases."""
    if not evidence.gpt.use_bias:
        return
    yield Idea(
        family="biases",
        title="no biases",
        observation=(
            f"Every linear layer has a bias; the optimizer takes {evidence.share_of_step('optimizer'):.0%} of a step."
        ),
        hypothesis="Without biases there are fewer small tensors to add and to update.",
        patch={"model.use_bias": False},
        predicted_ratio=0.97,
        confidence=0.35,
        simplifies=True,
    )


def depth(evidence: Evidence) -> Iterator[Idea]:
    """Fewer layers take cheaper steps, more layers need fewer of them."""
    layers = evidence.gpt.num_hidden_layers
    if layers > 1:
        yield _shape(
            evidence,
            title=f"layers {layers} → {layers - 1}",
            hypothesis="The task does not need that depth; steps get cheaper by almost a layer.",
            patch={"model.num_hidden_layers": layers - 1},
            predicted_ratio=0.65,
            confidence=0.55 if evidence.gpt.smear or layers > 2 else 0.25,
        )
    yield _shape(
        evidence,
        title=f"layers {layers} → {layers + 1}",
        hypothesis="A deeper model needs so many fewer steps that it pays for their price.",
        patch={"model.num_hidden_layers": layers + 1},
        predicted_ratio=0.85,
        confidence=0.2,
    )


def width(evidence: Evidence) -> Iterator[Idea]:
    """The same trade for the width, with heads of the same size; and fewer, wider heads at the same width."""
    model = evidence.gpt
    now, heads = model.hidden_size, model.num_attention_heads
    if heads % 2 == 0:
        half = {"model.hidden_size": now // 2, "model.num_attention_heads": heads // 2}
        yield _shape(
            evidence,
            title=f"width {now} → {now // 2}",
            hypothesis="Half the width halves the cost of a step or better, and the task leaves room for it.",
            patch=half,
            predicted_ratio=0.8,
            confidence=0.2,
        )
        yield _shape(
            evidence,
            title=f"heads {heads} → {heads // 2}",
            hypothesis="Wider heads tell more positions apart, and fewer of them cost less.",
            patch={"model.num_attention_heads": heads // 2},
            predicted_ratio=0.9,
            confidence=0.35,
        )
        wider = {"model.hidden_size": now * 3 // 2, "model.num_attention_heads": heads * 3 // 2}
        yield _shape(
            evidence,
            title=f"width {now} → {now * 3 // 2}",
            hypothesis="A wider model learns more per step than its steps cost.",
            patch=wider,
            predicted_ratio=0.85,
            confidence=0.2,
        )


def _shape(
    evidence: Evidence,
    *,
    title: str,
    hypothesis: str,
    patch: Mapping[str, int],
    predicted_ratio: float,
    confidence: float,
) -> Idea:
    model = evidence.gpt
    return Idea(
        family="shape",
        title=title,
        observation=(
            f"{model.num_hidden_layers} layers of width {model.hidden_size} with {model.num_attention_heads} "
            f"heads take "
            f"{evidence.runs[-1].seconds_per_step * 1e3:.0f} ms a step and {evidence.steps_to_target} steps; "
            f"forward and backward "
            f"are {evidence.share_of_step('forward') + evidence.share_of_step('backward'):.0%} of a step."
        ),
        hypothesis=hypothesis,
        patch=patch,
        predicted_ratio=predicted_ratio,
        confidence=confidence,
        exempt_from_race_until=0.3,
    )


MACHINE_RULES: Final[tuple[Rule, ...]] = (measured_steps, precision, padding)
"""Rules that hold for any model."""

MODEL_RULES: Final[tuple[Rule, ...]] = (
    positions,
    look_back,
    normalisation,
    initialisation,
    activation,
    biases,
    depth,
    width,
)
