"""A command that is run for changes is given data alone, and ends nothing but itself."""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from threading import Thread
from types import FrameType

import pytest
from typer.testing import CliRunner

from phextsync.cli.main import app
from phextsync.cli.running import Command
from phextsync.terminal import visible_json
from sims.processes import PATIENCE_S

pytestmark = pytest.mark.real


def _warnings(command: str, line: str = "", *, limit_s: float = PATIENCE_S) -> list[str]:
    """Run a command of the shell; return what was warned of."""
    told: list[str] = []
    Command(command, limit_s, told.append, end_s=0.1).run(line, {"PHEXTSYNC_COORDINATE": "1.1.1"})
    return told


@pytest.mark.parametrize(
    "hostile",
    [
        *("$(touch made)", "`touch made`", "; touch made", "| touch made", "&& touch made #"),
        *("'; touch made; '", '"; touch made; "', "\n touch made \n", "> made", "\\\ntouch made"),
        *("-rf", "--data=/", "~", "*", "%s%n", "\x1b]0;x\x07", "\u202e", "\udcff", "\0"),
    ],
)
def test_what_others_wrote_is_data_to_a_command(
    hostile: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    line = visible_json({"label": hostile, "file": f"/{hostile}"})
    assert _warnings('cat > told; printf %s "$PHEXTSYNC_COORDINATE" > at', line) == []
    assert {path.name for path in tmp_path.iterdir()} == {"told", "at"}
    assert (tmp_path / "told").read_bytes() == line.encode() + b"\n"
    assert (tmp_path / "at").read_text() == "1.1.1"


@pytest.mark.parametrize("command", ["sleep 100000 & wait", "trap '' TERM; sleep 100000"])
def test_a_command_that_goes_on_is_ended_with_all_that_it_started(
    command: str, tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / "open")
    read: list[str] = []
    reader = Thread(target=lambda: read.append((tmp_path / "open").read_text()))
    reader.start()
    told = _warnings(f"exec 3> {tmp_path / 'open'}; {command}", limit_s=1.0)
    assert told == ["the command was ended: it ran for more than 1 s"]
    with suppress(OSError):  # where the shell was too slow to begin, nobody has opened it
        os.close(os.open(tmp_path / "open", os.O_WRONLY | os.O_NONBLOCK))
    reader.join(PATIENCE_S)
    assert read == [""]


@pytest.mark.parametrize(
    ("command", "told"),
    [
        ("exit 3", ["the command ended with status 3"]),
        ("kill -9 $$", ["the command ended with status -9"]),
        ("no-such-command 2> /dev/null", ["the command ended with status 127"]),
        ("head -c 1000000 /dev/zero >&2; head -c 1000000 /dev/zero", []),
        ("exec <&-; true", []),
        ("true", []),
    ],
)
def test_a_command_that_fails_or_reads_nothing_ends_nothing(
    command: str, told: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    assert _warnings(command, "x" * 1_000_000) == told


def test_a_command_that_cannot_be_begun_is_told() -> None:
    told: list[str] = []
    too_long: Mapping[str, str] = {"X": "x" * 10_000_000}
    Command("true", 1.0, told.append).run("", too_long)
    assert told == ["the command cannot be run: Argument list too long"]


@pytest.mark.parametrize("limit_s", [1e7, 1e300, float("inf")])
def test_a_limit_that_no_system_can_wait_for_is_none(limit_s: float) -> None:
    assert _warnings("cat; exit 3", limit_s=limit_s) == ["the command ended with status 3"]


def test_a_command_is_ended_when_its_run_is_interrupted(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "open")
    # What it reads comes when it is waited for: not while it is begun, when nobody could end it.
    has_begun = f"read line; exec 3> {tmp_path / 'open'}; kill -INT {os.getpid()}; sleep 100000"
    read: list[str] = []
    reader = Thread(target=lambda: read.append((tmp_path / "open").read_text()))
    reader.start()
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            _warnings(has_begun)
    finally:
        signal.signal(signal.SIGINT, before)
    reader.join(PATIENCE_S)
    assert read == [""]


def test_a_command_is_ended_when_its_run_is_interrupted_while_it_is_begun(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "open")
    descriptor = os.open(tmp_path / "open", os.O_RDONLY | os.O_NONBLOCK)

    def interrupt(frame: FrameType, event: str, _: object) -> None:
        if event == "return" and frame.f_code.co_name == "_execute_child":
            sys.setprofile(None)
            signal.raise_signal(signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        sys.setprofile(interrupt)
        with pytest.raises(KeyboardInterrupt):
            _warnings(f"exec 3> {tmp_path / 'open'}; sleep 100000")
    finally:
        sys.setprofile(None)
        signal.signal(signal.SIGINT, before)
    os.set_blocking(descriptor, True)
    assert os.read(descriptor, 1) == b""  # once nobody may write any more
    os.close(descriptor)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_command_ends_with_the_process_that_runs_it(number: int, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "open")
    command = f"exec > {tmp_path / 'open'}; echo begun; sleep 100000"
    program = "import sys; from phextsync.cli.running import Command; "
    program += "Command(sys.argv[1], 100000, print).run('', {})"
    with subprocess.Popen(
        [sys.executable, "-c", program, command], stderr=subprocess.DEVNULL
    ) as run:
        with (tmp_path / "open").open() as read:
            assert read.readline() == "begun\n"
            run.send_signal(number)
            assert read.read() == ""
        assert run.wait() == -number


def test_watch_says_what_is_missing_of_what_runs_a_command(tmp_path: Path) -> None:
    for words in (["--exec-limit", "5"], ["--exec", ""], ["--exec", " \n"]):
        result = CliRunner().invoke(app, ["watch", *words, "--data", str(tmp_path)])
        assert (result.exit_code, result.stderr.count("\n")) == (1, 1)
        assert "--exec" in result.stderr
