"""A plain-Python reader of Yjs updates and versions: the oracle of the compiled one."""

from dataclasses import dataclass, field

Ranges = dict[int, list[tuple[int, int]]]


@dataclass
class Update:
    """Ranges of clocks by client: of structs but gaps, of those without content, of deletions, of
    what structs refer to."""

    structs: Ranges = field(default_factory=dict)
    gone: Ranges = field(default_factory=dict)
    deletes: Ranges = field(default_factory=dict)
    origins: Ranges = field(default_factory=dict)


class Reader:
    """Reads varints; IndexError at the end."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def byte(self) -> int:
        self.at += 1
        return self.data[self.at - 1]

    def varint(self) -> int:
        value = shift = 0
        while True:
            byte = self.byte()
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    def text(self) -> str:
        size = self.varint()
        self.at += size
        assert self.at <= len(self.data)
        return self.data[self.at - size : self.at].decode()


def read_update(data: bytes) -> Update:
    """Read a well-formed update of a text."""
    reader, update = Reader(data), Update()
    for _ in range(reader.varint()):
        count, client, clock = reader.varint(), reader.varint(), reader.varint()
        for _ in range(count):
            kind, length = _read_struct(reader, update.origins)
            if kind != 10:
                update.structs.setdefault(client, []).append((clock, clock + length))
            if kind in (0, 1) and length:
                update.gone.setdefault(client, []).append((clock, clock + length))
            clock += length
    for _ in range(reader.varint()):
        client = reader.varint()
        for _ in range(reader.varint()):
            start, length = reader.varint(), reader.varint()
            if length:
                update.deletes.setdefault(client, []).append((start, start + length))
    assert reader.at == len(data)
    return update


def _read_struct(reader: Reader, origins: Ranges) -> tuple[int, int]:
    info = reader.byte()
    kind = info & 31
    if kind in (0, 10):
        return kind, reader.varint()
    for bit in (128, 64):
        if info & bit:
            client, clock = reader.varint(), reader.varint()
            origins.setdefault(client, []).append((clock, clock + 1))
    if not info & 192:
        assert reader.varint() == 1
        reader.text()
    if kind == 1:
        return kind, reader.varint()
    if kind == 4:
        return kind, len(reader.text().encode("utf-16-le")) // 2
    assert kind == 6
    reader.text()
    reader.text()
    return kind, 1


def merged(ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Sort ranges and join those that touch."""
    found: list[tuple[int, int]] = []
    for start, end in sorted(ranges):
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(end, found[-1][1]))
        else:
            found.append((start, end))
    return found


def varint(value: int) -> bytes:
    """Write a varint."""
    out = bytearray()
    while value >= 128:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def version(update: Update) -> bytes:
    """Write the canonical version of a whole state."""
    ends = {c: max(end for _, end in ranges) for c, ranges in sorted(update.structs.items())}
    clocks = {c: end for c, end in ends.items() if end}
    out = varint(len(clocks)) + b"".join(varint(c) + varint(end) for c, end in clocks.items())
    deleted = {c: ranges + update.deletes.get(c, []) for c, ranges in update.gone.items()}
    out += varint(len({**update.deletes, **deleted}))
    for client, ranges in sorted({**update.deletes, **deleted}.items()):
        joined = merged(ranges)
        out += varint(client) + varint(len(joined))
        before = 0
        for start, end in joined:
            out += varint(start - before) + varint(end - start)
            before = end
    return out


def lacking(deletes: Ranges, held: Ranges) -> set[tuple[int, int]]:
    """Return the deleted (client, clock)s that `held` has not."""

    def units(ranges: Ranges) -> set[tuple[int, int]]:
        return {(c, i) for c, rs in ranges.items() for start, end in rs for i in range(start, end)}

    return units(deletes) - units(held)
