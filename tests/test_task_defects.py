"""Defects of votes on tasks that are planted: seeds of `sims.tasks` are run until one shows it."""

from collections.abc import Callable, Iterable

import pytest

from phextsync.agents import claims
from phextsync.agents.claims import Known
from phextsync.agents.task_layout import Key, ballot_at, claims_at
from phextsync.agents.voter import Voter
from sims.tasks import Run

_Plant = Callable[[pytest.MonkeyPatch], None]


def _majority_of_connected(patch: pytest.MonkeyPatch) -> None:
    """Count those that are heard, not those that are named."""

    def firm(known: Known) -> dict[int, str]:
        cast = [ballot.votes for ballot in known.of_voters() if ballot.votes]
        found: dict[int, str] = {}
        for fence in sorted({fence for votes in cast for fence in votes}):
            voted = [votes[fence] for votes in cast if fence in votes]
            best = max(sorted(set(voted)), key=voted.count)
            if 2 * voted.count(best) > len(voted):
                found[fence] = best
        return found

    patch.setattr(claims, "firm", firm)


def _clock_of_another(patch: pytest.MonkeyPatch) -> None:
    """Measure the term from the time that the claimant wrote, by its clock."""

    def is_overdue(voter: Voter, known: Known) -> bool:
        node, at = voter._node, known.task.coordinate
        said = node.replicas.phext("tasks").get(claims_at(at), "")
        fence = max([1, *claims.firm(known)])
        times = [
            line.split()[3] for line in said.splitlines() if line.startswith(f"claim {fence} ")
        ]
        now_s = known.task.electorate.term_s + min(map(_seconds, times), default=1e9)
        return node._surroundings.wall_time_s() > now_s

    patch.setattr(Voter, "_is_overdue", is_overdue)


def _seconds(time: str) -> float:
    minutes, seconds = time.rstrip("Z").rsplit(":", 2)[1:]
    return 60 * int(minutes) + float(seconds)


def _forgets_after_a_crash(patch: pytest.MonkeyPatch) -> None:
    """Let a voter begin with ballots that are empty."""
    run = Voter.run

    async def forget_and_run(voter: Voter) -> None:
        replica = voter._node.replicas.phext("tasks")
        for at in voter._all():
            replica.clear_scroll(ballot_at(voter._node_id, at))
        await run(voter)

    patch.setattr(Voter, "run", forget_and_run)


def _fence_is_not_checked(patch: pytest.MonkeyPatch) -> None:
    """Seal whatever a firm claim says, also one that was overtaken."""
    lines_of_voter = claims.lines_of_voter

    def lines(known: Known, voter: str, *, is_overdue: bool = False) -> list[str]:
        stale: Iterable[Key] = [k for k in claims.firm(known).items() if k in known.claims.done]
        if stale and not known.ballot(voter).has_sealed:
            return [f"sealed {fence} {claim}" for fence, claim in [*stale][:1]]
        return lines_of_voter(known, voter, is_overdue=is_overdue)

    def verdict(known: Known, key: Key) -> claims.Verdict:
        is_firm = claims.firm(known).get(key[0]) == key[1]
        return claims.Verdict.FIRM if is_firm else _VERDICT(known, key)

    patch.setattr("phextsync.agents.voter.lines_of_voter", lines)
    patch.setattr("phextsync.agents.task_plans.verdict", verdict)


_VERDICT = claims.verdict

# Each with how many seeds it may take: a few more than it takes.
_DEFECTS: dict[_Plant, int] = {
    _majority_of_connected: 8,
    _clock_of_another: 4,
    _forgets_after_a_crash: 24,
    _fence_is_not_checked: 4,
}


@pytest.mark.parametrize("plant", _DEFECTS)
def test_each_planted_defect_is_caught(
    plant: _Plant, monkeypatch: pytest.MonkeyPatch, record_property: Callable[[str, object], None]
) -> None:
    plant(monkeypatch)
    for seed in range(_DEFECTS[plant]):
        failures = Run(seed).run()
        if failures:
            record_property("seeds", seed + 1)
            print(f"{seed + 1} seeds: {failures[0]}")
            return
    pytest.fail(f"{_DEFECTS[plant]} seeds passed")
