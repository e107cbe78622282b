"""The documentation agrees with the code."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from hotlap.cli.main import COMMANDS, GROUPS

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def test_the_configuration_reference_is_up_to_date() -> None:
    command = [sys.executable, str(ROOT / "scripts" / "configuration_reference.py"), "--check"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_in_the_docs_exist(page: Path) -> None:
    known = {command.__name__ for command in COMMANDS} | GROUPS.keys()
    text = page.read_text(encoding="utf-8")
    code = re.findall(r"```sh\n(.*?)```", text, flags=re.DOTALL) + re.findall(r"`(hotlap [^`\n]+)`", text)
    shown = re.findall(r"^hotlap ([a-z]+)", "\n".join(code), flags=re.MULTILINE)
    assert set(shown) <= known


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_in_the_docs_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)#]+)", page.read_text(encoding="utf-8")):
        assert link.startswith("http") or (page.parent / link).exists(), link


def test_the_readme_names_every_command() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    named = set(re.findall(r"hotlap ([a-z]+)", text))
    assert {command.__name__ for command in COMMANDS} | GROUPS.keys() <= named


def test_the_readme_leads_to_every_page() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert {f"docs/{page.name}" for page in PAGES[1:]} <= set(re.findall(r"\]\(([^)#]+)", text))
