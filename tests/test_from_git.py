"""What a repository of git has comes with its history; it is neither executed nor changed."""

import json
import os
import shutil
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import permutations
from pathlib import Path
from random import Random
from typing import Any

import pytest

from phextsync.control.brought import BROUGHT, brought_to, note
from phextsync.errors import PhextsyncError
from phextsync.index import EMPTY_VERSION, CoordinateRange
from phextsync.migrations.bringing import Bringing, DatedText, Outcome, label_of
from phextsync.migrations.git_files import files_of, versioned
from phextsync.migrations.git_repository import open_repository
from phextsync.replica.replicas import ReplicaSet
from phextsync.store.contract import LogEntry
from phextsync.store.lmdb_store import LmdbStore
from phextsync.store.memory import MemoryStore
from sims.processes import make_folder
from tests.command_users import CommandUser
from tests.repositories import Repository


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    """Three versions of a list by two, and other files."""
    made = Repository(tmp_path / "notes")
    made.commit({"list.md": "milk\n", "sub/a b.md": "one\n"}, "Anna Ek", "2024-01-05")
    made.commit({"list.md": "milk\nbread\n"}, "Ben", "2024-02-05")
    made.commit({"list.md": "milk\neggs\nbread\n"}, "Anna Ek", "2024-03-05")
    return made


@pytest.fixture
def user(tmp_path: Path) -> CommandUser:
    return CommandUser(make_folder(tmp_path / "data"))


def _bring(user: CommandUser, repository: Repository) -> str:
    return user.out("migrate", "git", str(repository.path), "--at", "7.*", "--yes")


def _places(user: CommandUser) -> dict[str, str]:
    """Return the coordinates of files by their names, as the map has them."""
    rows = user.out("get", "7.1.1/1.1.1/1.1.1").splitlines()
    return {name.partition("\t")[0]: place for place, _, name in (r.partition(" ") for r in rows)}


def _json(user: CommandUser, *words: str) -> list[dict[str, Any]]:
    return list(json.loads(user.out(*words, "--json")))


def _day(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / 1000, UTC).date().isoformat()


def _all(folder: Path) -> dict[str, tuple[bytes, int]]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(p.relative_to(folder)): (p.read_bytes(), p.stat().st_mtime_ns) for p in files}


def test_commits_become_versions_with_author_and_time(
    user: CommandUser, repository: Repository
) -> None:
    assert _bring(user, repository).splitlines() == [
        "list.md: 3 versions by 2 authors, brought",
        "sub/a b.md: 1 version by 1 author, brought",
    ]
    place = _places(user)["list.md"]
    assert user.out("get", place) == "milk\neggs\nbread\n"
    blamed = _json(user, "blame", place)
    assert [(row["text"], row["label"], _day(row["time_ms"])) for row in blamed] == [
        ("milk", "git:Anna Ek", "2024-01-05"),
        ("eggs", "git:Anna Ek", "2024-03-05"),
        ("bread", "git:Ben", "2024-02-05"),
    ]
    days = [_day(row["time_ms"]) for row in _json(user, "versions", place)]
    assert days == ["2024-01-05", "2024-02-05", "2024-03-05"]
    assert user.out("show", place, "--at", "2024-02-10") == "milk\nbread\n"
    labels = [row["labels"] for row in _json(user, "log", place)]
    assert labels == [["git:Anna Ek"], ["git:Ben"], ["git:Anna Ek"]]


def test_it_is_shown_first_and_neither_side_changes(
    user: CommandUser, repository: Repository
) -> None:
    before, folder = _all(repository.path), _all(user.data)
    shown = user.out("migrate", "git", str(repository.path), "--at", "7.*")
    assert shown.splitlines() == [
        "list.md: 3 versions by 2 authors",
        "sub/a b.md: 1 version by 1 author",
        "nothing is changed yet: --yes does it",
    ]
    assert _all(user.data) == folder
    _bring(user, repository)
    assert _all(repository.path) == before


def test_the_history_is_kept_when_the_log_is_folded_and_time_goes_by(
    user: CommandUser, repository: Repository
) -> None:
    for number in range(60):
        text = "".join(f"{number} {line} {'x' * 80}\n" for line in range(20))
        repository.commit({"long.md": text}, "Anna Ek", "2024-04-01")
    _bring(user, repository)
    place = _places(user)["long.md"]
    user.out("append", place, "today\n")
    user.out("check")
    assert len(_json(user, "versions", place)) >= 2
    log = _json(user, "log", place)
    assert len(log) == 61
    assert {_day(row["time_ms"]) for row in log[:60]} == {"2024-04-01"}
    assert "kept forever" in user.out("history")


def test_the_history_is_kept_also_where_all_files_are_there_already(
    user: CommandUser, repository: Repository
) -> None:
    user.out("bind", str(repository.path), "--at", "7.*")
    for path in ("list.md", "sub/a b.md"):
        text = (repository.path / path).read_text()
        user.out("set", str(repository.path / path), text)
    assert _bring(user, repository).count("there already") == 2
    assert "kept forever" in user.out("history")


def test_a_directory_that_is_bound_afterwards_stays_as_it_is(
    user: CommandUser, repository: Repository
) -> None:
    _bring(user, repository)
    places = _places(user)
    notes = str(repository.path)
    user.out("bind", notes, "--at", "7.*")
    assert user.out("get", f"{notes}/list.md") == "milk\neggs\nbread\n"
    assert _places(user) == places


def test_doing_it_again_goes_on_and_doubles_nothing(
    user: CommandUser, repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    bring = Bringing.bring

    def end_at(self: Bringing, path: str, text: str, versions: Sequence[DatedText]) -> Outcome:
        if path == "sub/a b.md":
            raise OSError("the disk is full")
        return bring(self, path, text, versions)

    with monkeypatch.context() as patched:
        patched.setattr(Bringing, "bring", end_at)
        user.run("migrate", "git", str(repository.path), "--at", "7.*", "--yes")
    place = _places(user)["list.md"]
    log = _json(user, "log", place)
    assert len(log) == 3
    again = _bring(user, repository).splitlines()
    assert again == [
        "list.md: 3 versions by 2 authors, there already",
        "sub/a b.md: 1 version by 1 author, brought",
    ]
    assert _json(user, "log", place) == log
    user.out("append", place, "oil\n")
    told = user.run("migrate", "git", str(repository.path), "--at", "7.*", "--yes")
    assert "left in git: list.md: its scroll has another text" in told.output
    assert user.out("get", place) == "milk\neggs\nbread\noil\n"


def test_what_was_deleted_since_is_not_brought_again(
    user: CommandUser, repository: Repository
) -> None:
    _bring(user, repository)
    place, names = _places(user)["list.md"], user.out("get", "7.1.1/1.1.1/1.1.1")
    user.out("rm", place)
    user.out("set", "7.1.1/1.1.1/1.1.1", names.replace(f"{place} list.md\n", ""))
    log = _json(user, "log", place)
    assert _bring(user, repository).splitlines() == [
        "list.md: 3 versions by 2 authors, brought before, and deleted here since",
        "sub/a b.md: 1 version by 1 author, there already",
    ]
    assert user.run("get", place).exit_code == 1
    assert "list.md" not in _places(user)
    assert _json(user, "log", place) == log


@pytest.mark.parametrize("is_newer", [False, True])
def test_what_was_brought_where_there_had_been_text_and_deleted_since_is_not_brought_again(
    user: CommandUser, repository: Repository, is_newer: bool
) -> None:
    _bring(user, repository)
    place = _places(user)["list.md"]
    shutil.rmtree(user.data / "store")
    user.out("set", place, "of before\n")
    user.out("rm", place)
    assert _bring(user, repository).splitlines()[0].endswith("brought")
    assert _places(user)["list.md"] == place
    user.out("rm", place)
    if is_newer:
        repository.commit({"list.md": "milk\nfigs\n"}, "Ben", "2024-05-05")
    assert "brought before, and deleted here since" in _bring(user, repository)
    assert user.run("get", place).exit_code == 1


def test_a_file_that_is_empty_at_last_is_brought_once(
    user: CommandUser, repository: Repository
) -> None:
    repository.commit({"list.md": ""}, "Ben", "2024-04-05")
    _bring(user, repository)
    place = _places(user)["list.md"]
    log = _json(user, "log", place)
    assert _bring(user, repository).splitlines()[0].endswith("there already")
    assert _json(user, "log", place) == log


def _brought_apart(*repositories: Repository) -> list[ReplicaSet]:
    """Bring repositories, each to a machine of its own, and let these compare what they have."""
    machines = []
    for number, repository in enumerate(repositories):
        replicas = ReplicaSet(
            MemoryStore(),
            node_id=bytes([number]) * 16,
            random=Random(number),
            wall_time_ms=lambda: 5,
        )
        with open_repository(repository.path) as opened, opened.objects() as read:
            bringing = Bringing(replicas, "memory", CoordinateRange.parse("7.*"))
            found, _ = files_of(opened, read)
            bringing.name({history.file.path: "" for history in found}, lambda _: ("", ()))
            for history in found:
                file = versioned(history, read)
                assert bringing.bring(file.path, file.text, file.versions) is Outcome.BROUGHT
        machines.append(replicas)
    for ours, theirs in permutations(machines):
        for name in ours.names():
            for place in [*ours.open(name).coordinates()]:
                update = ours.open(name).difference(place, EMPTY_VERSION) or b""
                theirs.open(name).apply(place, LogEntry(update, b"", 0), 1)
    return machines


def test_two_machines_that_bring_the_same_apart_have_it_once(repository: Repository) -> None:
    repository.commit({"list.md": "eggs\nbread\n"}, "Cara", "2024-04-05")  # one that only deletes
    machines = _brought_apart(repository, repository)
    for replicas in machines:
        replica = replicas.open("memory")
        texts = sorted(replica[place] for place in replica.coordinates())
        assert [text for text in texts if "7." not in text] == ["eggs\nbread\n", "one\n"]
        (place,) = [place for place in replica.coordinates() if replica[place].startswith("eggs")]
        assert [line.label for line in replica.blame(place)] == ["git:Anna Ek", "git:Ben"]
        assert replica.log(place)[-1].labels == ("git:Cara",)
        assert len(replica.log(place)) == 4
    first, other = (replicas.open("memory") for replicas in machines)
    assert all(first.version(place) == other.version(place) for place in first.coordinates())


def test_two_machines_that_bring_other_histories_apart_lose_nothing(
    repository: Repository, tmp_path: Path
) -> None:
    other = Repository(tmp_path / "other")
    other.commit({"list.md": "milk\n"}, "Anna Ek", "2024-01-05")
    for replicas in _brought_apart(repository, other):
        replica = replicas.open("memory")
        (text,) = [replica[place] for place in replica.coordinates() if "milk" in replica[place]]
        assert {"milk", "eggs", "bread"} == {*text.split()}


def _hear(user: CommandUser, commit: str, name: str = "laptop", text: str = "") -> None:
    """Let the folder hear that another machine brought a commit to 7.*."""
    other = ReplicaSet(
        MemoryStore(),
        node_id=b"l" * 16,
        random=Random(name),
        wall_time_ms=lambda: 1_790_000_000_000,
    )
    note(other, "memory", CoordinateRange.parse("7.*"), commit, name)
    (place,) = other.open(BROUGHT).coordinates()
    other.open(BROUGHT).append(place, text)
    update = other.open(BROUGHT).difference(place, EMPTY_VERSION) or b""
    store = LmdbStore(user.data)
    replicas = ReplicaSet(store, node_id=b"x" * 16, random=Random(1), wall_time_ms=lambda: 5)
    replicas.open(BROUGHT).apply(place, LogEntry(update, b"", 0), 1)
    replicas.commit()
    store.close(clean=True)


def test_a_commit_that_is_brought_again_is_told_once() -> None:
    replicas = ReplicaSet(
        MemoryStore(), node_id=b"l" * 16, random=Random(1), wall_time_ms=lambda: 5
    )
    for commit in ("ab" * 20, "ab" * 20, "cd" * 20):
        note(replicas, "memory", CoordinateRange.parse("7.*"), commit, "laptop")
    told = brought_to(replicas, "memory", CoordinateRange.parse("7.*"))
    assert [each.commit for each in told] == ["ab" * 20, "cd" * 20]


def test_a_second_machine_is_told_who_brought_another_commit(
    user: CommandUser, repository: Repository
) -> None:
    _hear(user, "ab" * 20, "lap\x1btop", "nonsense\n" + "ab" * 20 + " xy 1 name\n")
    told = user.error("migrate", "git", str(repository.path), "--at", "7.*", "--yes")
    (line,) = told.splitlines()
    assert "7.* was brought by lap" in line
    assert "at 2026-09-" in line
    assert "take another range" in line
    assert "\x1b" not in line
    assert user.out("ls") == ""
    user.out("migrate", "git", str(repository.path), "--at", "8.*", "--yes")


def test_the_same_commit_and_what_was_begun_goes_on(
    user: CommandUser, repository: Repository
) -> None:
    _hear(user, repository.git("rev-parse", "HEAD"))
    told = user.run("migrate", "git", str(repository.path), "--at", "7.*", "--yes")
    assert "by laptop" in told.output
    assert "of the same commit: what both bring is there once" in told.output
    assert "list.md: 3 versions by 2 authors, brought" in told.output
    _hear(user, "cd" * 20, "desk")
    told = user.run("migrate", "git", str(repository.path), "--at", "7.*", "--yes")
    assert told.exit_code == 0
    assert "of another commit: a file that both bring may have both texts" in told.output
    assert "list.md: 3 versions by 2 authors, there already" in told.output
    assert BROUGHT not in user.out("status")


def test_a_file_that_was_renamed_has_one_history(user: CommandUser, repository: Repository) -> None:
    repository.git("mv", "list.md", "shopping.md")
    repository.commit({}, "Ben", "2024-04-05")
    repository.commit({"list.md": "another\n"}, "Ben", "2024-05-05")
    _bring(user, repository)
    places = _places(user)
    assert len(_json(user, "versions", places["shopping.md"])) == 3
    assert len(_json(user, "versions", places["list.md"])) == 1


def test_branches_keep_who_wrote_what_and_end_as_the_merge_says(
    user: CommandUser, repository: Repository
) -> None:
    repository.git("checkout", "--quiet", "-b", "other", "HEAD")
    repository.commit({"list.md": "milk\neggs\nbread\noil\n"}, "Ben", "2024-04-01")
    repository.git("checkout", "--quiet", "main")
    repository.commit({"list.md": "salt\nmilk\neggs\nbread\n"}, "Cara", "2024-04-02")
    merge = ("merge", "--quiet", "--no-edit", "other")
    repository.settle(*merge, who="Dora", when="2024-04-03")
    _bring(user, repository)
    blamed = _json(user, "blame", _places(user)["list.md"])
    assert [(row["text"], row["label"]) for row in blamed] == [
        ("salt", "git:Cara"),
        ("milk", "git:Anna Ek"),
        ("eggs", "git:Anna Ek"),
        ("bread", "git:Ben"),
        ("oil", "git:Ben"),
    ]


def test_what_no_scroll_can_hold_stays_in_git_and_is_named(
    user: CommandUser, repository: Repository
) -> None:
    repository.write({"photo.jpg": b"\xff\xd8", ".hidden": "x\n", "x.tmp": "x\n"})
    os.symlink("/etc/passwd", repository.path / "link.md")
    odd = os.fsencode(repository.path) + b"/\xff.md"
    with open(odd, "wb") as file:
        file.write(b"odd\n")
    repository.commit({"list.md": b"\xff"}, "Ben", "2024-06-01")
    repository.commit({"list.md": "milk\n"}, "Ben", "2024-06-02")
    told = user.run("migrate", "git", str(repository.path), "--at", "7.*", "--yes").output
    assert "left in git: photo.jpg: expected UTF-8, found other bytes at offset 0" in told
    assert "left in git: link.md: expected a file, found a link or another repository" in told
    assert "expected a name in UTF-8" in told
    assert "list.md: 4 versions by 2 authors, without 2 that are no text, brought" not in told
    assert "list.md: 3 versions by 2 authors, without 2 that are no text, brought" in told
    assert {*_places(user)} == {"list.md", "sub/a b.md"}


def test_nothing_that_a_repository_says_is_executed(
    user: CommandUser, repository: Repository, tmp_path: Path
) -> None:
    trap = tmp_path / "trap"
    program = tmp_path / "program"
    program.write_text(f"#!/bin/sh\necho ran >> {trap}\n")
    program.chmod(0o755)
    for hook in ("post-checkout", "reference-transaction", "post-index-change"):
        (repository.path / ".git" / "hooks").mkdir(exist_ok=True)
        shutil.copy(program, repository.path / ".git" / "hooks" / hook)
    for name in ("fsmonitor", "pager", "sshCommand", "editor", "alternateRefsCommand"):
        repository.git("config", f"core.{name}", str(program))
    for name in ("diff.external", "diff.x.textconv", "filter.x.smudge", "gpg.program"):
        repository.git("config", name, str(program))
    for name, value in (
        ("log.showSignature", "true"),
        ("extensions.partialClone", "origin"),
        ("remote.origin.promisor", "true"),
        ("remote.origin.url", f"ext::{program}"),
        ("protocol.ext.allow", "always"),
        ("extensions.worktreeConfig", "true"),
    ):
        repository.git("config", name, value)
    repository.write({".git/info/attributes": "* diff=x filter=x\n"})
    trap.unlink(missing_ok=True)
    _bring(user, repository)
    assert not trap.exists()
    repository.git("status")
    assert trap.exists()  # as whoever uses git there would see


def test_working_trees_bare_packed_and_sha256_repositories_are_read(
    repository: Repository, tmp_path: Path
) -> None:
    head = repository.git("rev-parse", "HEAD")
    repository.git("worktree", "add", "--quiet", "--detach", str(tmp_path / "tree"))
    repository.git("clone", "--quiet", "--bare", ".", str(tmp_path / "bare"))
    repository.git("gc", "--quiet")
    repository.git("pack-refs", "--all")
    for path in (repository.path, tmp_path / "tree", tmp_path / "bare"):
        with open_repository(path) as opened:
            assert opened.head == head
            assert len(opened.commits()) == 3
    other = Repository(tmp_path / "sha256", "--object-format=sha256")
    other.commit({"a.md": "a\n"}, "Anna Ek")
    with open_repository(other.path) as opened:
        assert [file.path for file in opened.files()] == ["a.md"]


def test_what_is_no_repository_or_a_broken_one_is_one_line(tmp_path: Path) -> None:
    with (
        pytest.raises(PhextsyncError, match="expected a repository of git, found none at"),
        open_repository(tmp_path),
    ):
        pass
    empty = Repository(tmp_path / "empty")
    with (
        pytest.raises(PhextsyncError, match="nothing was committed there yet"),
        open_repository(empty.path),
    ):
        pass
    for head in ("ref: refs/../../secret", "ref: /etc/passwd", "-x", "a" * 40):
        (empty.path / ".git" / "HEAD").write_text(f"{head}\n")
        with pytest.raises(PhextsyncError), open_repository(empty.path) as opened:
            opened.commits()
    (empty.path / ".git" / "commondir").write_bytes(b"a\0b\n")
    with pytest.raises(PhextsyncError, match="commondir"), open_repository(empty.path):
        pass
    other = Repository(tmp_path / "shallow")
    other.commit({"a.md": "a\n"}, "Anna Ek")
    (other.path / ".git" / "shallow").write_bytes(b"\xff\n")
    with pytest.raises(PhextsyncError), open_repository(other.path) as opened:
        opened.commits()


def test_a_commit_of_no_time_at_all_is_read(repository: Repository) -> None:
    tree = repository.git("rev-parse", "HEAD^{tree}")
    who = f"Anna Ek <x@y> {'9' * 5000} +0000"
    repository.write({"../commit": f"tree {tree}\nauthor {who}\ncommitter {who}\n\nx\n"})
    words = ("hash-object", "-t", "commit", "-w", "--literally", "../commit")
    (repository.path / ".git" / "HEAD").write_text(f"{repository.git(*words)}\n")
    with open_repository(repository.path) as opened:
        assert [(each.author, each.time_ms) for each in opened.commits()] == [("", 0)]


def test_a_node_that_runs_is_to_be_stopped(user: CommandUser, repository: Repository) -> None:
    import phextsync

    with phextsync.open(user.data, discover=False, port=0):
        told = user.error("migrate", "git", str(repository.path), "--at", "7.*", "--yes")
    assert "a node runs on" in told
    assert "stop it" in told


def test_a_range_that_is_not_held_here_is_one_line(
    user: CommandUser, repository: Repository
) -> None:
    user.out("hold", "1.*")
    told = user.error("migrate", "git", str(repository.path), "--at", "7.*", "--yes")
    assert "is not held here" in told


def test_labels_are_those_of_writers() -> None:
    assert label_of("Anna Ek") == "git:Anna Ek"
    assert label_of("file:x\x1b[31m\n") == "git:file:x[31m"
    assert len(label_of("x" * 100)) == 64


def test_git_that_is_not_installed_is_one_line(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with (
        pytest.raises(PhextsyncError, match="expected the program git, found none"),
        open_repository(repository.path),
    ):
        pass
