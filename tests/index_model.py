"""A plain-Python CoordinateIndex: the oracle of the compiled one."""

from phextsync.index import EVERYTHING, Coordinate, CoordinateRange


class IndexModel:
    """A dict from coordinate to (value, fingerprint, size); everything else is computed."""

    def __init__(self) -> None:
        self.entries: dict[Coordinate, tuple[object, bytes, int]] = {}

    def inside(self, range_: CoordinateRange = EVERYTHING) -> list[Coordinate]:
        return sorted(
            c
            for c in self.entries
            if c.parts >= range_.lower.parts
            and (range_.upper is None or c.parts < range_.upper.parts)
        )

    def fingerprint(self, range_: CoordinateRange) -> tuple[int, bytes]:
        inside = self.inside(range_)
        total = sum(int.from_bytes(self.entries[c][1], "big") for c in inside) % 2**256
        return len(inside), total.to_bytes(32, "big")
