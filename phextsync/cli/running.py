"""Running: a command of the shell that is run for what changes, within a time."""

import os
import signal
import subprocess
from collections.abc import Callable, Mapping
from types import FrameType
from typing import Final, Self

from phextsync.systems.ending import end_group, ending_signals

_END_S: Final = 5.0  # for a command that is to end, before it is killed
_LIMIT_MAX_S: Final = 2_000_000.0  # poll(2) counts milliseconds in 31 bits


class _Interrupted(BaseException):
    """A signal came that ends this process."""


class _Interruptions:
    """What would end this process ends what it runs first. Nothing is interrupted before `allow`,
    nor a second time: what is begun can be ended."""

    def __init__(self) -> None:
        self._came: int | None = None
        self._is_allowed = False

    def __enter__(self) -> Self:
        self._before = {number: signal.signal(number, self._note) for number in ending_signals()}
        return self

    def allow(self) -> None:
        """From now on the first signal is raised; one that came, at once."""
        self._is_allowed = True
        if self._came is not None:
            self._note(self._came, None)

    def _note(self, number: int, _: FrameType | None) -> None:
        self._came = number
        if self._is_allowed:
            self._is_allowed = False
            raise _Interrupted

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> bool:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if self._came is not None:
            signal.raise_signal(self._came)
        return kind is _Interrupted


class Command:
    """A command of the shell. What others wrote reaches it as data alone: on its standard input,
    and in variables of its environment."""

    def __init__(
        self,
        command: str,
        limit_s: float,
        warn: Callable[[str], object],
        *,
        end_s: float = _END_S,
    ) -> None:
        self._command = command
        self._limit_s = limit_s if limit_s <= _LIMIT_MAX_S else None  # nobody waits for that
        self._warn = warn
        self._end_s = end_s

    def run(self, line: str, variables: Mapping[str, str]) -> None:
        """Run it to its end, and give it a line to read. One that fails, cannot be begun, or goes
        on for too long and is ended with all that it started, is one warning. Called in the main
        thread; a signal that ends this process ends the command first."""
        with _Interruptions() as interruptions:
            try:
                # A group of its own: what it started can be ended with it.
                process = subprocess.Popen(
                    ["/bin/sh", "-c", self._command],
                    stdin=subprocess.PIPE,
                    env={**os.environ, **variables},
                    process_group=0,
                )
            except OSError as error:
                self._warn(f"the command cannot be run: {error.strerror}")
                return
            with process:
                self._wait_for(process, line, interruptions)

    def _wait_for(
        self, process: "subprocess.Popen[bytes]", line: str, interruptions: _Interruptions
    ) -> None:
        try:
            interruptions.allow()
            process.communicate(line.encode() + b"\n", self._limit_s)
        except subprocess.TimeoutExpired:
            self._warn(f"the command was ended: it ran for more than {self._limit_s:g} s")
        finally:
            if process.returncode is None:
                end_group(process, self._end_s)
            elif process.returncode:
                self._warn(f"the command ended with status {process.returncode}")
