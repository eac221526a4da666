"""`python -m tests.crash_points ROOT CASE`, under the recorder: at each call to the disk by which a
command changes something, it ends there, or finds the disk full from then on.

What is left is opened, gone on with and thrown away. Prints how many points were tried.
"""

import ctypes
import json
import os
import shutil
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from itertools import count
from pathlib import Path
from random import Random

from phextsync.cli.main import main as phextsync
from phextsync.control.upkeep import backup, repair
from phextsync.control.upkeep import restore as restore_backup
from phextsync.errors import StoreError
from phextsync.files.directory import BACKUPS
from phextsync.phextfile import explode
from phextsync.replica.replicas import ReplicaSet
from phextsync.store.folder import DATA_FILE, look
from phextsync.store.lmdb_store import LmdbStore
from phextsync.trust.authority import MeshKey
from phextsync.trust.identity import NodeIdentity
from tests.repositories import Repository

STOPPED_STATUS = 9
# Such as 1/3: the second of each three calls. The whole of it takes minutes.
TURN, TURNS = map(int, os.environ.get("PHEXTSYNC_CRASH_POINTS", "0/1").split("/"))
PLACES = [f"1.1.1/1.1.1/1.1.{i}" for i in range(1, 4)]
OLD = dict.fromkeys(PLACES, "old")
NEW = {place: f"new {place}\n" * 40 for place in PLACES}
Texts = Mapping[str, str]


def run(*words: str) -> int:
    """Run a command as a shell does; return its status."""
    sys.argv = ["phextsync", *words]
    try:
        phextsync()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 1
    return 0


def texts(folder: Path, name: str = "memory") -> Texts:
    """What a node would serve of a folder."""
    store = LmdbStore(folder)
    try:
        replicas = ReplicaSet(store, node_id=bytes(16), random=Random(0), wall_time_ms=lambda: 0)
        return {str(place): text for place, text in replicas.open(name).scrolls()}
    finally:
        store.close(clean=False)


def write(folder: Path, what: Texts) -> None:
    """Put scrolls into a folder."""
    folder.mkdir(exist_ok=True)
    store = LmdbStore(folder)
    replicas = ReplicaSet(store, node_id=bytes(16), random=Random(0), wall_time_ms=lambda: 0)
    for place, text in what.items():
        replicas.open("memory")[place] = text
    replicas.commit()
    store.close(clean=True)


def make_node(folder: Path) -> None:
    NodeIdentity.create(MeshKey.generate(bytes(32)), "node", bytes(32)).save(folder)


def at_every_call(
    root: Path,
    act: Callable[[], int],
    check: Callable[[bool, int, str], None],
    done_status: int = 0,
) -> dict[str, int]:
    """Let `act` end, and meet a full disk, at each of its calls below `root`, or at those of its
    turn; `check` is told whether it ended there, its status, and what it said."""
    before = root.with_name("before")
    shutil.copytree(root, before)
    tried = {"ended": 0, "full": 0}
    for how in tried:
        for number in count(1 + TURN, TURNS):
            shutil.rmtree(root)
            shutil.copytree(before, root)
            status, calls, said = stopped(act, number, is_full=how == "full")
            assert calls is not None or status == STOPPED_STATUS, (number, status, said)
            if calls is not None and calls < number:
                assert status == done_status, (number, calls, said)
                break
            try:
                check(how == "ended", status, said)
            except BaseException as error:
                left = [str(path.relative_to(root)) for path in sorted(root.rglob("*"))]
                error.add_note(f"{how} at call {number}: status {status}, {said!r}, left {left}")
                raise
            tried[how] += 1
    return tried


def stopped(act: Callable[[], int], number: int, *, is_full: bool) -> tuple[int, int | None, str]:
    """Let a process act; return its status, its calls unless it was ended, and what it said."""
    recorder = ctypes.CDLL(None)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        sys.stderr = os.fdopen(writing, "w")
        sys.stdout = os.fdopen(os.open(os.devnull, os.O_WRONLY), "w")
        recorder.stop_at(number, int(is_full))
        status = 70
        try:
            status = act()
        except BaseException:
            traceback.print_exc()
        sys.stderr.flush()
        calls = recorder.calls_made()
        recorder.stop_at(0, 0)
        os.write(writing, b"\0%d" % calls)
        os._exit(status)
    os.close(writing)
    with open(reading, "rb") as said:
        told, _, calls = said.read().decode().partition("\0")
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return status, int(calls) if calls else None, told


def is_one_line(said: str) -> bool:
    """Whether a command told in one line that the disk is full, after what it says otherwise."""
    last = said.strip().splitlines()[-1]
    return "o space left" in last and "Traceback" not in said


def restore(root: Path, *, is_there: bool) -> dict[str, int]:
    file, folder = root.parent / "backup", root / "data"
    write(root.parent / "source", NEW)
    backup(root.parent / "source", file)
    if is_there:
        write(folder, OLD)
    words = ["restore", str(file), "--data", str(folder), *["--replace"] * is_there]
    old: Texts = OLD if is_there else {}

    def check(is_ended: bool, status: int, said: str) -> None:
        copies = [root.with_name(name) for name in ("opened", "again", "away")]
        for copy in copies:
            shutil.rmtree(copy, ignore_errors=True)
            shutil.copytree(root, copy)
        opened, again, away = (copy / "data" for copy in copies)
        if not is_ended:
            assert status == 0 or is_one_line(said)
            assert not (folder / "store.restoring").exists()
        is_new = False
        if folder.exists():
            is_cut_short = (folder / "store.restoring").exists() and not is_there
            with suppress(StoreError):
                look(folder, lambda records: records.check_pages())
                assert not is_cut_short
            is_left = any((folder / name).exists() for name in ("store.restoring", "store.new"))
            try:
                store = LmdbStore(opened)
                store.close(clean=False)
                is_told = any("cut short" in line for line in store.report)
                assert is_told == (is_left and (folder / "store").exists()), store.report
                found = texts(opened)
            except StoreError as error:
                is_told, found = is_cut_short and "cut short" in str(error), {}
                if not is_told:
                    raise
            assert found in (old, NEW)
            is_new = found == NEW
            if any((away / name).exists() for name in ("store", "store.new", "store.restoring")):
                repair(away, random=Random(0), now_ms=0)
                assert texts(away) == found
        if is_ended or not is_new:
            moved = ["restore", str(file), "--data", str(again), "--replace"]
            status, _, said = stopped(lambda: run(*moved), 0, is_full=False)
            assert status == 0, said
        assert texts(again) == NEW
        if is_there:
            kept = [texts_of_store(each) for each in again.glob("store.before-restore*")]
            assert OLD in kept, kept

    return at_every_call(root, lambda: run(*words), check)


def texts_of_store(store: Path) -> Texts:
    """What is in a store that was put aside."""
    folder = store.with_name("looked-at")
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(store, folder / "store")
    return texts(folder)


def import_(root: Path) -> dict[str, int]:
    """A file into a folder where no node runs: one commit."""
    file = root.parent / "notes.phext"
    file.write_text("\x17".join(NEW.values()))
    return bring(root, ["import", str(file)], lambda folder: [texts(folder)], [OLD], [NEW])


def sq(root: Path) -> dict[str, int]:
    """Two phexts of a folder of SQ."""
    source = root.parent / "sq"
    source.mkdir()
    for name in ("one", "two"):
        (source / f"{name}.phext").write_text("\x17".join(NEW.values()))

    def look(folder: Path) -> list[Texts]:
        return [texts(folder, name) for name in ("one", "two")]

    return bring(root, ["migrate", "sq", str(source), "--yes"], look, [{}, {}], [NEW, NEW])


def git(root: Path) -> dict[str, int]:
    """Files of a repository, with two versions each."""
    repository = Repository(root.parent / "repository")
    files = {f"{number}.md": f"{number}\n" * 50 for number in "ab"}
    for text in ("before\n", ""):
        repository.commit({name: text + files[name] for name in files}, "Anna")

    def look(folder: Path) -> list[Texts]:
        found = {text for text in texts(folder).values() if text not in OLD.values()}
        return [{"": text} if text in found else {} for text in files.values()]

    words = ["migrate", "git", str(repository.path), "--at", "7.*", "--yes"]
    return bring(root, words, look, [{}, {}], [{"": text} for text in files.values()])


def syncthing(root: Path) -> dict[str, int]:
    """A file and a copy of it: the file is one of both texts, which are kept."""
    file, copy = root / "notes.md", root / "notes.sync-conflict-20260301-120000-ABCDEFG.md"
    file.write_text("ours\n")
    copy.write_text("theirs\n")
    words = ["migrate", "syncthing", str(root), "--yes"]

    def check(is_ended: bool, status: int, said: str) -> None:
        assert is_ended or status == 0 or "o space left" in said
        assert "Traceback" not in said
        text = file.read_text()
        assert text in ("ours\n", "ours\ntheirs\n")
        assert copy.exists() or text != "ours\n"
        status, _, said = stopped(lambda: run(*words), 0, is_full=False)
        assert status == 0, said
        kept = {path.read_text() for path in (root / BACKUPS).iterdir() if path.suffix != ".new"}
        assert (file.read_text(), copy.exists(), kept) == (
            "ours\ntheirs\n",
            False,
            {"ours\n", "theirs\n"},
        )

    return at_every_call(root, lambda: run(*words), check)


def bring(
    root: Path,
    words: list[str],
    look: Callable[[Path], list[Texts]],
    old: list[Texts],
    new: list[Texts],
) -> dict[str, int]:
    """Each part is there whole or not at all; some without the others are told of."""
    folder = root / "data"
    write(folder, OLD)
    make_node(folder)
    told = "an import was cut short"

    def check(is_ended: bool, status: int, said: str) -> None:
        assert is_ended or status == 0 or is_one_line(said)
        looked, again = (root.with_name(name) for name in ("looked", "again"))
        for copy in (looked, again):
            shutil.rmtree(copy, ignore_errors=True)
            shutil.copytree(root, copy)
        found = look(looked / "data")
        assert all(each in pair for each, *pair in zip(found, old, new, strict=True)), found
        if found not in (old, new):
            _, _, said = stopped(lambda: run("ls", "--data", str(folder)), 0, is_full=False)
            assert told in said, said
        status, _, said = stopped(lambda: again_in(again / "data", words), 0, is_full=False)
        assert status == 0, said
        assert look(again / "data") == new
        _, _, said = stopped(lambda: again_in(again / "data", ["ls"]), 0, is_full=False)
        assert told not in said, said

    def again_in(folder: Path, words: list[str]) -> int:
        return run(*words, "--data", str(folder))

    return at_every_call(root, lambda: again_in(folder, words), check)


def copied(root: Path, *names: str) -> list[Path]:
    """Copies of what is left, to be changed."""
    copies = [root.with_name(name) for name in names]
    for copy in copies:
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(root, copy)
    return copies


def backup_(root: Path) -> dict[str, int]:
    """A backup is there whole or not at all; what is backed up stays as it is."""
    write(root / "data", NEW)

    def check(is_ended: bool, status: int, said: str) -> None:
        assert is_ended or status == 0 or is_one_line(said)
        assert (root / "file").exists() == (status == 0) or is_ended
        left = {path.name for path in root.iterdir()} - {"data", "file"}
        assert left <= {"file.partial"} if is_ended else not left
        if left and (root / "file").exists():
            assert not [*(root / "file.partial").iterdir()]
        looked, again = copied(root, "looked", "again")
        assert texts(looked / "data") == NEW
        if left:
            words = ["restore", str(looked / "file.partial"), "--data", str(looked / "restored")]
            status, _, said = stopped(lambda: run(*words), 0, is_full=False)
            assert (status, "expected a backup" in said) == (1, True), said
        words = ["backup", str(again / "file"), "--data", str(again / "data")]
        status, _, said = stopped(lambda: run(*words), 0, is_full=False)
        assert status == 0 or "exists already" in said, said
        if not (root / "file").exists():
            assert {path.name for path in again.iterdir()} == {"data", "file"}
        restore_backup(again / "file", again / "restored")
        assert texts(again / "restored") == NEW

    words = ["backup", str(root / "file"), "--data", str(root / "data")]
    return at_every_call(root, lambda: run(*words), check)


def export(root: Path) -> dict[str, int]:
    """A file is the older one or the new one, whole."""
    folder, file = root / "data", root / "file.phext"
    write(folder, NEW)
    file.write_text("older")

    def check(is_ended: bool, status: int, said: str) -> None:
        assert is_ended or status == 0 or is_one_line(said)
        text = file.read_text()
        assert text == "older" or phextfile_of(text) == NEW
        assert status != 0 or text != "older"
        left = {path.name for path in root.iterdir()} - {"data", "file.phext"}
        assert left <= {"file.phext.new"} if is_ended else not left
        (again,) = copied(root, "again")
        words = ["export", str(again / "file.phext"), "--data", str(again / "data")]
        status, _, said = stopped(lambda: run(*words), 0, is_full=False)
        assert status == 0, said
        assert phextfile_of((again / "file.phext").read_text()) == NEW
        assert {path.name for path in again.iterdir()} == {"data", "file.phext"}
        assert texts(again / "data") == NEW

    words = ["export", str(file), "--data", str(folder)]
    return at_every_call(root, lambda: run(*words), check)


def phextfile_of(text: str) -> Texts:
    return {str(place): scroll for place, scroll in explode(text).items()}


def repair_(root: Path) -> dict[str, int]:
    """What is sound stays so, and what is not is named until a peer has sent it."""
    folder = root / "data"
    write(folder, NEW)
    data, lost = folder / "store" / DATA_FILE, PLACES[1]
    content = bytearray(data.read_bytes())
    for at in places_of(bytes(content), f"new {lost}".encode()):
        content[at] ^= 1
    data.write_bytes(content)
    sound = {place: text for place, text in NEW.items() if place != lost}

    def check(is_ended: bool, status: int, said: str) -> None:
        assert is_ended or status == 1
        assert is_ended or is_one_line(said) or said.strip().endswith(" now"), said
        looked, again = copied(root, "looked", "again")
        assert texts(looked / "data") == sound
        done = repair(again / "data", random=Random(0), now_ms=0)
        assert done.missing == (f"memory {lost}",)
        assert texts(again / "data") == sound
        left = {path.name for path in (again / "data").iterdir()}
        assert not left & {"store.new", "store.building"}, left

    words = ["repair", "--data", str(folder)]
    return at_every_call(root, lambda: run(*words), check, done_status=1)


def places_of(content: bytes, what: bytes) -> Iterator[int]:
    at = content.find(what)
    while at >= 0:
        yield at
        at = content.find(what, at + 1)


CASES: dict[str, Callable[[Path], dict[str, int]]] = {
    "restore": lambda root: restore(root, is_there=False),
    "restore over another": lambda root: restore(root, is_there=True),
    "backup": backup_,
    "export": export,
    "repair": repair_,
    "import": import_,
    "migrate sq": sq,
    "migrate git": git,
    "migrate syncthing": syncthing,
}


def main(root: Path, case: str) -> None:
    root.mkdir()
    print(json.dumps(CASES[case](root)))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
