"""Faults as data: a schedule is a tuple of `Fault`s, which can be stored, shrunk and replayed.

Links are those of TCP: frames arrive in order or the link ends. So a loss is a delay, and what a
partition holds back arrives when it is repaired, if both ends still hold the link by then. A
`Shape` may be harsher than TCP: what duplicates and overtakes may end a link, never harm a text.
"""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Final, Literal, TypeAlias, get_args, get_type_hints

from phextsync.plain_values import read_json


@dataclass(frozen=True, slots=True)
class Partition:
    """Nodes of different groups, as many as there are, cannot reach each other; a node in no group
    reaches nobody. A partition replaces the one before, so several in a row roll through the mesh.

    `is_oneway`: frames from an earlier group to a later one still arrive.
    """

    groups: tuple[tuple[int, ...], ...]
    is_oneway: bool = False


@dataclass(frozen=True, slots=True)
class Hold:
    """Frames from `source` to `target` wait; nothing else tells of it."""

    source: int
    target: int


@dataclass(frozen=True, slots=True)
class Repair:
    """Every partition and hold ends."""


@dataclass(frozen=True, slots=True)
class Shape:
    """The path from `source` to `target`: seconds of latency and of jitter, bytes a second (0: no
    bound), and the fractions of frames that are lost and sent again, that arrive twice, and that
    the next ones overtake."""

    source: int
    target: int
    latency_s: float
    jitter_s: float = 0.0
    bytes_per_s: float = 0.0
    loss: float = 0.0
    duplication: float = 0.0
    reordering: float = 0.0


@dataclass(frozen=True, slots=True)
class Regions:
    """Paths between nodes of different groups have this latency and jitter, in seconds; those
    within a group are as they were."""

    groups: tuple[tuple[int, ...], ...]
    latency_s: float
    jitter_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Reset:
    """The link between two nodes ends, with everything that was under way on it."""

    one: int
    other: int


@dataclass(frozen=True, slots=True)
class HalfOpen:
    """The end at `node` of its link to `peer` is gone, and the peer is not told."""

    node: int
    peer: int


@dataclass(frozen=True, slots=True)
class Crash:
    """A node ends without warning. A batch on its way to the disk is written wholly or not at all.

    `is_silent`: the machine went with it, so that peers learn of it only by its silence.
    """

    node: int
    is_silent: bool = False


@dataclass(frozen=True, slots=True)
class Tear:
    """A node crashes silently in the middle of its next write. The disk has all of that batch or
    nothing, as copy-on-write makes it."""

    node: int


@dataclass(frozen=True, slots=True)
class Damage:
    """A scroll on the disk of a node, any one, no longer has its checksum."""

    node: int


@dataclass(frozen=True, slots=True)
class Restart:
    """A node starts again on its disk; a running one stops cleanly before."""

    node: int


@dataclass(frozen=True, slots=True)
class Clone:
    """The data folder of `source` is copied to `target`, which starts on it as itself. What only
    `target` had on its disk is gone."""

    source: int
    target: int


@dataclass(frozen=True, slots=True)
class Sleep:
    """A node does nothing for `seconds`; what arrives meanwhile waits in its socket.

    `is_counted`: its monotonic clock went on meanwhile; on some systems it stands still.
    """

    node: int
    seconds: float
    is_counted: bool = True


@dataclass(frozen=True, slots=True)
class SetClock:
    """The wall clock of a node is set forward by `wall_s`, or back; its monotonic clock leaps
    forward by `leap_s`."""

    node: int
    wall_s: float
    leap_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Deafen:
    """A node reads and does nothing for `seconds`, and pings its peers all the while, so that none
    takes it for dead."""

    node: int
    seconds: float


@dataclass(frozen=True, slots=True)
class FillDisk:
    """The disk of a node refuses writes."""

    node: int


@dataclass(frozen=True, slots=True)
class FreeDisk:
    """The disk of a node takes writes again."""

    node: int


Rubbish: TypeAlias = Literal["noise", "frames", "updates"]


@dataclass(frozen=True, slots=True)
class Garbage:
    """`source` sends `target` rubbish on their link: `noise` is random bytes; `frames` are copies
    of the last frame on that way that carried no text, with a few bytes changed; `updates` of the
    last one that did. A member who changes updates may write anything: see `Oracle.tampered`."""

    source: int
    target: int
    of: Rubbish = "noise"


@dataclass(frozen=True, slots=True)
class SetHeld:
    """A node is told to hold these ranges and, in time, no others; what leaves is to be on so many
    other machines first, 0: on all that are linked and hold it."""

    node: int
    ranges: tuple[str, ...]
    copies: int = 0


@dataclass(frozen=True, slots=True)
class Follow:
    """A node is told to hold what placement says."""

    node: int


@dataclass(frozen=True, slots=True)
class SetCopies:
    """Somebody at a node places the phext: so many machines hold each range, 0: all. It is cut at
    these coordinates, besides those where it is already."""

    node: int
    copies: int
    cuts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SetPace:
    """Somebody at a node says after which silence, in seconds, others hold what a member held."""

    node: int
    repair_after_s: int


@dataclass(frozen=True, slots=True)
class SetRule:
    """Somebody at a node pins a range to members, or has it everywhere, or neither."""

    node: int
    range: str
    members: tuple[int, ...] = ()
    everywhere: bool = False


@dataclass(frozen=True, slots=True)
class Forget:
    """Somebody at a node says that a member has left for good. It holds nothing any more, until it
    is told to follow again."""

    node: int
    member: int


Action: TypeAlias = (
    Partition
    | Hold
    | Repair
    | Shape
    | Regions
    | Reset
    | HalfOpen
    | Crash
    | Tear
    | Damage
    | Restart
    | Clone
    | Sleep
    | SetClock
    | Deafen
    | FillDisk
    | FreeDisk
    | Garbage
    | SetHeld
    | Follow
    | SetCopies
    | SetPace
    | SetRule
    | Forget
)

_ACTIONS: Final[dict[str, type[Action]]] = {kind.__name__: kind for kind in get_args(Action)}


@dataclass(frozen=True, slots=True)
class Fault:
    """An action at a virtual time, in seconds."""

    at: float
    action: Action


def faults_to_json(faults: Iterable[Fault]) -> str:
    """Return a schedule as JSON, a line for each fault."""
    rows = [
        json.dumps({"at": fault.at, "action": type(fault.action).__name__, **asdict(fault.action)})
        for fault in faults
    ]
    return "[" + ",\n ".join(rows) + "]"


def faults_from_json(text: str) -> tuple[Fault, ...]:
    """Read a schedule. ValueError when it is not a list of faults, when an action is unknown, or
    when its fields are others."""
    rows = read_json(text)
    if not isinstance(rows, list):
        raise ValueError(f"expected a list of faults, found {rows!r}")
    return tuple(map(_fault, rows))


def nodes_of(action: Action) -> tuple[int, ...]:
    """Return the numbers of the nodes that an action names, in the order of its fields."""
    match action:
        case Partition(groups) | Regions(groups):
            return tuple(node for group in groups for node in group)
        case Repair():
            return ()
        case Hold() | Shape() | Clone() | Garbage():
            return action.source, action.target
        case Reset(one, other):
            return one, other
        case HalfOpen(node, peer):
            return node, peer
        case SetRule(node, _, members):
            return node, *members
        case Forget(node, member):
            return node, member
        case _:
            return (action.node,)


def _fault(row: object) -> Fault:
    if not isinstance(row, dict) or not _fits(row.get("at"), float):
        raise ValueError(f"expected a fault at a time in seconds, found {row!r}")
    values = dict(row)
    at, name = values.pop("at"), values.pop("action", None)
    if name not in _ACTIONS:
        raise ValueError(f"expected one of {', '.join(sorted(_ACTIONS))}, found {name}")
    hints = get_type_hints(_ACTIONS[name])
    for field, value in values.items():
        if field not in hints or not _fits(value, hints[field]):
            raise ValueError(f"expected the fields of {name}, found {field} = {value!r}")
    values = {field: _frozen(value) for field, value in values.items()}
    try:
        return Fault(at, _ACTIONS[name](**values))
    except TypeError as error:  # one is missing
        raise ValueError(f"expected the fields of {name}, found {sorted(values)}") from error


def _fits(value: object, hint: object) -> bool:
    """Whether a value of JSON is one of a field of an action."""
    if hint is bool:
        return isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint is str:
        return isinstance(value, str)
    if hint == Rubbish:
        return value in get_args(Rubbish)
    inner, _ = get_args(hint)  # a tuple of any length
    return isinstance(value, list) and all(_fits(each, inner) for each in value)


def _frozen(value: object) -> object:
    return tuple(map(_frozen, value)) if isinstance(value, list) else value
