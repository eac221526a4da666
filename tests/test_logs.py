"""The log of a node in a file goes on whatever its disk refuses, and does not grow for that."""

import errno
import io
import logging
from pathlib import Path
from typing import Any

import pytest

from phextsync.cli.logs import LOGS, LogFile, VisibleFormatter

_BYTES = 1000


class _Disk(io.FileIO):
    """A file of a disk that may be full."""

    is_full = False

    def write(self, data: Any) -> int:
        if _Disk.is_full:
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().write(data)


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LogFile:
    monkeypatch.setattr(logging, "raiseExceptions", False)
    monkeypatch.setattr(_Disk, "is_full", False)
    file = LogFile(tmp_path / "log", _BYTES)
    assert file.stream is not None
    file.stream.close()

    def opened(path: str, mode: str, **_: object) -> io.TextIOWrapper:
        return io.TextIOWrapper(io.BufferedWriter(_Disk(path, mode)), encoding="utf-8")

    file._builtin_open = opened  # type: ignore[attr-defined]
    file.stream = file._open()
    return file


def _tell(log: LogFile, *numbers: int) -> None:
    for number in numbers:
        log.handle(logging.makeLogRecord({"msg": f"line {number:03} {'x' * 91}"}))


def _read(folder: Path) -> str:
    return "".join(path.read_text() for path in folder.glob("log*") if path.is_file())


def test_a_log_goes_on_when_a_full_disk_has_room_again(log: LogFile, tmp_path: Path) -> None:
    _tell(log, *range(9))
    _Disk.is_full = True
    _tell(log, *range(9, 300))
    _Disk.is_full = False
    _tell(log, *range(300, 340))
    log.close()
    told = _read(tmp_path)
    assert all(f"line {number:03} " in told for number in (*range(9), *range(302, 340)))
    assert len([*tmp_path.glob("log*")]) <= 1 + LOGS


def test_a_disk_that_is_full_when_the_log_is_cut_does_not_end_it(
    log: LogFile, tmp_path: Path
) -> None:
    _tell(log, *range(9))
    assert log.stream is not None
    log.stream.write("what is not yet on the disk")
    _Disk.is_full = True
    log.doRollover()
    _Disk.is_full = False
    _tell(log, 9)
    log.close()
    assert "line 009 " in _read(tmp_path)


def test_a_log_that_cannot_be_put_beside_begins_anew(log: LogFile, tmp_path: Path) -> None:
    (tmp_path / "log.1" / "in the way").mkdir(parents=True)
    (tmp_path / "log.2").mkdir()
    for number in range(100):
        _tell(log, number)
        assert (tmp_path / "log").stat().st_size <= _BYTES
    log.close()
    told = (tmp_path / "log").read_text()
    assert "line 099 " in told
    assert told.startswith("what was here could not be put beside: ")


def test_where_hardly_a_file_may_be_opened_the_log_goes_on_later(
    log: LogFile, tmp_path: Path
) -> None:
    opened = log._builtin_open  # type: ignore[attr-defined]

    def refused(*_: object, **__: object) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    log._builtin_open = refused  # type: ignore[attr-defined]
    _tell(log, *range(30))
    log._builtin_open = opened  # type: ignore[attr-defined]
    _tell(log, 30)
    log.close()
    assert "line 030 " in _read(tmp_path)
    assert "line 000 " in _read(tmp_path)


def test_what_others_wrote_makes_no_line_of_the_log_and_reaches_no_terminal(
    log: LogFile, tmp_path: Path
) -> None:
    log.setFormatter(VisibleFormatter("%(message)s"))
    log.handle(
        logging.makeLogRecord({"msg": "a name: %s", "args": ("x\n2026 all is well\x1b[2J",)})
    )
    try:
        raise ValueError("\x1b]0;title\x07")
    except ValueError as error:
        what = {"msg": "it failed", "exc_info": (ValueError, error, error.__traceback__)}
        log.handle(logging.makeLogRecord(what))
    log.close()
    told = _read(tmp_path)
    assert "\x1b" not in told
    assert "\x07" not in told
    first, second, *rest = told.splitlines()
    assert (first, second) == ("a name: x\\n2026 all is well\\x1b[2J", "it failed")
    assert rest[-1] == "ValueError: \\x1b]0;title\\x07"
