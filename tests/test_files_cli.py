"""Commands about bound files: by their names, with conflicts that are told, and how it stands."""

import json
import select
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from random import Random

import pytest
from typer.testing import CliRunner, Result

from phextsync.cli.main import app
from phextsync.conflicts import Conflict
from phextsync.files.bindings import BindingStore
from phextsync.files.conflict_log import ConflictLog
from phextsync.files.desk import FileDesk
from phextsync.files.reading import TEXT_BYTES_MAX
from phextsync.files.records import Records
from phextsync.index import CoordinateRange
from phextsync.replica.replicas import ReplicaSet
from phextsync.store.lmdb_store import LmdbStore
from phextsync.trust.authority import Authority, MeshKey
from phextsync.trust.identity import NodeIdentity
from phextsync.trust.permissions import Permissions
from sims.processes import Process, make_folder, mesh
from tests.command_users import CommandUser

_COORDINATE = "1.1.1/1.1.1/1.1.1"
_LOCAL = ["--no-mdns", "--host", "127.0.0.1", "--port", "0"]


class _User(CommandUser):
    """A person in a folder `home` with a directory `notes` that is bound at 7.*."""

    def __init__(self, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__(make_folder(home / "data"))
        self.home, self.notes = home, home / "notes"
        self._monkeypatch = monkeypatch
        monkeypatch.setenv("HOME", str(home))
        self.go("")
        assert self.run("bind", "notes", "--at", "7.*").exit_code == 0

    def go(self, folder: str) -> None:
        self._monkeypatch.chdir(self.home / folder)

    @contextmanager
    def scrolls(self) -> Iterator[ReplicaSet]:
        """Own the folder for a while."""
        store = LmdbStore(self.data)
        replicas = ReplicaSet(
            store, node_id=b"n" * 16, random=Random(1), wall_time_ms=lambda: 1_800_000_000_000
        )
        yield replicas
        replicas.commit()
        store.close(clean=True)

    def clash(self, name: str, *conflicts: Conflict, is_known: bool = True) -> None:
        """Let the node have seen that two sides changed lines of a file."""
        (bound,) = BindingStore(self.data).bindings()
        with self.scrolls() as replicas:
            log = ConflictLog(replicas, bytes.fromhex(bound.id))
            place = FileDesk(replicas, self.data).find(name).coordinate
            for conflict in conflicts:
                log.add(place, name, conflict, "laptop", is_known=is_known)


@pytest.fixture
def user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> _User:
    return _User(tmp_path, monkeypatch)


# -- names -----------------------------------------------------------------------------------


def test_a_file_is_read_and_written_by_any_of_its_names(user: _User) -> None:
    user.out("set", "notes/MEMORY.md", "one\n")
    user.out("append", "~/notes/MEMORY.md", "two")
    user.out("append", str(user.notes / "MEMORY.md"), "three")
    assert user.out("get", "MEMORY.md") == "one\ntwo\nthree\n"
    user.go("notes")
    assert user.out("get", "./MEMORY.md") == "one\ntwo\nthree\n"
    assert user.out("get", "../notes/MEMORY.md") == "one\ntwo\nthree\n"
    user.out("rm", "MEMORY.md")
    assert "there is no scroll at MEMORY.md in memory" in user.error("get", "MEMORY.md")


@pytest.mark.parametrize("text", ["a\0b", "a\x17b", "a" * (TEXT_BYTES_MAX + 1)])
@pytest.mark.parametrize("command", ["set", "append"])
def test_a_text_that_no_file_may_hold_leaves_no_name(user: _User, command: str, text: str) -> None:
    assert "expected" in user.error(command, "notes/new.md", "-", text=text)
    assert user.out("ls") == ""


def test_the_phext_is_that_of_the_directory(user: _User) -> None:
    user.out("bind", "work", "--at", "8.*", "--phext", "work")
    user.out("set", "work/plan.md", "one")
    assert user.out("get", "plan.md") == "one"
    assert user.out("ls", "*", "--phext", "work").endswith("work/plan.md: one\n")
    assert user.out("ls") == ""


def test_a_coordinate_is_what_it_was(user: _User) -> None:
    user.out("set", _COORDINATE, "text")
    (user.home / "1.1.1").mkdir()
    assert user.out("get", _COORDINATE) == "text"
    assert "expected nine numbers" in user.error("get", "1.1.1/1.1.1")


def test_an_unknown_name_is_one_line_that_says_what_was_expected(user: _User) -> None:
    for command in (["get"], ["rm"], ["log"], ["blame"], ["versions"], ["show", "--at", "1h"]):
        told = user.error(command[0], "none.md", *command[1:])
        assert told.startswith("expected a coordinate such as 1.5.2/3.7.3/9.1.1, or a file of a")
        assert str(user.notes) in told
    assert "has no file none.md, and had none, unless that has another name now" in user.error(
        "get", "notes/none.md"
    )
    assert "found the folder" in user.error("get", "notes")
    assert "hidden files" in user.error("set", "notes/.profile", "x")
    assert user.out("ls", "--json") == "[]\n"


def test_names_stand_beside_coordinates(user: _User) -> None:
    user.out("set", "notes/sub/MEMORY.md", "milk\n")
    user.out("set", _COORDINATE, "milk too\n")
    file = str(user.notes / "sub/MEMORY.md")
    rows = {row["coordinate"]: row for row in json.loads(user.out("ls", "--json"))}
    assert "file" not in rows.pop(_COORDINATE)
    assert [row["file"] for row in rows.values() if "file" in row] == [file]
    hits = json.loads(user.out("search", "milk", "--json"))
    assert sorted(hit.get("file", "") for hit in hits) == ["", file]
    assert "notes/sub/MEMORY.md: [milk]" in user.out("search", "milk", "--range", "notes")
    (user.notes / "sub").mkdir()
    user.go("notes/sub")
    assert user.out("ls", "MEMORY.md").endswith(" MEMORY.md: milk\n")


def test_a_directory_or_a_folder_stands_for_its_scrolls(user: _User) -> None:
    for name in ("a.md", "sub/b.md", "sub/c.md"):
        user.out("set", f"notes/{name}", name)
    user.out("set", _COORDINATE, "text")

    def listed(folder: str) -> list[str]:
        rows = json.loads(user.out("ls", folder, "--json"))
        return sorted(Path(row["file"]).name for row in rows if "file" in row)

    assert listed("notes") == ["a.md", "b.md", "c.md"]
    assert listed("notes/sub") == ["b.md", "c.md"]
    assert "found the folder" in user.error("search", "x", "--range", "notes/sub")
    user.out("export", "-", "--range", "notes/a.md")


def test_the_past_of_a_file_is_found_by_its_name(user: _User) -> None:
    user.out("history", "notes", "--keep", "forever")
    user.out("set", "notes/sub/a.md", "one\n")
    user.out("set", "notes/b.md", "other\n")
    (row,) = json.loads(user.out("log", "notes/sub/a.md", "--json"))
    assert (row["line"], row["file"]) == ("one", str(user.notes / "sub/a.md"))
    assert len(json.loads(user.out("versions", "sub/a.md", "--json"))) == 1
    assert user.out("blame", "notes/sub/a.md").endswith("one\n")
    user.out("rm", "notes/sub/a.md")
    user.out("rm", "notes/b.md")
    files = {row["file"] for row in json.loads(user.out("undelete", "--json"))}
    assert files == {str(user.notes / "sub/a.md"), str(user.notes / "b.md")}
    user.out("undelete", "notes/sub")
    assert user.out("get", "notes/sub/a.md") == "one\n"
    assert "no scroll" in user.error("get", "notes/b.md")
    user.out("undelete", "b.md")
    assert user.out("get", "b.md") == "other\n"


def test_an_older_text_of_a_file_is_restored_by_its_name(user: _User) -> None:
    user.out("history", "--keep", "forever")
    user.out("set", "notes/a.md", "one\n")
    (row,) = json.loads(user.out("versions", "a.md", "--json"))
    user.out("set", "notes/a.md", "two\n")
    moment = datetime.fromtimestamp(row["time_ms"] / 1000)
    assert user.out("show", "a.md", "--at", moment.isoformat()) == "one\n"
    user.out("restore", "notes/a.md", "--at", moment.isoformat())
    assert user.out("get", "notes/a.md") == "one\n"


# -- conflicts -------------------------------------------------------------------------------

_MILK = Conflict(2, "buy milk\n", "buy oat milk\n", "buy soy milk\n")
_TEA = Conflict(3, "tea\n", "green tea\n", "")


def _numbers(user: _User, *arguments: str) -> list[str]:
    return [row["number"] for row in json.loads(user.out("conflicts", *arguments, "--json"))]


def test_conflicts_are_listed_with_both_versions(user: _User) -> None:
    user.out("set", "notes/plan.md", "plan\nbuy oat soy milk\ngreen tea\n")
    user.out("set", "notes/other.md", "x")
    assert user.out("conflicts") == ""
    user.clash("plan.md", _MILK, _TEA)
    shown = user.out("conflicts").splitlines()
    number, rest = shown[0].split("  ", 1)
    assert rest.startswith("notes/plan.md, line 2  2027-")
    assert rest.endswith(" by laptop")
    assert shown[1:4] == ["  was     buy milk", "  mine    buy oat milk", "  theirs  buy soy milk"]
    assert shown[7] == "  theirs  (deleted)"
    assert [each[:8] for each in _numbers(user, "notes/plan.md")][:1] == [number]
    assert _numbers(user, "other.md") == []
    row = json.loads(user.out("conflicts", "--json"))[0]
    assert (row["path"], row["line"]) == (str(user.notes / "plan.md"), 2)
    assert (row["base"], row["mine"], row["theirs"]) == (_MILK.base, _MILK.mine, _MILK.theirs)
    assert "2 conflicts: see `phextsync conflicts`" in user.out("status")


@pytest.mark.parametrize(
    ("take", "settled"),
    [("mine", "buy oat milk\n"), ("theirs", "buy soy milk\n"), ("lines.txt", "buy both\n")],
)
def test_a_conflict_is_settled_by_one_side_or_by_other_lines(
    user: _User, take: str, settled: str
) -> None:
    (user.home / "lines.txt").write_text("buy both\n")
    user.out("set", "notes/plan.md", "plan\nbuy oat soy milk\nend\n")
    user.clash("plan.md", _MILK)
    (number,) = _numbers(user)
    user.out("conflicts", "--take", take, number[:6])
    assert user.out("get", "plan.md") == f"plan\n{settled}end\n"
    assert _numbers(user) == []
    assert "no conflict" not in user.out("status")


def test_what_settles_a_conflict_while_no_node_runs_may_meet_what_others_make_of_it(
    user: _User,
) -> None:
    user.out("set", "notes/plan.md", "plan\nbuy oat soy milk\nend\n")
    user.clash("plan.md", _MILK)
    user.out("conflicts", "--take", "mine", *_numbers(user))
    (bound,) = BindingStore(user.data).bindings()
    with user.scrolls() as replicas:
        records = Records(replicas, bytes.fromhex(bound.id))
        (before,) = (records.shared(place) for place in records.all_shared)
    assert before is not None
    assert before.text == "plan\nbuy oat soy milk\nend\n"


def test_where_it_is_not_known_what_others_had_it_is_not_told_and_not_taken(user: _User) -> None:
    user.out("set", "notes/plan.md", "plan\nbuy oat soy milk\nend\n")
    user.clash("plan.md", _MILK, is_known=False)
    assert "  theirs  (not known: no history says what others had)" in user.out("conflicts")
    assert json.loads(user.out("conflicts", "--json"))[0]["theirs"] is None
    (number,) = _numbers(user)
    assert "what others had is not known" in user.error("conflicts", "--take", "theirs", number)
    user.out("conflicts", "--take", "mine", number)
    assert user.out("get", "plan.md") == "plan\nbuy oat milk\nend\n"


def test_the_only_conflict_of_a_file_needs_no_number(user: _User) -> None:
    user.out("set", "notes/plan.md", "plan\nbuy oat soy milk\n")
    user.clash("plan.md", _MILK)
    user.out("conflicts", "--take", "-", "notes/plan.md", text="buy nothing\n")
    assert user.out("get", "plan.md") == "plan\nbuy nothing\n"


def test_a_conflict_whose_lines_are_gone_is_told_and_can_be_forgotten(user: _User) -> None:
    user.out("set", "notes/plan.md", "something else by now\n")
    user.clash("plan.md", _MILK)
    (number,) = _numbers(user)
    assert f"--forget {number[:8]}" in user.error("conflicts", "--take", "mine", number)
    assert _numbers(user) == [number]
    user.out("conflicts", "--forget", number[:8])
    assert _numbers(user) == []
    assert user.out("get", "plan.md") == "something else by now\n"


def test_what_names_no_conflict_is_refused(user: _User) -> None:
    user.out("set", "notes/plan.md", "plan\nbuy oat soy milk\ngreen tea\n")
    user.clash("plan.md", _MILK, _TEA)
    (number, _) = _numbers(user)
    assert "found none" in user.error("conflicts", "--take", "mine", "0123456789abcdef")
    assert "found 2 of them" in user.error("conflicts", "--take", "mine", "notes/plan.md")
    assert "expected the number" in user.error("conflicts", "--forget")
    assert "found both" in user.error("conflicts", "--take", "mine", "--forget", number)
    assert "found no file yours" in user.error("conflicts", "--take", "yours", number)
    assert len(_numbers(user)) == 2


# -- binding ---------------------------------------------------------------------------------


def test_a_range_that_the_certificate_does_not_let_read_is_not_bound(tmp_path: Path) -> None:
    mine = CoordinateRange.parse("7.*")
    permissions = Permissions.of({"memory": [mine]}, {})
    made = NodeIdentity.create(MeshKey.generate(b"k" * 32), "reader", b"n" * 32)
    authority = Authority.from_mesh_key(made.mesh_key or MeshKey.generate(b"k" * 32))
    certificate = authority.issue(made.key.public_key(), "reader", permissions=permissions)
    data = tmp_path / "data"
    NodeIdentity(made.key, certificate, authority.certificate).save(data)

    def bind(at: str, phext: str = "memory") -> Result:
        words = ["--data", str(data), "--phext", phext, "bind", str(tmp_path / "notes")]
        return CliRunner().invoke(app, [*words, "--at", at])

    for at, phext in (("8.*", "memory"), ("7.*", "other"), ("*", "memory")):
        told = str(bind(at, phext).exception)
        assert "expected a range that this node may read" in told
        assert "ask the administrator" in told
    assert not (tmp_path / "notes").exists()
    assert bind("7.*").exit_code == 0


def test_what_cannot_be_bound_says_why(user: _User) -> None:
    (user.home / "file").write_text("x")
    assert "found a file" in user.error("bind", "file", "--at", "8.*")
    assert "is bound already" in user.error("bind", "notes", "--at", "8.*")
    assert "apart from others" in user.error("bind", "notes/sub", "--at", "8.*")
    assert "is bound already" in user.error("bind", "other", "--at", "7.1.*")
    for at in ("7.1.1/1.1.1/1.*", "7", "x", "7.*.1"):
        assert "four free parts" in user.error("bind", "other", "--at", at)
    assert "expected a range" in user.error("bind", "other")
    assert "keys or data of a node" in user.error("bind", "data/sub", "--at", "8.*", "--create")
    assert "--create" in user.error("bind", "no/such/place", "--at", "8.*")
    assert "begin with a dot" in user.error("bind", "x", "--at", "8.*", "--phext", ".clients")
    assert "is not bound" in user.error("bind", "other", "--confirm")
    assert "one of the presets hermes" in user.error("bind", "other", "--preset", "amnesia")
    rows = json.loads(user.out("bindings", "--json"))
    assert [(row["directory"], row["range"], row["is_served"]) for row in rows] == [
        (str(user.notes), "7.*", False)
    ]


def test_a_directory_is_bound_by_a_preset_to_the_range_of_that(user: _User) -> None:
    assert "as of hermes, to 11.* of memory" in user.run("bind", "mem", "--preset", "hermes").stderr
    refused = user.error("bind", "mem", "--preset", "openclaw")
    assert refused.endswith("mem is bound already, to 11.* by the preset hermes")
    rows = {row["range"]: row["preset"] for row in json.loads(user.out("bindings", "--json"))}
    assert rows == {"7.*": "", "11.*": "hermes"}
    assert user.run("bind", "claw", "--preset", "openclaw", "--at", "5.*").exit_code == 0
    assert BindingStore(user.data).bindings()[0].range == CoordinateRange.parse("5.*")


def test_a_binding_that_was_kept_without_ends_is_one_to_everything(user: _User) -> None:
    kept = BindingStore(user.data)
    kept.path.write_text(kept.path.read_text().replace('"7.*"', '".."'))
    assert kept.bindings()[0].range.is_everything


# -- how it stands -----------------------------------------------------------------------------


def test_without_a_node_status_says_that_nothing_is_kept_in_step(user: _User) -> None:
    shown = user.out("status")
    assert f"directory {user.notes}: 7.* of memory" in shown
    assert "not kept in step" in shown
    checked = user.run("status", "--check")
    assert checked.exit_code == 1
    assert "no node runs" in checked.stdout


@pytest.mark.real
def test_status_names_what_is_left_alone_until_it_is_mended(user: _User) -> None:
    (user.notes / "photo.md").write_bytes(b"\x89PNG\0\xff")
    (user.notes / "good.md").write_text("text\n")
    process = Process(user.data, (), _LOCAL)
    process.start()
    try:

        def rows(status: dict[str, object]) -> list[dict[str, object]]:
            found = status["directories"]
            return found if isinstance(found, list) else []

        process.wait_until(
            lambda status: [rows(status)[0][name] for name in ("left_alone", "in_step")] == [1, 1]
        )
        assert "photo.md: expected UTF-8" in user.out("status")
        assert max(map(len, user.out("status").splitlines())) <= 80 + len(str(user.home))
        assert "1 file, 1 in step, 1 left alone; watched" in user.out("bindings")
        checked = user.run("status", "--check")
        reason = f"{user.notes / 'photo.md'}: expected UTF-8"
        assert (checked.exit_code, checked.stdout.count("\n")) == (1, 1)
        assert checked.stdout.startswith(reason)
        assert "is left alone: expected UTF-8" in user.error("get", "notes/photo.md")
        process.wait_until(lambda _: "photo.md" in process.log.read_text())
        assert process.log.read_text().count("photo.md") == 1
        command = [sys.executable, "-m", "phextsync.cli", "--data", str(user.data), "watch"]
        with subprocess.Popen([*command, "notes"], stdout=subprocess.PIPE) as watching:
            assert watching.stdout is not None
            try:
                while not select.select([watching.stdout], [], [], 0.05)[0]:
                    user.out("append", "notes/good.md", "more")
                assert watching.stdout.readline().split()[-1] == b"notes/good.md"
            finally:
                watching.kill()
        user.out("append", "notes/new.md", "by name")
        process.wait_until(lambda _: (user.notes / "new.md").exists())
        (user.notes / "photo.md").write_text("mended\n")
        process.wait_until(lambda status: rows(status)[0]["in_step"] == 3)
        process.wait_until(lambda _: user.run("status", "--check").exit_code == 0)
        assert "failed" not in process.log.read_text()
    finally:
        process.stop()


@pytest.mark.real
def test_a_check_names_a_peer_that_is_away(tmp_path: Path) -> None:
    with mesh(tmp_path, ["here", "there"], options=_LOCAL) as (a, b):
        a.start()
        b.options = (*b.options, "--peer", f"127.0.0.1:{a.status()['port']}")
        b.start()

        def check() -> Result:
            return CliRunner().invoke(app, ["--data", str(a.folder), "status", "--check"])

        a.wait_until(lambda status: len(status["peers"]) == 1)
        a.wait_until(lambda _: check().exit_code == 0)
        b.stop()
        a.wait_until(lambda status: not status["peers"])
        assert check().stdout.startswith("not connected: there")
