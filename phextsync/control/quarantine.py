"""Quarantine: whose work waits until somebody accepts it, as scrolls of the phext `.quarantine`.

Each phext of which something waits has a scroll there, at the place that the digest of its name
tells, of lines in any order, merged as every text is:

    phext NAME
    hold RANGE NODE-ID[/LABEL]
    ended RANGE NODE-ID[/LABEL]
    stands COORDINATE CLIENT CLOCK

What a writer of `hold` has put into the range is taken wherever a node sees it, but for what
`stands`: what it wrote there under a client id up to a clock, before it was put in quarantine.
Where that `ended`, what was taken by then can be listed.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Final

from phextsync.control import operations
from phextsync.control.answers import Form
from phextsync.control.frames import Value
from phextsync.control.taking_back import TAKING_BACK
from phextsync.crdt import client_clocks
from phextsync.errors import CoordinateError, PermissionDeniedError, PhextsyncError, ProtocolError
from phextsync.index import EMPTY_VERSION, Coordinate, CoordinateRange
from phextsync.inserts import IdSet
from phextsync.phext_names import is_phext_name, is_reserved
from phextsync.prefixes import numbers_of
from phextsync.ranges import stored_range
from phextsync.replica.changes import is_stamp
from phextsync.replica.replicas import ReplicaSet
from phextsync.replica.taking_back import Writer

QUARANTINE: Final = ".quarantine"

LINES_MAX: Final = 20_000
"""Lines of a scroll that count: so many scrolls of a writer may stand in a range."""
HELD_MAX: Final = 256
"""Ranges in which somebody's work waits, in one phext; more do not count."""
KEPT_MS: Final = 90 * 86_400_000
"""For so long what is taken is kept where no history was."""


@dataclass(frozen=True, slots=True)
class Quarantined:
    """A writer whose work waits in a range."""

    range: CoordinateRange
    writer: Writer


@dataclass(slots=True)
class Rules:
    """Whose work waits where in one phext, or did until that `ended`, and what stands of it: clocks
    by coordinate and client id."""

    phext: str = ""
    held: dict[Quarantined, None] = field(default_factory=dict)
    ended: dict[Quarantined, None] = field(default_factory=dict)
    clocks: dict[Coordinate, dict[int, int]] = field(default_factory=dict)

    def at(self, place: Coordinate) -> list[Writer]:
        """Return the writers whose work waits at a coordinate."""
        return [*dict.fromkeys(held.writer for held in self.held if place in held.range)]

    def stands(self, place: Coordinate) -> IdSet:
        """Return what stands at a coordinate although its writer is held."""
        ids = IdSet()
        for client, clock in self.clocks.get(place, {}).items():
            ids.add(client, 0, clock)
        return ids

    def to_text(self) -> str:
        """Return the text of the scroll."""
        lines = [f"phext {self.phext}"]
        lines += [f"hold {held.range} {_told(held.writer)}" for held in self.held]
        lines += [f"ended {ended.range} {_told(ended.writer)}" for ended in self.ended]
        for place, clocks in self.clocks.items():
            lines += [f"stands {place} {client} {clock}" for client, clock in clocks.items()]
        return "".join(f"{line}\n" for line in [lines[0], *sorted(lines[1:])])


def read_rules(text: str) -> Rules:
    """Return what lines say, in any order. One that cannot be read does not count; of several
    clocks the greatest does."""
    rules = Rules()
    for line in text.splitlines()[:LINES_MAX]:
        try:
            match line.split(" ", 2), line.split(" "):
                case ["phext", *name], _:
                    rules.phext = min(rules.phext or " ".join(name), " ".join(name))
                case ["hold", range_, who], _ if len(rules.held) < HELD_MAX:
                    rules.held[Quarantined(stored_range(range_), _writer(who))] = None
                case ["ended", range_, who], _ if len(rules.ended) < HELD_MAX:
                    rules.ended[Quarantined(CoordinateRange.parse(range_), _writer(who))] = None
                case _, ["stands", place, client, clock]:
                    clocks = rules.clocks.setdefault(Coordinate.parse(place), {})
                    clocks[int(client)] = max(int(clock), clocks.get(int(client), 0))
        except (CoordinateError, ValueError):
            continue
    return rules


def rules_of(replicas: ReplicaSet, phext: str) -> Rules:
    """Return whose work waits where in a phext."""
    rules = Rules(phext)
    if QUARANTINE in replicas.names():
        rules = read_rules(replicas.open(QUARANTINE).read(place_of(phext)))
    return rules if rules.phext == phext else Rules(phext)


def all_rules(replicas: ReplicaSet) -> Iterator[Rules]:
    """Iterate over the rules of each phext of users that has some, also of those not here."""
    if QUARANTINE in replicas.names():
        replica = replicas.open(QUARANTINE)
        for place in [*replica.coordinates()]:
            rules = read_rules(replica.read(place))
            is_of_users = is_phext_name(rules.phext) and not is_reserved(rules.phext)
            if rules.held and is_of_users and place == place_of(rules.phext):
                yield rules


def change(
    replicas: ReplicaSet, phext: str, range_: CoordinateRange, by: Writer, how: str, label: str
) -> None:
    """Let wait what a writer adds to a range: from now on (`new`), or `all` that it has put in; or
    `end` that, and said again, list no more what waits still. PermissionDeniedError when the writer
    itself would end it, PhextsyncError when it would begin it."""
    if by.label and not is_stamp(by.label):
        raise PhextsyncError(f"expected a label that is told from others, found {by.label!r:.80}")
    rules = rules_of(replicas, phext)
    before, held = rules.to_text(), Quarantined(range_, by)
    match how:
        case "end":
            _check_is_free(replicas, rules, label)
            _end(replicas, rules, held)
        case "new" | "all":
            _check_is_of_others(replicas, by, label)
            if held not in rules.held and len(rules.held) == HELD_MAX:
                raise PhextsyncError(
                    f"expected at most {HELD_MAX} ranges of a phext in which somebody's work "
                    "waits: take a wider one in place of several, or end what waits no more"
                )
            rules.held[held] = None
            rules.ended.pop(held, None)
            if how == "new":
                _note(replicas, phext, rules, held)
        case _:
            raise PhextsyncError(f"expected new, all or end, found {how!r:.40}")
    text = rules.to_text()
    if text.count("\n") > LINES_MAX:
        raise PhextsyncError(
            f"expected what stands of a writer in at most {LINES_MAX} scrolls: "
            "take a narrower range, or let wait what stands too"
        )
    if text != before:
        replicas.open(QUARANTINE).edit(place_of(phext), text)


def check_may_accept(replicas: ReplicaSet, phext: str, place: Coordinate, label: str) -> None:
    """PermissionDeniedError when a writer of this node, whose work waits at a coordinate, would
    accept it."""
    rules = rules_of(replicas, phext)
    here = Rules(phext, {held: None for held in rules.held if place in held.range})
    _check_is_free(replicas, here, label)


def _end(replicas: ReplicaSet, rules: Rules, held: Quarantined) -> None:
    if held in rules.ended and held not in rules.held:
        del rules.ended[held]
        return
    _check_is_held(rules, held)
    del rules.held[held]
    if len(rules.ended) < HELD_MAX:
        rules.ended[held] = None
    if all(other.writer != held.writer for other in rules.held):
        _forget(replicas, rules, held.writer)


def _check_is_free(replicas: ReplicaSet, rules: Rules, label: str) -> None:
    writer = Writer(replicas.node_id, label)
    if any(writer.is_of(held.writer) for held in rules.held):
        raise PermissionDeniedError(
            f"the work of {label or 'this node'} waits itself: expected another writer to accept it"
        )


def _check_is_of_others(replicas: ReplicaSet, by: Writer, label: str) -> None:
    if Writer(replicas.node_id, label).is_of(by):
        raise PhextsyncError(
            f"expected the work of others than {label or 'this node'}, who could not end that: "
            "ask on another machine"
        )


def _check_is_held(rules: Rules, held: Quarantined) -> None:
    if held not in rules.held:
        of_it = ", ".join(str(row.range) for row in rules.held if row.writer == held.writer)
        raise PhextsyncError(
            f"expected a range in which the work of this writer waits ({of_it or 'none'}), "
            f"found {held.range}"
        )


def _note(replicas: ReplicaSet, phext: str, rules: Rules, held: Quarantined) -> None:
    """Note what stands of a writer in a range."""
    replica = replicas.phext(phext)
    for place in [*replica.coordinates(held.range)]:
        for client, clock in clocks_of(replicas, phext, place, held.writer):
            clocks = rules.clocks.setdefault(place, {})
            clocks[client] = max(clock, clocks.get(client, 0))


def _forget(replicas: ReplicaSet, rules: Rules, by: Writer) -> None:
    """Forget what stands of a writer that is held nowhere any more."""
    for clocks in rules.clocks.values():
        for client in [*clocks]:
            found = replicas.clients.written_by(rules.phext, client)
            if found is not None and Writer(*found).is_of(by):
                del clocks[client]


def clocks_of(
    replicas: ReplicaSet, phext: str, place: Coordinate, by: Writer
) -> Iterator[tuple[int, int]]:
    """Iterate over the client ids under which a writer wrote at a coordinate, and their clocks."""
    state = replicas.phext(phext).difference(place, EMPTY_VERSION) or b""
    for client, clock in client_clocks(state).items() if state else ():
        found = replicas.clients.written_by(phext, client)
        if found is not None and Writer(*found).is_of(by):
            yield client, clock


def place_of(phext: str) -> Coordinate:
    """Return where the rules of a phext are."""
    digest = blake2b(phext.encode(), digest_size=18, person=b"quarantine").digest()
    return Coordinate(*numbers_of(digest))


def _told(writer: Writer) -> str:
    return writer.node.hex() + ("" if writer.label is None else f"/{writer.label}")


def _writer(text: str) -> Writer:
    node, slash, label = text.partition("/")
    if len(node) != 32:
        raise ValueError(f"expected a node id of 32 digits, found {node!r:.40}")
    return Writer(bytes.fromhex(node), label if slash else None)


# -- answers -------------------------------------------------------------------------------


def _decode(value: Value) -> list[Quarantined]:
    match value:
        case list(rows):
            return [_row(row) for row in rows]
        case _:
            raise ProtocolError(f"expected whose work waits, found {value!r:.60}")


def _row(value: Value) -> Quarantined:
    match value:
        case [str(range_), bytes(node), str() | None as label]:
            return Quarantined(CoordinateRange.parse(range_), Writer(node, label))
        case _:
            raise ProtocolError(f"expected whose work waits where, found {value!r:.60}")


_HELD: Final[Form[list[Quarantined]]] = Form(
    lambda rows: [[str(row.range), row.writer.node, row.writer.label] for row in rows], _decode
)
QUARANTINED: Final = operations.QUARANTINED.read_as(_HELD)
WAITING: Final = operations.WAITING.read_as(TAKING_BACK.answer)
