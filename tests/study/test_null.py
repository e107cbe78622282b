"""Studies of changes that do nothing: they must keep little and claim almost nothing."""

import pytest
from simulated_study import SimulatedStudy, noisy, proposal

from hotlap.search import noise as noise_module
from hotlap.study.settings import StudySettings

TRIES = 20
SETTINGS = StudySettings(total_seconds=1e9, run_seconds=1e6, patience=TRIES + 1, calibrate_runs=3)


def count_false(sigma: float, studies: int, first_seed: int) -> tuple[int, int]:
    """Return the keeps that stand and the confirmed records over many studies of 20 idle proposals each."""
    keeps = records = 0
    for seed in range(first_seed, first_seed + studies):
        ideas = [proposal(1) for _ in range(TRIES)]
        study = SimulatedStudy(SETTINGS, noisy({0: 100.0}, sigma, seed), ideas)
        study.run()
        assert len(study.history.proposals) == TRIES
        keeps += len(study.history.kept())
        records += any(claim.confirmed for claim in study.history.claims)
    return keeps, records


def test_a_thousand_studies_of_nothing() -> None:
    total_records = 0
    for sigma, studies in ((0.05, 300), (0.1, 400), (0.25, 300)):
        keeps, records = count_false(sigma, studies, first_seed=round(1e6 * sigma))
        assert keeps <= studies, f"{keeps / studies} false keeps a study at sigma {sigma}"
        total_records += records
    assert total_records <= SETTINGS.alpha * 1000, f"{total_records} of 1000 studies claim a false record"


def test_without_the_margin_the_bound_would_break(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(noise_module, "MARGIN_SIGMAS", 0.0)
    keeps, _ = count_false(0.1, 40, first_seed=7)
    assert keeps > 40
