"""Claims: who a task is for, as functions of texts that every machine computes alike. No IO, no
clock.

A task names its voters when it is added. For each of its *fences* 1, 2, 3, ... any node may claim
it, and each voter votes for one claim of a fence at most, once and for all, in a ballot that only
it writes and that is on its disk before anybody hears of it. A claim is *firm* when more than half
of the named voters voted for it: two claims of one fence cannot both be, since a voter of both
would have voted twice. A greater fence overtakes: it is voted for when the one before can no longer
become firm, failed and is to be tried again, or was silent for its term by the voter's own clock.

A result is *final* when so many voters sealed it that no majority is left. A voter seals that of
the greatest firm fence, unless it voted for a greater one, and votes for nothing after that: so no
greater fence can become firm.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from hashlib import blake2b
from typing import Final

from phextsync.agents.task_layout import (
    FENCE_MAX,
    NO_BALLOT,
    Ballot,
    Ballots,
    Claims,
    Key,
    Task,
)

UNDECIDED_S: Final = 10
"""Voters that voted for different claims try the next fence after so long."""


class Kind(Enum):
    """How a task stands. The value is the word for it."""

    OPEN = "open"
    CLAIMED = "claimed"
    HELD = "held"
    FAILED = "failed"
    DONE = "done"


@dataclass(frozen=True, slots=True)
class Standing:
    """How a task stands as far as is known: its fence, and the claim of which that is said; what
    came of it, and whether that is final. Open tasks can be claimed at `fence`, claimed ones too,
    but somebody was faster."""

    kind: Kind
    fence: int
    claim: str = ""
    what: str = ""
    is_final: bool = False


class Verdict(Enum):
    """What is known of one claim."""

    FIRM = "firm"
    NOT_FIRM = "not firm"
    LOST = "lost"


@dataclass(frozen=True, slots=True)
class Known:
    """All that is known of a task."""

    task: Task
    claims: Claims
    ballots: Ballots

    def ballot(self, voter: str) -> Ballot:
        """Return what a voter said."""
        return self.ballots.get(voter, NO_BALLOT)

    def of_voters(self) -> list[Ballot]:
        """Return what each of the named voters said, by node id."""
        return [self.ballot(voter) for voter in sorted(self.task.electorate.voters)]


# -- what all compute alike ----------------------------------------------------------------


def firm(known: Known) -> dict[int, str]:
    """Return the firm claim of each fence that has one."""
    counted = Counter(key for ballot in known.of_voters() for key in ballot.votes.items())
    majority = known.task.electorate.majority
    return {fence: claim for (fence, claim), n in sorted(counted.items()) if n >= majority}


def sealed(known: Known) -> Key | None:
    """Return the claim whose result is final, None when none is."""
    counted = Counter(ballot.sealed for ballot in known.of_voters())
    electorate = known.task.electorate
    enough = len(electorate.voters) - electorate.majority + 1  # a majority has one of these
    return min((key for key, n in counted.items() if key and n >= enough), default=None)


def is_divided(known: Known, fence: int) -> bool:
    """Whether voters voted for different claims of a fence."""
    return len({b.votes[fence] for b in known.of_voters() if fence in b.votes}) > 1


def is_split(known: Known, fence: int) -> bool:
    """Whether no claim of a fence can become firm any more."""
    counted = Counter(b.votes[fence] for b in known.of_voters() if fence in b.votes)
    left = len(known.task.electorate.voters) - counted.total()
    return max(counted.values(), default=0) + left < known.task.electorate.majority


def winner(known: Known, fence: int) -> str | None:
    """Return the claim that voters prefer among those of a fence; no node comes first always."""
    task, claims = known.task, known.claims.by_fence.get(fence, ())
    return min(claims, key=lambda claim: _rank(task, fence, claim), default=None)


def standing(known: Known) -> Standing:
    """Return how a task stands."""
    found = firm(known)
    if (final := sealed(known)) is not None:
        if final not in known.claims.done:  # ballots came first: nothing says what came of it
            return Standing(Kind.HELD, *final)
        return Standing(Kind.DONE, *final, known.claims.done[final], is_final=True)
    fence = next_fence(known, said_silent(known))
    key = max(found.items(), default=None)
    if fence is None and key is not None:
        if key in known.claims.done:
            return Standing(Kind.DONE, *key, known.claims.done[key])
        if key in known.claims.failed:
            return Standing(Kind.FAILED, *key, known.claims.failed[key])
        return Standing(Kind.HELD, *key)
    fence = FENCE_MAX if fence is None else fence
    claim = winner(known, fence)
    return Standing(Kind.OPEN, fence) if claim is None else Standing(Kind.CLAIMED, fence, claim)


def verdict(known: Known, key: Key) -> Verdict:
    """Return what is known of a claim: lost is what was overtaken, or can never become firm."""
    fence, claim = key
    found = firm(known)
    final = sealed(known)
    greatest = max(found, default=0)
    if greatest > fence or found.get(fence, claim) != claim or (final and final != key):
        return Verdict.LOST
    if fence in found:
        return Verdict.FIRM
    now = next_fence(known, said_silent(known))
    return Verdict.LOST if now is not None and now > fence else Verdict.NOT_FIRM


def said_silent(known: Known) -> frozenset[int]:
    """Return the fences that more than half of the voters found silent."""
    counted = Counter(fence for ballot in known.of_voters() for fence in ballot.silent)
    return frozenset(f for f, n in counted.items() if n >= known.task.electorate.majority)


def next_fence(known: Known, silent: Iterable[int] = (), after: int = 1) -> int | None:
    """Return the fence at which the task can be claimed, None while somebody has it, when it failed
    and nobody tries it again, and when it is done. `silent` fences are over, and what is below
    `after`; what is claimed alone, and what less than a majority voted for, shows nothing."""
    overdue, found = {*silent}, firm(known)
    if sealed(known) is not None:
        return None
    fence = max([after, *found])
    while fence <= FENCE_MAX:
        claim = found.get(fence)
        key = None if claim is None else (fence, claim)
        if key in known.claims.done:
            return None
        is_over = fence in overdue or is_split(known, fence)
        if key in known.claims.failed:
            is_over = fence in known.claims.retried
        if not is_over:
            return None if key is not None else fence
        fence += 1
    return None


def _rank(task: Task, fence: int, claim: str) -> bytes:
    return blake2b(f"{task.coordinate}\n{fence}\n{claim}".encode(), digest_size=16).digest()


# -- what a voter does ---------------------------------------------------------------------


def patience(known: Known, voter: str) -> tuple[object, int] | None:
    """Return what a voter waits for to change, and for how many seconds, until the fence counts as
    silent to it; None when it waits for nothing."""
    fence = _fence_of(known, voter)
    claim = firm(known).get(fence)
    if claim is None:
        return ((fence, ""), UNDECIDED_S) if is_divided(known, fence) else None
    key = fence, claim
    if key in known.claims.done or key in known.claims.failed:
        return None
    return (key, known.claims.beats.get(key, 0)), known.task.electorate.term_s


def lines_of_voter(known: Known, voter: str, *, is_overdue: bool = False) -> list[str]:
    """Return the lines that a voter adds to its ballot now. `is_overdue`: what it waits for did not
    change for as long as `patience` says."""
    own = known.ballot(voter)
    if voter not in known.task.electorate.voters or own.has_sealed:
        return []
    last = own.last
    key = max(firm(known).items(), default=None)
    if key is not None and key in known.claims.done and last <= key[0]:
        return [f"sealed {key[0]} {key[1]}"]
    fence, silent = _fence_of(known, voter), {*own.silent, *said_silent(known)}
    lines = [f"silent {fence}"] if is_overdue and fence not in own.silent else []
    following = next_fence(known, {*silent, fence} if lines else silent, max(last, 1))
    if following is not None and following > last and (claim := winner(known, following)):
        lines.append(f"vote {following} {claim}")
    return lines


def _fence_of(known: Known, voter: str) -> int:
    """Return the fence at which a voter is: it voted for nothing greater, nor is anything firm."""
    return max([1, known.ballot(voter).last, *firm(known)])
