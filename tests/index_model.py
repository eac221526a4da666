"""A plain-Python CoordinateIndex: the oracle of the compiled one."""

import math

from phextsync.index import EVERYTHING, Coordinate, CoordinateRange


def apart(a: Coordinate, b: Coordinate) -> int:
    return sum(abs(x - y) for x, y in zip(a.parts, b.parts, strict=True))


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

    def nearest(
        self, at: Coordinate, count: int, range_: CoordinateRange, itself: bool
    ) -> list[tuple[int, Coordinate]]:
        """Sort all that have text."""
        filled = [c for c in self.inside(range_) if self.entries[c][2] and (itself or c != at)]
        return sorted((apart(at, c), c) for c in filled)[:count]

    def fingerprint(self, range_: CoordinateRange) -> tuple[int, bytes]:
        inside = self.inside(range_)
        total = sum(int.from_bytes(self.entries[c][1], "big") for c in inside) % 2**256
        return len(inside), total.to_bytes(32, "big")

    def list_entries(self, range_: CoordinateRange) -> bytes:
        out = bytearray()
        before = _number(range_.lower)
        for c in self.inside(range_):
            distance, before = _number(c) - before, _number(c)
            while distance >= 128:
                out.append(distance & 127 | 128)
                distance >>= 7
            out.append(distance)
            out += self.entries[c][1][:8]
        return bytes(out)

    def sketch(self, cells: int) -> tuple[bytes, bytes]:
        """Return the strata and the first cells of the sketch, by its definition."""
        strata = [0] * 160
        sums = [[0, 0, 0] for _ in range(cells)]
        for c, (_, fingerprint, _) in self.entries.items():
            hi, lo = int.from_bytes(c.key[:8], "big"), int.from_bytes(c.key[8:], "big")
            value = int.from_bytes(fingerprint[:8], "big") >> 3
            value = value if 0 < value < _P else 1
            seed = _mixed(hi ^ _mixed(lo + _GOLDEN & _WORD))
            y = (lo ^ _mixed(hi)) % 2**30
            x = hi ^ _mixed(y + _GOLDEN & _WORD) >> 4
            y = (y ^ _mixed(x + _GOLDEN & _WORD)) % 2**30
            stratum = next((k for k in range(9) if seed >> k & 1), 9)
            bucket = 16 * stratum + (seed >> 60)
            strata[bucket] = (strata[bucket] + value) % 256
            state, at = seed, 0
            while at < cells:
                for i, weight in enumerate((1, x, y)):
                    sums[at][i] = (sums[at][i] + value * weight) % _P
                state = state + _GOLDEN & _WORD
                draw = (_mixed(state) >> 12) + 0.5
                at += 1 + int((at + 1.5) * (2.0**26 / math.sqrt(draw) - 1))
        return bytes(strata), b"".join(map(pack_cell, sums))


def pack_cell(words: list[int]) -> bytes:
    """Write three integers of 61 bits behind each other."""
    return ((words[0] << 122 | words[1] << 61 | words[2]) << 1).to_bytes(23, "big")


def _number(coordinate: Coordinate) -> int:
    """Return the key as a number of nine parts of ten bits."""
    return int.from_bytes(coordinate.key[:8], "big") << 30 | int.from_bytes(
        coordinate.key[8:], "big"
    )


_P = 2**61 - 1
_WORD = 2**64 - 1
_GOLDEN = 0x9E3779B97F4A7C15


def _mixed(value: int) -> int:
    value = (value ^ value >> 30) * 0xBF58476D1CE4E5B9 & _WORD
    value = (value ^ value >> 27) * 0x94D049BB133111EB & _WORD
    return value ^ value >> 31
