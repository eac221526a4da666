"""The kind of a path's file system is that of the mount that it lies on."""

from pathlib import Path

import pytest

from phextsync.mounts import is_network, is_shared, kind_of

_MOUNTS = """\
24 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
30 24 0:44 / {top}/home rw shared:9 master:2 - nfs4 nas:/home rw,vers=4.2
31 30 0:45 / {top}/home/local rw - xfs /dev/sdb1 rw
32 24 0:46 / {top}/a\\040b rw - cifs //nas/x rw
33 24 0:47 / {top}/twice rw - nfs nas:/x rw
34 24 0:48 / {top}/twice rw - btrfs /dev/sdc1 rw
a line of something else
"""


@pytest.fixture
def top(tmp_path: Path) -> Path:
    (tmp_path / "mounts").write_text(_MOUNTS.format(top=tmp_path))
    return tmp_path


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("home", "nfs4"),
        ("home/me/.phextsync", "nfs4"),
        ("home/local", "xfs"),
        ("home/localized", "nfs4"),
        ("homes", "ext4"),
        ("a b/c", "cifs"),
        ("twice/x", "btrfs"),
        ("not/there/yet", "ext4"),
    ],
)
def test_a_path_is_of_the_deepest_mount_above_it(path: str, kind: str, top: Path) -> None:
    assert kind_of(top / path, top / "mounts") == kind


def test_a_link_is_of_the_mount_that_it_leads_to(top: Path) -> None:
    (top / "home").mkdir()
    (top / "link").symlink_to(top / "home")
    assert kind_of(top / "link" / "x", top / "mounts") == "nfs4"


def test_where_nothing_is_listed_the_kind_is_unknown(tmp_path: Path) -> None:
    assert kind_of(tmp_path, tmp_path / "none") == ""


def test_this_machine_tells_of_its_own_root() -> None:
    assert kind_of(Path("/")) or not Path("/proc/self/mountinfo").exists()


@pytest.mark.parametrize("kind", ["nfs", "nfs4", "cifs", "smb3", "fuse.sshfs", "ceph"])
def test_what_is_over_a_network_is_shared(kind: str) -> None:
    assert is_network(kind)
    assert is_shared(kind)


@pytest.mark.parametrize("kind", ["9p", "virtiofs", "vboxsf"])
def test_what_a_host_shares_with_its_machine_is_shared_and_no_network(kind: str) -> None:
    assert is_shared(kind)
    assert not is_network(kind)


@pytest.mark.parametrize("kind", ["", "ext4", "xfs", "btrfs", "tmpfs", "overlay", "fuse", "zfs"])
def test_what_is_local_is_neither(kind: str) -> None:
    assert not is_network(kind)
    assert not is_shared(kind)
