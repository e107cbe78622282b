"""The examples of the page on fine-tuning are configs that load."""

import re
from pathlib import Path

from ruamel.yaml import YAML

from hotlap.config.load import config_from_values

PAGE = (Path(__file__).parents[2] / "docs" / "fine-tuning.md").read_text(encoding="utf-8")
CONFIGS = re.findall(r"```yaml\n(.*?)```", PAGE, flags=re.DOTALL)


def test_there_is_an_example_of_each_kind() -> None:
    names = [config_from_values(YAML(typ="safe").load(text)).task.name for text in CONFIGS]
    assert names == ["prompt_completion", "generator", "mixture"]
