"""Logs of a node: on standard error, and in a file that is cut in time and outlives its disk."""

import errno
import logging
from contextlib import suppress
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Final

from phextsync.boundaries import one_line
from phextsync.terminal import visible, visible_text

LOGS: Final = 5
"""Older parts that are kept of a log in a file."""

_LOG_BYTES: Final = 4 << 20
_FORMAT: Final = "%(asctime)s %(name)s: %(message)s"


class VisibleFormatter(logging.Formatter):
    """Lines of a log that show the control characters in what others wrote."""

    def format(self, record: logging.LogRecord) -> str:
        return visible_text(super().format(record))

    def formatMessage(self, record: logging.LogRecord) -> str:
        record.message = visible(record.message)
        return super().formatMessage(record)


class LogFile(RotatingFileHandler):
    """A log in a file, the older parts beside it in FILE.1, .2, ... What a full disk does not take
    is lost, and what comes later is written when there is room again. Where the file cannot be put
    beside, it begins anew in its place: it grows no larger for that."""

    def __init__(self, path: Path, bytes_max: int = _LOG_BYTES) -> None:
        if path.is_fifo():  # a node would wait for whoever reads it, at each line
            raise OSError(errno.EINVAL, "expected a file for the log, found a pipe", str(path))
        super().__init__(path, maxBytes=bytes_max, backupCount=LOGS, encoding="utf-8")

    def doRollover(self) -> None:
        # A stream that cannot be closed for a full disk is closed all the same, and would stay.
        stream, self.stream = self.stream, None
        if stream is not None:
            with suppress(OSError):
                stream.close()
        try:
            super().doRollover()
        except OSError as error:
            self.stream = self._open()
            self.stream.truncate(0)
            self.stream.write(f"what was here could not be put beside: {one_line(error)}\n")


def log_to(level: int, file: Path | None = None) -> None:
    """Log on standard error from `level` on, and what happens into a file."""
    handlers: list[logging.Handler] = [logging.StreamHandler()]
    handlers[0].setLevel(level)
    if file is not None:
        handlers.append(LogFile(file.expanduser()))
        handlers[1].setLevel(min(level, logging.INFO))
    for handler in handlers:
        handler.setFormatter(VisibleFormatter(_FORMAT))
    logging.basicConfig(level=min(handler.level for handler in handlers), handlers=handlers)
    logging.raiseExceptions = False  # a full disk, or a terminal that is gone, ends no node
