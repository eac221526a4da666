"""Where tasks stand, and how they are written: pure functions of texts and coordinates.

A phext has the tasks. Its first scroll names the voters of new ones. A task stands where the digest
of its text says, so that a text that was changed is no task; behind it stands what claimants say of
it. Each voter has a series of its own, in which it has a *ballot* for each task: no two nodes ever
write one ballot. `docs/reference/tasks.md` says the same for programs that read and write plain
scrolls.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final, TypeAlias

from phextsync.control.node_names import is_node_id
from phextsync.index import Coordinate
from phextsync.plain_values import read_json

TASKS: Final = "tasks"
"""The phext of tasks, unless another is named."""
HEAD: Final = Coordinate(1, 1, 1, 1, 1, 1, 1, 1, 1)
"""The scroll that names the voters of new tasks."""
TERM_S: Final = 600
TERM_MAX_S: Final = 86_400 * 365
VOTERS_MAX: Final = 99
FENCE_MAX: Final = 999_999

_TASKS: Final = 2  # the library of tasks
_VOTERS: Final = 3  # the first library of voters
_PARTS: Final = 998
_CLAIM: Final = re.compile(r"\S{1,128}")

Key: TypeAlias = tuple[int, str]
"""A claim with its fence."""


# -- voters --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Electorate:
    """The voters of tasks: their node ids with the names that they had, and after how many seconds
    of silence a claim is overtaken."""

    voters: Mapping[str, str]
    term_s: int = TERM_S

    @property
    def majority(self) -> int:
        """How many voters are more than half of those that are named."""
        return len(self.voters) // 2 + 1

    def to_lines(self) -> list[str]:
        """Return its lines."""
        named = sorted(self.voters.items())
        return [f"term {self.term_s}", *(f"voter {id_} {name}".rstrip() for id_, name in named)]


def read_electorate(text: str) -> Electorate | None:
    """Return the voters that lines name, None when they name none, or too many. A line that cannot
    be read does not count; of two terms the longer one does, of two names the least."""
    voters: dict[str, str] = {}
    term_s = 0
    for line in text.splitlines():
        match line.split():
            case ["term", seconds] if is_number(seconds) and 1 <= int(seconds) <= TERM_MAX_S:
                term_s = max(term_s, int(seconds))
            case ["voter", node_id, *name] if is_node_id(node_id):
                told = " ".join(name)
                voters[node_id] = min(told, voters.get(node_id, told))
    is_whole = 0 < len(voters) <= VOTERS_MAX
    return Electorate(voters, term_s or TERM_S) if is_whole else None


# -- tasks ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Task:
    """A task: where it stands, what there is to do, who votes on it, and who added it when, by its
    clock, as ISO 8601 has it."""

    coordinate: Coordinate
    text: str
    electorate: Electorate
    added_by: str = ""
    added: str = ""


def new_task(text: str, electorate: Electorate, added_by: str, added: str) -> tuple[Task, str]:
    """Return a task, and the text of its scroll."""
    written = "\n".join([f"added {added} {added_by}", *electorate.to_lines(), "", text])
    return Task(place_of(written), text, electorate, added_by, added), written


def place_of(text: str) -> Coordinate:
    """Return where a task with that text stands."""
    a, b, c, d, e = _digest_parts(text.encode("utf-8", "surrogatepass"), 5)
    return Coordinate(_TASKS, a, b, c, d, e, 1, 1, 1)


def read_task(at: Coordinate, text: str) -> Task | None:
    """Return the task of a scroll, None when it is none, or was changed since it was added."""
    facts, _, what = text.partition("\n\n")
    electorate = read_electorate(facts)
    if electorate is None or place_of(text) != at:
        return None
    added = [line.split(" ", 2) for line in facts.splitlines() if line.startswith("added ")]
    time, name = (*added[0][1:], "", "")[:2] if added else ("", "")
    return Task(at, what, electorate, name, time)


def claims_at(task: Coordinate) -> Coordinate:
    """Return where claimants say what they have to say of a task."""
    return Coordinate(*task.parts[:8], 2)


def series_of(node_id: str) -> tuple[int, int, int]:
    """Return the series of a voter."""
    a, b, c = _digest_parts(node_id.encode(), 3)
    return _VOTERS + a % (_PARTS - 1), b, c


def ballot_at(node_id: str, task: Coordinate) -> Coordinate:
    """Return where a voter votes on a task."""
    _, a, b, c, d, e, *_ = task.parts
    return Coordinate(*series_of(node_id), a, b, c, d, e, 1)


def places_of(task: Task) -> list[Coordinate]:
    """Return where something is said of a task: by claimants, and by each of its voters."""
    at = task.coordinate
    return [claims_at(at), *(ballot_at(voter, at) for voter in sorted(task.electorate.voters))]


def task_at(at: Coordinate) -> Coordinate | None:
    """Return the task that a scroll is about: itself, what claimants say, or a ballot; None for
    none."""
    library, a, b, c, d, e, f, g, scroll = at.parts
    if library == _TASKS and f == g == 1 and scroll <= 2:
        return Coordinate(_TASKS, a, b, c, d, e, 1, 1, 1)
    if library >= _VOTERS and scroll == 1:
        return Coordinate(_TASKS, c, d, e, f, g, 1, 1, 1)
    return None


def _digest_parts(of: bytes, count: int) -> list[int]:
    """Return parts from 1 to 998."""
    number = int.from_bytes(blake2b(of, digest_size=16, person=b"phextsync tasks").digest())
    return [1 + number // _PARTS**i % _PARTS for i in range(count)]


# -- what claimants say --------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Claims:
    """What was said of a task: the claims of each fence, of each claim how often it said that it is
    still at work, which are done and which failed, with what came of it, and the fences that are to
    be tried again."""

    by_fence: Mapping[int, frozenset[str]]
    beats: Mapping[Key, int]
    done: Mapping[Key, str]
    failed: Mapping[Key, str]
    retried: frozenset[int]


def read_claims(text: str) -> Claims:
    """Return what lines say, in any order: `claim FENCE CLAIM`, `works FENCE CLAIM TIMES`,
    `done FENCE CLAIM RESULT`, `failed FENCE CLAIM WHY`, `retry FENCE`. What comes of a claim is
    JSON. Lines that cannot be read do not count; of two results of one claim the least does."""
    claims: dict[int, set[str]] = {}
    beats: dict[Key, int] = {}
    said: dict[str, dict[Key, str]] = {"done": {}, "failed": {}}
    retried: set[int] = set()
    for line in text.splitlines():
        match line.split(" ", 3):
            case ["retry", fence] if is_fence(fence):
                retried.add(int(fence))
            case [word, fence, claim, *rest] if is_fence(fence) and _CLAIM.fullmatch(claim):
                key = int(fence), claim
                if word == "claim":
                    claims.setdefault(key[0], set()).add(claim)
                elif word == "works" and rest and is_number(rest[0]):
                    beats[key] = max(int(rest[0]), beats.get(key, 0))
                elif word in said:
                    what = _read_json(rest[0] if rest else '""')
                    said[word][key] = min(what, said[word].get(key, what))
    frozen = {fence: frozenset(found) for fence, found in claims.items()}
    return Claims(frozen, beats, said["done"], said["failed"], frozenset(retried))


def outcome_line(word: str, key: Key, what: str) -> str:
    """Return the line that says that a claim is `done` or `failed`, and what came of it."""
    return f"{word} {key[0]} {key[1]} {json.dumps(what)}"


def _read_json(text: str) -> str:
    try:
        found = read_json(text)
    except ValueError:
        return text
    # Half of a character, which JSON can name, is nothing that a door could send on.
    return found.encode(errors="replace").decode() if isinstance(found, str) else text


# -- ballots -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Ballot:
    """What a voter said of a task: the claim that it voted for at each fence, and the greatest of
    these, `last`; the fences of which it heard nothing for too long; and the claim whose result it
    sealed: it votes for nothing after that."""

    votes: Mapping[int, str]
    last: int = 0
    silent: frozenset[int] = frozenset()
    sealed: Key | None = None
    has_sealed: bool = False


NO_BALLOT: Final = Ballot({})
Ballots: TypeAlias = Mapping[str, Ballot]
"""The ballots of voters, by node id."""


def read_ballot(text: str) -> Ballot:
    """Return what a voter said, in lines `vote FENCE CLAIM`, `silent FENCE`, `sealed FENCE CLAIM`.
    A fence for which it voted twice, as one that was restored from a backup may, has no vote of
    it."""
    votes: dict[int, set[str]] = {}
    silent: set[int] = set()
    sealed: set[Key] = set()
    for line in text.splitlines():
        match line.split():
            case ["vote", fence, claim] if is_fence(fence):
                votes.setdefault(int(fence), set()).add(claim)
            case ["silent", fence] if is_fence(fence):
                silent.add(int(fence))
            case ["sealed", fence, claim] if is_fence(fence):
                sealed.add((int(fence), claim))
    once = {fence: min(claims) for fence, claims in votes.items() if len(claims) == 1}
    of_one = min(sealed) if len(sealed) == 1 else None
    return Ballot(once, max(votes, default=0), frozenset(silent), of_one, bool(sealed))


def is_number(text: str) -> bool:
    """Whether a text is a number that has a meaning here."""
    return text.isascii() and text.isdigit() and len(text) <= 9


def is_fence(text: str) -> bool:
    """Whether a text is the number of a fence."""
    return is_number(text) and 1 <= int(text) <= FENCE_MAX
