"""MemoryStore: the contract of a store without a disk."""

import array

from phextsync.errors import StoreDamagedError
from phextsync.store.contract import Batch, Heads, ScrollWrite, StoredScroll
from phextsync.store.durations import Durations
from phextsync.store.records import coordinate_text
from phextsync.store.retention import NO_HISTORY


class MemoryStore:
    """A store that lasts as long as the object. `reopened` and `cloned` imitate a restart."""

    def __init__(self) -> None:
        self.report: tuple[str, ...] = ()
        self.syncs = Durations()
        self.refused_history = self.is_fleeting = False
        self._scrolls: dict[str, dict[bytes, tuple[ScrollWrite, StoredScroll]]] = {}
        self._leases: dict[str, int] = {}
        self._receipts: dict[bytes, bytes] = {}
        self._notes: dict[bytes, bytes] = {}
        self._damaged: dict[tuple[str, bytes], None] = {}
        self._history: dict[tuple[str, bytes], dict[int, bytes]] = {}
        self.history = NO_HISTORY
        self._is_clean = False

    def phexts(self) -> list[str]:
        return sorted(name for name, scrolls in self._scrolls.items() if scrolls)

    def heads(self, phext: str) -> Heads:
        heads = [head for _, (head, _) in sorted(self._scrolls.get(phext, {}).items())]
        return Heads(
            b"".join(head.key for head in heads),
            b"".join(head.fingerprint for head in heads),
            array.array("I", [head.size for head in heads]).tobytes(),
        )

    def read(self, phext: str, key: bytes) -> StoredScroll | None:
        if (phext, key) in self._damaged:
            raise StoreDamagedError(
                f"{phext} {coordinate_text(key)}: its bytes do not have their checksum"
            )
        found = self._scrolls.get(phext, {}).get(key)
        return None if found is None else found[1]

    def text(self, phext: str, key: bytes) -> str | None:
        return None

    def read_range(
        self, phext: str, lower: bytes, upper: bytes | None, bytes_max: int
    ) -> list[tuple[bytes, StoredScroll]]:
        found: list[tuple[bytes, StoredScroll]] = []
        size = 0
        for key, (_, scroll) in sorted(self._scrolls.get(phext, {}).items()):
            if (phext, key) in self._damaged:
                continue
            if key >= lower and (upper is None or key < upper) and size < bytes_max:
                found.append((key, scroll))
                size += len(scroll.state or b"") + scroll.log_bytes
        return found

    def commit(self, batch: Batch) -> None:
        for phext, write in batch.writes:
            scrolls = self._scrolls.setdefault(phext, {})
            if write.leaves:
                self.quarantine(phext, write.key)
                continue
            old = scrolls[write.key][1] if write.key in scrolls else StoredScroll(None, ())
            if write.state is not None:
                old = StoredScroll(write.state, ())
                self._damaged.pop((phext, write.key), None)
            scrolls[write.key] = (write, StoredScroll(old.state, (*old.log, *write.log)))
        self._leases.update(batch.leases)
        self._receipts.update(batch.receipts)
        self._notes.update(batch.notes)
        self.history = batch.kept or self.history
        if batch.kept is not None:
            for place in [p for p in self._history if not batch.kept.of(*p).kept_ms]:
                del self._history[place]
        for piece in batch.history:
            if not self.history.of(piece.phext, piece.key).kept_ms:
                continue
            pieces = self._history.setdefault((piece.phext, piece.key), {})
            if piece.number is None:
                pieces.clear()
            elif piece.data:
                pieces[piece.number] = piece.data
            else:
                pieces.pop(piece.number, None)

    def pieces(self, phext: str, key: bytes, *, oldest: int | None = None) -> dict[int, bytes]:
        return dict(sorted(self._history.get((phext, key), {}).items())[:oldest])

    def last_piece(self, phext: str, key: bytes) -> int:
        return max(self._history.get((phext, key), ()), default=-1)

    def histories(self, after: tuple[str, bytes] | None, count: int) -> list[tuple[str, bytes]]:
        places = sorted(place for place, pieces in self._history.items() if pieces)
        return [place for place in places if after is None or place > after][:count]

    def lease(self, phext: str) -> int | None:
        return self._leases.get(phext)

    def receipts(self) -> dict[bytes, bytes]:
        return {client: receipt for client, receipt in self._receipts.items() if receipt}

    def note(self, key: bytes) -> bytes:
        return self._notes.get(key, b"")

    def notes(self, prefix: bytes) -> list[tuple[bytes, bytes]]:
        return sorted((k, v) for k, v in self._notes.items() if v and k.startswith(prefix))

    def quarantine(self, phext: str, key: bytes) -> None:
        self._scrolls.get(phext, {}).pop(key, None)
        self._damaged.pop((phext, key), None)
        self._leases.pop(phext, None)

    def damage(self, phext: str, key: bytes) -> None:
        """Let what is stored of a scroll fail its checksum, until its state is written again."""
        self._damaged[phext, key] = None

    def close(self, *, clean: bool) -> None:
        self._is_clean = clean

    def reopened(self) -> "MemoryStore":
        """Return what another open of this store finds."""
        other = MemoryStore() if self.is_fleeting else self.cloned()
        other.is_fleeting = self.is_fleeting
        if self._is_clean and not self.is_fleeting:
            other._leases = dict(self._leases)
        return other

    def cloned(self) -> "MemoryStore":
        """Return what an open of a copy on another machine finds."""
        other = MemoryStore()
        other.is_fleeting = self.is_fleeting
        other._scrolls = {name: dict(scrolls) for name, scrolls in self._scrolls.items()}
        other._receipts = self.receipts()
        other._notes = dict(self._notes)
        other._damaged = dict(self._damaged)
        other._history = {place: dict(pieces) for place, pieces in self._history.items()}
        other.history = self.history
        return other
