"""Claims: who a task is for, as functions of texts that every machine computes alike. No IO, no
clock.

A task names its voters when it is added. For each of its *fences* 1, 2, 3, ... any node may claim
it, and each voter votes for one claim of a fence at most, once and for all, in a scroll that only
it writes and that is on its disk before anybody hears of it. A claim is *firm* when more than half
of the named voters voted for it: two claims of one fence cannot both be, since a voter of both
would have voted twice. A greater fence overtakes: it is voted for when the one before can no longer
become firm, was given back, or was silent for its term by the voter's own clock.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final, TypeAlias

VOTERS_MAX: Final = 99
FENCE_MAX: Final = 999_999

Votes: TypeAlias = Mapping[int, str]
"""What one voter voted for: the claim of each fence."""


@dataclass(frozen=True, slots=True)
class Task:
    """A task: its name, what there is to do, the node ids of its voters, and after how many seconds
    of silence a claim of it is overtaken."""

    name: str
    text: str
    voters: tuple[str, ...]
    term_s: int = 600

    @property
    def majority(self) -> int:
        """How many voters are more than half of those that are named."""
        return len(self.voters) // 2 + 1

    def to_text(self) -> str:
        """Return the text of its scroll."""
        lines = [f"task {self.name}", f"term {self.term_s}", *(f"voter {v}" for v in self.voters)]
        return "\n".join([*lines, "", self.text])


def read_task(text: str) -> Task | None:
    """Return the task that a text describes, None when it describes none."""
    facts, _, what = text.partition("\n\n")
    name, term_s, voters = "", 0, dict[str, None]()
    for line in facts.splitlines():
        word, _, rest = line.partition(" ")
        if word == "task" and rest:
            name = name or rest
        elif word == "term" and _number(rest):
            term_s = max(term_s, int(rest))
        elif word == "voter" and rest:
            voters[rest] = None
    is_whole = name and term_s and 0 < len(voters) <= VOTERS_MAX
    return Task(name, what, tuple(sorted(voters)), term_s) if is_whole else None


@dataclass(frozen=True, slots=True)
class Claims:
    """What nodes said of a task: the claims of each fence, of each claim how often it said that it
    is still at work, and which are given back or done, with what came of it."""

    by_fence: Mapping[int, frozenset[str]]
    beats: Mapping[tuple[int, str], int]
    given_back: frozenset[tuple[int, str]]
    done: Mapping[tuple[int, str], str]


def read_claims(text: str) -> Claims:
    """Return what the lines of claimants say, in any order: `claim FENCE CLAIM`,
    `works FENCE CLAIM TIMES`, `failed FENCE CLAIM`, `done FENCE CLAIM RESULT`. Lines that cannot be
    read do not count; of two results of one claim the least does."""
    claims: dict[int, set[str]] = {}
    beats: dict[tuple[int, str], int] = {}
    given_back: set[tuple[int, str]] = set()
    done: dict[tuple[int, str], str] = {}
    for line in text.splitlines():
        match line.split(" ", 3):
            case [word, fence, claim, *rest] if claim and _number(fence):
                key = int(fence), claim
                if not 1 <= key[0] <= FENCE_MAX:
                    continue
                if word == "claim":
                    claims.setdefault(key[0], set()).add(claim)
                elif word == "works" and rest and _number(rest[0]):
                    beats[key] = max(int(rest[0]), beats.get(key, 0))
                elif word == "failed":
                    given_back.add(key)
                elif word == "done":
                    result = rest[0] if rest else ""
                    done[key] = min(result, done.get(key, result))
    frozen = {fence: frozenset(found) for fence, found in claims.items()}
    return Claims(frozen, beats, frozenset(given_back), done)


def read_votes(text: str) -> dict[int, str]:
    """Return what a voter voted for, from lines `vote FENCE CLAIM`. A fence for which it voted
    twice, as one that was restored from a backup may, has no vote of it."""
    found: dict[int, set[str]] = {}
    for line in text.splitlines():
        match line.split():
            case ["vote", fence, claim] if _number(fence) and 1 <= int(fence) <= FENCE_MAX:
                found.setdefault(int(fence), set()).add(claim)
    return {fence: min(claims) for fence, claims in found.items() if len(claims) == 1}


def firm(task: Task, votes: Mapping[str, Votes]) -> dict[int, str]:
    """Return the firm claim of each fence that has one, as far as votes are known."""
    counted: dict[tuple[int, str], int] = {}
    for voter in task.voters:
        for fence, claim in votes.get(voter, {}).items():
            counted[fence, claim] = counted.get((fence, claim), 0) + 1
    return {fence: claim for (fence, claim), n in sorted(counted.items()) if n >= task.majority}


def is_split(task: Task, votes: Mapping[str, Votes], fence: int) -> bool:
    """Whether no claim of a fence can become firm any more."""
    counted: dict[str, int] = {}
    for voter in task.voters:
        claim = votes.get(voter, {}).get(fence)
        if claim is not None:
            counted[claim] = counted.get(claim, 0) + 1
    left = len(task.voters) - sum(counted.values())
    return max(counted.values(), default=0) + left < task.majority


def winner(task: Task, fence: int, claims: Iterable[str]) -> str | None:
    """Return the claim that voters prefer among those of a fence; no node comes first always."""
    return min(claims, key=lambda claim: _rank(task, fence, claim), default=None)


def holder(task: Task, claims: Claims, votes: Mapping[str, Votes]) -> tuple[int, str] | None:
    """Return the greatest fence that has a firm claim, and that claim."""
    return max(firm(task, votes).items(), default=None)


def outcome(task: Task, claims: Claims, votes: Mapping[str, Votes]) -> str | None:
    """Return what came of a task: what the claim of the greatest firm fence says, None when it says
    nothing. What an overtaken claim says does not count."""
    found = holder(task, claims, votes)
    return None if found is None else claims.done.get(found)


def next_fence(
    task: Task, claims: Claims, votes: Mapping[str, Votes], silent: Iterable[int] = ()
) -> int | None:
    """Return the fence at which the task can be claimed, None while somebody has it or it is done.

    `silent` are the fences of which nothing new was heard for the term, by the clock of whoever
    asks.
    """
    overdue = set(silent)
    fence = 1
    for known in sorted({*claims.by_fence, *(f for cast in votes.values() for f in cast)}):
        claim = firm(task, votes).get(known)
        if claim is not None and (known, claim) in claims.done:
            return None
        is_back = claim is not None and (known, claim) in claims.given_back
        is_over = is_back or known in overdue or is_split(task, votes, known)
        fence = known + 1 if is_over else known
        if not is_over and claim is not None:
            return None
    return fence


def vote(
    task: Task,
    claims: Claims,
    votes: Mapping[str, Votes],
    voter: str,
    silent: Iterable[int] = (),
) -> tuple[int, str] | None:
    """Return the fence and the claim that a voter votes for now, None for nothing. It has voted for
    nothing at a fence before, and for nothing at a greater one."""
    fence = next_fence(task, claims, votes, silent)
    own = votes.get(voter, {})
    if voter not in task.voters or fence is None or any(voted >= fence for voted in own):
        return None
    claim = winner(task, fence, claims.by_fence.get(fence, ()))
    return None if claim is None else (fence, claim)


def _rank(task: Task, fence: int, claim: str) -> bytes:
    return blake2b(f"{task.name}\n{fence}\n{claim}".encode(), digest_size=16).digest()


def _number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 9
