"""A damaged data file is never served, never silent, and never the end of a node."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from phextsync.store.folder import CLOSED, mark_of
from phextsync.trust.authority import MeshKey
from phextsync.trust.identity import NodeIdentity
from tests.crash_images import SHM
from tests.damage_cases import make
from tests.workers import share

pytestmark = pytest.mark.crash

_CASES = int(os.environ.get("PHEXTSYNC_DAMAGE_CASES", "2000"))
_PARTS = 8  # each of which a slow machine ends in the time that a test has


@pytest.fixture(scope="module")
def source() -> Iterator[Path]:
    """A data folder with scrolls of all kinds, and what they hold."""
    with TemporaryDirectory(prefix="damage-", dir=SHM) as folder:
        make(Path(folder))
        yield Path(folder)


@pytest.mark.parametrize("part", range(_PARTS))
def test_whatever_is_damaged_is_named_never_shown_and_comes_back(source: Path, part: int) -> None:
    start, stop = (_CASES * n // _PARTS for n in (part, part + 1))
    tried = share("tests.damage_cases", [str(source), str(start), str(stop)])
    kinds = ("flip", "byte", "zero", "garbage", "truncate", "swap", "header")
    assert sum(tried[kind] for kind in kinds) == stop - start
    assert tried["reported"] > (stop - start) / 8


def _run(folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "phextsync.cli", *arguments, "--data", str(folder)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.real
def test_a_process_that_a_damaged_file_ended_is_followed_by_one_that_says_so(
    source: Path,
) -> None:
    key = MeshKey.generate(bytes(32))
    NodeIdentity.create(key, "node", bytes(32)).save(source)
    path = source / "store" / "data.mdb"
    data = path.read_bytes()
    path.write_bytes(data[: 4096 * 3])
    (source / CLOSED).write_bytes(mark_of(path))  # as if nobody had touched it
    looked = _run(source, "ls")  # it owns nothing, and so mends nothing
    assert looked.returncode in (1, -7, -6), looked
    assert "cannot be read" in looked.stderr or looked.returncode < 0
    first = _run(source, "set", "9.9.9/9.9.9/9.9.9", "new")
    second = _run(source, "set", "9.9.9/9.9.9/9.9.9", "new") if first.returncode else first
    assert first.returncode in (0, 1, -7, -6), first
    assert first.stderr
    assert second.returncode == 0, second.stderr
    assert "damaged" in second.stderr or "cannot be read" in second.stderr
    assert _run(source, "ls").stderr == ""
