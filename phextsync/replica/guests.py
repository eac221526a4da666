"""Guests: scrolls that are here and not held, for as long as they are of use.

A guest lives in the same replica and store as all others, but in no summary, comparison or count of
copies: these are about what is held. It is fresh while a peer that holds it, its host, tells of its
changes over a link. Else it is stale: it was true once, and is to be asked for again before it is
read. What this node wrote there is unsent until a holder has it on its disk; a note says so in the
batch of the edit, so that a node that starts again knows it. Nothing that is unsent is dropped.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from phextsync.index import EMPTY_VERSION, Coordinate, CoordinateRange, contains, covers
from phextsync.ranges import Ranges
from phextsync.replica.durability import Durability
from phextsync.replica.noted_scrolls import NotedScroll as _Scroll
from phextsync.replica.noted_scrolls import NotedScrolls

GUESTS_MAX: Final = 4096
GUEST_BYTES_MAX: Final = 64 << 20

_NOTES: Final = b"g"
_GUEST_BYTES: Final = 512  # what a guest takes besides its text
_SHOWN_MAX: Final = 4 * GUESTS_MAX
_SHOWN_BYTES_MAX: Final = 1024  # of a version that is remembered
_ROOM: Final = 16  # as one of so many parts goes at a time, each time a client id with it


@dataclass(slots=True)
class _Guest:
    """`host`: the link over which its changes come, None while it is stale."""

    host: int | None = None
    size: int = _GUEST_BYTES


class Guests:
    """The guests of a node, those that were asked for last at the end. For any thread: whether
    there is one, and whether it is fresh."""

    def __init__(self, durability: Durability) -> None:
        self.count_max = GUESTS_MAX
        self.bytes_max = GUEST_BYTES_MAX
        self._bytes = 0
        self._guests: OrderedDict[_Scroll, _Guest] = OrderedDict()
        self.here: Mapping[_Scroll, object] = self._guests
        """The scrolls that are guests. Each update asks for them, so it is no property."""
        self._unsent = NotedScrolls(durability, _NOTES)
        self.unsent: Mapping[_Scroll, None] = self._unsent.all
        """The guests with edits that no holder is known to have on its disk."""
        self._shown: OrderedDict[_Scroll, bytes] = OrderedDict()  # versions of some that left
        for scroll in self.unsent:
            self.admit(scroll)

    def __bool__(self) -> bool:
        return bool(self._guests)

    def __len__(self) -> int:
        return len(self._guests)

    def __contains__(self, scroll: object) -> bool:
        return scroll in self._guests

    def is_fresh(self, scroll: _Scroll) -> bool:
        """Whether a scroll is a guest of whose changes its host tells."""
        guest = self._guests.get(scroll)
        return guest is not None and guest.host is not None

    def is_stale(self, scroll: _Scroll) -> bool:
        """Whether a scroll is a guest of whose changes nobody tells."""
        guest = self._guests.get(scroll)
        return guest is not None and guest.host is None

    def host(self, scroll: _Scroll) -> int | None:
        """Return the link over which the changes of a guest come, None for none."""
        guest = self._guests.get(scroll)
        return None if guest is None else guest.host

    # -- coming and going ------------------------------------------------------------------

    def admit(self, scroll: _Scroll, host: int | None = None) -> None:
        """Let a scroll be a guest, told of over the link `host` from now on."""
        guest = self._guests.get(scroll)
        if guest is None:
            guest = self._guests[scroll] = _Guest()
            self._bytes += guest.size
        guest.host = host
        self._guests.move_to_end(scroll)

    def measure(self, scroll: _Scroll, text_bytes: int) -> None:
        """The text of a guest has so many bytes now."""
        guest = self._guests[scroll]
        self._bytes -= guest.size
        guest.size = _GUEST_BYTES + text_bytes
        self._bytes += guest.size

    def part(self, link: int, phext: str | None = None) -> list[_Scroll]:
        """A link tells no longer of guests, of one phext or of any: return those that are stale for
        that."""
        parted: list[_Scroll] = []
        for scroll, guest in self._guests.items():
            if guest.host == link and phext in (None, scroll[0]):
                guest.host = None
                parted.append(scroll)
        return parted

    def forget(self, scroll: _Scroll) -> None:
        """A scroll is no guest any more."""
        guest = self._guests.pop(scroll, None)
        if guest is not None:
            self._bytes -= guest.size
            self.sent(scroll)

    def keep_outside(self, phext: str, held: Ranges) -> None:
        """This node holds these ranges of a phext now: what is held is no guest."""
        for scroll in [s for s in self._guests if s[0] == phext and contains(held, s[1])]:
            self.forget(scroll)

    def excess(self, may_leave: Callable[[_Scroll], bool]) -> list[_Scroll]:
        """Return which guests are to go, those first that were asked for longest ago, until there
        is some room again; none while there is room, and none with unsent edits. One that may not
        leave is asked a second time where that is not enough."""
        count, size = len(self._guests), self._bytes
        leaving: dict[_Scroll, None] = {}
        if count <= self.count_max and size <= self.bytes_max:
            return []
        count_goal = self.count_max - self.count_max // _ROOM
        bytes_goal = self.bytes_max - self.bytes_max // _ROOM
        for scroll, guest in (*self._guests.items(), *self._guests.items()):
            if count <= count_goal and size <= bytes_goal:
                break
            is_bound = scroll in self.unsent or scroll in leaving
            if not is_bound and may_leave(scroll):
                leaving[scroll] = None
                count -= 1
                size -= guest.size
        return [*leaving]

    # -- what was shown --------------------------------------------------------------------

    def remember(self, scroll: _Scroll, version: bytes) -> None:
        """A guest leaves: whoever reads it again is not to see less than this version."""
        if not self.is_enough(scroll, version):
            return
        self._shown.pop(scroll, None)
        if version != EMPTY_VERSION and len(version) <= _SHOWN_BYTES_MAX:
            self._shown[scroll] = version
            if len(self._shown) > _SHOWN_MAX:
                self._shown.popitem(last=False)

    def is_enough(self, scroll: _Scroll, version: bytes) -> bool:
        """Whether a version has all that was shown of a scroll before it left."""
        shown = self._shown.get(scroll)
        return shown is None or covers(version, shown)

    # -- unsent edits ----------------------------------------------------------------------

    def edited(self, scroll: _Scroll) -> None:
        """This node has written to a scroll: if it is a guest, a holder is to have that."""
        if scroll in self._guests:
            self._unsent.add(scroll)

    def sent(self, scroll: _Scroll) -> None:
        """A holder has all edits of a guest on its disk, or this node is a holder itself now."""
        self._unsent.discard(scroll)

    def within(self, phext: str, range_: CoordinateRange) -> list[Coordinate]:
        """Return the guests of a range, in order."""
        return sorted(at for name, at in self._guests if name == phext and at in range_)

    def unsent_within(self, phext: str, range_: CoordinateRange) -> list[Coordinate]:
        """Return where in a range there are unsent edits, in order."""
        return sorted(at for name, at in self.unsent if name == phext and at in range_)


def without_guests(
    guests: Guests, phext: str, coordinates: Iterable[Coordinate]
) -> Iterable[Coordinate]:
    """Return the coordinates that are those of no guest."""
    return (at for at in coordinates if (phext, at) not in guests) if guests else coordinates
