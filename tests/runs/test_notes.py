"""Notes: append only, whatever is written in them, by however many writers."""

import threading
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hotlap.core.errors import StorageError
from hotlap.core.study_folder import ProjectFolder
from hotlap.runs.notes import append_note, read_notes


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25, deadline=None)
@given(text=st.text(st.characters(exclude_categories=["Cs"])), tags=st.lists(st.text("ab c", max_size=4)))
def test_a_note_comes_back_as_it_was(project: ProjectFolder, text: str, tags: list[str]) -> None:
    note = append_note(project, "r0001", text, tuple(tags))
    assert read_notes(project)[-1] == note


def test_writers_do_not_disturb_each_other(project: ProjectFolder) -> None:
    threads = [threading.Thread(target=append_note, args=(project, f"r{i:04}", "x" * 5000)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(note.run_id for note in read_notes(project)) == [f"r{i:04}" for i in range(8)]


def test_notes_that_cannot_be_written_say_so(tmp_path: Path) -> None:
    project = ProjectFolder(tmp_path)
    assert read_notes(project) == []
    project.path.write_text("a file where the folder should be")
    with pytest.raises(StorageError, match="cannot write"):
        append_note(project, "r0001", "lost")
