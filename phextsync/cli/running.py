"""Running: a command of the shell that is run for what changes, within a time."""

import os
import subprocess
from collections.abc import Callable, Mapping
from typing import Final

from phextsync.systems.ending import end_group

_END_S: Final = 5.0  # for a command that is to end, before it is killed
_LIMIT_MAX_S: Final = 2_000_000.0  # poll(2) counts milliseconds in 31 bits


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
        on for too long and is ended with all that it started, is one warning."""
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
            try:
                process.communicate(line.encode() + b"\n", self._limit_s)
            except subprocess.TimeoutExpired:
                self._warn(f"the command was ended: it ran for more than {self._limit_s:g} s")
            finally:
                if process.returncode is None:
                    end_group(process, self._end_s)
                elif process.returncode:
                    self._warn(f"the command ended with status {process.returncode}")
