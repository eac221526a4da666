"""What is read by its name is a file, or an error of one line: it is never waited for."""

import io
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from phextsync.cli.settings import read_settings
from phextsync.discovery import RememberedPeers
from phextsync.errors import PhextsyncError, StoreDamagedError
from phextsync.files.bindings import FILE_NAME, BindingStore
from phextsync.files.markers import MARKER_FILE, read_marker
from phextsync.node.invitations import INVITATIONS_FILE, Invitations
from phextsync.plain_files import read_at_most, read_file
from phextsync.trust.authority import Authority
from phextsync.trust.identity import NodeIdentity, PendingIdentity
from phextsync.trust.known_peers import KNOWN_FILE, KnownPeers
from phextsync.trust.private_files import save_private


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: path.symlink_to("/dev/zero")])
def test_what_is_no_file_is_not_waited_for_and_has_an_end(
    make: Callable[[Path], None], tmp_path: Path
) -> None:
    make(tmp_path / "file")
    with pytest.raises(
        OSError, match="expected a file, found a pipe, a device or a folder"
    ) as refused:
        read_file(tmp_path / "file")
    assert refused.value.filename == str(tmp_path / "file")


def test_a_file_has_no_more_than_so_many_bytes(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"12345")
    assert read_file(tmp_path / "file", 5) == b"12345"
    with pytest.raises(OSError, match="expected at most 4 bytes, found more") as refused:
        read_file(tmp_path / "file", 4)
    assert refused.value.filename == str(tmp_path / "file")


@pytest.mark.parametrize("size", [0, 1, 5, (1 << 20) - 1, 1 << 20, (1 << 20) + 1])
def test_a_source_is_read_to_its_end_or_a_byte_beyond_a_bound(size: int) -> None:
    source = io.BytesIO(bytes(size + 9))
    assert read_at_most(io.BytesIO(bytes(size)), size) == bytes(size)
    assert read_at_most(source, size) is None
    assert source.tell() == size + 1


_READERS: list[tuple[str, Callable[[Path], object]]] = [
    ("config.toml", read_settings),
    ("identity.pem", NodeIdentity.load),
    ("authority.pem", Authority.load),
    ("request.pem", PendingIdentity.load),
    (KNOWN_FILE, KnownPeers.load),
    (INVITATIONS_FILE, lambda folder: Invitations(folder).read(0)),
    (FILE_NAME, lambda folder: BindingStore(folder).bindings()),
    (MARKER_FILE, read_marker),
]


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: path.symlink_to("/dev/zero")])
@pytest.mark.parametrize(("name", "read"), _READERS)
def test_a_name_of_ours_that_is_no_file_is_one_line(
    name: str, read: Callable[[Path], object], make: Callable[[Path], None], tmp_path: Path
) -> None:
    make(tmp_path / name)
    with pytest.raises(PhextsyncError, match=rf"{name}[^\n]*expected a file, found a pipe"):
        read(tmp_path)


@pytest.mark.parametrize("text", ["[" * 9_000, "x = " + "[" * 9_000, "x = 1" + "0" * 5_000, "\xff"])
@pytest.mark.parametrize(("name", "read"), _READERS[:-1])  # a marker has lines that say nothing
def test_what_no_reader_of_a_file_of_ours_takes_is_one_line(
    name: str, read: Callable[[Path], object], text: str, tmp_path: Path
) -> None:
    save_private(tmp_path / name, text.encode("latin-1"))
    with pytest.raises(PhextsyncError, match=rf"^[^\n]*{name}[^\n]*$"):
        read(tmp_path)


@pytest.mark.parametrize("last_seen_s", ["[" * 9_000, "1" + "0" * 400, "1" + "0" * 5_000])
def test_peers_that_cannot_be_read_are_not_remembered(last_seen_s: str) -> None:
    row = f'{{"node_id": "{"ab" * 16}", "last_seen_s": {last_seen_s}}}'
    with pytest.raises(StoreDamagedError, match=r"^expected remembered peers, found"):
        RememberedPeers.from_json(f'{{"peers": [{row}]}}')
