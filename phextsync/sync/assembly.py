"""Assembly: entries that are larger than a frame, put together from their parts."""

from phextsync.errors import ProtocolError
from phextsync.sync.messages import Entry, Part, ScrollId


class PartsBudget:
    """How many bytes of parts wait for the rest of their entries, over all links."""

    def __init__(self, bytes_max: int) -> None:
        self.bytes = 0
        self._bytes_max = bytes_max

    def add(self, size: int) -> None:
        """More has come. ProtocolError when it is too much."""
        self.bytes += size
        if self.bytes > self._bytes_max:
            raise ProtocolError("too many large scrolls arrive at once")

    def remove(self, size: int) -> None:
        """Parts wait no longer."""
        self.bytes -= size


class Assembly:
    """The parts of one entry that have come on a link. A first part begins another."""

    def __init__(self, budget: PartsBudget, *, entry_bytes_max: int) -> None:
        self._budget = budget
        self._entry_bytes_max = entry_bytes_max
        self._scroll: ScrollId | None = None
        self._total = 0
        self._pieces: list[bytes] = []
        self._size = 0

    @property
    def is_open(self) -> bool:
        """Whether parts wait for the rest."""
        return self._scroll is not None

    def add(self, part: Part) -> Entry | None:
        """Take a part; return the entry when it was the last one."""
        scroll = (part.phext, part.coordinate)
        if part.index == 0:
            self.drop()
            self._scroll, self._total = scroll, part.total
        expected = (self._scroll, self._total, len(self._pieces))
        if expected != (scroll, part.total, part.index):
            raise ProtocolError(f"expected the next part of a scroll, found part {part.index}")
        size = self._size + len(part.piece)
        if size > self._entry_bytes_max:
            raise ProtocolError(
                f"scroll of more than {self._entry_bytes_max} bytes at {part.coordinate}"
            )
        self._pieces.append(part.piece)
        self._size = size
        self._budget.add(len(part.piece))
        if part.index + 1 < part.total:
            return None
        update = b"".join(self._pieces)
        self.drop()
        return Entry(part.coordinate, update)

    def drop(self) -> None:
        """What has come is not waited for any more."""
        self._budget.remove(self._size)
        self._scroll, self._total, self._pieces, self._size = None, 0, [], 0
