"""Status: how a node or a folder is, as one value for all who read it, here and as JSON.

The fields are those of `phextsync status --json`, by the same names. Ids are in hexadecimal; times
and sizes have their units in their names, `bytes` are those of texts. What only a running node
knows is empty where none runs.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from functools import cache
from types import UnionType
from typing import cast, get_args, get_origin, get_type_hints

from phextsync.errors import ProtocolError
from phextsync.index import CoordinateRange
from phextsync.plain_values import read_json
from phextsync.ranges import Ranges, without


@dataclass(frozen=True, slots=True, kw_only=True)
class PhextRow:
    """A phext, and the fingerprint of all its scrolls."""

    name: str
    scrolls: int
    bytes: int
    fingerprint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceivingRow:
    """A phext of which a peer has more than we: what is here, of how much."""

    phext: str
    scrolls: int
    scrolls_of: int
    text_bytes: int
    text_bytes_of: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerRow:
    """A connected peer: what it lacks, how far it is, and what its link has carried. `last_error`
    is why the link before this one ended; `protocol` is the version that the peer speaks."""

    node_id: str
    name: str
    address: str
    round_trip_ms: float | None
    state: str
    lag_scrolls: int
    lag_bytes: int
    last_error: str
    frames_in: int
    frames_out: int
    bytes_in: int
    bytes_out: int
    updates_in: int
    updates_out: int
    redundant: int
    comparisons: int
    compare_messages: int
    lacks: tuple[str, ...]
    protocol: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AbsentRow:
    """A peer that is known and not connected, and why; see `AbsentPeer`."""

    node_id: str | None
    name: str
    address: str
    last_seen_s: float | None
    reason: str
    is_wanted: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class PresenceRow:
    """What a node tells of itself."""

    node_id: str
    name: str
    facts: Mapping[str, str | int]


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftAlone:
    """A file that is not kept in step, why, since when, and when it is tried again: None when it
    is left alone until it is mended."""

    path: str
    reason: str
    since_ms: int
    next_try_ms: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DirectoryRow:
    """How it stands with a bound directory. Of long lists it has the beginning. Among those that
    are `waiting` are the `refused`, which the system did not take so far. `excess` are files of
    which the host of the preset does not take all, and why."""

    directory: str
    phext: str
    range: str
    kept_days: int | None
    is_served: bool = False
    is_taken_up: bool = False
    looked_at: int = 0
    to_look_at: int = 0
    watcher: str = ""
    problem: str = ""
    files: int = 0
    in_step: int = 0
    waiting: int = 0
    refused: int = 0
    left_alone: int = 0
    held: int = 0
    conflicts: int = 0
    last_merge_ms: int | None = None
    reasons: tuple[LeftAlone, ...] = ()
    refused_lines: tuple[tuple[str, ...], ...] = ()
    other_paths: tuple[tuple[str, ...], ...] = ()
    preset: str = ""
    excess: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class LeavingRow:
    """A range that is given up and still here: it leaves once it is on `copies` other nodes. The
    names of those that have it and keep it, and why others do not count yet."""

    range: str
    scrolls: int
    copies: int
    kept_by: tuple[str, ...]
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldingRow:
    """A phext of which this node does not hold all for ever: what was asked for, or what placement
    gives it if it `follows`, what else is still here, and how many scrolls are being taken out."""

    phext: str
    held: tuple[str, ...]
    follows: bool = False
    copies: int | None = None
    leaving: tuple[LeavingRow, ...] = ()
    going: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ShortRow:
    """A placed range of which there are too few copies, and the names of holders that lack it."""

    range: str
    copies: int
    lacking: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacedRow:
    """A placed phext: how many copies of each of its ranges are wished, and the least that can be
    reached; how many `ranges` are `short` of copies, with the first of them, and how many bytes of
    what is here others lack."""

    phext: str
    copies: int
    least: int
    ranges: int
    short: int
    short_ranges: tuple[ShortRow, ...] = ()
    move_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class DurationsRow:
    """How often something was done, and how long it took; `at_most_s` counts by bounds."""

    count: int = 0
    sum_ms: float = 0.0
    max_ms: float = 0.0
    at_most_s: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreRow:
    """What is open in memory, and how long writing takes: batches, and their syncs alone."""

    is_writable: bool = True
    open_scrolls: int = 0
    open_bytes: int = 0
    evictions: int = 0
    commits: DurationsRow = DurationsRow()
    syncs: DurationsRow = DurationsRow()


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorsRow:
    """Errors that ended parts of the node since it started, without those that others cause: how
    many, what the last was, and where."""

    count: int = 0
    since_s: float = 0.0
    last: str = ""
    last_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """How a folder is, and its node, if one is `running`. `host` is the address that it listens on,
    None for all."""

    running: bool
    name: str
    node_id: str
    folder: str
    mesh: str = ""
    host: str | None = None
    port: int = 0
    phexts: tuple[PhextRow, ...] = ()
    receiving: tuple[ReceivingRow, ...] = ()
    peers: tuple[PeerRow, ...] = ()
    absent: tuple[AbsentRow, ...] = ()
    presence: tuple[PresenceRow, ...] = ()
    warnings: tuple[str, ...] = ()
    directories: tuple[DirectoryRow, ...] = ()
    holding: tuple[HoldingRow, ...] = ()
    placed: tuple[PlacedRow, ...] = ()
    store: StoreRow = StoreRow()
    errors: ErrorsRow = ErrorsRow()

    def to_json(self) -> str:
        """Return it as JSON."""
        return json.dumps(asdict(self))

    def unheld(self, phext: str, range_: CoordinateRange) -> Ranges:
        """Return the parts of a range of a phext that are not held."""
        for row in self.holding:
            if row.phext == phext:
                held = (*row.held, *(leaving.range for leaving in row.leaving))
                return without((range_,), [*map(CoordinateRange.parse, held)])
        return ()

    @staticmethod
    def from_json(text: str) -> "Status":
        """Return what JSON says. ProtocolError when that is no status."""
        return cast("Status", _read(Status, read_json(text)))  # which is what `_read` makes


def _read(kind: object, value: object) -> object:
    """Return a value of JSON as one of a type of this module. What is not known is left out."""
    arguments, origin = get_args(kind), get_origin(kind)
    if isinstance(kind, type) and is_dataclass(kind) and isinstance(value, dict):
        types = _types(kind)
        known = [each.name for each in fields(kind) if each.name in value]
        return kind(**{name: _read(types[name], value[name]) for name in known})
    if origin is tuple and isinstance(value, list):
        return tuple(_read(arguments[0], each) for each in value)
    if origin is Mapping and isinstance(value, dict):
        return {str(name): _read(arguments[1], each) for name, each in value.items()}
    if origin is UnionType and (value is None or isinstance(value, str | int | float)):
        return value
    if kind is float and isinstance(value, int):
        return float(value)
    if isinstance(kind, type) and isinstance(value, kind):
        return value
    raise ProtocolError(f"expected a status, found {value!r:.60} where {kind} belongs")


@cache
def _types(kind: type) -> dict[str, object]:
    return get_type_hints(kind)
