"""A data file is read page by page as LMDB reads it, and nothing in it raises anything else."""

import re
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from random import Random

import lmdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phextsync.errors import StoreDamagedError
from phextsync.store.pages import PAGE_BYTES, PageFile

_NAMES = (b"one", b"two", b"three")
_LEAF = 2  # of the flags of a page
_SIZES = (0, 10, 50, 300, 1500, 5000, 30_000)


def _pages(data: bytes) -> PageFile:
    return PageFile(lambda offset, count: data[offset : offset + count])


def _write(folder: Path, random: Random, transactions: int) -> list[dict[bytes, bytes]]:
    """Make a file by many transactions, some of which replace and delete; return what is in it."""
    held: list[dict[bytes, bytes]] = [{} for _ in _NAMES]
    with lmdb.open(str(folder), map_size=1 << 30, max_dbs=4, sync=False) as environment:
        databases = [environment.open_db(name) for name in _NAMES]
        for _ in range(transactions):
            with environment.begin(write=True) as txn:
                for _ in range(random.randrange(1, 150)):
                    i = random.randrange(len(_NAMES))
                    key = random.randbytes(random.choice([4, 16, 20]))
                    if held[i] and random.random() < 0.6:
                        key = random.choice(sorted(held[i]))
                    if key in held[i] and random.random() < 0.5:
                        txn.delete(key, db=databases[i])
                        del held[i][key]
                    else:
                        held[i][key] = random.randbytes(random.choice(_SIZES))
                        txn.put(key, held[i][key], db=databases[i])
    return held


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1 << 30), st.integers(1, 25))
def test_pages_hold_what_lmdb_holds_and_have_no_problems(
    tmp_path_factory: pytest.TempPathFactory, seed: int, transactions: int
) -> None:
    folder = tmp_path_factory.mktemp("pages")
    held = _write(folder, Random(seed), transactions)
    file = _pages((folder / "data.mdb").read_bytes())
    assert file.check() == []
    for name, expected in zip(_NAMES, held, strict=True):
        assert dict(file.pairs(name)) == expected
        assert file.entries(name) == len(expected)
    assert list(file.pairs(b"none")) == []
    assert file.problems == []


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The bytes of a sound file."""
    folder = tmp_path_factory.mktemp("sound")
    _write(folder, Random(8), 12)
    return (folder / "data.mdb").read_bytes()


def test_a_root_that_speaks_of_pages_without_number_costs_no_memory(sound: bytes) -> None:
    changed = bytearray(sound)
    for page in (0, 1):
        # The last page stands behind two records of trees, 48 bytes each.
        at = page * PAGE_BYTES + 16 + 24 + 96
        changed[at : at + 8] = (1 << 39).to_bytes(8, "little")
    tracemalloc.start()
    try:
        file = _pages(bytes(changed))
        file.check()
        for name in _NAMES:
            list(file.pairs(name))
        assert tracemalloc.get_traced_memory()[1] < 50 << 20
    finally:
        tracemalloc.stop()


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_no_bytes_make_reading_fail_otherwise_than_as_damaged(
    sound: bytes, data: st.DataObject
) -> None:
    changed = bytearray(sound)
    for _ in range(data.draw(st.integers(1, 4))):
        page = data.draw(st.integers(0, len(sound) // PAGE_BYTES - 1)) * PAGE_BYTES
        at = page + data.draw(st.integers(0, 200) | st.integers(0, PAGE_BYTES - 1))
        changed[at] = data.draw(st.integers(0, 255))
    del changed[data.draw(st.just(len(sound)) | st.integers(0, len(sound))) :]
    try:
        file = _pages(bytes(changed))
        file.check()
        for name in _NAMES:
            keys = [key for key, _ in file.pairs(name)]
            assert keys == sorted(keys)
    except StoreDamagedError:
        pass


def _leaves(data: bytes) -> Iterator[int]:
    """Where the pages begin that hold keys, and perhaps some that only look so."""
    for at in range(2 * PAGE_BYTES, len(data), PAGE_BYTES):
        if data[at + 10] == _LEAF:
            yield at


def test_what_is_wrong_with_a_page_is_said_with_the_tree_that_it_is_of(sound: bytes) -> None:
    told = set[str]()
    for at in _leaves(sound):
        changed = bytearray(sound)
        changed[at + 12 : at + 14] = b"\1\0"  # where its offsets end
        for problem in _pages(bytes(changed)).check():
            if found := re.match(r"page \d+ of (.+) has its nodes between 1 and \d+$", problem):
                told.add(found[1])
    assert told == {"one", "two", "three", "main", "free pages"}


def test_a_long_value_whose_end_cannot_be_read_is_a_problem(tmp_path: Path) -> None:
    value = Random(1).randbytes(5 * PAGE_BYTES)
    with lmdb.open(str(tmp_path), map_size=1 << 30, max_dbs=4, sync=False) as environment:
        database = environment.open_db(_NAMES[0])
        with environment.begin(write=True) as txn:
            txn.put(b"key", value, db=database)
    data = (tmp_path / "data.mdb").read_bytes()
    last = data.index(value) + len(value) - 1
    assert _pages(data).check() == []
    file = PageFile(lambda at, count: b"" if at == last else data[at : at + count])
    assert file.check() == [
        f"page {last // PAGE_BYTES} of one is behind the end of the file",
    ]
