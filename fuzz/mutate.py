"""Mutations of bytes: flips, cuts, copies, splices and numbers at the edges."""

from collections.abc import Sequence
from random import Random
from typing import Final

_BYTES_MAX: Final = 4096
_EDGES: Final = (
    *(bytes([value]) for value in (0, 1, 2, 4, 6, 10, 0x7F, 0x80, 0x81, 0x84, 0xC4, 0xFF)),
    *(b"\xff\xff\xff\xff\x07", b"\xff\xff\xff\xff\x0f", b"\xff" * 8 + b"\x7f"),
    *(b"\xff" * 7 + b"\x0f", b"\xe7\x07", (1 << 31).to_bytes(4), b"\x01\x04text"),
)


def mutate(data: bytes, corpus: Sequence[bytes], source: Random) -> bytes:
    """Return `data` with a few changes."""
    changed = bytearray(data)
    for _ in range(1 << source.randrange(4)):
        _change(changed, corpus, source)
    return bytes(changed[:_BYTES_MAX])


def _change(data: bytearray, corpus: Sequence[bytes], source: Random) -> None:
    at = source.randrange(len(data) + 1)
    end = min(len(data), at + 1 + source.randrange(16))
    match source.randrange(8):
        case 0 if at < len(data):
            data[at] ^= 1 << source.randrange(8)
        case 1 if at < len(data):
            data[at] = source.randrange(256)
        case 2:
            edge = source.choice(_EDGES)
            data[at : at + len(edge)] = edge
        case 3:
            data[at:at] = source.choice(_EDGES)
        case 4:
            del data[at:end]
        case 5:
            data[at:at] = data[at:end] * (1 << source.randrange(6))
        case 6 if at < len(data):
            data[at] = (data[at] + source.choice((-1, 1))) % 256
        case _:
            other = source.choice(corpus)
            start = source.randrange(len(other) + 1)
            data[at:] = other[start:]
