"""What studies claim is true: whole studies on recipes whose true times are known (benchmarks/claims.py)."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from hotlap.search import drift, record
from hotlap.study import plan

ALPHA = plan.StudySettings().alpha


def load(name: str) -> ModuleType:
    """Return a benchmark as a module."""
    path = Path(__file__).parents[2] / "benchmarks" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"benchmark_{name}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[module.__name__] = module
    spec.loader.exec_module(module)
    return module


claims = load("claims")


@pytest.mark.parametrize(("studies", "tries"), [(20, 40), pytest.param(67, 100, marks=pytest.mark.slow)])
def test_studies_of_tries_that_do_nothing(studies: int, tries: int) -> None:
    findings = []
    for sigma in (0.05, 0.1, 0.25):
        found = claims.null_studies(sigma, studies, tries, first_seed=round(1e6 * sigma))
        assert found.kept_share <= 0.03, f"{found.kept_share:.1%} of the tries are kept at sigma {sigma}"
        findings += found.findings
    truth = claims.Truth(findings)
    assert all(finding.tries == tries for finding in findings)
    assert truth.false_record_bound <= 2 * ALPHA, f"{truth.studies_with_a_false_record} studies claim a false record"
    expected = truth.expected_false_keep_share
    assert expected / 2 < truth.kept_share < 2 * expected, "the journal's number of false keeps is not what happens"


@pytest.mark.parametrize("sigma", [0.05, 0.1])
def test_records_of_mixed_studies_are_true(sigma: float) -> None:
    truth = claims.mixed_studies(sigma, 25, first_seed=round(2e6 * sigma))
    assert len(truth.records) >= 25
    assert truth.false_record_share <= ALPHA
    assert 0.95 <= truth.mean_inflation <= 1.05
    assert truth.coverage >= 0.8


def test_a_record_without_its_test_would_be_false(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record, "look_alpha", lambda alpha: 1.0)
    truth = claims.null_studies(0.1, 20, tries=50, first_seed=5)
    assert truth.false_record_bound > 2 * ALPHA


@pytest.mark.parametrize("speed", [0.75, 1.25])
def test_a_machine_that_changes_its_speed_makes_no_keeps(speed: float, monkeypatch: pytest.MonkeyPatch) -> None:
    aware = claims.drifting_studies(0.05, speed, 30, first_seed=11)
    assert sum(finding.drifts > 0 for finding in aware.findings) >= 27
    assert aware.kept_share <= 0.03
    if speed < 1:
        monkeypatch.setattr(drift, "LEAST_DRIFT", 1e9)
        monkeypatch.setattr(plan, "PASSED_PROPOSALS", 10**9)
        assert claims.drifting_studies(0.05, speed, 30, first_seed=11).kept_share > aware.kept_share
