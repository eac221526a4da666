"""ConflictLog: lines that two sides changed apart, as both had them, until somebody settles them.

It stays on the machine that saw them meet, for as long as the history of a bound range is kept.
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass
from hashlib import blake2b
from typing import Final

import cbor2

from phextsync.conflicts import Conflict, Left, is_settled, replaced
from phextsync.edits import lines_of, without_end
from phextsync.index import Coordinate
from phextsync.replica.past import BlamedLine
from phextsync.replica.replicas import ReplicaSet

CONFLICTS_MAX: Final = 10_000
"""Conflicts of one binding that are kept; the oldest go first."""
SETTLER: Final = "conflicts"
"""The writer of what is put in the place of a conflict. By it other machines tell that from what
somebody changed there for another reason."""

_log = logging.getLogger("phextsync.files")

_KIND: Final = b"c"
_TIME_BYTES: Final = 8
_NUMBER_BYTES: Final = 8
_ID_SHOWN: Final = 8  # characters of the id of a node without a name


@dataclass(frozen=True, slots=True)
class LoggedConflict:
    """A conflict in a file: `path` is its path then, `time_ms` by this node's clock, `mine` what
    this machine had, `theirs_by` the names of those who wrote the other lines, if they are known.
    Where the lines of the others are not known, and not `is_known`, those of the conflict say no
    more than where it is."""

    number: str
    coordinate: Coordinate
    path: str
    time_ms: int
    conflict: Conflict
    theirs_by: str
    is_known: bool = True


class ConflictLog:
    """The conflicts of one binding. `writers` are the names of those who brought the last change
    of scrolls; `name_of` gives the name of a node."""

    def __init__(
        self,
        replicas: ReplicaSet,
        binding_id: bytes,
        name_of: Callable[[bytes], str] = lambda node_id: "",
    ) -> None:
        self._replicas = replicas
        self._name_of = name_of
        self._prefix = b"b" + binding_id + _KIND
        self.writers: Mapping[Coordinate, str] = {}
        self._keys = [key for key, _ in replicas.durability.notes(self._prefix)]

    def __len__(self) -> int:
        return len(self._keys)

    def __iter__(self) -> Iterator[LoggedConflict]:
        """Iterate over what is kept, the oldest first."""
        for key in list(self._keys):
            value = self._replicas.durability.noted(key)
            if value:  # else another log of this binding settled it
                yield self._decoded(key, value)

    def log(
        self,
        coordinate: Coordinate,
        path: str,
        found: Iterable[Conflict],
        writers: Iterable[bytes],
        *,
        is_known: bool = True,
    ) -> None:
        """Keep conflicts with what the nodes `writers` wrote, those that are new, and tell them."""
        others = [node for node in writers if node != self._replicas.author.node_id]
        names = [self._name_of(node) or node.hex()[:_ID_SHOWN] for node in others]
        by = ", ".join(names) or self.writers.get(coordinate, "")
        for conflict in found:
            if self.add(coordinate, path, conflict, by, is_known=is_known):
                what = "both sides changed line"
                _log.warning("%s: %s %d; see `phextsync conflicts`", path, what, conflict.line)

    def add(
        self,
        coordinate: Coordinate,
        path: str,
        conflict: Conflict,
        theirs_by: str,
        *,
        is_known: bool = True,
    ) -> bool:
        """Keep a conflict, unless it is known; say whether it was new."""
        time_ms = self._replicas.author.now_ms()
        body = [path, conflict.line, conflict.base, conflict.mine, conflict.theirs]
        digest = blake2b(coordinate.key + cbor2.dumps(body), digest_size=_NUMBER_BYTES).digest()
        if any(key.endswith(digest) for key in self._keys):
            return False
        # The time comes first, so that keys are in its order.
        key = self._prefix + time_ms.to_bytes(_TIME_BYTES, "big") + coordinate.key + digest
        left = conflict.left
        rest = [theirs_by, is_known, left and [*astuple(left)]]
        self._replicas.durability.note(key, cbor2.dumps([*body, *rest]))
        self._keys.append(key)
        while len(self._keys) > CONFLICTS_MAX:
            self._drop(self._keys[0])
        return True

    def review(
        self, coordinate: Coordinate, text: str, blame: Callable[[], Sequence[BlamedLine]]
    ) -> None:
        """Forget the conflicts of a scroll that somebody has settled elsewhere, or in the file.
        `blame` says who wrote its lines."""
        at = len(self._prefix) + _TIME_BYTES
        for key in [key for key in self._keys if key.startswith(coordinate.key, at)]:
            value = self._replicas.durability.noted(key)
            logged = self._decoded(key, value) if value else None
            if logged and (is_settled(text, logged.conflict) or _is_chosen(text, logged, blame)):
                self._drop(key)

    def find(self, number: str) -> LoggedConflict | None:
        """Return the conflict of a number, None when there is none."""
        return next((each for each in self if each.number == number), None)

    def settle(self, number: str) -> bool:
        """Forget a conflict; say whether there was one."""
        for key in self._keys:
            if key[-_NUMBER_BYTES:].hex() == number:
                self._drop(key)
                return True
        return False

    def prune(self, kept_ms: int) -> None:
        """Forget what is older than `kept_ms`."""
        oldest = max(0, self._replicas.author.now_ms() - kept_ms).to_bytes(_TIME_BYTES, "big")
        start, stop = len(self._prefix), len(self._prefix) + _TIME_BYTES
        for key in [key for key in self._keys if key[start:stop] < oldest]:
            self._drop(key)

    def _drop(self, key: bytes) -> None:
        self._keys.remove(key)
        self._replicas.durability.note(key, b"")

    def _decoded(self, key: bytes, value: bytes) -> LoggedConflict:
        path, line, base, mine, theirs, theirs_by, *rest = cbor2.loads(value)
        is_known, left = rest or (True, None)  # earlier versions did not say
        start = len(self._prefix)
        return LoggedConflict(
            key[-_NUMBER_BYTES:].hex(),
            Coordinate.from_key(key[start + _TIME_BYTES : -_NUMBER_BYTES]),
            path,
            int.from_bytes(key[start : start + _TIME_BYTES], "big"),
            Conflict(line, base, mine, theirs, None if left is None else Left(*left)),
            theirs_by,
            is_known,
        )


def _is_chosen(
    text: str, logged: LoggedConflict, blame: Callable[[], Sequence[BlamedLine]]
) -> bool:
    """Whether lines that somebody chose since stand where the merge had left something else, beside
    none that was not there."""
    place, left = replaced(text, logged.conflict), logged.conflict.left
    blamed = [] if place is None else blame()
    if place is None or left is None or len(blamed) != len(lines_of(text)):
        return False
    chosen = [
        line.label == SETTLER and line.time_ms is not None and line.time_ms >= logged.time_ms
        for line in blamed
    ]
    were = (left.lines, left.before, left.behind)
    stood = {without_end(line) for lines in were for line in lines_of(lines)}
    return any(chosen[i] for i in place) and all(
        chosen[i] or blamed[i].text in stood for i in place
    )
