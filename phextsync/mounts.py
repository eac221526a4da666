"""Mounts: the kind of the file system that a path lies on, and whether others write there too.

A file system over a network is written by machines that this one's kernel knows nothing of: what
is mapped into memory is not what they see, and no event tells of what they change.
"""

import os
import re
from pathlib import Path
from typing import Final

from phextsync.systems import volumes

MOUNTS: Final = Path("/proc/self/mountinfo")
"""Where Linux lists what is mounted."""

_NETWORK: Final = re.compile(
    r"afpfs|afs|beegfs|ceph|cifs|coda|davfs|gfs2|glusterfs|gpfs|lustre|ncpfs|nfs4?|ocfs2|orangefs|"
    r"remote|smb3|smbfs|webdav|fuse\.(?:ceph|curlftpfs|davfs2?|gcsfuse|glusterfs|goofys|juicefs|"
    r"mountpoint-s3|rclone|s3fs|seaweedfs|sshfs)"
)
_OF_HOSTS: Final = frozenset({"9p", "fuse.vmhgfs-fuse", "fuse.prl_fsd", "vboxsf", "virtiofs"})


def kind_of(path: Path, mounts: Path = MOUNTS) -> str:
    """Return the kind of the file system that a path lies on, such as `ext4`; of a path that is
    not there yet, of the folder that it will be in. "" where the system does not tell."""
    try:
        lines = mounts.read_text("utf-8", "surrogateescape").splitlines()
    except OSError:
        return volumes.kind_of(path)
    real = os.path.realpath(path)
    length, kind = 0, ""
    for line in lines:
        fields, _, rest = line.partition(" - ")
        place = _unescaped(fields.split(" ")[4]) if fields.count(" ") >= 4 else ""
        above = place.rstrip("/") + "/"
        # Of two at one place the later one hides the other.
        if place and (real + "/").startswith(above) and len(above) >= length:
            length, kind = len(above), rest.partition(" ")[0]
    return kind


def is_network(kind: str) -> bool:
    """Whether a file system of a kind is over a network."""
    return _NETWORK.fullmatch(kind) is not None


def is_memory(kind: str) -> bool:
    """Whether a file system of a kind lies in memory: it ends with the machine."""
    return kind in ("tmpfs", "ramfs")


def is_shared(kind: str) -> bool:
    """Whether others may write to a file system of a kind unseen by this system: other machines, or
    the host of this virtual one."""
    return is_network(kind) or kind in _OF_HOSTS


def _unescaped(text: str) -> str:
    r"""Return a path of the list, which has `\040` for a blank."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), text)
