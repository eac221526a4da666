"""Retention: where history is kept and for how long. A value; settings give another value.

There is a setting for the whole folder and any number for ranges of phexts. Of the ranges that
hold a scroll the smallest counts, of two that are as large the one that keeps longer. Since when
history has been kept is known place by place, through all changes of settings: it began where it
was not kept before.
"""

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import Final, NamedTuple, TypeAlias

import cbor2

from phextsync.errors import PhextsyncError

NEVER_MS: Final = (1 << 63) - 1
RANGES_MAX: Final = 1000
"""Settings for ranges in one folder: a change of one looks at all."""

_STEPS_MAX: Final = 4 * RANGES_MAX  # 2 for each range, and what ranges that are gone have left
_KEY_BYTES: Final = 12


class Kept(NamedTuple):
    """How long history is kept, in milliseconds (0: it is not), and since when it has been."""

    kept_ms: int
    began_ms: int


class KeptRange(NamedTuple):
    """A setting for the scrolls of a phext from key `lower` to key `upper`, excluded."""

    phext: str
    lower: bytes
    upper: bytes | None
    kept_ms: int

    @property
    def where(self) -> tuple[str, bytes, bytes | None]:
        return self[:3]


Steps: TypeAlias = tuple[tuple[bytes, Kept], ...]
"""What holds from each of these keys on, ascending, the first of which is empty."""


@dataclass(frozen=True, slots=True)
class Retention:
    """How long history is kept where. Without a range that holds a scroll, `kept_ms` counts.

    `steps` is the same, worked out: for each phext of which a part differs from the whole folder.
    """

    kept_ms: int
    began_ms: int
    ranges: tuple[KeptRange, ...] = ()
    steps: Mapping[str, Steps] = field(default_factory=dict)

    def of(self, phext: str, key: bytes) -> Kept:
        """Return what holds for one scroll. O(log ranges)."""
        steps = self.steps.get(phext)
        if steps is None:
            return Kept(self.kept_ms, self.began_ms)
        return steps[bisect_right(steps, key, key=_lower) - 1][1]

    @property
    def is_kept(self) -> bool:
        """Whether history is kept anywhere."""
        return self.kept_ms > 0 or any(row.kept_ms > 0 for row in self.ranges)

    def gaps(self, phext: str) -> Iterator[tuple[bytes, bytes | None]]:
        """Iterate over the ranges of keys of a phext where no history is kept, in order."""
        steps = self.steps.get(phext, ((b"", Kept(self.kept_ms, self.began_ms)),))
        ends = [*[lower for lower, _ in steps[1:]], None]
        for (lower, kept), upper in zip(steps, ends, strict=True):
            if not kept.kept_ms:
                yield lower, upper

    def changed(
        self, kept_ms: int | None, where: tuple[str, bytes, bytes | None] | None, now_ms: int
    ) -> "Retention":
        """Return what holds after a setting: for a range, of which None removes the setting, or,
        without `where`, for the whole folder. PhextsyncError for one range too many."""
        general, ranges = Kept(self.kept_ms, self.began_ms), self.ranges
        if where is not None:
            others = [row for row in ranges if row.where != where]
            new = [] if kept_ms is None else [KeptRange(*where, kept_ms)]
            ranges = tuple(sorted((*others, *new), key=_order))
            if len(ranges) > RANGES_MAX:
                raise PhextsyncError(
                    f"expected at most {RANGES_MAX} ranges with a setting of history, found another"
                )
        elif kept_ms is not None:
            general = _since(general, kept_ms, now_ms)
        steps = {}
        for phext in sorted({*self.steps, *(row.phext for row in ranges)}):
            mine = [row for row in ranges if row.phext == phext]
            found = self._steps(phext, mine, general.kept_ms, now_ms)
            if found != ((b"", general),):
                steps[phext] = found
        return Retention(*general, ranges, steps)

    def _steps(self, phext: str, ranges: list[KeptRange], general_ms: int, now_ms: int) -> Steps:
        """Work out what holds where in one phext."""
        bounds = {b"", *(lower for lower, _ in self.steps.get(phext, ()))}
        for row in ranges:
            bounds |= {row.lower, *(() if row.upper is None else (row.upper,))}
        found = [
            (bound, kept_ms, _since(self.of(phext, bound), kept_ms, now_ms))
            for bound, kept_ms in _settled(sorted(bounds), ranges, general_ms)
        ]
        steps = _merged([(bound, kept) for bound, _, kept in found])
        if len(steps) > _STEPS_MAX:  # forget since when, rather than grow
            fresh = [
                (bound, _since(Kept(0, NEVER_MS), kept_ms, now_ms)) for bound, kept_ms, _ in found
            ]
            steps = _merged(fresh)
        return steps

    def encode_ranges(self) -> bytes:
        """Return all but the setting of the whole folder as bytes; none when that is all."""
        if not self.ranges and not self.steps:
            return b""
        steps = [
            [phext, [[lower, *kept] for lower, kept in steps]]
            for phext, steps in sorted(self.steps.items())
        ]
        return cbor2.dumps([[list(row) for row in self.ranges], steps])

    def with_ranges(self, data: bytes) -> "Retention":
        """Return it with what `encode_ranges` gave."""
        ranges, steps = cbor2.loads(data) if data else ([], [])
        return Retention(
            self.kept_ms,
            self.began_ms,
            tuple(KeptRange(*row) for row in ranges),
            {phext: tuple((lower, Kept(*kept)) for lower, *kept in rows) for phext, rows in steps},
        )


NO_HISTORY: Final = Retention(0, NEVER_MS)


def _lower(step: tuple[bytes, Kept]) -> bytes:
    return step[0]


def _order(row: KeptRange) -> tuple[str, bytes, int]:
    return row.phext, row.lower, _end(row)


def _end(row: KeptRange) -> int:
    return 1 << 8 * _KEY_BYTES if row.upper is None else int.from_bytes(row.upper, "big")


def _since(before: Kept, kept_ms: int, now_ms: int) -> Kept:
    """Return what a setting means where `before` held."""
    if not kept_ms:
        return Kept(0, NEVER_MS)
    return Kept(kept_ms, before.began_ms if before.kept_ms else now_ms)


def _settled(
    bounds: Sequence[bytes], ranges: list[KeptRange], general_ms: int
) -> Iterator[tuple[bytes, int]]:
    """Give each bound with how long history is kept from there to the next."""
    coming = sorted(ranges, key=_order, reverse=True)
    open_: list[tuple[int, int, int]] = []  # size, what is kept, negative, and end: best first
    for bound in bounds:
        while coming and coming[-1].lower <= bound:
            row = coming.pop()
            size = _end(row) - int.from_bytes(row.lower, "big")
            heappush(open_, (size, -row.kept_ms, _end(row)))
        while open_ and bound and open_[0][2] <= int.from_bytes(bound, "big"):
            heappop(open_)
        yield bound, -open_[0][1] if open_ else general_ms


def _merged(steps: list[tuple[bytes, Kept]]) -> Steps:
    """Leave out steps that change nothing."""
    merged: list[tuple[bytes, Kept]] = []
    for lower, kept in steps:
        if not merged or merged[-1][1] != kept:
            merged.append((lower, kept))
    return tuple(merged)
