"""Model of claims: every order of what is said of a task and of what three voters answer.

Who a task is for is a function of texts (`phextsync.agents.claims`). So a world is what was said:
the lines of claimants, and the ballots, in the order in which each voter wrote them. What a voter
knows of it is any part of the lines, any beginning of the other ballots, and all of its own: that
is more than a mesh can do to it, crashes included, since what it wrote is on its disk before
anybody hears of it. A voter may be overdue whenever it waits for something: clocks are of no use
to the rules.

Operations are claims of two workers at the first fences; a claim that is done, or failed, by one
who was told that it is firm; and a fence that is tried again.
"""

import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from functools import cache
from itertools import chain, combinations, product
from typing import Final, NamedTuple, TypeAlias

from phextsync.agents.claims import Known, lines_of_voter, patience, sealed
from phextsync.agents.task_layout import (
    Electorate,
    Key,
    new_task,
    outcome_line,
    read_ballot,
    read_claims,
)
from sims.model import Found, Step, steps_to

VOTERS: Final = tuple(f"{number:032x}" for number in range(3))
WORKERS: Final = ("one", "other")
FENCES: Final = (1, 2)
_TASK: Final = new_task("what to do", Electorate(dict.fromkeys(VOTERS, ""), 5), "", "now")[0]

Ballot: TypeAlias = tuple[tuple[str, ...], ...]
"""What a voter wrote, each time some lines."""


class Said(NamedTuple):
    """What was said of the task, or what somebody knows of that."""

    lines: frozenset[str] = frozenset()
    ballots: tuple[Ballot, ...] = ((),) * len(VOTERS)


class World(NamedTuple):
    """What was said, and how many operations are left."""

    said: Said = Said()
    left: int = 0


def search(count: int, *, seconds_max: float = 1e9) -> Found:
    """Look at every world that `count` operations may lead to; stop at the first that is wrong."""
    began, worked = time.perf_counter(), time.process_time()
    for kept in (_views, _answers, _known):
        kept.cache_clear()
    found = Found()
    start = World(left=count)
    came_from: dict[World, tuple[World, Step] | None] = {start: None}
    queue = deque([(start, 0)])
    while queue and found.failure is None and time.perf_counter() - began < seconds_max:
        world, found.depth = queue.popleft()
        for step, follower in _followers(world):
            if follower not in came_from:
                came_from[follower] = (world, step)
                queue.append((follower, found.depth + 1))
                found.failure = _wrong(world, follower)
            if found.failure is not None:
                found.steps = steps_to(follower, came_from)
                break
    found.cut_off, found.worlds = len(queue), len(came_from)
    found.seconds = time.process_time() - worked
    return found


# -- what may happen -----------------------------------------------------------------------


def _followers(world: World) -> Iterator[tuple[Step, World]]:
    said = world.said
    if world.left:
        for line in _operations(said):
            lines = said.lines | {line}
            yield (line,), World(said._replace(lines=lines), world.left - 1)
    for voter in range(len(VOTERS)):
        answers = {answer for view in _views(said, voter) for answer in _answers(view, voter)}
        for answer in sorted(answers):
            ballots = list(said.ballots)
            ballots[voter] = (*ballots[voter], answer)
            # The rules know voters by their names alone: which of them is which is all the same.
            alike = said._replace(ballots=tuple(sorted(ballots)))
            yield (" and ".join(answer), voter), World(alike, world.left)


def _operations(said: Said) -> Iterator[str]:
    """Give the lines that may be said next."""
    for fence, worker in product(FENCES, WORKERS):
        yield f"claim {fence} {worker}"
    for key, count in _votes(said).items():
        if count >= _TASK.electorate.majority:  # it may have been told that
            yield outcome_line("done", key, "")
            yield outcome_line("failed", key, "")
            yield f"retry {key[0]}"


@cache
def _views(said: Said, own: int) -> tuple[Said, ...]:
    """Return what a voter may know."""
    beginnings = [
        (ballot,) if number == own else tuple(ballot[:i] for i in range(len(ballot) + 1))
        for number, ballot in enumerate(said.ballots)
    ]
    return tuple(
        Said(frozenset(lines), ballots)
        for lines in _subsets(sorted(said.lines))
        for ballots in product(*beginnings)
    )


def _subsets(lines: list[str]) -> Iterable[tuple[str, ...]]:
    return chain.from_iterable(combinations(lines, size) for size in range(len(lines) + 1))


@cache
def _answers(view: Said, voter: int) -> tuple[tuple[str, ...], ...]:
    """Return what a voter may add to its ballot."""
    known, name = _known(view), VOTERS[voter]
    overdue = (False,) if patience(known, name) is None else (False, True)
    answers = (lines_of_voter(known, name, is_overdue=is_overdue) for is_overdue in overdue)
    return tuple(tuple(lines) for lines in answers if lines)


@cache
def _known(view: Said) -> Known:
    texts = ("\n".join(chain.from_iterable(ballot)) for ballot in view.ballots)
    ballots = dict(zip(VOTERS, map(read_ballot, texts), strict=True))
    return Known(_TASK, read_claims("\n".join(sorted(view.lines))), ballots)


# -- what must be so -----------------------------------------------------------------------


def _votes(said: Said) -> Counter[Key]:
    """Return how many voted for each claim, told from the lines alone."""
    voted = (
        {line for line in chain.from_iterable(ballot) if line.startswith("vote ")}
        for ballot in said.ballots
    )
    words = (line.split() for line in chain.from_iterable(map(sorted, voted)))
    return Counter((int(fence), claim) for _, fence, claim in words)


def _wrong(before: World, world: World) -> str | None:
    """Return what is wrong with a world that follows another."""
    was_final, final = (sealed(_known(of.said)) for of in (before, world))
    firm = [key for key, n in _votes(world.said).items() if n >= _TASK.electorate.majority]
    if len({fence for fence, _ in firm}) < len(firm):
        return f"two claims of one fence are firm: {sorted(firm)}"
    for ballot in world.said.ballots:
        fences = [line.split()[1] for line in chain(*ballot) if line.startswith("vote ")]
        if len({*fences}) < len(fences):
            return f"a voter voted twice at a fence: {ballot}"
    if was_final not in (None, final):
        return f"{was_final} was final, and is not"
    if final is not None and any(fence > final[0] for fence, _ in firm):
        return f"{final} is final, and {sorted(firm)} are firm"
    return None
