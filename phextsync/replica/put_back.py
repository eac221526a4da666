"""Put back: text that stands again, and of which characters it was made.

What nodes put back apart is one where they know the same of it. Where they do not, since one has
heard more or counts from another time, it stands twice when they meet. But each copy says of which
characters it was made, so that all nodes see the same and leave the same copy.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from typing import Final, NamedTuple

from phextsync.crdt import client_clocks
from phextsync.inserts import Id, IdSet, Inserted, encode_inserts, read_inserts, utf16_units

# Larger than nearly all ids of imports: what is put back comes after what they put at its place.
PUT_BACK: Final = 0x1FFF << 40
ACCEPTED: Final = 0x1FFE << 40
_MARK: Final = b"\xff\x0f"  # how the numbers of either end, in bytes
_HOPS_MAX: Final = 64  # from what was put back to what that was made of; people make some


def is_put_back(client_id: int) -> bool:
    """Whether a client id is one under which text was put back."""
    return client_id >> 40 == PUT_BACK >> 40


def is_accepted(client_id: int) -> bool:
    """Whether a client id is one under which text of a writer in quarantine was put back."""
    return client_id >> 40 == ACCEPTED >> 40


def is_again(client_id: int) -> bool:
    """Whether a client id is one of either."""
    return is_put_back(client_id) or is_accepted(client_id)


def puts_back(update: bytes) -> bool:
    """Whether an update puts text back."""
    return _MARK in update and any(map(is_again, client_clocks(update)))


class PutBack:
    """What was put back already: `back`, and of which characters it was made."""

    def __init__(self, inserted: Iterable[Inserted], is_again: Callable[[int], bool]) -> None:
        self.back = IdSet()
        self._made: dict[int, list[tuple[int, int, Id]]] = {}
        ends: dict[int, tuple[int, Id]] = {}
        again = [each for each in inserted if is_again(each.client)]
        for each in sorted(again, key=lambda each: each[:3]):
            client, clock, units = each.client, each.clock, each.units
            known, following = ends.get(client, (0, None))
            if clock + units <= known or not each.is_placed:
                continue  # it is known by another update
            if each.left == (client, clock - 1) and following is not None:
                first = following[0], following[1] + clock - known
            elif each.right is not None:
                first = each.right
            else:
                continue
            self._made.setdefault(client, []).append((clock, units, first))
            self.back.add(first[0], first[1], first[1] + units)
            ends[client] = clock + units, (first[0], first[1] + units)

    def parts(self, client: int, start: int, stop: int) -> Iterator[tuple[int, int, Id]]:
        """Iterate over a range of clocks by the characters that it was made of: where, how many
        units, and the id of the first one."""
        made = self._made.get(client, [])
        first = max(0, bisect_right(made, start, key=lambda part: part[0]) - 1)
        for clock, units, (source, at) in made[first:]:
            lower, upper = max(clock, start), min(clock + units, stop)
            if clock >= stop:
                return
            if lower < upper:
                yield lower, upper - lower, (source, at + lower - clock)

    def copies(self, client: int, start: int, stop: int) -> list["_Copy"]:
        """Return of a range of clocks what it was made of at first, in parts."""
        found = [_Copy((client, start), client, start, stop - start)]
        for _ in range(_HOPS_MAX):
            before, found = found, []
            for copy in before:
                at, clock = copy.root
                parts = [*self.parts(at, clock, clock + copy.units)]
                found += [
                    _Copy(root, client, copy.clock + lower - clock, units)
                    for lower, units, root in parts
                ] or [copy]
            if found == before:
                break
        return found


class _Copy(NamedTuple):
    """Units that were put back, and the id of the first of those that they were made of."""

    root: Id
    client: int
    clock: int
    units: int


def take_doubles(state: bytes) -> bytes | None:
    """Return what takes all copies of characters that were put back but one of each; None when
    there is one of each. Of two the one with the lower client id stands, what was accepted first;
    copies of other characters stand in any case."""
    inserted, deleted = read_inserts(state)
    origins = PutBack(inserted, is_again)
    live = [each for each in inserted if each.text and is_again(each.client)]
    copies: list[_Copy] = []
    for each in live:
        for start, stop in deleted.without(each.client, each.clock, each.clock + each.units):
            copies += origins.copies(each.client, start, stop)
    copies = _overlapping(copies)
    if not copies:
        return None
    signs = {id_: sign for each in live for id_, sign in _signs(each)}
    seen: set[tuple[Id, str]] = set()
    gone = IdSet()
    for copy in sorted(copies, key=lambda copy: (copy.client, copy.clock)):
        for i in range(copy.units):
            one = (copy.root[0], copy.root[1] + i), signs[copy.client, copy.clock + i]
            if one in seen:
                gone.add(copy.client, copy.clock + i, copy.clock + i + 1)
            seen.add(one)
    return encode_inserts({}, gone) if gone else None


def _overlapping(copies: Iterable[_Copy]) -> list[_Copy]:
    """Return the copies of which a part may be there twice."""
    found: dict[_Copy, None] = {}
    furthest: _Copy | None = None
    for copy in sorted(copies):
        (client, start), stop = copy.root, copy.root[1] + copy.units
        if furthest is not None and furthest.root[0] == client:
            upper = furthest.root[1] + furthest.units
            if start < upper:
                found[furthest] = found[copy] = None
            if stop <= upper:
                continue
        furthest = copy
    return [*found]


def _signs(run: Inserted) -> Iterator[tuple[Id, str]]:
    """Iterate over the ids of a run with their characters."""
    clock = run.clock
    for sign in run.text or "":
        for _ in range(utf16_units(sign)):
            yield (run.client, clock), sign
            clock += 1
