"""`python -m tests.make_golden NAME`: keep what a version of this library leaves, as test vectors.

Run it with the code of that version on PYTHONPATH. It writes `vectors/folders-NAME.tar.gz`, the
data folders of two machines that met, with what the commands print of them, and
`vectors/wire-NAME.json.gz`, all that two cores said to each other until both held the same.
"""

import gzip
import io
import json
import sys
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import phextsync
from tests.command_users import CommandUser
from tests.golden import READ, VECTORS, converse

_A = "1.1.1/1.1.1/1.1.1"


def main() -> None:
    """Write both."""
    (name,) = sys.argv[1:]
    with TemporaryDirectory() as folder:
        _write_folders(Path(folder), VECTORS / f"folders-{name}.tar.gz")
    turns, network = converse()
    network.assert_equal()
    data = json.dumps([[[f.hex() for f in each] for each in turn] for turn in turns]).encode()
    (VECTORS / f"wire-{name}.json.gz").write_bytes(gzip.compress(data, mtime=0))


def _write_folders(top: Path, file: Path) -> None:
    anna, ben = CommandUser(top / "anna"), CommandUser(top / "ben")
    code = anna.out("init", "--name", "anna").split()[-1]
    ben.out("join", code, "--name", "ben")
    _use(anna, ben)
    with _node(anna) as one:
        port = one.status().port
        with _node(ben, f"127.0.0.1:{port}") as other:
            other.synced("memory", timeout_s=60)
            one.phext("memory").append(_A, "while both run\n")
            one.synced("memory", timeout_s=60)
    anna.out("set", "1.1.1/1.1.1/1.1.3", "after they met\n")
    ben.out("append", _A, "apart\n")
    told = {user.data.name: {" ".join(w): user.out(*w) for w in READ} for user in (anna, ben)}
    with tarfile.open(file, "w:gz") as tar:
        for user in (anna, ben):
            for path in sorted(user.data.rglob("*")):
                if path.is_file() and path.name not in ("store.lock", "lock.mdb"):
                    tar.add(path, str(path.relative_to(top)))
        data = json.dumps(told, indent=1).encode()
        entry = tarfile.TarInfo("told.json")
        entry.size = len(data)
        tar.addfile(entry, io.BytesIO(data))


def _use(anna: CommandUser, ben: CommandUser) -> None:
    """Do a little of everything that leaves something in a folder."""
    anna.out("history", "--keep", "forever")
    anna.out("history", "2.*", "--keep", "30d", "--phext", "notes")
    anna.out("set", _A, "first\nsecond\n")
    anna.out("set", _A, "first\nsecond, changed\n")
    anna.out("set", "1.1.1/1.1.1/1.1.2", "deleted\n")
    anna.out("rm", "1.1.1/1.1.1/1.1.2")
    for number in range(60):
        anna.out("append", "2.1.1/1.1.1/1.1.1", f"{number} {'x' * 100}\n")
    anna.out("names", "1.1", "shelf")
    ben.out("set", "--phext", "notes", "2.1.1/1.1.1/1.1.1", "zwölf 日本 🔱\r\n")


@contextmanager
def _node(user: CommandUser, *peers: str) -> Iterator[phextsync.Handle]:
    with phextsync.open(user.data, discover=False, port=0, host="127.0.0.1", peers=peers) as node:
        yield node
