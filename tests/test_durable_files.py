"""A file is written whole or not at all, wherever the process or the machine ends."""

import errno
import os
import shutil
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from phextsync import durable_files
from phextsync.discovery import PEERS_FILE, Address, RememberedPeers
from phextsync.durable_files import write_whole
from phextsync.errors import IdentityError
from phextsync.node.invitations import INVITATIONS_FILE, Invitation, Invitations
from phextsync.systems import rights, syncing
from phextsync.trust.authority import Authority, MeshKey
from phextsync.trust.identity import NodeIdentity, PendingIdentity
from phextsync.trust.known_peers import KNOWN_FILE, KnownPeers
from phextsync.trust.private_files import AUTHORITY_FILE, IDENTITY_FILE, PENDING_FILE

_OLD, _NEW = b"old" * 50_000, b"new" * 70_000
_AT_ONCE = 100_000  # bytes that the system takes in one call here


class _PowerCutError(BaseException):
    """The machine ends here: nothing is cleaned up."""


class _System:
    """What the module takes for `os`: it knows what a power cut would leave of a folder, and can
    refuse the n-th call, or end the machine there."""

    def __init__(self, folder: Path, *, refuses: int = 0, ends: int = 0) -> None:
        self._folder = folder
        self._refuses, self._ends = refuses, ends
        self.calls: list[str] = []
        self._durable_names = self._names()
        self._durable_data = {
            path.lstat().st_ino: path.read_bytes() for path in folder.iterdir() if path.is_file()
        }

    def __getattr__(self, name: str) -> object:
        found = getattr(os, name)
        if name.startswith("O_") or name == "path":
            return found

        def traced(*arguments: object, **options: object) -> object:
            self.calls.append(name)
            if name == "close":
                os.close(arguments[0])  # type: ignore[arg-type]
            if self._ends and len(self.calls) >= self._ends:
                raise _PowerCutError
            is_refused = len(self.calls) == self._refuses
            result = None
            if name == "write":
                part = memoryview(arguments[1])[: 1000 if is_refused else _AT_ONCE]  # type: ignore
                result = os.write(arguments[0], part)  # type: ignore[arg-type]
            if is_refused:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            if name not in ("write", "close"):
                result = found(*arguments, **options)
            if name == "fsync":
                self._synced(os.fstat(arguments[0]).st_ino)  # type: ignore[arg-type]
            return result

        return traced

    def left(self, name: str) -> Iterator[bytes | None]:
        """Give what a power cut may leave under a name: names may be durable before they have to
        be, and content that was not synced is not there."""
        for names in (self._durable_names, self._names()):
            yield self._durable_data.get(names[name], b"") if name in names else None

    def _names(self) -> dict[str, int]:
        return {path.name: path.lstat().st_ino for path in self._folder.iterdir()}

    def _synced(self, inode: int) -> None:
        for path in (self._folder, *self._folder.iterdir()):
            if path.lstat().st_ino == inode:
                if path == self._folder:
                    self._durable_names = self._names()
                else:
                    self._durable_data[inode] = path.read_bytes()


def _use(monkeypatch: pytest.MonkeyPatch, system: _System) -> None:
    for module in (durable_files, rights, syncing):
        monkeypatch.setattr(module, "os", system)


def _check_every_end(
    folder: Path, name: str, write: Callable[[], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Refuse and end what writes a file at each call of the system: the old file or the new one
    is there, whole. The folder has the old one, or none."""
    before, path = folder.with_name("before"), folder / name
    shutil.copytree(folder, before)
    old = path.read_bytes() if path.exists() else None

    def run(system: _System) -> bytes | None:
        _use(monkeypatch, system)
        with suppress(_PowerCutError, Exception):
            write()
        monkeypatch.undo()
        return path.read_bytes() if path.exists() else None

    whole = _System(folder)
    new = run(whole)
    assert new is not None
    assert new != old
    assert list(whole.left(name)) == [new, new], "what was written is durable"
    for number in range(1, len(whole.calls) + 1):
        for end in ({"refuses": number}, {"ends": number}):
            shutil.rmtree(folder)
            shutil.copytree(before, folder)
            system = _System(folder, **end)
            assert {run(system), *system.left(name)} <= {old, new}, (end, system.calls)


def _a_file(folder: Path) -> tuple[str, Callable[[], object]]:
    (folder / "file").write_bytes(_OLD)
    return "file", lambda: write_whole(folder / "file", _NEW)


def _a_first_file(folder: Path) -> tuple[str, Callable[[], object]]:
    return "file", lambda: write_whole(folder / "file", _NEW)


def _a_renamed_node(folder: Path) -> tuple[str, Callable[[], object]]:
    key = MeshKey.generate(os.urandom(32))
    secret = os.urandom(32)
    NodeIdentity.create(key, "before", secret).save(folder)
    renamed = NodeIdentity.create(key, "after", secret)
    return IDENTITY_FILE, lambda: renamed.save(folder, replace=True)


def _a_new_node(folder: Path) -> tuple[str, Callable[[], object]]:
    """Of a folder that was restored, which has no identity."""
    identity = NodeIdentity.create(MeshKey.generate(os.urandom(32)), "node", os.urandom(32))
    return IDENTITY_FILE, lambda: identity.save(folder)


def _a_changed_mesh_key(folder: Path) -> tuple[str, Callable[[], object]]:
    identity = NodeIdentity.create(MeshKey.generate(os.urandom(32)), "node", os.urandom(32))
    identity.save(folder)
    key = MeshKey.generate(os.urandom(32))
    return IDENTITY_FILE, lambda: NodeIdentity.load(folder).rotated(key).save(folder, replace=True)


def _an_authority(folder: Path) -> tuple[str, Callable[[], object]]:
    authority = Authority.generate(os.urandom(32))
    return AUTHORITY_FILE, lambda: authority.save(folder)


def _a_request(folder: Path) -> tuple[str, Callable[[], object]]:
    return PENDING_FILE, lambda: PendingIdentity.create("node", bytes(32)).save(folder)


def _known_peers(folder: Path) -> tuple[str, Callable[[], object]]:
    KnownPeers.load(folder).block("a0" * 16)
    return KNOWN_FILE, lambda: KnownPeers.load(folder).block("b0" * 16)


def _remembered_peers(folder: Path) -> tuple[str, Callable[[], object]]:
    def meet(number: int) -> None:
        peers = RememberedPeers.load(folder / PEERS_FILE)
        peers.remember(bytes([number]) * 16, Address("10.0.0.1", number), number)
        peers.save_if_changed()

    meet(1)
    return PEERS_FILE, lambda: meet(2)


def _invitations(folder: Path) -> tuple[str, Callable[[], object]]:
    def invite(name: str) -> None:
        Invitations(folder).add(Invitation(name, 1, None, [], None, "authority"), 7440, 0)

    invite("first")
    return INVITATIONS_FILE, lambda: invite("second")


@pytest.mark.parametrize(
    "case",
    [
        _a_file,
        _a_first_file,
        _a_renamed_node,
        _a_new_node,
        _a_changed_mesh_key,
        _an_authority,
        _a_request,
        _known_peers,
        _remembered_peers,
        _invitations,
    ],
)
def test_at_every_end_the_old_file_or_the_new_one_is_there_whole(
    case: Callable[[Path], tuple[str, Callable[[], object]]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    _check_every_end(folder, *case(folder), monkeypatch)


_WRITER = """
import os, sys
from pathlib import Path
from phextsync.discovery import PEERS_FILE, Address, RememberedPeers
from phextsync.trust.authority import Authority, MeshKey
from phextsync.trust.identity import NodeIdentity, PendingIdentity
from phextsync.trust.known_peers import KnownPeers
folder, first = Path(sys.argv[1]), int(sys.argv[2])
for number in range(first, first + 100_000):
    node_id = number.to_bytes(16)
    identity = NodeIdentity.create(MeshKey.generate(bytes(32)), f"node{number}", bytes(32))
    identity.save(folder, replace=True)
    KnownPeers.load(folder).block(node_id.hex())
    peers = RememberedPeers.load(folder / PEERS_FILE)
    peers.remember(node_id, Address("10.0.0.1", 7439), number)
    peers.save_if_changed()
    print(number, flush=True)
"""


@pytest.mark.real
def test_files_of_a_node_are_whole_after_each_of_many_kills(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = 1
    for kill in range(4):
        command = [sys.executable, "-c", _WRITER, str(tmp_path), str(first)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as writer:
            assert writer.stdout is not None
            told = [int(writer.stdout.readline()) for _ in range(1 + 3 * kill)]
            writer.kill()
            last = max([*told, *map(int, writer.stdout.read().split())])
        assert NodeIdentity.load(tmp_path).name in {f"node{last}", f"node{last + 1}"}
        blocked = {int(peer.node_id.hex(), 16) for peer in KnownPeers.load(tmp_path).peers()}
        remembered = RememberedPeers.load(tmp_path / PEERS_FILE).seen_since(1)
        for numbers in (blocked, {int(node_id.hex(), 16) for node_id in remembered}):
            assert {*range(1, last + 1)} <= numbers <= {*range(1, last + 2)}
        first = last + 1
    assert not caplog.records


def test_a_write_that_is_refused_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    path.write_bytes(_OLD)
    for number in range(4, 10):  # from the first that changes the draft to the last
        _use(monkeypatch, _System(tmp_path, refuses=number))
        with pytest.raises(OSError, match="No space left"):
            write_whole(path, _NEW)
        monkeypatch.undo()
        assert [file.name for file in tmp_path.iterdir()] == ["file"]
        assert path.read_bytes() == _OLD


def test_a_file_has_the_mode_that_was_asked_for_and_not_that_of_a_draft(tmp_path: Path) -> None:
    (tmp_path / "file.new").write_bytes(b"left by a crash" * 10)
    (tmp_path / "file.new").chmod(0o666)
    write_whole(tmp_path / "file", b"secret")
    assert (tmp_path / "file").read_bytes() == b"secret"
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o600
    write_whole(tmp_path / "file", b"public", 0o644)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o644


def test_of_many_that_write_at_once_one_is_the_last(tmp_path: Path) -> None:
    path = tmp_path / "file"
    contents = [bytes([i]) * 100_000 for i in range(8)]
    threads = [threading.Thread(target=write_whole, args=(path, data)) for data in contents]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        assert not path.exists() or path.read_bytes() in contents
    assert path.read_bytes() in contents
    assert [file.name for file in tmp_path.iterdir()] == ["file"]


def test_a_folder_that_is_made_for_a_file_is_as_durable_as_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    identity = NodeIdentity.create(MeshKey.generate(os.urandom(32)), "node", os.urandom(32))
    synced: list[Path] = []
    monkeypatch.setattr(durable_files, "sync_folder", synced.append)
    identity.save(tmp_path / "new" / "data")
    assert {*synced} == {tmp_path, tmp_path / "new", tmp_path / "new" / "data"}


def test_an_identity_that_cannot_be_written_is_an_error_that_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    identity = NodeIdentity.create(MeshKey.generate(os.urandom(32)), "node", os.urandom(32))
    _use(monkeypatch, _System(tmp_path, refuses=4))
    with pytest.raises(IdentityError, match=r"identity\.pem cannot be written: .*No space left"):
        identity.save(tmp_path)
