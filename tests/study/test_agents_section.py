"""The section of an AGENTS.md."""

from hotlap.cli.main import app
from hotlap.study.agents_section import BEGIN, END, agents_section, with_agents_section


def test_the_section_is_put_at_the_end_and_replaced_there() -> None:
    once = with_agents_section("# Mine\n\nRules.", agents_section("a b.yaml"))
    assert once.startswith("# Mine\n\nRules.\n\n" + BEGIN)
    assert "hotlap propose 'a b.yaml' --json" in once
    again = with_agents_section(once + "\nMore of mine.\n", agents_section())
    assert again.count(BEGIN) == again.count(END) == 1
    assert "'a b.yaml'" not in again
    assert again.endswith("\nMore of mine.\n")
    assert with_agents_section("", agents_section()) == agents_section()


def test_its_commands_exist() -> None:
    names = {command.name or command.callback.__name__ for command in app.registered_commands if command.callback}
    text = agents_section()
    assert {"propose", "status", "report", "apply"} <= names
    for option in ("--observation", "--hypothesis", "--set", "--patch", "--json"):
        assert option in text
