"""How it stands with a bound directory: all of it for programs, a few lines for people."""

from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from phextsync.conflicts import Conflict
from phextsync.control.status import DirectoryRow, LeftAlone
from phextsync.files.binding import Situation
from phextsync.files.bindings import BindingStore, Bound
from phextsync.files.conflict_log import ConflictLog
from phextsync.files.desk import FileDesk
from phextsync.files.status import BindingStatus, lines_of, reasons_of, row_of
from phextsync.index import EVERYTHING, Coordinate, CoordinateRange
from phextsync.replica.past import FOREVER
from phextsync.replica.replicas import ReplicaSet
from phextsync.store.memory import MemoryStore
from phextsync.trust.permissions import Permissions
from sims.machines import RANGE
from sims.network import PHEXT
from tests.test_files import Mesh

_BOUND = Bound(Path("/home/me/notes"), "memory", CoordinateRange.parse("7.*"), "0a" * 8)
_NOW_MS = 1_800_000_000_000
_WELL = Situation(
    files=3,
    in_step=3,
    waiting=0,
    left_alone=(),
    refused=(),
    held=0,
    conflicts=0,
    last_merge_s=None,
    refused_lines=(),
    moved=(),
)


def _row(situation: Situation | None, problem: str = "", **changes: int) -> DirectoryRow:
    found = None if situation is None else replace(situation, **changes)  # type: ignore[arg-type]
    place = _BOUND.directory, _BOUND.phext, str(_BOUND.range)
    status = BindingStatus(*place, "watching", problem, found, (300, 10_000), 100.0)
    return row_of(_BOUND, status, _NOW_MS)


def _shown(row: DirectoryRow) -> str:
    lines = list(lines_of(row))
    assert all("\n" not in line for line in lines)
    return "\n".join(lines)


def test_a_directory_that_is_in_step_takes_two_lines_and_has_no_reasons() -> None:
    row = _row(_WELL)
    assert _shown(row) == ("directory /home/me/notes: 7.* of memory\n  3 files, 3 in step; watched")
    assert list(reasons_of(row)) == []


def test_times_are_those_of_the_wall() -> None:
    row = _row(replace(_WELL, last_merge_s=90.0, left_alone=(("a.md", "why", 40.0),)))
    assert row.last_merge_ms == _NOW_MS - 10_000
    assert row.reasons == (LeftAlone(path="a.md", reason="why", since_ms=_NOW_MS - 60_000),)
    assert "last written by a merge at 2027-01-1" in _shown(row)


def test_a_line_of_the_map_that_is_refused_is_told_by_its_beginning() -> None:
    row = _row(replace(_WELL, refused_lines=(("what?" + "x" * 1000, "expected a coordinate"),)))
    assert row.refused_lines == (("what?" + "x" * 75 + "...", "expected a coordinate"),)


def test_of_many_files_that_are_left_alone_the_first_are_shown_and_all_are_counted() -> None:
    left = tuple((f"{i}.md", "the disk is full", 0.0) for i in range(3000))
    row = _row(replace(_WELL, left_alone=left))
    shown = _shown(row)
    assert "3,000 left alone" in shown
    assert "left alone: 4.md: the disk is full" in shown
    assert "and 2,995 more: `phextsync status --json`" in shown
    assert "5.md" not in shown
    reasons = list(reasons_of(row))
    assert reasons[0] == "/home/me/notes/0.md: the disk is full"
    assert reasons[-1] == "/home/me/notes: 2,000 more files are refused or left alone"


def test_a_file_that_is_refused_waits_and_it_is_told_when_it_is_tried_again() -> None:
    row = _row(replace(_WELL, refused=(("a.md", "the disk is full", 40.0, 101.5),)))
    assert (row.waiting, row.refused, row.left_alone) == (1, 1, 0)
    (reason,) = row.reasons
    assert (reason.since_ms, reason.next_try_ms) == (_NOW_MS - 60_000, _NOW_MS + 1500)
    shown = _shown(row)
    assert "3 in step, 1 waiting; watched" in shown
    assert "waiting: a.md: the disk is full; tried again at 2027-01-1" in shown
    assert "/home/me/notes/a.md: the disk is full" in list(reasons_of(row))


def test_deletions_that_are_held_say_what_to_do() -> None:
    row = _row(_WELL, held=40)
    told = "40 files vanished at once: their deletion is held; put them back, or `phextsync bind "
    told += "--confirm /home/me/notes`"
    assert told in _shown(row)
    assert list(reasons_of(row)) == [f"/home/me/notes: {told}"]


def test_everything_that_is_not_in_step_is_a_reason() -> None:
    assert list(reasons_of(_row(_WELL, waiting=2))) == ["/home/me/notes: 2 files or scrolls wait"]
    refused = replace(_WELL, refused_lines=(("1.1 x", "expected nine numbers"),))
    (reason,) = reasons_of(_row(refused))
    assert reason.endswith("line of its map refused: 1.1 x: expected nine numbers")
    assert list(reasons_of(_row(None))) == ["/home/me/notes: being taken up"]
    assert list(reasons_of(_row(None, "no directory"))) == ["/home/me/notes: no directory"]
    (reason,) = reasons_of(row_of(_BOUND, None, _NOW_MS))
    assert "`phextsync up`" in reason


def test_conflicts_and_other_paths_are_told_and_are_in_step() -> None:
    row = _row(replace(_WELL, conflicts=1, moved=(("a", "a~file"),)))
    assert "1 conflict: see `phextsync conflicts`" in _shown(row)
    assert "a is at a~file, its own path is taken" in _shown(row)
    assert list(reasons_of(row)) == []


def test_a_directory_that_is_being_taken_up_says_how_far_it_is() -> None:
    assert "being taken up: 300 of 10,000 files" in _shown(_row(None))


@pytest.fixture
def replicas() -> ReplicaSet:
    return ReplicaSet(
        MemoryStore(), node_id=b"n" * 16, random=Random(1), wall_time_ms=lambda: _NOW_MS
    )


def test_bindings_that_cannot_be_read_are_a_reason(tmp_path: Path, replicas: ReplicaSet) -> None:
    BindingStore(tmp_path).path.write_text("[{")
    (row,) = FileDesk(replicas, tmp_path).status()
    assert "expected a list of bindings" in str(row.problem)


def test_conflicts_are_kept_as_long_as_history_is(replicas: ReplicaSet) -> None:
    log = ConflictLog(replicas, bytes(8))
    log.add(Coordinate(*[7] * 9), "a.md", Conflict(1, "a\n", "b\n", "c\n"), "")
    log.prune(FOREVER)
    log.prune(1000)
    assert len(log) == 1
    log.prune(-1)
    assert len(log) == 0


# -- on machines -----------------------------------------------------------------------------


def _mesh_with_reader() -> Mesh:
    """Return two machines that have a file, of which the second may only read."""
    mesh = Mesh(2)
    one, reader = mesh.machines
    reader.peer.replicas.permissions = Permissions.of({PHEXT: [EVERYTHING]}, {})
    mesh.join()
    one.disk.put("doc.md", "from one\n")
    mesh.pass_time(3)
    return mesh


def test_what_a_reader_changed_follows_again_once_it_is_so_elsewhere() -> None:
    mesh = _mesh_with_reader()
    one, reader = mesh.machines
    reader.disk.put("doc.md", "from one\nof both\n")
    mesh.pass_time(3)
    one.disk.put("doc.md", "from one\nof both\n")
    mesh.pass_time(3)
    assert reader.binding is not None
    assert not len(reader.binding.problems)
    one.disk.put("doc.md", "from one\nof both\nmore\n")
    mesh.pass_time(3)
    assert reader.visible() == {"doc.md": "from one\nof both\nmore\n"}


@pytest.mark.parametrize("is_changed", [False, True])
def test_a_rename_by_who_may_not_write_names_deletes_nothing(is_changed: bool) -> None:
    mesh = Mesh(2)
    one, member = mesh.machines
    but_names = CoordinateRange.parse("7.1.1/1.1.1/1.1.2..8.1.1/1.1.1/1.1.1")
    member.peer.replicas.permissions = Permissions.of({PHEXT: [RANGE]}, {PHEXT: [but_names]})
    mesh.join()
    one.disk.put("doc.md", "one\ntwo\n")
    mesh.pass_time(3)
    member.disk.rename("doc.md", "other.md")
    mesh.pass_time(1)
    if is_changed:
        member.disk.put("other.md", "one\ntwo\nthree\n")
    mesh.pass_time(60)
    assert one.visible() == {"doc.md": "one\ntwo\n"}
    assert member.binding is not None
    assert [p.path for p in member.binding.problems] == ["other.md"]
    member.start()
    mesh.pass_time(60)
    assert one.visible() == {"doc.md": "one\ntwo\n"}
    member.disk.rename("other.md", "doc.md")
    mesh.pass_time(10)
    assert one.visible() == member.visible()


def test_a_reader_has_the_files_and_its_own_changes_stay_with_it_and_are_told_once() -> None:
    mesh = _mesh_with_reader()
    one, reader = mesh.machines
    assert reader.visible() == {"doc.md": "from one\n"}
    status = reader.files.status("doc.md")
    assert status is not None
    assert not status.mode & 0o222
    assert reader.binding is not None
    reader.binding.problems.take_news()
    reader.disk.put("doc.md", "from one\nof the reader\n")
    mesh.pass_time(60)
    assert one.visible() == {"doc.md": "from one\n"}
    assert [p.path for p in reader.binding.problems.take_news()] == ["doc.md"]
    reader.disk.unlink("doc.md")
    mesh.pass_time(5)
    assert reader.visible() == one.visible() == {"doc.md": "from one\n"}
    assert len(reader.binding.problems) == 0


def test_a_file_that_a_reader_made_stays_with_it_and_is_told_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    mesh = _mesh_with_reader()
    one, reader = mesh.machines
    assert reader.binding is not None
    reader.disk.put("own.md", "of the reader\n")
    mesh.pass_time(60)
    (problem,) = reader.binding.problems.take_news()
    assert (problem.path, problem.due) == ("own.md", None)
    assert "may read these files and add none" in problem.reason
    one.disk.put("own.md", "from one\n")
    mesh.pass_time(60)
    (problem,) = reader.binding.problems.take_news()
    assert (problem.path, problem.due) == ("own.md", None)
    assert "remove the file to get it as it is elsewhere" in problem.reason
    assert reader.disk.text("own.md") == "of the reader\n"
    assert "merged" not in caplog.text
    reader.disk.unlink("own.md")
    mesh.pass_time(5)
    assert reader.visible() == one.visible()
    assert len(reader.binding.problems) == 0


def test_what_a_reader_changed_is_told_until_it_is_removed_though_it_is_deleted_elsewhere() -> None:
    mesh = _mesh_with_reader()
    one, reader = mesh.machines
    reader.disk.put("doc.md", "of the reader\n")
    mesh.pass_time(1)
    one.disk.unlink("doc.md")
    mesh.pass_time(4)
    assert reader.visible() == {"doc.md": "of the reader\n"}
    assert reader.binding is not None
    assert [p.path for p in reader.binding.problems] == ["doc.md"]
    reader.disk.unlink("doc.md")
    mesh.pass_time(3)
    reader.look_through()
    mesh.pass_time(1)
    assert reader.visible() == {}
    assert len(reader.binding.problems) == 0


def test_what_was_left_alone_is_told_where_it_lies_now() -> None:
    mesh = Mesh(1)
    (machine,) = mesh.machines
    mesh.pass_time(0.5)
    machine.disk.make_folders("keys")
    for name in ("identity.pem", "notes.md"):
        machine.disk.put(f"keys/{name}", "secret\n")
    mesh.pass_time(1)
    assert machine.binding is not None
    assert "keys/notes.md" in {p.path for p in machine.binding.problems}
    machine.disk.rename("keys", "moved")
    mesh.pass_time(1)
    machine.look_through()
    mesh.pass_time(1)
    assert {p.path for p in machine.binding.problems} == {"moved/"}


def test_a_line_that_two_sides_changed_apart_is_a_conflict_where_both_were_seen() -> None:
    mesh = Mesh(2)
    one, two = mesh.machines
    one.disk.put("plan.md", "plan\nbuy milk\n")
    mesh.settle()
    mesh.part()
    for machine, line in ((one, "buy oat milk"), (two, "buy soy milk")):
        machine.disk.put("plan.md", f"plan\n{line}\n")
    mesh.pass_time(3)
    mesh.settle()
    for machine, mine, theirs in ((one, "oat", "soy"), (two, "soy", "oat")):
        assert machine.binding is not None
        (logged,) = machine.binding.conflicts
        found = logged.conflict
        assert (logged.path, found.line, found.base) == ("plan.md", 2, "buy milk\n")
        assert found.mine == f"buy {mine} milk\n"
        assert found.theirs.split() == ["buy", theirs, "milk"]  # read off what the merge made
        assert machine.binding.situation().conflicts == 1


def _pause(mesh: Mesh, seconds: float) -> None:
    """Let time pass in which nothing arrives, and nobody knows."""
    end = mesh.network.now + seconds
    while mesh.network.now < end:
        mesh.network.now += 0.1
        for machine in mesh.machines:
            if machine.is_due():
                machine.work()


def _begun(count: int) -> Mesh:
    mesh = Mesh(count)
    mesh.join()
    mesh.machines[0].disk.put("plan.md", "plan\nbuy milk\n")
    mesh.settle()
    return mesh


def _told(mesh: Mesh) -> list[list[tuple[str, str]]]:
    found = []
    for machine in mesh.machines:
        assert machine.binding is not None
        logged = [each.conflict for each in machine.binding.conflicts]
        found.append([(each.mine, each.theirs) for each in logged])
    return found


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("ends", ["goes on", "is cut", "is cut by a crash"])
def test_a_line_that_two_sides_changed_in_a_short_pause_is_a_conflict_on_both(
    count: int, ends: str
) -> None:
    mesh = _begun(count)
    for machine, line in zip(mesh.machines, ("buy oat milk", "buy soy milk"), strict=False):
        machine.disk.put("plan.md", f"plan\n{line}\n")
        _pause(mesh, 0.8)
    if ends != "goes on":
        mesh.part()
        mesh.pass_time(3)
    if ends == "is cut by a crash":
        for machine in mesh.machines:
            mesh.network.crash(machine.number)
            machine.start()
    assert mesh.settle() == {"plan.md": "plan\nbuy oat soy milk\n"}
    oat, soy = "buy oat milk\n", "buy soy milk\n"
    told = [[(oat, soy)], [(soy, oat)]]
    assert _told(mesh) == [*told, []][:count]


def test_who_changes_a_line_knowing_what_another_made_of_it_meets_nobody() -> None:
    mesh = _begun(3)
    one, two, _ = mesh.machines
    for machine, line in ((one, "oat milk"), (two, "soy milk"), (one, "tea"), (two, "juice")):
        machine.disk.put("plan.md", f"plan\nbuy {line}\n")
        mesh.pass_time(1)
    one.disk.put("plan.md", "plan\nbuy beer\n")
    _pause(mesh, 0.3)
    place = next(c for c, text in one.peer.replica.scrolls() if text == "plan\nbuy beer\n")
    one.peer.replica.edit(place, "plan\nbuy wine\n")  # a program on the same machine
    assert mesh.settle() == {"plan.md": "plan\nbuy wine\n"}
    assert _told(mesh) == [[], [], []]
