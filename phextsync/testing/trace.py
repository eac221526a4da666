"""Trace: everything that happened in a run, as lines and as one digest, and its chances by name.

Every random choice is drawn from a generator of its own name, so that a change in one part leaves
the others as they were.
"""

from collections.abc import Callable
from hashlib import blake2b
from random import Random
from struct import Struct
from typing import Final

_ARRIVAL: Final = Struct("<dQQQ")  # of a frame: time, connection, node, bytes
_LINE_CHARACTERS_MAX: Final = 200


class Trace:
    """What happened in one run, in order. `tell` is given each line, a long one cut."""

    def __init__(self, tell: Callable[[str], None] | None) -> None:
        self._tell = tell
        self._digest = blake2b(digest_size=16)

    def note(self, now: float, *what: object) -> None:
        """Something happened."""
        line = f"{now:.6f} {what}"
        self._digest.update(line.encode())
        self._tell_line(line)

    def note_frame(self, now: float, connection: int, node: int, frame: bytes) -> None:
        """A frame arrives: most of a run, so it becomes text only when there is a reader."""
        self._digest.update(_ARRIVAL.pack(now, connection, node, len(frame)))
        self._digest.update(frame)
        if self._tell is not None:
            self._tell_line(f"{now:.6f} {('frame', connection, node, frame)}")

    def digest(self) -> str:
        """Return the digest of everything that happened, in hexadecimal."""
        return self._digest.hexdigest()

    def _tell_line(self, line: str) -> None:
        if self._tell is not None:
            is_short = len(line) < _LINE_CHARACTERS_MAX
            self._tell(line if is_short else line[:_LINE_CHARACTERS_MAX] + "...")


def generator(seed: int, name: str) -> Random:
    """Return the generator of that name in a run from `seed`."""
    name_digest = blake2b(f"{seed} {name}".encode(), digest_size=8).digest()
    return Random(int.from_bytes(name_digest, "big"))
