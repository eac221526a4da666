"""Other systems: everything can be imported there, and what differs is chosen in one place."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest
import trio
import trio.testing

import phextsync
from phextsync.control import loopback
from phextsync.systems.locking import lock, try_lock
from phextsync.systems.opening import read_at, write_at
from phextsync.systems.resources import reserve
from tests.systems import ABSENT

_ROOT = Path(phextsync.__file__).parent
_SYSTEMS = ("darwin", "win32")
_MODULES = {"fcntl", "grp", "msvcrt", "pwd", "resource", "select", "termios", "winreg"}
_IMPORT_ALL = """
import sys
from tests.systems import force
force(sys.argv[1])
import pkgutil, phextsync
for module in pkgutil.walk_packages(phextsync.__path__, "phextsync."):
    if not module.name.endswith("__main__"):
        try:
            __import__(module.name)
        except ImportError as error:
            if error.name is None or error.name.startswith("phextsync") or "on " in str(error):
                raise
print("all")
"""


@pytest.mark.parametrize("system", _SYSTEMS)
def test_every_module_can_be_imported(system: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _IMPORT_ALL, system],
        cwd=_ROOT.parent,
        capture_output=True,
        text=True,
    )
    assert done.stdout == "all\n", done.stderr


def test_what_some_systems_lack_is_used_where_the_system_is_looked_at() -> None:
    lacking = {f"{module.__name__}.{name}" for module, names in ABSENT for name in names}
    for path in _ROOT.rglob("*.py"):
        text = path.read_text()
        if path.parent.name != "systems" and "if sys.platform" not in text:
            for node in ast.walk(ast.parse(text)):
                names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                assert not _MODULES.intersection(names), path
                assert not isinstance(node, ast.Attribute) or ast.unparse(node) not in lacking, path


def test_a_lock_is_held_by_one(tmp_path: Path) -> None:
    descriptors = [os.open(tmp_path / "lock", os.O_RDWR | os.O_CREAT) for _ in range(2)]
    lock(descriptors[0])
    with pytest.raises(BlockingIOError):
        try_lock(descriptors[1])
    os.close(descriptors[0])
    try_lock(descriptors[1])
    os.close(descriptors[1])


def test_what_is_reserved_keeps_what_is_there(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"there")
    descriptor = os.open(path, os.O_RDWR)
    reserve(descriptor, 100_000)
    assert write_at(descriptor, b"here", 10) == 4
    assert read_at(descriptor, 14, 0) == b"there\0\0\0\0\0here"
    os.close(descriptor)
    assert path.stat().st_size == 100_000


async def test_who_shows_the_key_of_the_folder_is_admitted_over_loopback(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with loopback.bound(path) as (listening, key):
        assert path.stat().st_mode & 0o777 == 0o600
        with loopback.connect(path, 5.0):
            stream = trio.SocketStream(trio.socket.from_stdlib_socket(listening.accept()[0]))
            assert await loopback.is_admitted(stream, key)
            await stream.aclose()
    assert not path.exists()
    with pytest.raises(FileNotFoundError):
        loopback.connect(path, 5.0)


@pytest.mark.parametrize("shown", [b"", b"\0" * 31, b"\0" * 32])
async def test_who_shows_another_key_is_not_admitted(shown: bytes) -> None:
    near, far = trio.testing.memory_stream_pair()
    await near.send_all(shown)
    await near.send_eof()
    assert not await loopback.is_admitted(far, b"k" * 32)


async def test_who_shows_nothing_is_let_go_after_a_while(autojump_clock: object) -> None:
    _, far = trio.testing.memory_stream_pair()
    assert not await loopback.is_admitted(far, b"k" * 32)


@pytest.mark.parametrize("text", ["", "x", "7439 abc"])
def test_a_file_that_tells_no_port_and_key_leads_nowhere(tmp_path: Path, text: str) -> None:
    path = tmp_path / "socket"
    path.write_text(text)
    with pytest.raises(ConnectionRefusedError, match="expected a port and a key"):
        loopback.connect(path, 5.0)
