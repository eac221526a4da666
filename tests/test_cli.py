"""The command line works the same with and without a running node; errors are one line."""

import json
import select
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from phextsync.control.answers import ToldChange, ToldScroll
from phextsync.control.client import Attachment
from phextsync.index import Coordinate
from sims.processes import PATIENCE_S, mesh
from tests.clocks import next_millisecond

pytestmark = pytest.mark.real

_A, _B = "1.1.1/1.1.1/1.1.1", "2.1.1/1.1.1/1.1.1"


class Cli:
    """The command on one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def run(self, *arguments: str, text: str = "") -> tuple[int, str, str]:
        """Return status, output and errors; line ends are those of the command."""
        done = subprocess.run(
            [sys.executable, "-m", "phextsync.cli", *arguments, "--data", str(self.folder)],
            input=text.encode(),
            capture_output=True,
            check=False,
        )
        return done.returncode, done.stdout.decode(), done.stderr.decode()

    def out(self, *arguments: str, text: str = "") -> str:
        """Return the output of a command that succeeds."""
        status, out, errors = self.run(*arguments, text=text)
        assert status == 0, errors
        return out

    def error(self, *arguments: str) -> str:
        """Return the one line of a command that fails."""
        status, _, errors = self.run(*arguments)
        assert status == 1
        assert errors.startswith("phextsync: ")
        assert errors.count("\n") == 1
        return errors


def _use(cli: Cli, folder: Path) -> None:
    """What a person does with texts, files and lists."""
    cli.out("set", _A, "one\n")
    cli.out("set", _A, "-", text="one and more\r\n")
    assert cli.out("get", _A) == "one and more\r\n"
    cli.out("set", _A, "one and more\n")
    cli.out("append", _A, "two")
    assert cli.out("get", _A) == "one and more\ntwo\n"
    cli.out("set", _B, "elsewhere", "--phext", "other")
    assert cli.out("search", "two").split(maxsplit=2)[::2] == [_A, "one and more [two]\n"]
    (hit,) = json.loads(cli.out("search", "else*", "--phext", "other", "--json"))
    assert (hit["coordinate"], hit["snippet"]) == (_B, "[elsewhere]")
    assert hit["score"] > 0
    assert "no scroll in 1.*" in cli.error("search", "else*", "--phext", "other", "--range", "1.*")
    assert "from 1 to 10000, found 0" in cli.error("search", "two", "--limit", "0")
    assert cli.out("near", _B) == f"    1  {_A}  one and more\n"
    (row,) = json.loads(cli.out("near", _A, "--phext", "other", "--count", "1", "--json"))
    found = {"distance": 1, "coordinate": _B, "bytes": 9, "first_line": "elsewhere"}
    assert row == found
    assert cli.out("near", _A, "--others", "--json") == "[]\n"
    assert cli.run("near", _A, "--others")[2] == "no other scrolls in * of memory\n"
    assert "from 1 to 2000, found 0" in cli.error("near", _A, "--count", "0")
    assert cli.out("ls") == f"{_A}         17  one and more\n"
    rows = json.loads(cli.out("ls", "2.*", "--phext", "other", "--json"))
    assert rows == [{"coordinate": _B, "bytes": 9, "first_line": "elsewhere"}]
    source, target = folder / "in.phext", folder / "out.phext"
    source.write_bytes("é\r\n\x17日\x01本".encode())
    cli.out("import", str(source), "--phext", "notes")
    cli.out("export", str(target), "--phext", "notes")
    assert target.read_bytes() == source.read_bytes()
    cli.out("export", str(target), "--phext", "notes", "--range", "2.*")
    assert target.read_bytes() == "\x01本".encode()
    source.write_text("other")
    cli.out("import", str(source), "--phext", "notes", "--keep")
    assert cli.out("get", _A, "--phext", "notes") == "é\r\n"
    cli.out("rm", _A)
    assert cli.out("ls") == ""
    status = json.loads(cli.out("status", "--json"))
    assert {row["name"]: row["scrolls"] for row in status["phexts"]} == {
        "memory": 0,
        "notes": 3,
        "other": 1,
    }
    assert "notes" in cli.out("status")


def test_commands_work_where_no_node_runs(tmp_path: Path) -> None:
    cli = Cli(tmp_path / "data")
    assert "phextsync join phextsync1-" in cli.out("init", "--name", "solo")
    _use(cli, tmp_path)
    assert "no node runs" in cli.error("watch")


def test_commands_work_while_a_node_runs_on_the_folder(tmp_path: Path) -> None:
    options = ["--no-mdns", "--host", "127.0.0.1", "--peer", "127.0.0.1:9"]
    with mesh(tmp_path, ["solo"], options=options) as (process,):
        process.start()
        _use(Cli(process.folder), tmp_path)
        process.wait_until(lambda status: "refused" in status["absent"][0]["reason"])
        shown = Cli(process.folder).out("status")
        assert "not connected" in shown
        assert "127.0.0.1:9" in shown
        assert "warning: memory: no connected peer holds *" in shown


def test_a_port_that_is_taken_is_one_line(tmp_path: Path) -> None:
    cli = Cli(tmp_path / "data")
    cli.out("init")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
        error = cli.error("up", "--no-mdns", "--host", "127.0.0.1", "--port", port)
    assert f"cannot listen on 127.0.0.1:{port}" in error


def test_watch_prints_each_change(tmp_path: Path) -> None:
    with mesh(tmp_path, ["solo"], options=["--no-mdns", "--host", "127.0.0.1"]) as (process,):
        process.start()
        with Attachment(process.folder) as watcher:
            next_change = watcher.watch("memory", "1.*")
            process.ask("set", "memory", _B, "outside")
            process.ask("set", "memory", _A, "inside")
            told = (ToldScroll(Coordinate.parse(_A), 6),)
            assert next_change() == ToldChange(None, "", None, told)


def test_watch_runs_a_command_for_each_change_and_one_that_fails_ends_nothing(
    tmp_path: Path,
) -> None:
    told = tmp_path / "told"
    command = f'read line; echo "$PHEXTSYNC_COORDINATE $line" >> {told}; exit 3'
    with mesh(tmp_path, ["solo"], options=["--no-mdns", "--host", "127.0.0.1"]) as (process,):
        process.start()
        watch = [sys.executable, "-m", "phextsync.cli", "watch", "1.*", "--exec", command]
        with subprocess.Popen(
            [*watch, "--data", str(process.folder)], stderr=subprocess.PIPE
        ) as watching:
            assert watching.stderr is not None
            deadline = time.monotonic() + PATIENCE_S
            try:
                while not select.select([watching.stderr], [], [], 0.05)[0]:
                    process.ask("as", "$(false)", "append", "memory", _A, "x")
                    assert time.monotonic() < deadline
                warned = watching.stderr.readline()
                process.ask("append", "memory", _A, "y")
                watching.stderr.readline()
            finally:
                watching.kill()
    assert warned == b"the command ended with status 3\n"
    coordinate, line = told.read_text().splitlines()[0].split(" ", 1)
    assert coordinate == _A
    assert json.loads(line)["label"] == "$(false)"


def test_a_command_of_watch_that_goes_on_is_ended_and_the_next_one_runs(tmp_path: Path) -> None:
    with mesh(tmp_path, ["solo"], options=["--no-mdns", "--host", "127.0.0.1"]) as (process,):
        process.start()
        command = [sys.executable, "-m", "phextsync.cli", "watch", "--data", str(process.folder)]
        with subprocess.Popen(
            [*command, "--exec", "sleep 20", "--exec-limit", "0.1"], stderr=subprocess.PIPE
        ) as watching:
            assert watching.stderr is not None
            deadline = time.monotonic() + PATIENCE_S
            try:
                for _ in range(2):
                    while not select.select([watching.stderr], [], [], 0.05)[0]:
                        process.ask("append", "memory", _A, "x")
                        assert time.monotonic() < deadline
                    told = watching.stderr.readline()
                    assert told == b"the command was ended: it ran for more than 0.1 s\n"
            finally:
                watching.kill()


@pytest.mark.parametrize("flags", [[], ["--json"]])
def test_watch_says_who_wrote_and_when_changes_were_missed(
    tmp_path: Path, flags: list[str]
) -> None:
    places = [f"1.1.1/1.1.1/1.{1 + i // 999}.{1 + i % 999}" for i in range(10_001)]
    with mesh(tmp_path, ["solo"], options=["--no-mdns", "--host", "127.0.0.1"]) as (process,):
        process.start()
        command = [sys.executable, "-m", "phextsync.cli", "watch", "1.*", *flags]
        with subprocess.Popen(
            [*command, "--data", str(process.folder)], stdout=subprocess.PIPE
        ) as watching:
            assert watching.stdout is not None
            deadline = time.monotonic() + PATIENCE_S
            try:
                while not select.select([watching.stdout], [], [], 0.05)[0]:
                    process.ask("as", "editor", "append", "memory", _A, "x")
                    assert time.monotonic() < deadline
                process.ask("import", "memory", False, [[place, "x"] for place in places])
                lines = [watching.stdout.readline()]
                while b"missed" not in lines[-1].replace(b'"missed": null', b""):
                    lines.append(watching.stdout.readline())
            finally:
                watching.kill()
    if flags:
        first = json.loads(lines[0])
        assert first.pop("bytes") > 0
        assert first == {"coordinate": _A, "origin": "", "label": "editor", "missed": None}
        assert json.loads(lines[-1]) == {"missed": "1.*"}
    else:
        assert lines[0].split()[::2] == [_A.encode(), b"here"]
        assert lines[0].endswith(b" here editor\n")
        assert lines[-1] == b"changes were missed: anything in 1.* may have changed\n"


def test_joining_by_code_makes_a_second_node_of_the_same_mesh(tmp_path: Path) -> None:
    first, second = Cli(tmp_path / "a"), Cli(tmp_path / "b")
    first.out("init")
    code = first.out("code").strip()
    second.out("join", code)
    assert second.out("code").strip() == code


def test_errors_are_one_line_and_change_nothing(tmp_path: Path) -> None:
    cli = Cli(tmp_path / "data")
    assert "there is no data folder" in cli.error("get", _A)
    assert "phextsync: " in cli.error("join", "phextsync1-nonsense")
    assert "no user here has the home" in Cli(Path("~no_such_user_here/data")).error("status")
    cli.out("init")
    cli.out("set", _A, "text")
    assert "exists already" in cli.error("init")
    assert "expected nine numbers" in cli.error("get", "1.1.1")
    assert "there is no scroll at" in cli.error("get", _B)
    assert "there is no scroll at" in cli.error("rm", _B)
    assert "a scroll break (U+0017) at offset 1" in cli.error("set", _A, "a\x17b")
    assert "expected the name of a phext" in cli.error("get", _A, "--phext", "a/b")
    bad = tmp_path / "bad.phext"
    bad.write_bytes(b"ok\xff")
    assert "found byte 0xff at offset 2" in cli.error("import", str(bad))
    bad.write_bytes(b"\x17" * 999 + b"far")
    assert "expected coordinates up to 999" in cli.error("import", str(bad))
    cli.out("import", str(bad), "--clamp", "--phext", "far")
    assert cli.out("get", _A) == "text"


def test_the_past_is_shown_by_node_and_time(tmp_path: Path) -> None:
    cli = Cli(tmp_path / "data")
    cli.out("init", "--name", "solo")
    assert cli.out("history", "--keep", "30d") == "history is kept for 30 days\n"
    cli.out("set", _A, "one\n")
    cli.out("append", _A, "two")
    first, second = cli.out("log", _A).splitlines()
    assert first.endswith("  solo  +4 -0  1: one")
    assert second.endswith("  solo  +4 -0  2: two")
    at = first.split("  ")[0]
    assert cli.out("show", _A, "--at", at) == "one\n"
    assert [line.split() for line in cli.out("blame", _A).splitlines()] == [
        ["solo", *at.split(), "one"],
        ["solo", *second.split("  ")[0].split(), "two"],
    ]
    assert "expected a time" in cli.error("show", _A, "--at", "yesterday")
    assert "expected a time" in cli.error("history", "--keep", "soon")


def test_without_history_the_commands_say_how_to_keep_it(tmp_path: Path) -> None:
    cli = Cli(tmp_path / "data")
    cli.out("init", "--name", "solo")
    how = "no history is kept here: phextsync history --keep 30d"
    assert how in cli.error("undelete", "2.*")
    assert how in cli.run("undelete")[2]
    assert how in cli.error("undelete", _A)
    assert how in cli.error("versions", _A)


def test_what_was_deleted_or_overwritten_is_brought_back(tmp_path: Path) -> None:
    with mesh(tmp_path, ["solo"], options=["--no-mdns", "--host", "127.0.0.1"]) as (process,):
        process.start()
        cli = Cli(process.folder)
        process.ask("keep_history", 10**9, "memory", "*", False)
        for text in ("one\n", "one\ntwo\n"):
            process.ask("set", "memory", _A, text)
            next_millisecond()
        process.ask("set", "memory", _B, "text\n")
        first, second = cli.out("versions", _A).splitlines()
        assert first.endswith("  solo  4 bytes  +1 -0")
        assert second.endswith("  solo  8 bytes  +1 -0")
        cli.out("restore", _A, "--at", first.split("  ")[0])
        assert cli.out("get", _A) == "one\n"
        (row,) = json.loads(cli.out("versions", _A, "--last", "1", "--json"))
        assert (row["writers"], row["added"], row["removed"]) == (["solo"], 0, 1)
        assert "at which it had a text" in cli.error("restore", _A, "--at", "3d")
        assert "has text; --force replaces it" in cli.error("undelete", _A)
        for place in (_A, _B):
            process.ask("remove", "memory", place)
        listed = [line.split("  ")[1:] for line in cli.out("undelete").splitlines()]
        assert ["solo", _B, "5 bytes", "text"] in listed
        assert ["solo", _A, "4 bytes", "one"] in listed
        rows = json.loads(cli.out("undelete", "--json"))
        (row,) = (row for row in rows if row["coordinate"] == _B)
        assert (row["writer"], row["file"], row["first_line"]) == ("solo", None, "text")
        cli.out("undelete", _A)
        assert "expected one coordinate with --force" in cli.error("undelete", "2.*", "--force")
        assert "1 scroll brought back" in cli.run("undelete", "2.*")[2]
        assert process.ask("get", "memory", _A) == "one\n"
        assert process.ask("get", "memory", _B) == "text\n"
        process.ask("remove", "memory", _B)
        process.ask("set", "memory", _B, "other")
        cli.out("undelete", _B, "--force")
        assert process.ask("get", "memory", _B) == "text\n"
        assert cli.run("undelete")[2] == "nothing was deleted that is kept\n"


def test_history_is_set_by_range(tmp_path: Path) -> None:
    cli = Cli(tmp_path / "data")
    cli.out("init", "--name", "solo")
    assert cli.out("history", "--keep", "36h") == "history is kept for 36 hours\n"
    cli.out("history", "2.*", "--keep", "1d")
    assert cli.out("history", "3.*", "--keep", "none", "--phext", "other").splitlines() == [
        "history is kept for 36 hours",
        "in 2.* of memory it is kept for 1 day",
        "in 3.* of other it is not kept, but for the latest changes",
    ]
    cli.out("history", "2.*", "--keep", "default")
    assert json.loads(cli.out("history", "--json")) == [
        {"phext": None, "range": "*", "kept_ms": 36 * 3_600_000},
        {"phext": "other", "range": "3.*", "kept_ms": 0},
    ]
    assert "expected --keep with a range" in cli.error("history", "2.*")
    assert "expected a range or a phext" in cli.error("history", "--keep", "default")
    assert "expected a backup, or a coordinate with --at" in cli.error("restore", _A)


def test_deleted_files_are_listed_by_name(tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    notes.mkdir()
    (notes / "todo.md").write_text("milk\n")
    with mesh(tmp_path, ["solo"], options=["--no-mdns", "--host", "127.0.0.1"]) as (process,):
        cli = Cli(process.folder)
        cli.out("history", "--keep", "forever")
        cli.out("bind", str(notes), "--at", "7.*")
        process.start()
        while not cli.out("ls", "7.*").count("milk"):
            time.sleep(0.05)
        (notes / "todo.md").unlink()
        while not (rows := json.loads(cli.out("undelete", "--json"))):
            time.sleep(0.05)
        assert [(row["file"], row["first_line"]) for row in rows] == [
            (str(notes / "todo.md"), "milk")
        ]


def test_the_past_is_shown_while_a_node_runs(tmp_path: Path) -> None:
    with mesh(tmp_path, ["solo"], options=["--no-mdns", "--host", "127.0.0.1"]) as (process,):
        process.start()
        cli = Cli(process.folder)
        assert cli.out("history", "--keep", "forever") == "history is kept forever\n"
        process.ask("set", "memory", _A, "one")
        (row,) = json.loads(cli.out("log", _A, "--json", "--last", "1"))
        assert (row["line"], row["writers"], row["seen_here"]) == ("one", ["solo"], False)
        (line,) = json.loads(cli.out("blame", _A, "--json"))
        assert (line["text"], line["writer"], line["time_ms"]) == ("one", "solo", row["time_ms"])
        assert process.ask("show", "memory", _A, row["time_ms"]) == "one"
