"""A sweep over the knobs of somebody else's command."""

from pathlib import Path

import pytest

from hotlap.config.sweep import load_sweep
from hotlap.core.errors import ConfigError

TEXT = """\
name: own
command: {run: "train --learning_rate {learning_rate} --depth {depth}"}
params: {learning_rate: 0.1, depth: 2}
search:
  metric: {name: val_loss, goal: minimize}
  params.learning_rate: {min: 0.01, max: 1.0, distribution: log_uniform_values}
  depth: {values: [1, 2, 3]}
"""


def test_knobs_go_by_their_name_with_or_without_the_section(tmp_path: Path) -> None:
    path = tmp_path / "hotlap.yaml"
    path.write_text(TEXT)
    space, _ = load_sweep(path)
    assert [parameter.key for parameter in space.parameters] == ["params.learning_rate", "params.depth"]
    assert (space.metric, space.goal) == ("val_loss", "minimize")
    assert space.refusal({"params.learning_rate": 0.5, "params.depth": 3}) == ""


def test_a_name_that_is_no_knob_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "hotlap.yaml"
    path.write_text(TEXT.replace("  depth: {values", "  dept: {values"))
    with pytest.raises(ConfigError, match=r"did you mean 'params\.depth'"):
        load_sweep(path)
