"""Interrupts that come anywhere, as Ctrl-C may."""

import inspect
import sys
from pathlib import Path
from types import FrameType
from typing import Any, Final

import pycrdt

import phextsync
from phextsync.handles.call import Call
from phextsync.handles.changes import Changes
from phextsync.handles.inbox import Inbox
from phextsync.handles.turn import Turn


class Interrupt:
    """Interrupts what a thread does in the code of this library at a step, as a signal may."""

    _FOLDERS: Final = tuple(str(Path(inspect.getfile(each)).parent) for each in (phextsync, pycrdt))
    # A real one does not come between a lock and the block that gives it back, nor between what
    # counts as the end of a call and that end.
    _EXACT: Final = tuple(
        each.__code__
        for each in (Turn.take, Inbox.put, Call.result, Changes.__next__, Changes._awaited)
    )

    def __init__(self, step: int) -> None:
        self._left = step

    def __enter__(self) -> "Interrupt":
        self._before = sys.gettrace()
        sys.settrace(self._enter)
        return self

    def __exit__(self, *_: object) -> None:
        sys.settrace(self._before)

    @property
    def has_come(self) -> bool:
        return self._left < 0

    def _enter(self, frame: FrameType, event: str, arg: object) -> Any:
        code = frame.f_code
        if not code.co_filename.startswith(self._FOLDERS) or code in self._EXACT:
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        return self._step

    def _step(self, frame: FrameType, event: str, arg: object) -> Any:
        if event == "opcode" and not self.has_come:
            self._left -= 1
            if self.has_come:
                raise KeyboardInterrupt
        return self._step
