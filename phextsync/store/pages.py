"""Pages of an LMDB file, read without LMDB: what is sound, what is damaged, what is still there.

LMDB maps its file and believes it: a truncated or changed one can kill the process. Here every
page is read as bytes and every number in it is checked before it is used, so that nothing but a
report can come of a damaged file. No file is opened here: reading is an argument.

The layout is that of LMDB 0.9 on 64-bit little-endian machines (`mdb.c`, "Page format"): pages 0
and 1 are two generations of the root record; from it hang the tree of free pages and the tree of
named databases, each a tree whose leaves hold the pairs, long values on pages of their own.
"""

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from phextsync.errors import StoreDamagedError

PAGE_BYTES: Final = 4096

_HEADER: Final = struct.Struct("<QHHHH")  # page number, unused, flags, lower, upper
_HEADER_BYTES: Final = 16
_NODE: Final = struct.Struct("<HHHH")  # size or page, low and high; flags; bytes of the key
_TREE: Final = struct.Struct("<IHHQQQQQ")
_META: Final = struct.Struct("<IIQQ")
_MAGIC: Final = 0xBEEFC0DE
_VERSION: Final = 1
_BRANCH, _LEAF, _OVERFLOW, _META_PAGE = 1, 2, 4, 8
_BIG_DATA, _TREE_DATA = 1, 2
_NO_PAGE: Final = (1 << 64) - 1
_DEPTH_MAX: Final = 32
_PROBLEMS_MAX: Final = 20


HEAD_BYTES: Final = 2 * PAGE_BYTES


def is_head(data: bytes) -> bool:
    """Whether a file that begins with these `HEAD_BYTES` bytes, or fewer, may be one of LMDB."""
    metas = (data[at : at + _META.size] for at in (_HEADER_BYTES, PAGE_BYTES + _HEADER_BYTES))
    return any(
        len(meta) == _META.size and _META.unpack(meta)[:2] == (_MAGIC, _VERSION) for meta in metas
    )


@dataclass(frozen=True, slots=True)
class _Tree:
    """What the file says of one tree."""

    depth: int
    branches: int
    leaves: int
    overflows: int
    entries: int
    root: int

    @classmethod
    def read(cls, data: bytes, offset: int = 0) -> "_Tree":
        _, _, depth, branches, leaves, overflows, entries, root = _TREE.unpack_from(data, offset)
        return cls(depth, branches, leaves, overflows, entries, root)


@dataclass(slots=True)
class _Count:
    branches: int = 0
    leaves: int = 0
    overflows: int = 0
    entries: int = 0


@dataclass(frozen=True, slots=True)
class _Root:
    """One generation of the root record."""

    transaction: int
    last_page: int
    free: _Tree
    main: _Tree


class PageFile:
    """The pages of one file. `read(offset, count)` returns its bytes, fewer behind its end.

    `problems` grows while pairs are read. StoreDamagedError when there is no root record.
    """

    def __init__(self, read: Callable[[int, int], bytes]) -> None:
        self._read = read
        self.problems: list[str] = []
        self._written = self._count_pages()
        self._root = self._find_root()
        self._used = bytearray(self._written)

    @property
    def transaction(self) -> int:
        """The number of the last transaction."""
        return self._root.transaction

    @property
    def used_pages(self) -> int:
        """Pages that hold something, after `check`."""
        return self._used.count(1)

    def check(self) -> list[str]:
        """Look at every page but the contents of long values; return what is wrong, a line each.

        Each page must belong to one tree or to the free ones, and each tree have what its record
        says. O(file) in time, a byte a page in memory.
        """
        for name, record in self._records():
            for _ in self._walk(record, name.decode("ascii", "replace"), with_values=False):
                pass
        for page in self._free_pages():
            if not 2 <= page <= self._root.last_page:
                self._problem(f"page {page} is free and does not exist")
            elif page >= self._written:
                continue  # at the end of the file, and never written
            elif self._used[page]:
                self._problem(f"page {page} is free and in use")
            else:
                self._used[page] = 2
        return self.problems

    def entries(self, database: bytes) -> int:
        """How many pairs the file says that a database has."""
        return sum(record.entries for name, record in self._records() if name == database)

    def pairs(
        self, database: bytes, lower: bytes = b"", upper: bytes | None = None
    ) -> Iterator[tuple[bytes, bytes]]:
        """Iterate in order over what can be read of one database, from the key `lower`, included,
        to `upper`, excluded; of one that is absent, nothing. Reads the pages that it needs.

        What is between damaged pages is left out, and in `problems`.
        """
        for name, record in self._records():
            if name == database:
                told = name.decode("ascii", "replace")
                yield from self._walk(record, told, with_values=True, wanted=(lower, upper))

    # -- the root --------------------------------------------------------------------------

    def _count_pages(self) -> int:
        """Return how many pages the file has, a part of one included."""
        high = 1
        while self._read((high - 1) * PAGE_BYTES, 1):
            high *= 2
        low = high // 2
        while low < high:
            middle = (low + high) // 2
            if self._read(middle * PAGE_BYTES, 1):
                low = middle + 1
            else:
                high = middle
        return low

    def _find_root(self) -> _Root:
        found = [root for root in map(self._read_root, (0, 1)) if root is not None]
        if not found:
            raise StoreDamagedError("it has no root record that can be read")
        latest = max(found, key=lambda root: root.transaction)
        numbers = sorted(root.transaction for root in found)
        if len(found) < 2:
            self._problem("one of its two root records is damaged")
        elif numbers != [0, 0] and numbers[1] - numbers[0] != 1:
            self._problem(f"its root records are of transactions {numbers[0]} and {numbers[1]}")
        return latest

    def _read_root(self, page: int) -> _Root | None:
        data = self._read(page * PAGE_BYTES, PAGE_BYTES)
        if len(data) < PAGE_BYTES:
            return None
        number, _, flags, _, _ = _HEADER.unpack_from(data)
        magic, version, _, _ = _META.unpack_from(data, _HEADER_BYTES)
        at = _HEADER_BYTES + _META.size
        page_bytes = int.from_bytes(data[at : at + 4], "little")
        free, main = _Tree.read(data, at), _Tree.read(data, at + _TREE.size)
        last_page, transaction = struct.unpack_from("<QQ", data, at + 2 * _TREE.size)
        end = len(self._read(last_page * PAGE_BYTES, 1)) if last_page < 1 << 40 else 0
        is_sound = (
            (number, flags, magic, version, page_bytes)
            == (page, _META_PAGE, _MAGIC, _VERSION, PAGE_BYTES)
            and (end or last_page <= 1 or self._reaches(free, main))
            and (transaction == 0 or transaction % 2 == page)
        )
        return _Root(transaction, last_page, free, main) if is_sound else None

    def _reaches(self, *trees: _Tree) -> bool:
        """Whether the file has the roots: pages at its end that are free may never be written."""
        return all(
            tree.root == _NO_PAGE
            or (tree.root < 1 << 40 and bool(self._read(tree.root * PAGE_BYTES, 1)))
            for tree in trees
        )

    def _records(self) -> Iterator[tuple[bytes, _Tree]]:
        """Begin a pass: iterate over the names and records of the databases."""
        self._used = bytearray(self._written)
        for key, value in self._walk(self._root.main, "main", with_values=True, trees=True):
            if len(value) == _TREE.size:
                yield key, _Tree.read(value)
            else:
                self._problem(f"the record of {key!r:.40} is damaged")

    def _free_pages(self) -> Iterator[int]:
        for key, value in self._walk(self._root.free, "free pages", with_values=True):
            count = int.from_bytes(value[:8], "little")
            if len(key) != 8 or len(value) < 8 * (count + 1):
                self._problem(f"a list of free pages has {len(value)} bytes for {count} pages")
            else:
                yield from struct.unpack_from(f"<{count}Q", value, 8)

    # -- trees -----------------------------------------------------------------------------

    def _walk(
        self,
        tree: _Tree,
        name: str,
        *,
        with_values: bool,
        trees: bool = False,
        wanted: tuple[bytes, bytes | None] = (b"", None),
    ) -> Iterator[tuple[bytes, bytes]]:
        """Iterate over the pairs of a tree, or those `wanted` by lower and upper key. Keys of 8
        bytes in the tree of free pages are numbers, in every other tree keys are in the order of
        their bytes."""
        count = _Count()
        if tree.root != _NO_PAGE:
            if not 1 <= tree.depth <= _DEPTH_MAX:
                self._problem(f"{name} is {tree.depth} pages deep")
            else:
                flags = _TREE_DATA if trees else _BIG_DATA
                pages = _Pages(self, name, count, flags, with_values=with_values, wanted=wanted)
                yield from pages.walk(tree.root, tree.depth, b"", None)
        if wanted != (b"", None):
            return  # not all was counted
        found = (count.branches, count.leaves, count.overflows, count.entries)
        said = (tree.branches, tree.leaves, tree.overflows, tree.entries)
        if found != said:
            self._problem(f"{name} has {found[3]} entries on {found[:3]} pages, expected {said}")

    def page(self, number: int, name: str) -> bytes | None:
        """Return a page that belongs to a tree, None when it cannot be one."""
        if not 2 <= number <= self._root.last_page:
            self._problem(f"{name} points to page {number} of {self._root.last_page + 1}")
            return None
        if number >= self._written:
            self._problem(f"page {number} of {name} is behind the end of the file")
            return None
        if self._used[number]:
            self._problem(f"page {number} is used twice")
            return None
        self._used[number] = 1
        data = self._read(number * PAGE_BYTES, PAGE_BYTES)
        if len(data) < PAGE_BYTES:
            self._problem(f"page {number} of {name} is behind the end of the file")
            return None
        if int.from_bytes(data[:8], "little") != number:
            self._problem(f"page {number} of {name} says that it is another")
            return None
        return data

    def long_value(self, data: bytes, size: int, name: str, count: _Count, *, whole: bool) -> bytes:
        """Return a value that has pages of its own, empty when it cannot be one."""
        number = int.from_bytes(data, "little")
        page = self.page(number, name)
        if page is None:
            return b""
        flags, pages = struct.unpack_from("<HI", page, 10)
        # A value that replaced a longer one keeps all its pages.
        is_long_enough = _HEADER_BYTES + size <= PAGE_BYTES * pages
        if flags != _OVERFLOW or not is_long_enough or number + pages > self._written:
            self._problem(f"page {number} of {name} does not begin a value of {size} bytes")
            return b""
        count.overflows += pages
        for following in range(number + 1, number + pages):
            if self._used[following]:
                self._problem(f"page {following} is used twice")
            self._used[following] = 1
        start = number * PAGE_BYTES + _HEADER_BYTES
        if size and not self._read(start + size - 1, 1):
            self._problem(f"page {number + pages - 1} of {name} is behind the end of the file")
            return b""
        return self._read(start, size) if whole else b""

    def note(self, number: int, name: str, what: str) -> None:
        """Note what is wrong with a page."""
        self._problem(f"page {number} of {name} {what}")

    def _problem(self, text: str) -> None:
        if len(self.problems) < _PROBLEMS_MAX and text not in self.problems:
            self.problems.append(text)


class _Pages:
    """One pass over the pages of one tree."""

    def __init__(
        self,
        file: PageFile,
        name: str,
        count: _Count,
        flags: int,
        *,
        with_values: bool,
        wanted: tuple[bytes, bytes | None],
    ) -> None:
        self._file = file
        self._name = name
        self._count = count
        self._flags = flags
        self._with_values = with_values
        self._lower, self._upper = wanted
        self._is_numbered = name == "free pages"

    def walk(
        self, number: int, depth: int, lower: bytes, upper: bytes | None
    ) -> Iterator[tuple[bytes, bytes]]:
        """Iterate over the pairs below a page whose keys lie from `lower` to `upper`."""
        page = self._file.page(number, self._name)
        if page is None:
            return
        flags = int.from_bytes(page[10:12], "little")
        if flags != (_LEAF if depth == 1 else _BRANCH):
            self._file.note(number, self._name, f"has flags {flags:#x}")
            return
        nodes = self._nodes(page, number, lower, upper, is_leaf=depth == 1)
        if depth == 1:
            self._count.leaves += 1
            self._count.entries += len(nodes)
            for key, data, size, flag in nodes:
                if not self._is_wanted(key, key):
                    continue
                if flag & _BIG_DATA:
                    data = self._file.long_value(
                        data, size, self._name, self._count, whole=self._with_values
                    )
                yield key, data
            return
        self._count.branches += 1
        if not nodes:
            return
        bounds = [key for key, _, _, _ in nodes[1:]]
        for (_, _, child, _), low, high in zip(
            nodes, [lower, *bounds], [*bounds, upper], strict=True
        ):
            if self._is_wanted(low, high):
                yield from self.walk(child, depth - 1, low, high)

    def _is_wanted(self, low: bytes, high: bytes | None) -> bool:
        """Whether keys from `low` to `high` may be among those that are wanted."""
        is_before = high is not None and high < self._lower
        return not is_before and (self._upper is None or low < self._upper)

    def _nodes(
        self, page: bytes, number: int, lower: bytes, upper: bytes | None, *, is_leaf: bool
    ) -> list[tuple[bytes, bytes, int, int]]:
        """Return key, data, size (for branches the page) and flags of each node of a page."""
        _, _, _, low, high = _HEADER.unpack_from(page)
        if not _HEADER_BYTES < low <= high <= PAGE_BYTES or low % 2:
            self._file.note(number, self._name, f"has its nodes between {low} and {high}")
            return []
        offsets = struct.unpack_from(f"<{(low - _HEADER_BYTES) // 2}H", page, _HEADER_BYTES)
        found: list[tuple[bytes, bytes, int, int]] = []
        ends: list[tuple[int, int]] = []
        for offset in offsets:
            if not low <= offset <= PAGE_BYTES - _NODE.size:
                self._file.note(number, self._name, f"has a node at {offset}")
                continue
            size_low, size_high, flags, key_bytes = _NODE.unpack_from(page, offset)
            key_end = offset + _NODE.size + key_bytes
            size = size_low | size_high << 16
            if is_leaf:
                end = key_end + (8 if flags & _BIG_DATA else size)
                is_sound = flags == 0 or flags == self._flags
            else:
                size, end, is_sound = size | flags << 32, key_end, True
                flags = 0
            if end > PAGE_BYTES or not is_sound:
                self._file.note(number, self._name, f"has a damaged node at {offset}")
                continue
            ends.append((offset, end + end % 2))
            found.append((page[offset + 8 : key_end], page[key_end:end], size, flags))
        return self._in_order(found, sorted(ends), number, high, lower, upper, is_leaf=is_leaf)

    def _in_order(
        self,
        found: list[tuple[bytes, bytes, int, int]],
        ends: list[tuple[int, int]],
        number: int,
        high: int,
        lower: bytes,
        upper: bytes | None,
        *,
        is_leaf: bool,
    ) -> list[tuple[bytes, bytes, int, int]]:
        """Check that nodes fill the page from `high` on, and that keys ascend within bounds."""
        fills = bool(ends) and ends[0][0] == high and ends[-1][1] == PAGE_BYTES
        if not fills or any(end != start for (_, end), (start, _) in pairwise(ends)):
            self._file.note(number, self._name, "has nodes that overlap or leave gaps")
        first = 0 if is_leaf else 1  # what the first node of a branch has as its key is not used
        keys = [node[0] for node in found[first:]]
        if self._is_numbered:
            keys = [key[::-1] for key in keys]
            lower, upper = lower[::-1], None if upper is None else upper[::-1]
        is_inside = not keys or (lower <= keys[0] and (upper is None or keys[-1] < upper))
        if is_inside and all(a < b for a, b in pairwise(keys)):
            return found
        self._file.note(number, self._name, "has keys out of order")
        if not is_leaf:
            return []
        inside = {n[0]: n for n in found if lower <= n[0] and (upper is None or n[0] < upper)}
        return [inside[key] for key in sorted(inside)]
