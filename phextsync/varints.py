"""Integers of 7 bits a byte, the lower ones first (LEB128), as Yjs has them."""


def varints(*values: int) -> bytes:
    """Return unsigned integers one after another."""
    data = bytearray()
    for value in values:
        while value > 0x7F:
            data.append(value & 0x7F | 0x80)
            value >>= 7
        data.append(value)
    return bytes(data)


def read_varints(data: bytes) -> list[int]:
    """Return all integers of some bytes; one that is cut off is left out."""
    values: list[int] = []
    value = shift = 0
    for byte in data:
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            values.append(value)
            value = shift = 0
    return values
