"""What SQ has comes here from its files or its server, which is asked for nothing else."""

import json
from pathlib import Path

import pytest

from sims.ports import free_port
from sims.processes import make_folder
from tests.command_users import CommandUser
from tests.old_sq import old_sq

_VECTORS = Path(__file__).parent / "vectors"
_A, _B = "1.1.1/1.1.1/1.1.1", "1.1.1/1.1.1/1.1.2"
_WORLD = "hello\x17world"


@pytest.fixture
def user(tmp_path: Path) -> CommandUser:
    return CommandUser(make_folder(tmp_path / "data"))


def _recorded() -> list[str]:
    """Return the files that the recorded SQ gave."""
    sessions = json.loads((_VECTORS / "sq_transcripts.json").read_text())["sessions"]
    steps = [step for session in sessions for step in session["steps"]]
    gets = [step for step in steps if step["request"]["line"].startswith("GET /api/v2/get?")]
    return [text for step in gets if (text := step["response"]["body"].get("text"))]


def test_a_server_is_asked_for_the_file_and_nothing_else(user: CommandUser) -> None:
    with old_sq({"world": _WORLD}) as (address, asked):
        shown = user.out("migrate", "sq", address, "world")
        assert shown.splitlines() == [
            "world: 2 scrolls, 2 new, 0 as here, 0 others",
            "nothing is changed yet: --yes does it",
        ]
        assert user.out("ls", "--phext", "world") == ""
        user.out("migrate", "sq", address, "world", "--yes")
        assert asked == ["GET /api/v2/get?p=world HTTP/1.1"] * 2
    assert user.out("get", "--phext", "world", _B) == "world"


def test_a_phext_that_a_server_did_not_send_whole_is_not_taken(user: CommandUser) -> None:
    with old_sq({"world": _WORLD}, unsent_bytes=1) as (address, _):
        told = user.error("migrate", "sq", address, "world", "--yes")
        assert "does not answer as SQ does: IncompleteRead" in told
    assert user.out("ls", "--phext", "world") == ""


@pytest.mark.parametrize("text", _recorded())
def test_what_the_recorded_server_gave_is_the_same_here(
    user: CommandUser, tmp_path: Path, text: str
) -> None:
    with old_sq({"a": text}) as (address, _):
        user.out("migrate", "sq", address, "a", "--yes")
    user.out("export", "--phext", "a", str(tmp_path / "a.phext"))
    assert (tmp_path / "a.phext").read_bytes() == text.encode()


def test_a_folder_brings_each_phext_under_its_name(user: CommandUser, tmp_path: Path) -> None:
    data = tmp_path / "sq"
    data.mkdir()
    for name, text in {"world": _WORLD, "brain": "x", "": "empty name"}.items():
        (data / f"{name}.phext").write_text(text)
    (data / "world.phext.json").write_text("[]")
    shown = user.out("migrate", "sq", str(data)).splitlines()
    assert [line.partition(":")[0] for line in shown[:-1]] == ["brain", "world"]
    user.out("migrate", "sq", str(data), "--yes")
    assert user.out("get", "--phext", "brain", _A) == "x"
    before = {path.name: path.read_text() for path in data.iterdir()}
    assert before["world.phext"] == _WORLD
    assert "world: 2 scrolls" in user.out("migrate", "sq", str(data / "world.phext"))


def test_it_goes_on_where_it_was_cut_short_and_says_what_differs(
    user: CommandUser, tmp_path: Path
) -> None:
    (tmp_path / "world.phext").write_text(_WORLD)
    file = str(tmp_path / "world.phext")
    user.out("set", "--phext", "world", _A, "hello")
    user.out("set", "--phext", "world", _B, "of ours")
    assert "2 scrolls, 0 new, 1 as here, 1 others" in user.out("migrate", "sq", file)
    user.out("migrate", "sq", file, "--keep", "--yes")
    assert user.out("get", "--phext", "world", _B) == "of ours"
    user.out("migrate", "sq", file, "--yes")
    assert user.out("get", "--phext", "world", _B) == "world"


def test_a_key_is_shown_and_its_lack_is_one_line(user: CommandUser) -> None:
    with old_sq({"world": _WORLD}, key="pmb-v1-1") as (address, _):
        assert "wants a token" in user.error("migrate", "sq", address, "world")
        user.out("migrate", "sq", address, "world", "--yes", "--token", "-", text="pmb-v1-1\n")
    assert user.out("get", "--phext", "world", _A) == "hello"


def test_what_is_not_there_is_one_line(user: CommandUser, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with old_sq({}) as (address, _):
        assert "has no scrolls of 'none'" in user.error("migrate", "sq", address, "none")
        assert "expected the names of phexts" in user.error("migrate", "sq", address)
    nowhere = f"http://127.0.0.1:{free_port()}"
    told = user.error("migrate", "sq", nowhere, "world")
    assert told.strip().endswith("does not answer as SQ does: Connection refused")
    for wrong in ("http://x:y", "http://x:0", "http://", "http://:80"):
        assert "expected http://HOST:PORT" in user.error("migrate", "sq", wrong, "world")
    assert "found nothing at" in user.error("migrate", "sq", str(tmp_path / "none"))
    assert "found none in" in user.error("migrate", "sq", str(tmp_path / "empty"))
    assert "found none at" in user.error("migrate", "sq", str(tmp_path / "empty"), "world")
    (tmp_path / "bad name\n.phext").write_text("x")
    told = user.error("migrate", "sq", str(tmp_path / "bad name\n.phext"), "--yes")
    assert "expected the name of a phext" in told
