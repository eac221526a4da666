"""A repository of git, read without trust: neither its configuration nor its hooks are looked at.

`git` runs in an empty repository of our own, in a temporary folder, which borrows the objects of
the other one. So nothing that the other says is executed, nothing is fetched, nothing in it is
written, and who owns it does not matter. What its HEAD is we read ourselves.
"""

import os
import re
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Final

from phextsync.errors import PhextsyncError
from phextsync.plain_files import read_file

PLAIN: Final = frozenset({"100644", "100755"})
"""The modes of files; links and the commits of other repositories have others."""
EXECUTABLE_MODE: Final = "100755"

_ID: Final = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_REF: Final = re.compile(r"ref: (refs/[^\s:\\]+)")
_AUTHOR: Final = re.compile(rb"(.*?) ?<([^>]*)> (-?\d{1,19}) [+-]\d{4}")
_FORMATS: Final = {40: "sha1", 64: "sha256"}
_CHUNK: Final = 1 << 20
_HOPS: Final = 5


@dataclass(frozen=True, slots=True)
class Commit:
    """A commit: its parents, and who wrote it when, by the clock of that machine."""

    id: str
    parents: tuple[str, ...]
    author: str
    time_ms: int


@dataclass(frozen=True, slots=True)
class Changed:
    """What a commit did to a path, seen from its first parent: the blobs of before and after, ""
    for none. `before` is the path of before, where git takes it for the same file."""

    path: str
    before: str
    old: str
    new: str


@dataclass(frozen=True, slots=True)
class TreeFile:
    """A file of a commit."""

    path: str
    mode: str
    blob: str


class Repository:
    """What is asked of a repository. PhextsyncError when `git` does not answer."""

    def __init__(self, ours: Path, head: str) -> None:
        self.head = head
        self._ours = ours

    def commits(self) -> list[Commit]:
        """Return all commits that HEAD comes from, each behind its parents."""
        found = []
        rows = self._run("rev-list", "--topo-order", "--reverse", "--parents", self.head)
        lines = [row.split(" ") for row in rows.decode().splitlines()]
        with self.objects() as read:
            for commit, *parents in lines:
                author, time_ms = _author_of(read(commit, _CHUNK) or b"")
                found.append(Commit(commit, tuple(parents), author, time_ms))
        return found

    def changes(self, commits: Iterable[Commit]) -> dict[str, list[Changed]]:
        """Return what commits did to files, by commit; nothing of names that are not UTF-8."""
        asked = "".join(" ".join((each.id, *each.parents[:1])) + "\n" for each in commits)
        words = ("--stdin", "--root", "-r", "-z", "-M", "-l1000", "--raw", "--no-abbrev")
        told = self._run("diff-tree", *words, asked=asked.encode())
        found: dict[str, list[Changed]] = {}
        rows: list[Changed] = []
        tokens = iter(told.decode("utf-8", "surrogateescape").split("\0"))
        for token in tokens:
            if not token.startswith(":"):
                rows = found.setdefault(token.strip(), [])
                continue
            old_mode, new_mode, old, new, status = token[1:].split(" ")
            before = path = next(tokens)
            if status[0] in "RC":
                path = next(tokens)
            old = old if old_mode in PLAIN else ""
            new = new if new_mode in PLAIN else ""
            if _is_name(path) and _is_name(before):
                rows.append(Changed(path, before if status[0] == "R" else path, old, new))
        return found

    def files(self) -> list[TreeFile]:
        """Return all files of HEAD, by path; those whose names are not UTF-8 have surrogates."""
        rows = self._run("ls-tree", "-r", "-z", self.head).decode("utf-8", "surrogateescape")
        found = []
        for row in filter(None, rows.split("\0")):
            about, _, path = row.partition("\t")
            mode, _, blob = about.split(" ")
            found.append(TreeFile(path, mode, blob))
        return sorted(found, key=lambda file: file.path)

    @contextmanager
    def objects(self) -> Iterator["_Objects"]:
        """Give what returns the bytes of an object; None of one that is not there or has more than
        so many."""
        words = _words(self._ours, "cat-file", "--batch")
        pipe = subprocess.PIPE
        with subprocess.Popen(
            words, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, env=_environment(self._ours)
        ) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            yield _Objects(process.stdin, process.stdout)

    def _run(self, *words: str, asked: bytes = b"") -> bytes:
        return _git(self._ours, words, asked)


class _Objects:
    """Asks a `git cat-file --batch`."""

    def __init__(self, asks: IO[bytes], answers: IO[bytes]) -> None:
        self._asks = asks
        self._answers = answers

    def __call__(self, name: str, bytes_max: int) -> bytes | None:
        self._asks.write(f"{name}\n".encode())
        self._asks.flush()
        told = self._answers.readline().split()
        if not told:
            raise PhextsyncError("git ended before it had answered")
        if told[-1] == b"missing":
            return None
        size = int(told[2])
        data = self._answers.read(size) if size <= bytes_max else None
        left = 1 + (size if data is None else 0)  # and a line end
        while left and (passed := self._answers.read(min(left, _CHUNK))):
            left -= len(passed)
        return data


@contextmanager
def open_repository(path: Path) -> Iterator[Repository]:
    """Give the repository at a path, of a working tree or a bare one. PhextsyncError where there
    is none, or nothing was committed yet."""
    git = _git_folder(path)
    common = _common_folder(git)
    head = _resolved(git, common)
    with TemporaryDirectory(prefix="phextsync-git-") as folder:
        ours = Path(folder)
        if "\n" in str(common):
            raise PhextsyncError(f"expected a path without line ends, found {str(common)!r:.200}")
        form = f"--object-format={_FORMATS[len(head)]}"
        _git(ours, ("init", "--quiet", "--bare", "--template=", form))
        (ours / "objects" / "info").mkdir(exist_ok=True)
        borrowed = os.fsencode(f"{common / 'objects'}\n")
        (ours / "objects" / "info" / "alternates").write_bytes(borrowed)
        if (common / "shallow").is_file():
            (ours / "shallow").write_bytes(read_file(common / "shallow"))
        yield Repository(ours, head)


def _git(ours: Path, words: Iterable[str], asked: bytes = b"") -> bytes:
    try:
        done = subprocess.run(
            _words(ours, *words),
            input=asked,
            capture_output=True,
            env=_environment(ours),
            check=False,
        )
    except FileNotFoundError:
        raise PhextsyncError("expected the program git, found none: install it") from None
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace").strip().splitlines() or ["it says nothing"]
        raise PhextsyncError(f"git does not read the repository: {said[-1]}")
    return done.stdout


def _words(ours: Path, *words: str) -> list[str]:
    return ["git", f"--git-dir={ours}", "--no-pager", *words]


def _environment(ours: Path) -> dict[str, str]:
    """Return what git is to know: nothing of this user's settings, and no way to fetch."""
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": str(ours),
        "XDG_CONFIG_HOME": str(ours),
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_ATTR_NOSYSTEM": "1",
        "GIT_NO_REPLACE_OBJECTS": "1",
        "GIT_NO_LAZY_FETCH": "1",
        "GIT_ALLOW_PROTOCOL": "",
        "GIT_TERMINAL_PROMPT": "0",
        "LC_ALL": "C",
    }


def _git_folder(path: Path) -> Path:
    """Return where a repository keeps what git needs."""
    inside = path / ".git"
    if inside.is_file():  # of a working tree beside others, or of a submodule
        said = _small(inside).strip()
        if said.startswith("gitdir: "):
            inside = path / said.removeprefix("gitdir: ")
    for git in (inside, path):
        if (git / "HEAD").is_file():
            return git.resolve()
    raise PhextsyncError(f"expected a repository of git, found none at {path}")


def _common_folder(git: Path) -> Path:
    """Return where the objects are, for several working trees in one place."""
    said = git / "commondir"
    return (git / _small(said).strip()).resolve() if said.is_file() else git


def _resolved(git: Path, common: Path) -> str:
    """Return the commit that HEAD is."""
    told = _small(git / "HEAD").strip()
    for _ in range(_HOPS):
        if _ID.fullmatch(told):
            return told
        ref = _REF.fullmatch(told)
        if ref is None or ".." in ref[1].split("/"):
            raise PhextsyncError(f"expected a commit or a branch in HEAD, found {told!r:.80}")
        told = _told_of(ref[1], (git, common))
    raise PhextsyncError("expected a branch in HEAD, found one that leads nowhere")


def _told_of(ref: str, folders: Iterable[Path]) -> str:
    for folder in folders:
        if (folder / ref).is_file():
            return _small(folder / ref).strip()
    for folder in folders:
        packed = folder / "packed-refs"
        for line in _small(packed).splitlines() if packed.is_file() else ():
            commit, _, name = line.partition(" ")
            if name == ref:
                return commit
    raise PhextsyncError(f"expected a commit at {ref}, found none: nothing was committed there yet")


def _small(file: Path) -> str:
    """Return the text of a file that git keeps."""
    data = read_file(file)
    if b"\0" in data:
        raise PhextsyncError(f"expected a text of git in {file}, found a zero byte")
    return os.fsdecode(data)


def _author_of(data: bytes) -> tuple[str, int]:
    """Return the name of who wrote a commit, and when, in milliseconds."""
    for line in data.partition(b"\n\n")[0].splitlines():
        if line.startswith(b"author ") and (match := _AUTHOR.fullmatch(line[7:])):
            name = (match[1] or match[2]).decode("utf-8", "replace")
            return name, 1000 * int(match[3])
    return "", 0


def _is_name(path: str) -> bool:
    return not any("\ud800" <= sign <= "\udfff" for sign in path)
