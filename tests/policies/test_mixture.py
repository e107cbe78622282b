"""The mixture: pure, within the rules of any policy, and never the same recipe twice."""

import copy
import math
import random
from collections import Counter
from dataclasses import replace
from statistics import median
from typing import Any

import pytest
from histories import RECIPE, decide, incumbent_config, run, study
from hypothesis import given, settings
from hypothesis import strategies as st
from test_rules import BASES, RUNS, check

from hotlap.config.load import config_from_values, get_dotted
from hotlap.config.schema import RunConfig
from hotlap.core.records import History, Proposal
from hotlap.policies.landscape import landscape_of
from hotlap.policies.mixture import LEAST_SCORED, MixturePolicy
from hotlap.policies.rules import candidate_config
from hotlap.search.patches import patched


def settle(history: History, proposal: Proposal, seconds: float, outcome: str = "reached") -> History:
    """Discard a proposal after one run."""
    history = replace(history, proposals=(*history.proposals, proposal))
    number = proposal.number
    return decide(history, "discard", run(number, seconds, role="screen", outcome=outcome, run_id=f"r1{number:03}"))


def seconds_of(history: History, number: int) -> float:
    return seconds_of_config(candidate_config(history, number))


def seconds_of_config(config: RunConfig) -> float:
    """A smooth landscape: best at a learning rate of 3e-3 and a batch of 16."""
    training = config.training
    rate = math.log10(training.learning_rate / 3e-3) ** 2
    batch = training.per_device_train_batch_size
    assert isinstance(batch, int)
    return 30.0 * (1 + rate) * (1 + 0.2 * math.log2(batch * training.gradient_accumulation_steps / 16) ** 2)


def play(number: int, seed: int = 0) -> History:
    """Let the mixture propose, and let nothing be kept."""
    history = study()
    for _ in range(number):
        proposal = MixturePolicy(seed).propose(history)
        assert proposal is not None
        assert MixturePolicy(seed).propose(copy.deepcopy(history)) == proposal
        check(history, proposal)
        before = replace(history, proposals=(*history.proposals, proposal))
        history = settle(history, proposal, seconds_of(before, proposal.number))
    return history


def test_it_goes_on_without_repeating_itself() -> None:
    history = play(40)
    shares = Counter(p.proposer for p in history.proposals)
    assert set(shares) == {"sampler", "mutation", "prior"}
    assert shares["sampler"] > shares["mutation"] > shares["prior"]
    assert not any(p.proposer == "sampler" for p in history.proposals[: LEAST_SCORED - 1])
    assert len({repr(sorted(p.patch.items(), key=str)) for p in history.proposals}) == 40
    for proposal in history.proposals:
        assert proposal.family == "search"
        assert proposal.observation.count("recipes have a score") == 1
        assert "→" in proposal.title


def test_it_finds_the_good_region() -> None:
    history = play(40)
    landscape = landscape_of(history)
    assert landscape is not None
    times = [seconds_of(history, p.number) for p in history.proposals]
    sampled = [seconds_of(history, p.number) for p in history.proposals[20:] if p.proposer == "sampler"]
    generator, space = random.Random(0), landscape.coordinates.space
    anywhere = [space.mutate(landscape.parent_point, generator, 1.0, 10.0) for _ in range(60)]
    patches = [landscape.coordinates.patch(point) for point in anywhere]
    chance = [seconds_of_config(patched(landscape.parent, patch)) for patch in patches]
    assert min(times) < 36
    assert median(sampled) < 0.7 * median(chance)


def test_another_seed_proposes_something_else() -> None:
    assert MixturePolicy(0).propose(study()) != MixturePolicy(1).propose(study())
    assert MixturePolicy(0).propose(study()) == MixturePolicy(0).propose(study())


def test_schedules_end_within_the_incumbents_time_or_stay() -> None:
    history = play(40)
    lengths = [p.patch.get("training.max_steps") for p in history.proposals]
    changed = [steps for steps in lengths if steps is not None]
    assert changed
    step_seconds = 55.0 / 900
    for proposal in history.proposals:
        steps = proposal.patch.get("training.max_steps")
        if steps is not None and not proposal.patch.keys() & {"training.per_device_train_batch_size"}:
            layers = proposal.patch.get("model.num_hidden_layers", 2), proposal.patch.get("model.hidden_size", 128)
            if layers == (2, 128):
                assert steps * step_seconds <= 1.06 * 55


def test_a_hopeless_start_gets_proposals_too() -> None:
    history = study(runs=[run(seconds=300, outcome="missed", metrics={"eval_loss": 4.0})])
    proposal = MixturePolicy().propose(history)
    assert proposal is not None
    check(history, proposal)


def test_without_a_run_there_is_nothing_to_move() -> None:
    assert MixturePolicy().propose(History(clock="train", base_config=study().base_config)) is None


def test_a_space_that_is_used_up_ends_the_search(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hotlap.policies.landscape.Landscape.is_known", lambda self, config: True)
    assert MixturePolicy().propose(study()) is None


def test_the_numbers_of_the_observation_are_those_of_the_history() -> None:
    history = play(12)
    proposal = MixturePolicy().propose(history)
    assert proposal is not None
    assert proposal.observation.startswith("13 recipes have a score, 13 of them reached")
    best = min(range(1, 13), key=lambda number: seconds_of(history, number))
    assert f"#{best} (" in proposal.observation
    parent = incumbent_config(history).model_dump()
    for key in list(proposal.patch)[:1]:
        assert key.partition(".")[2] in proposal.title
        assert get_dotted(parent, key) != proposal.patch[key]


@given(
    base=st.fixed_dictionaries({}, optional=BASES),
    first=st.lists(RUNS, min_size=1, max_size=3),
    turns=st.lists(st.tuples(st.sampled_from(["keep", "discard", "crash"]), RUNS), max_size=5),
    clock=st.sampled_from(["train", "wall"]),
    seed=st.integers(0, 3),
)
@settings(deadline=None, max_examples=40)
def test_any_course_of_a_study_gets_sound_proposals(
    base: dict[str, Any], first: list[Any], turns: list[Any], clock: Any, seed: int
) -> None:
    history = replace(study(base, first), clock=clock)
    for verdict, record in turns:
        proposal = MixturePolicy(seed).propose(history)
        if proposal is None:
            break
        check(history, proposal)
        history = replace(history, proposals=(*history.proposals, proposal))
        history = decide(history, verdict, record)


def test_the_recipe_of_these_tests_is_one() -> None:
    assert config_from_values({}, RECIPE)
