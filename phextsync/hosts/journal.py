"""Journal: what has still to be delivered, on the disk, with a bound; for one process.

To put something in is to copy it into mapped memory: no call of the system that may wait. When the
process is killed nothing is lost: the next process on the folder takes over what is left. When the
power fails, that is lost which the system had not written yet, some seconds; unless `is_durable`
asked for it to be on the disk. What is delivered at the moment of the end is delivered again: the
receiver tells it by its number.
"""

import json
import mmap
import os
import struct
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from phextsync.durable_files import make_folder
from phextsync.plain_values import read_json
from phextsync.systems.locking import try_lock
from phextsync.systems.opening import PRIVATE, read_at
from phextsync.systems.resources import reserve

JOURNAL_BYTES: Final = 4 << 20
"""How much may wait: some hundred long turns, or many thousand short ones."""

_SUFFIX: Final = ".journal"
_HEAD: Final = struct.Struct("<IB")  # bytes of what follows, 0: nothing does; whether it waits
_NOTHING: Final = bytes(_HEAD.size)
_WAITS, _IS_DONE = 1, 2

Item = dict[str, str]


@dataclass(frozen=True, slots=True)
class Waiting:
    """What waits. `is_again`: it may have been delivered before."""

    item: Item
    at: int
    is_again: bool = False


class Journal:
    """What waits to be delivered, first in first out. `put` from any thread, the rest from one."""

    def __init__(self, folder: Path, name: str, *, size: int = JOURNAL_BYTES) -> None:
        """`name` is that of no other journal in the folder. OSError when no file can be made."""
        make_folder(folder)
        self._path = folder / f"{name}{_SUFFIX}"
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | PRIVATE
        self._descriptor = os.open(self._path, flags, 0o600)
        try:
            try_lock(self._descriptor)
            reserve(self._descriptor, size)  # a full disk would kill who writes
            self._map = mmap.mmap(self._descriptor, size)
        except BaseException:
            self._path.unlink()
            os.close(self._descriptor)
            raise
        self._end = 0
        self._waiting: deque[Waiting] = deque()
        self._changed = threading.Condition()

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, item: Item, *, is_durable: bool = False, is_again: bool = False) -> bool:
        """Let something wait for its delivery; False when there is no room for it."""
        data = json.dumps(item).encode()
        with self._changed:
            if not self._waiting:
                self._end = 0
            at, end = self._end, self._end + _HEAD.size + len(data)
            if end + _HEAD.size > len(self._map):
                return False
            self._map[at + _HEAD.size : end + _HEAD.size] = data + _NOTHING
            self._map[at : at + _HEAD.size] = _HEAD.pack(len(data), _WAITS)
            self._end = end
            self._waiting.append(Waiting(item, at, is_again))
            self._changed.notify_all()
        if is_durable:
            self._map.flush()
        return True

    def first(self, timeout_s: float) -> Waiting | None:
        """Return what is to be delivered next, None when nothing is put in for so long."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting, timeout_s)
            return self._waiting[0] if self._waiting else None

    def done(self) -> None:
        """Forget the first: it was delivered."""
        with self._changed:
            done = self._waiting.popleft()
            self._map[done.at + _HEAD.size - 1] = _IS_DONE

    def wake(self) -> None:
        """Let `first` look again whether there is something."""
        with self._changed:
            self._changed.notify_all()

    def adopt(self) -> None:
        """Take over what processes left that have ended. What does not fit stays for the next."""
        for path in sorted(self._path.parent.glob(f"*{_SUFFIX}")):
            if path != self._path:
                with suppress(OSError):  # it lives, or another was faster
                    self._adopt(path)

    def _adopt(self, path: Path) -> None:
        descriptor = os.open(path, os.O_RDWR | PRIVATE)
        try:
            try_lock(descriptor)
            data = read_at(descriptor, os.fstat(descriptor).st_size, 0)
            taken = [self.put(item, is_durable=True, is_again=True) for item in _items_of(data)]
            if all(taken):
                path.unlink()
        finally:
            os.close(descriptor)

    def close(self) -> None:
        """Let the file go; it stays on the disk if something waits."""
        with self._changed:
            self._map.close()
            if not self._waiting:
                self._path.unlink(missing_ok=True)
            os.close(self._descriptor)


def _items_of(data: bytes) -> Iterator[Item]:
    """Give what waits in the bytes of a journal, up to what is damaged."""
    at = 0
    while at + _HEAD.size <= len(data):
        length, state = _HEAD.unpack_from(data, at)
        at += _HEAD.size + length
        if not length or at > len(data):
            return
        if state == _WAITS:
            try:
                yield read_json(data[at - length : at])
            except ValueError:
                return
