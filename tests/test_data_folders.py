"""Each command says what is wrong with a data folder, and leaves what is not its own as it is.

The commands are those of `phextsync` that take `--data`; no node runs.
"""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from phextsync.boundaries import first
from phextsync.cli.main import app
from phextsync.errors import PhextsyncError
from phextsync.trust.authority import MeshKey
from sims.processes import make_folder

_A = "1.1.1/1.1.1/1.1.1"
_CODE = MeshKey.generate(bytes(32)).join_code()
_NO_OTHER = ("--no-mdns", "--port", "0")

# Each command, as it is given in a folder `here`, in which it may write.
_GIVEN: dict[str, list[list[str]]] = {
    "get": [["get", _A]],
    "set": [["set", _A, "x"]],
    "append": [["append", _A, "x"]],
    "rm": [["rm", _A]],
    "ls": [["ls"]],
    "search": [["search", "hello"]],
    "near": [["near", _A]],
    "migrate git": [["migrate", "git", "here/repository", "--at", "7.*"]],
    "migrate sq": [["migrate", "sq", "here/old"]],
    "names": [["names"], ["names", "1.2", "anna"]],
    "box": [["box", "kiki"]],
    "send": [["send", "kiki", "hello"]],
    "inbox": [["inbox"]],
    "read": [["read", _A]],
    "ack": [["ack", _A]],
    "editor": [["editor"]],
    "task voters": [["task", "voters"], ["task", "voters", "kiki"]],
    "task add": [["task", "add", "hello"]],
    "task list": [["task", "list"]],
    "task show": [["task", "show", _A]],
    "task claim": [["task", "claim", _A, "--wait", "0"]],
    "task keep": [["task", "keep", _A, "1:a:b", "--wait", "0"]],
    "task done": [["task", "done", _A, "1:a:b", "--wait", "0"]],
    "task fail": [["task", "fail", _A, "1:a:b", "--wait", "0"]],
    "task retry": [["task", "retry", _A]],
    "task clear": [["task", "clear", "--before", "0s"]],
    "quarantine": [["quarantine", "--list"], ["quarantine", "kiki/mail"]],
    "integrate": [["integrate", "cursor", "--home", "here/home"]],
    "import": [["import", "-"], ["import", "--forget"]],
    "export": [["export", "here/out.phext"], ["export", "-"]],
    "watch": [["watch"]],
    "log": [["log", _A]],
    "blame": [["blame", _A]],
    "show": [["show", _A, "--at", "0s"]],
    "versions": [["versions", _A]],
    "undelete": [["undelete"], ["undelete", _A]],
    "undo": [["undo", "--by", "0" * 32]],
    "history": [["history"], ["history", "--keep", "30d"]],
    "hold": [["hold"], ["hold", "1.*"], ["hold", "--placed"]],
    "place": [["place", "--copies", "3"]],
    "where": [["where"]],
    "bind": [["bind", "here/notes", "--at", "7.*", "--create"]],
    "unbind": [["unbind", "here/notes"]],
    "bindings": [["bindings"]],
    "conflicts": [["conflicts"]],
    "up": [["up", *_NO_OTHER]],
    "mcp": [["mcp", *_NO_OTHER]],
    "doctor": [["doctor"]],
    "service install": [["service", "install", "--print"]],
    "service status": [["service", "status"]],
    "service remove": [["service", "remove"]],
    "config": [["config"], ["config", "--json"]],
    "status": [["status"], ["status", "--check"], ["status", "--json"]],
    "measure": [["measure", "--out", "here/measured"]],
    "check": [["check"]],
    "repair": [["repair"]],
    "backup": [["backup", "here/new"], ["backup", "-"]],
    "restore": [["restore", "here/old"], ["restore", "here/old", "--alone"]],
    "restore --at": [["restore", _A, "--at", "0s"]],
    "init": [["init"]],
    "join": [["join", _CODE]],
    "join --rotate": [["join", "--rotate", _CODE]],
    "code": [["code"]],
    "rotate": [["rotate"], ["rotate", "--finish"]],
    "request": [["request"]],
    "accept": [["accept", "-"]],
    "invite": [["invite"]],
    "mesh": [["mesh"]],
    "peers": [["peers"]],
    "peers block": [["peers", "block", "x"]],
    "peers allow": [["peers", "allow", "x"]],
    "peers forget": [["peers", "forget", "x"]],
}
_MAKE_FOLDERS = {"restore", "init", "join", "request"}
_READ = {"get", "ls", "search", "export", "log", "blame", "versions", "undelete", "conflicts"}


def _each(names: set[str] | None = None, *, without: set[str] | None = None) -> list[list[str]]:
    """Return the commands of some names, or of all, each with all that it may be given."""
    chosen = (names or _GIVEN.keys()) - (without or set())
    return [words for name, given in _GIVEN.items() if name in chosen for words in given]


def _run(folder: Path, words: list[str]) -> Result:
    here = folder.parent
    given = [word.replace("here/", f"{here}/") for word in words]
    return CliRunner().invoke(app, ["--data", str(folder), *given], input="x")


def _refusal(result: Result) -> str:
    """Return the one line that says why a command did not do what it was to do."""
    assert result.exit_code != 0, result.output
    error = result.exception
    if isinstance(error, SystemExit):
        told = result.stderr
    else:
        assert error is not None
        cause = first(error) if isinstance(error, ExceptionGroup) else error
        assert isinstance(cause, PhextsyncError), result.exception
        told = result.stderr + str(cause)
    assert told.strip().count("\n") == 0, told
    assert "Errno" not in told
    return told


def _everything(top: Path) -> dict[str, bytes | None]:
    """Return all that is at a place: files with what they hold, folders as None."""
    paths = [top, *top.rglob("*")] if top.exists() else []
    return {str(path.relative_to(top)): _held(path) for path in paths}


def _held(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a node that has a scroll; not to be changed."""
    folder = make_folder(tmp_path_factory.mktemp("sound") / "data")
    assert _run(folder, ["set", _A, "hello"]).exit_code == 0
    assert _run(folder, ["backup", "here/old"]).exit_code == 0
    return folder


@pytest.fixture
def folder(sound: Path, tmp_path: Path) -> Path:
    """The folder of a node that has a scroll, a backup of it beside."""
    shutil.copy(sound.with_name("old"), tmp_path / "old")
    return Path(shutil.copytree(sound, tmp_path / "data"))


def test_every_command_that_takes_a_folder_is_given_here() -> None:
    taking: set[str] = set()

    def gather(command: object, path: tuple[str, ...]) -> None:
        if any(option.name == "data" for option in command.params):  # type: ignore[attr-defined]
            taking.add(" ".join(path))
        for name, part in getattr(command, "commands", {}).items():
            gather(part, (*path, name))

    gather(typer.main.get_command(app), ())
    variants = {"restore --at", "join --rotate"}
    assert taking - {""} == _GIVEN.keys() - variants


# -- folders of something else ---------------------------------------------------------------


def _foreign(folder: Path) -> None:
    (folder / "store").mkdir(parents=True)
    (folder / "store" / "goods.txt").write_text("sold by weight")
    (folder / "notes.txt").write_text("not of phextsync")


def _file(folder: Path) -> None:
    folder.write_text("a file")


@pytest.mark.parametrize(
    ("make", "found"),
    [(_foreign, "other files in"), (_file, "a file at")],
    ids=["of-something-else", "a-file"],
)
@pytest.mark.parametrize("words", _each(), ids=" ".join)
def test_what_is_no_data_folder_is_named_and_left_alone(
    words: list[str], make: Callable[[Path], None], found: str, folder: Path
) -> None:
    other = folder.with_name("other")
    make(other)
    before = _everything(other)
    told = _refusal(_run(other, words))
    assert "data folder" in told
    assert f"found {found} {other}" in told
    assert "--data" in told
    assert _everything(other) == before


@pytest.mark.parametrize("is_there", [False, True])
@pytest.mark.parametrize("words", _each(without=_MAKE_FOLDERS), ids=" ".join)
def test_where_there_is_nothing_nothing_is_made(
    words: list[str], is_there: bool, folder: Path
) -> None:
    other = folder.with_name("other")
    if is_there:
        other.mkdir()
    before = _everything(other)
    told = _refusal(_run(other, words))
    assert str(other) in told
    assert "`phextsync init` or `join`" in told
    assert _everything(other) == before


@pytest.mark.parametrize("name", sorted(_MAKE_FOLDERS))
def test_an_empty_folder_becomes_a_data_folder(name: str, folder: Path) -> None:
    other = folder.with_name("other")
    (other / "lost+found").mkdir(parents=True)  # as in a file system of its own
    result = _run(other, _GIVEN[name][0])
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize("words", _each({"check", "backup", "repair"}), ids=" ".join)
def test_a_node_without_a_store_is_told_how_it_gets_one(words: list[str], tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "data")
    before = _everything(folder)
    told = _refusal(_run(folder, words))
    assert f"expected a store in {folder}, found none" in told
    assert "`phextsync restore FILE`" in told
    assert _everything(folder) == before


# Each finds nothing to do in the folder of a node that has no store and knows nobody.
_IDLE = [
    ["set", "none.md", "x"],
    ["set", _A, ""],
    ["append", "none.md", "x"],
    ["rm", _A],
    ["search", "hello"],
    ["import", "/dev/null"],
    ["import", "--forget"],
    ["undelete", _A],
    ["history", "1.*", "--keep", "default"],
    ["bind", "here/none", "--confirm"],
    ["bind", "here/old", "--at", "7.*"],
    ["bind", "here/none/none", "--at", "7.*"],
    ["unbind", "here/none"],
    ["conflicts", "--forget", "abcd"],
    ["restore", "here/broken"],
    ["restore", _A, "--at", "0s"],
    ["rotate", "--finish"],
    ["accept", "-"],
    ["invite"],
    ["peers", "block", "x"],
    ["peers", "allow", "x"],
    ["peers", "forget", "x"],
]


@pytest.mark.parametrize("words", [*_IDLE, *_each(_READ | {"status", "peers"})], ids=" ".join)
def test_what_finds_nothing_to_do_makes_nothing(words: list[str], tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "data")
    (tmp_path / "old").write_text("a file")
    (tmp_path / "broken").write_text("no backup")
    before = _everything(folder)
    _run(folder, words)
    assert _everything(folder) == before


def test_a_restore_that_failed_is_done_again_in_the_same_folder(folder: Path) -> None:
    other = folder.with_name("other")
    (folder.parent / "broken").write_text("no backup")
    assert "expected a backup" in _refusal(_run(other, ["restore", "here/broken"]))
    assert not other.exists()
    other.mkdir()
    (other / "store.lock").touch()  # of a restore that the disk did not take
    assert _run(other, ["restore", "here/old", "--alone"]).exit_code == 0


# -- identities that are lost or damaged -------------------------------------------------------


def _lose_identity(folder: Path) -> None:
    (folder / "identity.pem").unlink()


def _damage_identity(folder: Path) -> None:
    (folder / "identity.pem").write_bytes(b"garbage")


def _cut_identity(folder: Path) -> None:
    path = folder / "identity.pem"
    path.write_bytes(path.read_bytes()[:-100])


def _replace_identity_by_a_folder(folder: Path) -> None:
    (folder / "identity.pem").unlink()
    (folder / "identity.pem").mkdir()


_HARMS = {
    _lose_identity: "there is no identity.pem",
    _damage_identity: "identity.pem is damaged: expected a key and certificates, found",
    _cut_identity: "identity.pem is damaged: ",
    _replace_identity_by_a_folder: "identity.pem cannot be read: expected a file",
}
_NEED_AN_IDENTITY = [
    *_each({"set", "append", "rm", "up", "mcp", "join --rotate"}),
    *_each({"code", "rotate", "invite", "mesh", "bind"}),
    ["import", "-"],
    ["history", "--keep", "30d"],
    ["status"],
    ["status", "--json"],
]


@pytest.mark.parametrize(
    ("harm", "says"), _HARMS.items(), ids=lambda it: getattr(it, "__name__", "")
)
@pytest.mark.parametrize("words", _NEED_AN_IDENTITY, ids=" ".join)
def test_what_needs_an_identity_says_what_is_wrong_with_it(
    words: list[str], harm: Callable[[Path], None], says: str, folder: Path
) -> None:
    harm(folder)
    before = _everything(folder)
    told = _refusal(_run(folder, words))
    assert says in told
    assert str(folder) in told
    assert "cryptography" not in told
    assert _everything(folder) == before


@pytest.mark.parametrize("harm", [_lose_identity, _damage_identity])
@pytest.mark.parametrize("words", _each(_READ | {"check", "backup"}), ids=" ".join)
def test_what_needs_no_identity_does_without(
    words: list[str], harm: Callable[[Path], None], folder: Path
) -> None:
    expected = _run(folder, words)
    (folder.parent / "new").unlink(missing_ok=True)
    harm(folder)
    found = _run(folder, words)
    assert (found.exit_code, found.stderr) == (expected.exit_code, expected.stderr)


def test_the_state_of_a_folder_without_an_identity_is_shown_all_the_same(folder: Path) -> None:
    _damage_identity(folder)
    shown = _run(folder, ["status"]).stdout
    assert shown.startswith("the node is not running, data in ")
    assert "memory" in shown
    told = _run(folder, ["status", "--check"])
    assert told.exit_code == 1
    assert "identity.pem is damaged" in told.stdout


# -- stores that are damaged -----------------------------------------------------------------


def _empty_data(data: Path) -> None:
    data.write_bytes(b"")


def _damage_roots(data: Path) -> None:
    data.write_bytes(b"\x5a" * 8192 + data.read_bytes()[8192:])


def _lose_data(data: Path) -> None:
    data.unlink()


_DAMAGES = [_empty_data, _damage_roots, _lose_data]


@pytest.mark.parametrize("damage", _DAMAGES)
@pytest.mark.parametrize(
    "words",
    [*_each(_READ | {"check", "backup", "show", "restore --at", "status"}), ["history"]],
    ids=" ".join,
)
def test_what_reads_a_damaged_store_says_so_and_changes_nothing(
    words: list[str], damage: Callable[[Path], None], folder: Path
) -> None:
    damage(folder / "store" / "data.mdb")
    before = _everything(folder)
    told = _refusal(_run(folder, words))
    assert "data.mdb" in told
    assert "`phextsync repair`" in told
    assert _everything(folder) == before
    assert not (folder.parent / "new").exists()
    assert not (folder.parent / "out.phext").exists()


@pytest.mark.parametrize("damage", _DAMAGES)
@pytest.mark.parametrize(
    "words",
    [*_each({"set", "append", "repair"}), ["import", "-"], ["history", "--keep", "30d"]],
    ids=" ".join,
)
def test_what_needs_a_sound_store_keeps_the_damaged_one_and_says_what_to_do(
    words: list[str], damage: Callable[[Path], None], folder: Path
) -> None:
    damage(folder / "store" / "data.mdb")
    before = _everything(folder / "store")
    result = _run(folder, words)
    assert result.exit_code == 0, result.output
    (told,) = [line for line in result.output.splitlines() if "cannot be read" in line]
    assert "set aside as store.damaged" in told
    assert "`phextsync restore BACKUP --replace`" in told
    assert _everything(folder / "store.damaged") == before


def test_an_export_of_what_is_damaged_says_in_one_line_that_it_is_not_whole(folder: Path) -> None:
    data = folder / "store" / "data.mdb"
    data.write_bytes(data.read_bytes()[:8192] + bytes(data.stat().st_size - 8192))
    told = [line for line in _run(folder, ["ls"]).stderr.splitlines() if "damaged" in line]
    assert len(told) == 1
    assert "`phextsync repair` rebuilds it" in told[0]
    assert "not in the export" in _run(folder, ["export", "here/out.phext"]).stderr.splitlines()[-1]
    assert _run(folder, ["export", "-"]).exit_code == 1
