"""Adding, claiming and doing tasks, step by step: see `plans`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from phextsync.agents.claims import (
    Kind,
    Known,
    Standing,
    Verdict,
    next_fence,
    said_silent,
    standing,
    verdict,
)
from phextsync.agents.mail_layout import checked_name
from phextsync.agents.plans import Plan, asks, pause, scrolls_of, text_of
from phextsync.agents.task_layout import (
    HEAD,
    TERM_MAX_S,
    TERM_S,
    VOTERS_MAX,
    Electorate,
    Key,
    Task,
    ballot_at,
    claims_at,
    is_fence,
    new_task,
    outcome_line,
    places_of,
    read_ballot,
    read_claims,
    read_electorate,
    read_task,
    series_of,
    task_at,
)
from phextsync.agents.times import time_text
from phextsync.control import operations
from phextsync.control.frames import Value
from phextsync.control.node_names import names_of, node_named
from phextsync.control.operations import digest
from phextsync.errors import ConflictError, NotFirmError, OvertakenError, PhextsyncError
from phextsync.index import Coordinate
from phextsync.texts import check_text, first_line

PAUSE_S: Final = 0.1
_LINE_CHARACTERS: Final = 60
_RESULT_CHARACTERS: Final = 40


@dataclass(frozen=True, slots=True)
class Claim:
    """A claim of a task: where the task stands, the fence, the claimant's name for it, and what is
    known of it. Its text, FENCE:NAME, is how it is given back."""

    coordinate: Coordinate
    fence: int
    name: str
    verdict: Verdict

    @property
    def is_firm(self) -> bool:
        """Whether the task is for this claim alone: a majority of its voters have that on disk."""
        return self.verdict is Verdict.FIRM

    def __str__(self) -> str:
        return f"{self.fence}:{self.name}"


@dataclass(frozen=True, slots=True)
class ListedTask:
    """A task, and how it stands as far as this node knows."""

    task: Task
    standing: Standing

    def line(self) -> str:
        """Return it as lists show it: where and how it stands, what came of it, its first line."""
        now = self.standing
        who = now.claim.rpartition(":")[0] or now.claim
        by = f" by {who}" if who else ""
        so_far = ", not final" if now.kind is Kind.DONE and not now.is_final else ""
        what = f": {first_line(now.what, _RESULT_CHARACTERS)}" if now.what else ""
        start = first_line(self.task.text, _LINE_CHARACTERS)
        return f"{self.task.coordinate}  {now.kind.value}{by}{so_far}{what}  {start}"


def read_key(text: str) -> Key:
    """Read a claim as its text says it. PhextsyncError when that is none."""
    fence, _, name = text.partition(":")
    if not is_fence(fence) or not name or name.split() != [name]:
        raise PhextsyncError(f"expected a claim such as 1:laptop:0a1b2c3d, found {text!r:.80}")
    return int(fence), name


# -- voters --------------------------------------------------------------------------------


def electorate(phext: str) -> Plan[Electorate | None]:
    """Return the voters of new tasks, None where none are named."""
    return read_electorate((yield from text_of(phext, HEAD)))


def name_voters(phext: str, nodes: Sequence[str], term_s: int | None) -> Plan[Electorate]:
    """Name the voters of new tasks, by the names or ids of nodes, and how long a claim holds that
    says nothing; tasks that are there keep theirs."""
    while True:
        text = yield from text_of(phext, HEAD)
        before = read_electorate(text)
        voters = (yield from _voters(nodes)) if nodes else {} if before is None else before.voters
        if not voters:
            raise PhextsyncError(_NO_VOTERS)
        named = Electorate(voters, _term_of(term_s, before))
        lines = "".join(f"{line}\n" for line in named.to_lines())
        try:
            yield from asks(operations.SET, phext, str(HEAD), lines, digest(text))
        except ConflictError:
            continue
        return named


_NO_VOTERS: Final = (
    "expected nodes that vote on who a task is for, found none: "
    "`phextsync task voters NODE...` names them"
)


def _term_of(term_s: int | None, named: Electorate | None) -> int:
    if term_s is None:
        return TERM_S if named is None else named.term_s
    if not 1 <= term_s <= TERM_MAX_S:
        raise PhextsyncError(f"expected a term of 1 to {TERM_MAX_S} seconds, found {term_s}")
    return term_s


def _voters(nodes: Sequence[str]) -> Plan[dict[str, str]]:
    if isinstance(nodes, str) or not all(isinstance(node, str) for node in nodes):
        raise TypeError(f"expected a list of nodes, found {nodes!r:.60}")
    known = names_of((yield from asks(operations.STATUS)))
    voters = {id_: known[id_] for id_ in (node_named(node, known) for node in nodes)}
    if len(voters) > VOTERS_MAX:
        raise PhextsyncError(f"expected at most {VOTERS_MAX} voters, found {len(voters)}")
    if len({*map(series_of, voters)}) < len(voters):
        raise PhextsyncError("two of these nodes would vote in one place: leave one out")
    return voters


# -- tasks ---------------------------------------------------------------------------------


def add(phext: str, text: str, nodes: Sequence[str], term_s: int | None, now_ms: int) -> Plan[Task]:
    """Add a task, and return it; it is on this node's disk."""
    check_text(text)
    if not text.strip():
        raise PhextsyncError("expected a text that says what there is to do, found none")
    named = yield from electorate(phext)
    voters: Mapping[str, str] = {} if named is None else named.voters
    if nodes:
        voters = yield from _voters(nodes)
    if not voters:
        raise PhextsyncError(_NO_VOTERS)
    status = yield from asks(operations.STATUS)
    chosen = Electorate(voters, _term_of(term_s, named))
    task, written = new_task(text, chosen, status.name, time_text(now_ms))
    yield from asks(operations.SET, phext, str(task.coordinate), written)
    return task


def tasks(phext: str) -> Plan[list[ListedTask]]:
    """Return the tasks with how each stands, those that were added first at the beginning."""
    texts = yield from scrolls_of(phext, "*")
    yield from asks(operations.DURABLE)  # a vote counts when it is on the disk, also the own one
    listed = [ListedTask(known.task, standing(known)) for known in known_in(texts)]
    return sorted(listed, key=lambda each: (each.task.added, each.task.coordinate))


def known_in(texts: Mapping[Coordinate, str]) -> list[Known]:
    """Return what texts say of each task that is among them."""
    found = [read_task(at, text) for at, text in texts.items() if task_at(at) == at]
    return [known_of(task, texts) for task in found if task is not None]


def known_of(task: Task, texts: Mapping[Coordinate, str]) -> Known:
    """Return what the texts at the places of a task say of it."""
    at = task.coordinate
    ballots = {
        voter: read_ballot(texts.get(ballot_at(voter, at), ""))
        for voter in sorted(task.electorate.voters)
    }
    return Known(task, read_claims(texts.get(claims_at(at), "")), ballots)


def find(phext: str, at: Coordinate) -> Plan[Known]:
    """Return what is known of the task at a coordinate. PhextsyncError when there is none."""
    text = yield from text_of(phext, at)
    task = read_task(at, text)
    if task is None:
        what = "was changed since it was added, so it is none" if text else "is not here yet"
        what = what if task_at(at) == at else "is no place of one"
        raise PhextsyncError(
            f"expected a task at {at} in {phext}, as `phextsync task list` shows them; it {what}"
        )
    texts: dict[Coordinate, str] = {}
    for place in places_of(task):
        texts[place] = yield from text_of(phext, place)
    yield from asks(operations.DURABLE)  # a vote counts when it is on the disk, also the own one
    return known_of(task, texts)


def read(phext: str, at: Coordinate) -> Plan[ListedTask]:
    """Return the task at a coordinate. PhextsyncError when there is none."""
    known = yield from find(phext, at)
    return ListedTask(known.task, standing(known))


# -- claims --------------------------------------------------------------------------------


def claim(
    phext: str, at: Coordinate, worker: str, nonce: str, wait_s: float, now_ms: int
) -> Plan[Claim]:
    """Claim a task, and wait until the claim is firm or lost, or for so many seconds."""
    node = "" if worker else (yield from asks(operations.STATUS)).name
    name = f"{checked_name(worker, 'worker', node)}:{nonce}"
    key: Key | None = None
    waited_s = 0.0
    while True:
        known = yield from find(phext, at)
        found = Verdict.LOST if key is None else verdict(known, key)
        if key is not None and found is Verdict.FIRM:
            return Claim(at, *key, found)
        if found is Verdict.LOST:
            fence = next_fence(known, said_silent(known))
            if fence is None:
                return Claim(at, *(key or (standing(known).fence, name)), found)
            key = fence, name
            yield from _say(phext, at, f"claim {fence} {name} {time_text(now_ms)}")
        elif key is not None and waited_s >= wait_s:
            return Claim(at, *key, found)
        else:
            yield from pause(PAUSE_S)
            waited_s += PAUSE_S


def keep(phext: str, at: Coordinate, key: Key, wait_s: float) -> Plan[Claim]:
    """Say that a claimant is still at work, so that its term begins again, and return the claim.
    OvertakenError when the task is no longer for it, NotFirmError when it is not yet."""
    known = yield from _held(phext, at, key, wait_s)
    _check_goes_on(known, key)
    beats = known.claims.beats.get(key, 0)
    yield from _say(phext, at, f"works {key[0]} {key[1]} {beats + 1}")
    return Claim(at, *key, Verdict.FIRM)


def done(phext: str, at: Coordinate, key: Key, result: str, wait_s: float) -> Plan[Claim]:
    """Say what came of a task, and wait until that is final, or for so many seconds; the claim is
    firm then. OvertakenError and NotFirmError as in `keep`."""
    _check_is_whole(result)
    known = yield from _held(phext, at, key, wait_s)
    _check_goes_on(known, key)
    before = known.claims.done.get(key)
    if before not in (None, result):
        raise PhextsyncError(f"{at} is done already: {before!r:.80}")
    if before is None:
        yield from _say(phext, at, outcome_line("done", key, result))
    waited_s = 0.0
    while True:
        known = yield from find(phext, at)
        if verdict(known, key) is Verdict.LOST:
            raise _overtaken(known, key, "so what it says of it does not count")
        if standing(known).is_final:
            return Claim(at, *key, Verdict.FIRM)
        if waited_s >= wait_s:
            return Claim(at, *key, Verdict.NOT_FIRM)
        yield from pause(PAUSE_S)
        waited_s += PAUSE_S


def fail(phext: str, at: Coordinate, key: Key, why: str, wait_s: float) -> Plan[Claim]:
    """Say that a claimant could not do a task: nobody gets it until somebody says to try it again.
    OvertakenError and NotFirmError as in `keep`."""
    _check_is_whole(why)
    known = yield from _held(phext, at, key, wait_s)
    if key in known.claims.done:
        raise PhextsyncError(f"{at} is done already: {known.claims.done[key]!r:.80}")
    if key not in known.claims.failed:
        yield from _say(phext, at, outcome_line("failed", key, why))
    return Claim(at, *key, Verdict.FIRM)


def retry(phext: str, at: Coordinate) -> Plan[Standing]:
    """Let a task that failed be claimed again, and return how it stands. PhextsyncError when it did
    not fail."""
    now = standing((yield from find(phext, at)))
    if now.kind is not Kind.FAILED:
        raise PhextsyncError(f"expected a task that failed, found one that is {now.kind.value}")
    yield from _say(phext, at, f"retry {now.fence}")
    return standing((yield from find(phext, at)))


def clear(phext: str, before_ms: int) -> Plan[list[ListedTask]]:
    """Remove the tasks that were added before a time and of which the result is final, with what
    claimants said of them, and return them. Votes stay: without its text nobody can take a task."""
    before = time_text(before_ms)
    over = [
        listed
        for listed in (yield from tasks(phext))
        if listed.standing.is_final and listed.task.added < before
    ]
    for listed in over:
        at = listed.task.coordinate
        rows: list[Value] = [["remove", str(each)] for each in (at, claims_at(at))]
        yield from asks(operations.BATCH, phext, rows)
    return over


def _check_is_whole(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        found = f"a lone surrogate (U+{ord(text[error.start]):04X}) at offset {error.start}"
        raise PhextsyncError(f"expected a text that UTF-8 can hold, found {found}") from error


def _held(phext: str, at: Coordinate, key: Key, wait_s: float) -> Plan[Known]:
    """Return what is known of a task once a claim of it is firm."""
    waited_s = 0.0
    while True:
        known = yield from find(phext, at)
        found = verdict(known, key)
        if found is Verdict.FIRM:
            return known
        if key[1] not in known.claims.by_fence.get(key[0], ()):
            raise PhextsyncError(f"there is no claim {key[0]}:{key[1]} of {at}")
        if found is Verdict.LOST:
            raise _overtaken(known, key, "so nothing was written")
        if waited_s >= wait_s:
            raise NotFirmError(
                f"{key[0]}:{key[1]} is not firm: fewer than {known.task.electorate.majority} of "
                f"{len(known.task.electorate.voters)} voters voted for it, as far as is known here;"
                " nothing was written"
            )
        yield from pause(PAUSE_S)
        waited_s += PAUSE_S


def _check_goes_on(known: Known, key: Key) -> None:
    """OvertakenError for a claim of which it was said that it failed."""
    if key in known.claims.failed:
        raise OvertakenError(
            f"{key[0]}:{key[1]} failed, so nothing was written: nobody has the task until "
            "`phextsync task retry`, and then who claims it again"
        )


def _overtaken(known: Known, key: Key, what: str) -> OvertakenError:
    now = standing(known)
    by = f" by {now.fence}:{now.claim}" if now.claim else f" at fence {now.fence}"
    return OvertakenError(
        f"{key[0]}:{key[1]} was overtaken: the task is {now.kind.value}{by}, {what}"
    )


def _say(phext: str, at: Coordinate, line: str) -> Plan[str]:
    return (yield from asks(operations.APPEND_LINE, phext, str(claims_at(at)), line))
