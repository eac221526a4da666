"""What is named as a file and is none: each command says so in one line, or waits with a word."""

import os
import socket
from collections.abc import Callable
from pathlib import Path
from threading import Thread

import pytest
from typer.testing import CliRunner

from phextsync.cli import common
from phextsync.cli.common import open_waiting
from phextsync.cli.logs import LogFile
from phextsync.cli.main import app
from phextsync.errors import LinkError, PhextsyncError
from phextsync.web.server import tls_of
from sims.processes import make_folder


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(path))


_KINDS: dict[str, Callable[[Path], object]] = {
    "folder": os.mkdir,
    "socket": _socket,
    "pipe": os.mkfifo,
    "device": lambda path: path.symlink_to("/dev/zero"),
}
_NOT_WAITED_FOR: list[list[str]] = [
    ["backup", "FILE"],
    ["restore", "FILE", "--data", "NEW"],
    ["up", "--log", "FILE"],
    ["up", "--web", "127.0.0.1:5000", "--web-cert", "FILE", "--web-key", "FILE"],
    ["get", "1.1.1/1.1.1/1.1.1", "--data", "FILE"],
    ["status", "--data", "FILE"],
    ["check", "--data", "FILE"],
]
_READ: list[list[str]] = [
    ["import", "FILE"],
    ["conflicts", "--take", "FILE", "12ab"],
    ["up", "--http", "127.0.0.1:0", "--http-token-file", "FILE"],
    ["up", "--hook", "http://127.0.0.1:1/", "--hook-secret-file", "FILE"],
    ["mcp", "--http", "127.0.0.1:0", "--http-token-file", "FILE"],
]


_REFUSED: list[tuple[list[str], str]] = [
    *((words, kind) for words in (*_NOT_WAITED_FOR, *_READ) for kind in ("folder", "socket")),
    *((words, "pipe") for words in _NOT_WAITED_FOR),
    *((words, "device") for words in (*_NOT_WAITED_FOR, *_READ) if "--log" not in words),
    *((["export", "FILE"], kind) for kind in ("folder", "socket")),
]


@pytest.mark.parametrize(("words", "kind"), _REFUSED)
def test_what_is_no_file_is_one_line_and_not_waited_for(
    words: list[str], kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("phextsync.phextfile.FILE_BYTES_MAX", 1 << 20)
    folder, file = make_folder(tmp_path / "data"), tmp_path / "odd"
    _KINDS[kind](file)
    new = str(tmp_path / "new")
    words = [word.replace("FILE", str(file)).replace("NEW", new) for word in words]
    result = CliRunner().invoke(app, ["--data", str(folder), *words])
    assert result.exit_code != 0
    if isinstance(result.exception, SystemExit):
        (line,) = result.stderr.splitlines()
    else:
        assert isinstance(result.exception, OSError | PhextsyncError), result.exception
        (line,) = str(result.exception).splitlines()
    assert "odd" in line
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("mode", ["rb", "wb"])
def test_a_pipe_with_nobody_at_its_other_end_is_waited_for_with_a_word(
    mode: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    told: list[str] = []
    other = Thread(
        target=(lambda: pipe.write_bytes(b"text")) if mode == "rb" else pipe.read_bytes, daemon=True
    )

    def warn(line: str) -> None:
        told.append(line)
        other.start()

    monkeypatch.setattr(common, "_PATIENCE_S", 0)
    monkeypatch.setattr(common, "warn", warn)
    if mode == "rb":
        assert common.bytes_of_file(str(pipe), 10) == b"text"
    else:
        common.write_output(str(pipe), b"text")
    other.join()
    what = "writes into" if mode == "rb" else "reads"
    assert told == [f"waiting for a program that {what} the pipe {pipe}"]


def test_a_pipe_with_somebody_at_its_other_end_needs_no_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(common, "_PATIENCE_S", 3600)
    monkeypatch.setattr(common, "warn", pytest.fail)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    both = os.open(pipe, os.O_RDWR)
    with open_waiting(pipe, "wb") as written:
        written.write(b"text")
    assert os.read(both, 4) == b"text"
    os.close(both)


def test_what_is_no_file_is_no_certificate_and_no_log(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(LinkError, match="found a pipe, a device or a folder"):
        tls_of(pipe, pipe)
    with pytest.raises(OSError, match="expected a file for the log, found a pipe"):
        LogFile(pipe)


def test_what_cannot_be_read_is_named() -> None:
    with pytest.raises(OSError, match=r".+: '/proc/self/mem'$"):  # there is nothing at 0
        common.bytes_of_file("/proc/self/mem", 10)
