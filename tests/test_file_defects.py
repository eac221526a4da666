"""The simulation of directories can fail: each test plants a defect and names what catches it.

Each runs the first seed that catches it, or a test of that one moment; the list is in
`docs/explanation/simulation.md`. When a change lets a run take another course, the next seed that
fails takes its place.
"""

import re
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext

import pytest

from phextsync.files import intake, late_writers
from phextsync.files.absences import Absences
from phextsync.files.intake import Intake, Taken
from phextsync.files.problems import Problems
from phextsync.files.reading import File, Found, Gone, Reader, Ways
from phextsync.files.root import Root
from phextsync.index import Coordinate
from sims import directories
from tests import test_files, test_settling
from tests.planted_files import (
    forget_intents,
    run_ahead_of_the_disk,
    write_before_the_intent,
    write_over_unseen,
)


def _caught(seed: int, by: str) -> None:
    """Check that a seed fails, and how. It is the first of them all that does."""
    failure, _ = directories.run(seed)
    assert failure is not None
    assert re.search(by, failure), failure


def test_a_record_ahead_of_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    run_ahead_of_the_disk(monkeypatch)
    _caught(1, "no rest: .*something else is in its place")


def test_a_file_that_was_never_here_taken_for_deleted(monkeypatch: pytest.MonkeyPatch) -> None:
    look_at = Intake._look_at

    def deletes(
        intake: Intake, coordinate: Coordinate, path: str, found: Found, taken: Taken
    ) -> None:
        if isinstance(found, Gone) and intake._records.get(coordinate) is None:
            intake._replica.edit(coordinate, "")
        look_at(intake, coordinate, path, found, taken)

    monkeypatch.setattr(Intake, "_look_at", deletes)
    _caught(0, "is lost")


def test_a_file_that_is_gone_for_a_moment_taken_for_deleted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Absences, "is_due", lambda absences, coordinate, now: True)
    _caught(2, "was deleted while its file was saved")


def test_a_name_whose_trouble_ends_the_round(monkeypatch: pytest.MonkeyPatch) -> None:
    def boundary(problems: Problems, path: str, now: float) -> AbstractContextManager[None]:
        return nullcontext()

    read = Reader._read

    def raises(reader: Reader, path: str, ways: Ways) -> Found:
        found = read(reader, path, ways)
        if not isinstance(found, File | Gone):
            raise OSError(5, found.reason)
        return found

    monkeypatch.setattr(Reader, "_read", raises)
    monkeypatch.setattr(Problems, "boundary", boundary)
    _caught(2, "no rest: .*rename it")


def _check_nothing(root: Root) -> bool:
    status = root._files.status("")
    assert status is not None
    root._reader.device, root._identity = status.device, (status.device, status.inode)
    root._read_ignore_file()
    return True


def test_a_directory_that_is_not_the_bound_one_taken_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Root, "check", _check_nothing)
    _caught(25, "is lost")


def test_a_directory_that_is_believed_when_another_took_its_place(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Root, "is_same", lambda root: True)
    _caught(218, "no rest: .*mount it")


def test_a_name_that_leads_out_of_the_directory_obeyed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("phextsync.files.names.check_name", lambda name: None)
    _caught(271, "no rest: .*up.md")


def test_a_deletion_of_most_names_that_is_not_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Absences, "_are_too_many", lambda absences, files, now: False)
    _caught(16, "was deleted with most of the files")


def test_intents_that_are_not_looked_at_after_a_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    forget_intents(monkeypatch)
    with pytest.raises(AssertionError):
        test_settling.test_what_came_and_is_deleted_after_a_crash_stays_deleted(
            True, True, lambda machine, path, text: machine.disk.put(path, text)
        )


def test_a_file_that_is_written_before_its_intent_is_durable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write_before_the_intent(monkeypatch)
    _caught(894, "is back")


def test_what_cannot_be_read_taken_for_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    gone = Reader.gone

    def read(reader: Reader, path: str, ways: Ways) -> Found:
        try:
            return reader.way_to(path, ways) or reader.read_file(path)
        except OSError:
            return Gone()

    def all_gone(reader: Reader, paths: Iterable[str]) -> dict[str, bool | None]:
        return {path: is_gone is not False for path, is_gone in gone(reader, paths).items()}

    monkeypatch.setattr(Reader, "_read", read)
    monkeypatch.setattr(Reader, "gone", all_gone)
    _caught(59, "is lost")


def test_a_file_that_is_back_taken_for_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    mesh = test_files.Mesh(2)
    mesh.join()
    monkeypatch.setattr(Absences, "missing", property(list))
    with pytest.raises(AssertionError):
        test_files.test_a_file_that_is_put_back_beside_one_that_is_like_it_stays_that_file(mesh)


def test_a_part_of_a_file_taken_for_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    mesh = test_files.Mesh(2)
    mesh.join()
    for module in (intake, late_writers):
        monkeypatch.setattr(module, "breaks_off", lambda before, text: False)
    with pytest.raises(AssertionError):
        test_files.test_a_file_that_is_written_in_parts_loses_nothing_meanwhile(mesh)


def test_a_file_that_is_written_over_unseen(monkeypatch: pytest.MonkeyPatch) -> None:
    write_over_unseen(monkeypatch)
    _caught(32, "is lost")
