"""The error tree: exit codes, hints and install lines."""

import pytest

from hotlap.core import errors
from hotlap.core.errors import HotlapError, MissingExtraError, NotSupportedError, import_optional, unknown_name

EXIT_CODES = {
    "HotlapError": 1,
    "ConfigError": 2,
    "DataError": 2,
    "StudyError": 2,
    "DivergedError": 4,
    "RunFailedError": 5,
    "NotSupportedError": 7,
    "MissingExtraError": 7,
    "StorageError": 125,
}


def test_every_error_has_its_exit_code() -> None:
    tree = {
        name: value.exit_code
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, HotlapError)
    }
    assert tree == EXIT_CODES


@pytest.mark.parametrize(("name", "code"), EXIT_CODES.items())
def test_the_docstring_shows_the_tree_as_it_is(name: str, code: int) -> None:
    assert errors.__doc__ is not None
    line = next(line for line in errors.__doc__.splitlines() if name in line)
    assert str(code) in line.split()


def test_an_optional_package_that_is_there_is_returned() -> None:
    assert import_optional("json.decoder", "train").__name__ == "json.decoder"


def test_a_missing_optional_package_names_the_install_command() -> None:
    with pytest.raises(MissingExtraError) as caught:
        import_optional("no_such_package.part", "report")
    assert str(caught.value) == "no_such_package is not installed; run: pip install 'hotlap[report]'"
    assert isinstance(caught.value, NotSupportedError)


def test_an_unknown_name_is_told_with_the_nearest_and_all_known_ones() -> None:
    error = unknown_name("optimizer", "adam_torch", {"muon": 1, "adamw_torch": 2})
    assert str(error) == "unknown optimizer 'adam_torch'. Did you mean 'adamw_torch'? Known: adamw_torch, muon."


def test_a_name_like_none_of_the_known_gets_no_hint() -> None:
    assert str(unknown_name("task", "xyz", ["b", "a"])) == "unknown task 'xyz'. Known: a, b."
