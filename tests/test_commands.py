"""Each command says what is meant, takes what its users give, and sends nothing to a terminal."""

import json
import os
import pty
import re
import resource
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

import phextsync
from phextsync.cli.main import app
from phextsync.node.invitations import SECRET_BYTES, InvitationCode
from phextsync.store.import_note import ImportNote, unfinished_imports
from phextsync.trust.authority import MeshKey
from phextsync.trust.certificates import PIN_BYTES
from phextsync.trust.identity import NodeIdentity
from sims.processes import Process, make_folder
from tests.engines import opened

_A = "1.1.1/1.1.1/1.1.1"
_B = "1.1.1/1.1.1/1.1.2"
_ESCAPES = "\x1b]0;title\x07\x1b[2J milk \x9b31m \u202e[/red]\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder of a node that does not run."""
    return make_folder(tmp_path / "data")


def _run(folder: Path, *arguments: str, text: str = "") -> Result:
    return CliRunner().invoke(app, ["--data", str(folder), *arguments], input=text)


def _out(folder: Path, *arguments: str, text: str = "") -> str:
    result = _run(folder, *arguments, text=text)
    assert result.exit_code == 0, (arguments, result.output, result.exception)
    return result.stdout


def _error(folder: Path, *arguments: str, text: str = "") -> str:
    result = _run(folder, *arguments, text=text)
    assert result.exit_code != 0, result.output
    is_ours = not isinstance(result.exception, SystemExit)
    return str(result.exception) if is_ours else result.stderr


def _process(*arguments: str, text: str = "") -> tuple[int, str, str]:
    command = [sys.executable, "-m", "phextsync.cli", *arguments]
    done = subprocess.run(command, input=text.encode(), capture_output=True, check=False)
    return done.returncode, done.stdout.decode(), done.stderr.decode()


# -- options and arguments -------------------------------------------------------------------


def test_options_that_all_commands_have_may_stand_before_them(tmp_path: Path) -> None:
    one, other = make_folder(tmp_path / "one"), make_folder(tmp_path / "other", "other")
    runner, place = CliRunner(), {"PHEXTSYNC_DATA": str(other)}
    before = ["--data", str(one), "--phext", "notes"]
    assert runner.invoke(app, [*before, "set", _A, "here"], env=place).exit_code == 0
    for words in (
        ["--data", str(one), "get", _A, "--phext", "notes"],
        [*before, "get", _A],
        ["--data", str(other), "get", _A, "--data", str(one), "--phext", "notes"],
    ):
        assert runner.invoke(app, words, env=place).stdout == "here"
    assert "there is no scroll" in runner.invoke(app, ["get", _A], env=place).stderr
    _out(one, "peers", "--json")
    assert _error(tmp_path / "none", "peers", "forget", "x").startswith("phextsync: there is no")


def test_the_version_is_told() -> None:
    assert phextsync.__version__ == version("phextsync")
    assert CliRunner().invoke(app, ["--version"]).stdout == f"phextsync {phextsync.__version__}\n"


@pytest.mark.real
def test_a_shell_can_complete_commands() -> None:
    command = [sys.executable, "-m", "phextsync.cli"]
    typed = {
        "_PHEXTSYNC_COMPLETE": "complete_bash",
        "COMP_WORDS": "phextsync exp",
        "COMP_CWORD": "1",
    }
    done = subprocess.run(command, env=os.environ | typed, capture_output=True, check=True)
    assert done.stdout.split() == [b"export"]


@pytest.mark.real
def test_a_text_that_begins_with_a_dash_is_told_of_two_dashes(folder: Path) -> None:
    status, _, errors = _process("set", _A, "-x", "--data", str(folder))
    assert status == 2
    assert errors.startswith("phextsync: No such option: -x")
    assert "set COORDINATE -- -text" in errors
    assert errors.count("\n") == 1
    _out(folder, "set", _A, "--", "-x")
    assert _out(folder, "get", _A) == "-x"


@pytest.mark.real
def test_a_file_that_is_not_there_is_one_line_without_numbers(folder: Path) -> None:
    status, _, errors = _process("import", str(folder / "none"), "--data", str(folder))
    assert (status, errors) == (1, f"phextsync: {folder / 'none'}: No such file or directory\n")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["ls"], "no scrolls in * of memory"),
        (["ls", "2.*", "--phext", "other"], "no scrolls in 2.* of other"),
        (["bindings"], "no directory is bound; `phextsync bind DIRECTORY --at RANGE` binds one"),
        (["peers"], "no peers are known yet"),
        (["log", _A], f"no changes of {_A} of memory are kept"),
        (["blame", _A], f"there is no text at {_A} in memory"),
        (["show", _A, "--at", "1h"], f"{_A} of memory had no text then"),
    ],
)
def test_who_finds_nothing_is_told_so_apart_from_the_output(
    folder: Path, words: list[str], says: str
) -> None:
    result = _run(folder, *words)
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", f"{says}\n")


@pytest.mark.real
@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["bind", "\udcff", "--at", "7.*"], "expected a directory whose path is UTF-8"),
        (["search", "x", "--limit", str(1 << 70)], f"found {1 << 70}"),
        (["export", "."], ".: Is a directory"),
        (["up", "--port", "65536"], "Invalid value for '--port'"),
        (["mcp", "--port", "-1"], "Invalid value for '--port'"),
    ],
    ids=str,
)
def test_an_argument_that_cannot_be_is_told(folder: Path, words: list[str], says: str) -> None:
    before = sorted(folder.parent.rglob("*"))
    status, _, told = _process(*words[:1], "--data", str(folder), *words[1:])
    assert status in (1, 2)
    assert says in told
    assert told.count("\n") == 1
    assert sorted(folder.parent.rglob("*")) == before


@pytest.mark.parametrize("is_there", [False, True])
def test_a_binding_that_cannot_be_written_leaves_nothing_in_the_directory(
    folder: Path, tmp_path: Path, is_there: bool
) -> None:
    notes = tmp_path / "notes"
    if is_there:
        notes.mkdir()
    (folder / "bindings.json.new").mkdir()  # in the way of the list
    told = _error(folder, "bind", str(notes), "--at", "7.*")
    assert told == f"{folder / 'bindings.json'} cannot be written: Is a directory"
    assert notes.exists() == is_there
    assert not is_there or not any(notes.iterdir())


def test_a_data_folder_and_a_backup_may_have_names_that_are_not_utf8(tmp_path: Path) -> None:
    folder, backup = make_folder(tmp_path / "data\udcff"), tmp_path / "back\udcfe"
    assert _run(folder, "set", _A, "hello").exit_code == 0
    assert _out(folder, "search", "hello")
    assert _run(folder, "backup", str(backup)).exit_code == 0
    other = tmp_path / "other\udcfd"
    assert _run(other, "restore", "--alone", str(backup)).exit_code == 0
    assert _out(other, "get", _A) == "hello"


def test_the_status_of_a_node_without_phexts_is_no_empty_table(folder: Path) -> None:
    told = _out(folder, "status")
    assert "fingerprint" not in told
    assert told.splitlines()[1:] == ["no phexts yet"]


@pytest.mark.parametrize("range_", ["7.5", "1..2", "0.*", "1.1.1/1.1.1/1.1.1000"])
def test_a_range_that_cannot_be_is_told_what_ranges_look_like(folder: Path, range_: str) -> None:
    told = _error(folder, "ls", range_)
    assert "a prefix such as '2.*', or LOWER..UPPER" in told
    assert repr(range_) in told


@pytest.mark.real
def test_a_command_that_is_mistyped_is_told_of_the_nearest() -> None:
    status, _, errors = _process("statsu")
    assert (status, errors.count("\n")) == (2, 1)
    assert "'statsu'" in errors
    assert "?." not in errors
    assert errors.endswith("See `phextsync --help`.\n")


def test_append_adds_a_line_of_its_own(folder: Path) -> None:
    for text in ("hello", "world\n", "again"):
        _out(folder, "append", _A, text)
    _out(folder, "set", _A, "hello\nworld\nagain")
    _out(folder, "append", _A, "-", text="and more")
    assert _out(folder, "get", _A) == "hello\nworld\nagain\nand more\n"


def test_a_dash_is_standard_input_and_output(folder: Path, tmp_path: Path) -> None:
    _out(folder, "import", "-", text="one\x17two")
    assert _out(folder, "export", "-") == "one\x17two"
    joined = tmp_path / "joined"
    _out(joined, "join", "-", text=_out(folder, "code"))
    assert _out(joined, "code") == _out(folder, "code")
    assert not Path("-").exists()


@pytest.mark.parametrize(
    "command", [["set", _A, "x"], ["append", _A, "x"], ["rm", _A], ["import", "-"]]
)
def test_phexts_of_the_library_are_not_written(folder: Path, command: list[str]) -> None:
    found = _error(folder, *command, "--phext", ".clients", text="a note")
    assert ".clients: phexts whose names begin with a dot" in found


@pytest.mark.parametrize(
    "command",
    [["ls"], ["get", _A], ["export", "-"], ["search", "x"], ["log", _A], ["blame", _A]],
    ids=" ".join,
)
def test_phexts_of_the_library_are_not_shown(folder: Path, command: list[str]) -> None:
    _out(folder, "set", _A, "text")
    found = _error(folder, *command, "--phext", ".clients")
    assert ".clients: phexts whose names begin with a dot" in found


# -- what is printed -------------------------------------------------------------------------


def test_escapes_of_others_reach_no_terminal(folder: Path) -> None:
    _out(folder, "set", _A, "-", text=_ESCAPES)
    for words in (["ls"], ["search", "milk"], ["log", _A], ["blame", _A]):
        for out in (_out(folder, *words), _out(folder, *words, "--json")):
            assert not {"\x1b", "\x07", "\x9b", "\u202e"} & set(out), words
    assert r"\x1b]0;title\x07" in _out(folder, "ls")
    assert _out(folder, "get", _A) == _ESCAPES


@pytest.mark.real
@pytest.mark.parametrize("words", [("get", _A), ("export", "-")])
def test_a_terminal_is_shown_a_text_with_its_controls_seen(
    folder: Path, words: Sequence[str]
) -> None:
    _out(folder, "set", _A, "-", text=_ESCAPES)
    command = [sys.executable, "-m", "phextsync.cli", *words, "--data", str(folder)]
    ours, its = pty.openpty()
    try:
        done = subprocess.run(command, stdout=its, stderr=subprocess.PIPE, check=True)
        shown = os.read(ours, 4096).decode()
    finally:
        os.close(its)
        os.close(ours)
    assert r"\x1b]0;title\x07" in shown
    assert "\x1b" not in shown
    assert b"control characters are shown" in done.stderr


@pytest.mark.real
def test_a_name_with_brackets_harms_nobody(tmp_path: Path) -> None:
    key, name = MeshKey.generate(os.urandom(32)), "[/red]"
    folders = [tmp_path / "one", tmp_path / "two"]
    assert name in _out(folders[0], "join", key.join_code(), "--name", name)
    NodeIdentity.create(key, "[bold]x", os.urandom(32)).save(folders[1])
    options = ("--no-mdns", "--host", "127.0.0.1", "--port", "0")
    first = Process(folders[0], (), options)
    try:
        first.start()
        second = Process(folders[1], (), (*options, f"--peer=127.0.0.1:{first.status()['port']}"))
        try:
            second.start()
            second.wait_until(lambda status: len(status["peers"]) == 1)
            shown = _out(folders[1], "status")
            assert name in shown
            assert f"  at 127.0.0.1:{first.status()['port']}\n" in shown  # whole, in any terminal
            assert name in _out(folders[1], "peers")
        finally:
            second.stop()
    finally:
        first.stop()


@pytest.mark.real
@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("words", [["get", _A], ["export", "-"], ["ls"], ["--help"]])
def test_an_output_that_nobody_reads_any_more_ends_quietly(
    folder: Path, words: list[str], unbuffered: str
) -> None:
    _out(folder, "set", _A, "-", text="line\n" * 100_000)
    command = [sys.executable, "-m", "phextsync.cli", "--data", str(folder), *words]
    reader, writer = os.pipe()
    os.close(reader)
    place = os.environ | {"PYTHONUNBUFFERED": unbuffered}
    done = subprocess.run(command, env=place, stdout=writer, stderr=subprocess.PIPE, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.real
@pytest.mark.parametrize("words", [["get", _A], ["export", "-"], ["ls", "--json"]])
def test_an_output_that_is_cut_is_told(folder: Path, tmp_path: Path, words: list[str]) -> None:
    _out(folder, "set", _A, "-", text="x" * 20_000)
    for i in range(1, 100):
        _out(folder, "set", f"1.1.1/1.1.1/2.1.{i}", "x" * 200)

    def have_little_room() -> None:  # a write beyond is cut, as on a full disk, then refused
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))

    command = [sys.executable, "-m", "phextsync.cli", "--data", str(folder), *words]
    with Path(tmp_path, "out").open("wb") as file:
        done = subprocess.run(
            command,
            env=os.environ | {"PYTHONUNBUFFERED": "1"},
            stdout=file,
            stderr=subprocess.PIPE,
            preexec_fn=have_little_room,
            check=False,
        )
    assert (done.returncode, done.stderr) == (1, b"phextsync: File too large\n")


@pytest.mark.real
def test_streams_that_are_closed_lead_nowhere(folder: Path) -> None:
    def close_all() -> None:
        os.closerange(0, 3)

    for words in (["set", _A, "text"], ["ls"], ["get", _B]):
        command = [sys.executable, "-m", "phextsync.cli", "--data", str(folder), *words]
        done = subprocess.run(command, preexec_fn=close_all, check=False)
        assert done.returncode == (words[0] == "get"), words


@pytest.mark.real
def test_closed_input_is_not_taken_for_empty_input(folder: Path, tmp_path: Path) -> None:
    _out(folder, "set", _A, "milk")
    new = str(tmp_path / "new")
    for words in (
        ["set", _A, "-"],
        ["import", "-"],
        ["join", "-", "--data", new],
        ["restore", "-", "--data", new],
    ):
        command = [sys.executable, "-m", "phextsync.cli", "--data", str(folder), *words]
        done = subprocess.run(
            command, preexec_fn=lambda: os.close(0), stderr=subprocess.PIPE, check=False
        )
        says = b"phextsync: expected standard input for -, found it closed"
        assert (done.returncode, done.stderr[: len(says)]) == (1, says), words
        assert done.stderr.count(b"\n") == 1
    assert _out(folder, "get", _A) == "milk"
    assert not Path(new).exists()
    done = subprocess.run(
        [sys.executable, "-m", "phextsync.cli", "--data", str(folder), "mcp"],
        preexec_fn=lambda: os.close(0), stderr=subprocess.PIPE, check=False,
    )  # fmt: skip
    says = b"phextsync: expected a client on standard input, found it closed"
    assert (done.returncode, done.stderr[: len(says)]) == (1, says)
    assert done.stderr.count(b"\n") == 1


# -- what is meant ---------------------------------------------------------------------------


def test_who_has_an_identity_is_told_of_code_and_data(folder: Path) -> None:
    code = _out(folder, "code").strip()
    for words in (["init"], ["join", code], ["init", "--administered"]):
        found = _error(folder, *words)
        assert "phextsync code" in found
        assert "--data" in found


def _invitation(*addresses: str) -> str:
    return InvitationCode(b"s" * SECRET_BYTES, bytes(PIN_BYTES), addresses).to_text()


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("", "expected a join code, which begins with 'phextsync1-'"),
        ("hello", "expected a join code, which begins with 'phextsync1-'"),
        ("phextsync1-", "has 56 letters and digits after 'phextsync1-', found 0"),
        ("phextsync1-u", "'u' does not occur in a join code"),
        ("phextsync-invite1-", "the join code's checksum does not match"),
        ("phextsync-invite1-abc", "has a multiple of 8 letters and digits"),
        (_invitation("10.0.0.1:7440")[:-1] + "?", "'?' does not occur in a join code"),
        (_invitation("10.0.0.1:7440")[:-9], "the join code's checksum does not match"),
        (_invitation(), "expected addresses in the invitation, found none"),
        (_invitation("a..b:7440"), "a..b:7440: expected host, host:port or [v6]:port"),
        (_invitation(f"{70 * 'a'}:7440"), "expected host, host:port or [v6]:port"),
        (_invitation("10.0.0.1:0"), "10.0.0.1:0: expected a port from 1 to 65535, found '0'"),
    ],
)
def test_a_code_that_cannot_be_read_is_one_line_and_makes_nothing(
    tmp_path: Path, code: str, says: str
) -> None:
    told = _error(tmp_path / "new", "join", "-", text=f"{code}\n")
    assert says in told
    assert told.strip().count("\n") == 0
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("held", "says"),
    [
        (b"", "expected a token in "),
        (b" \r\n\n", "expected a token in "),
        ("k\u00e4se\n".encode(), "expected a line of ASCII in "),
        (b"two\nlines\n", "expected a line of ASCII in "),
        (b"with\0zero", "expected a line of ASCII in "),
        (None, "No such file or directory"),
    ],
)
@pytest.mark.parametrize("command", ["up", "mcp"])
def test_a_file_without_a_token_is_named_before_anything_is_served(
    folder: Path, command: str, held: bytes | None, says: str
) -> None:
    token = folder.with_name("token")
    if held is not None:
        token.write_bytes(held)
    told = _error(folder, command, "--http", "127.0.0.1:1", "--http-token-file", str(token))
    assert says in told
    assert str(token) in told
    assert "k\u00e4se" not in told
    assert not (folder / "store").exists()


def test_a_folder_in_the_place_of_a_token_is_named(folder: Path) -> None:
    given = ("--http", "127.0.0.1:1", "--http-token-file", str(folder))
    assert "Is a directory" in _error(folder, "up", *given)


@pytest.mark.parametrize(
    "words", ["up --http", "mcp --http", "up --web", "up --peer", "mcp --peer"]
)
def test_an_address_that_is_none_is_refused_and_its_option_named(folder: Path, words: str) -> None:
    command, option = words.split()
    for address, says in (
        ("127.0.0.1:0", "expected a port from 1 to 65535, found '0'"),
        ("a b", "expected host, host:port or [v6]:port, found 'a b'"),
    ):
        told = _error(folder, command, option, address)
        assert told == f"{option} {address}: {says}"


def test_invite_in_a_mesh_of_one_key_tells_of_code(folder: Path) -> None:
    assert "phextsync code" in _error(folder, "invite")


# -- files that are written ------------------------------------------------------------------


@pytest.mark.real
def test_an_export_that_a_disk_refuses_leaves_the_older_file(
    small_disk: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = make_folder(tmp_path_factory.mktemp("node") / "data")
    _out(folder, "set", _A, "-", text="x" * 8_000_000)
    older = small_disk / "notes.phext"
    older.write_text("an older export")
    found = _error(folder, "export", str(older))
    assert str(older) in found
    assert {path.name: path.read_text() for path in small_disk.iterdir()} == {
        "notes.phext": "an older export"
    }


def test_an_export_goes_where_a_name_leads_and_keeps_the_rights_of_a_file(
    folder: Path, tmp_path: Path
) -> None:
    _out(folder, "set", _A, "one")
    file, link = tmp_path / "notes.phext", tmp_path / "link"
    file.write_text("older")
    file.chmod(0o640)
    link.symlink_to(file)
    _out(folder, "export", str(link))
    assert (file.read_text(), file.stat().st_mode & 0o777) == ("one", 0o640)
    assert link.is_symlink()
    _out(folder, "export", os.devnull)
    assert Path(os.devnull).is_char_device()


@pytest.mark.real
def test_an_import_where_no_node_runs_is_whole_or_not_at_all(small_disk: Path) -> None:
    make_folder(small_disk)
    file = "\x17".join(f"{i} " + "y" * 2000 for i in range(900)) * 9
    found = _error(small_disk, "import", "-", "--clamp", text=file)
    assert "space left" in found
    assert _out(small_disk, "ls") == ""
    assert unfinished_imports(small_disk) == []


def test_that_an_import_began_is_on_the_disk_before_anything_is_taken(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []

    def note(descriptor: int) -> None:
        synced.append(os.pread(descriptor, 99, 0).decode())

    monkeypatch.setattr("phextsync.store.import_note.sync", note)
    monkeypatch.setattr(
        "phextsync.store.import_note.sync_folder", lambda at: synced.append(str(at))
    )
    with ImportNote(folder, "notes into memory"):
        assert synced == ["notes into memory\n", str(folder)]


def test_an_import_that_was_cut_short_is_told_until_it_is_done_or_forgotten(folder: Path) -> None:
    def cut_short() -> None:
        with suppress(KeyboardInterrupt), ImportNote(folder, "notes into memory") as note:
            assert unfinished_imports(folder) == []  # it goes on
            note.has_begun = True
            raise KeyboardInterrupt

    cut_short()
    told = "an import was cut short: notes into memory"
    assert told in _run(folder, "status").stderr
    _out(folder, "import", "-", text="one")
    assert told in _run(folder, "status").stderr
    with ImportNote(folder, "notes into memory"):
        pass
    assert told not in _run(folder, "status").stderr
    cut_short()
    _out(folder, "import", "--forget")
    assert told not in _run(folder, "status").stderr


def test_a_backup_is_looked_at_in_a_folder_that_meets_no_other(
    folder: Path, tmp_path: Path
) -> None:
    _out(folder, "set", _A, "one")
    file, scratch = tmp_path / "backup", tmp_path / "scratch"
    assert "1 scroll written" in _run(folder, "backup", str(file)).stderr
    _out(scratch, "restore", str(file), "--alone")
    assert _out(scratch, "get", _A) == "one"
    assert _out(scratch, "code") != _out(folder, "code")
    assert "leave --alone out" in _error(folder, "restore", str(file), "--alone", "--replace")


@pytest.mark.real
def test_a_backup_goes_through_a_pipe(folder: Path, tmp_path: Path) -> None:
    _out(folder, "set", _A, "one")
    command = [sys.executable, "-m", "phextsync.cli"]
    made = subprocess.run(
        [*command, "backup", "-", "--data", str(folder)], capture_output=True, check=True
    )
    assert b"1 scroll written to standard output" in made.stderr
    words = ["restore", "-", "--alone", "--data", str(tmp_path / "scratch")]
    subprocess.run([*command, *words], input=made.stdout, check=True)
    assert _out(tmp_path / "scratch", "get", _A) == "one"


# -- options that would do nothing -----------------------------------------------------------

_UNUSED = [
    ("up --http-token t", "--http-token without --http or --web"),
    ("up --http-token-file f", "--http-token-file without --http or --web"),
    ("up --allow-host h --hook http://h/", "--allow-host without --http or --web"),
    ("up --hook-secret-file f", "--hook-secret-file without --hook"),
    ("mcp --http-token t", "--http-token without --http"),
    ("mcp --allow-host h", "--allow-host without --http"),
    ("watch --exec-limit 5", "--exec-limit without --exec"),
    ("undelete --force", "--force without what to bring back"),
    ("undelete 1.* --json", "--json with what to bring back"),
    ("names 1.2 shelf --json", "--json where a name is given or taken away"),
    ("quarantine desk/mail --json", "--json without --list"),
    ("quarantine 1.* --accept --range 2.*", "--range with a coordinate"),
    ("hold --placed --copies 2", "--copies with --placed, which has its own"),
    ("migrate sq folder --token t", "--token without the http:// address"),
    ("import notes.phext --forget", "FILE.phext with --forget"),
    ("import --forget --keep", "--keep with --forget"),
    ("restore file --at 2h --replace", "--replace with --at"),
    ("restore file --at 2h --alone", "--alone with --at"),
    ("restore file --phext notes", "--phext without --at"),
    ("init --authority a", "--authority without --administered"),
    ("join --rotate code --name n", "--name with --rotate"),
    ("request --name n", "--name for a node that has one"),
    ("peers --json block anna", "--json with block"),
    ("integrate codex --undo --dry-run", "--dry-run with --undo"),
    ("integrate codex --undo --home h", "--home with --undo"),
    ("integrate hermes --project p", "--project with hermes"),
    ("status --check --json", "--json with --check"),
    ("bind notes --confirm --at 7.*", "--at with --confirm"),
    ("bind notes --confirm --phext p", "--phext with --confirm"),
    ("conflicts --forget 1 --json", "--json with --take or --forget"),
]


@pytest.mark.parametrize(("words", "expected"), _UNUSED)
def test_an_option_that_would_do_nothing_is_refused(
    folder: Path, words: str, expected: str
) -> None:
    told = _error(folder, *words.split())
    assert told.startswith(f"phextsync: expected no {expected}")
    assert told.endswith(": there it would do nothing\n")
    assert told.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (["history", "", "--keep", "none"], "[RANGE]"),
        (["place", "", "--everywhere"], "[RANGE]"),
        (["undo", "--by", "solo", "--since", "", "--yes"], "--since"),
        (["up", "--http", "127.0.0.1:0", "--http-token", ""], "--http-token"),
        (["mcp", "--http", "127.0.0.1:0", "--http-token", ""], "--http-token"),
    ],
)
def test_a_variable_that_is_not_set_widens_nothing(
    folder: Path, words: list[str], what: str
) -> None:
    told = _error(folder, *words)
    assert told.startswith(f"phextsync: expected something for {what}, found ''")


def test_what_the_environment_says_for_other_commands_is_no_error(folder: Path) -> None:
    place = {"PHEXTSYNC_PHEXT": "notes", "PHEXTSYNC_SQ_TOKEN": "t"}
    arguments = ["--data", str(folder), "restore", str(folder / "none")]
    result = CliRunner().invoke(app, arguments, env=place)
    assert "expected a backup, or a coordinate with --at, found no file" in result.stderr
    sq = folder / "sq"
    sq.mkdir()
    (sq / "one.phext").write_text("text")
    arguments = ["--data", str(folder), "migrate", "sq", str(sq)]
    assert CliRunner().invoke(app, arguments, env=place).exit_code == 0


_TOO_LONG = r"phextsync: expected at most \d+ bytes of .+, found more\n"


@pytest.mark.parametrize("words", ["issue", "accept", "conflicts 1 --take"])
def test_what_has_no_end_is_not_read_to_its_end(folder: Path, words: str) -> None:
    assert re.fullmatch(_TOO_LONG, _error(folder, *words.split(), "/dev/zero"))


def test_a_phext_without_an_end_is_not_imported(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("phextsync.phextfile.FILE_BYTES_MAX", 1 << 16)
    assert re.fullmatch(_TOO_LONG, _error(folder, "import", "/dev/zero"))
    (tmp_path / "zero.phext").symlink_to("/dev/zero")
    told = _error(folder, "migrate", "sq", str(tmp_path), "zero")
    assert told == f"expected a file of SQ, found none at {tmp_path}/zero.phext"
    assert _out(folder, "ls") == ""


@pytest.mark.real
@pytest.mark.parametrize("endless", ["/dev/zero", "/dev/urandom"])
def test_what_begins_as_no_backup_is_not_waited_for(tmp_path: Path, endless: str) -> None:
    command = [sys.executable, "-m", "phextsync.cli", "restore", "-", "--data", "new"]
    with Path(endless).open("rb") as source:
        done = subprocess.run(
            command, stdin=source, capture_output=True, text=True, check=False, cwd=tmp_path
        )
    assert done.returncode == 1
    expected = "phextsync: expected a backup on standard input, found something else\n"
    assert done.stderr == expected
    assert not (tmp_path / "new").exists()


def test_what_has_no_end_on_standard_input_is_not_read_to_its_end(folder: Path) -> None:
    command = [sys.executable, "-m", "phextsync.cli", "set", _A, "-", "--data", str(folder)]
    with Path("/dev/zero").open("rb") as endless:
        done = subprocess.run(command, stdin=endless, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert re.fullmatch(_TOO_LONG, done.stderr)


def test_a_server_of_sq_that_cannot_be_asked_is_one_line(folder: Path) -> None:
    for where, expected in (
        ("http://[::1", "expected http://HOST:PORT, found 'http://[::1'"),
        ("http://127.0.0.1:1", "does not answer as SQ does: Connection refused"),
    ):
        assert expected in _error(folder, "migrate", "sq", where, "notes")


# -- what went wrong in a node ---------------------------------------------------------------


@pytest.mark.real
def test_errors_of_a_node_are_told_by_status_and_those_of_late_by_its_check(folder: Path) -> None:
    with opened(folder) as (engine, _):
        session = engine.client._session
        assert session is not None
        boundary = session.desk.boundary
        assert "warning" not in _out(folder, "status")
        assert _out(folder, "status", "--check") == ""
        with boundary.around("a part"):
            raise ValueError("odd")
        shown = _out(folder, "status")
        told = r"1 error since [-0-9: ]+, the last at [-0-9: ]+: a part: ValueError: odd"
        assert re.search(rf"\nwarning: {told} \(see the log\)\n", shown)
        checked = _run(folder, "status", "--check")
        assert (checked.exit_code, bool(re.match(told, checked.stdout))) == (1, True)
        errors = json.loads(_out(folder, "status", "--json"))["errors"]
        assert (errors["count"], errors["last"]) == (1, "a part: ValueError: odd")
        boundary.errors.last_s -= 3600
        assert _out(folder, "status", "--check") == ""
        assert "1 error since" in _out(folder, "status")
