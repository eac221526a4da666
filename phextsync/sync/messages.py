"""The wire's vocabulary: what a frame may say, how it is written and read, and its limits.

A frame is one CBOR array `[kind, ...]`. Reading accepts definite-length arrays, unsigned
integers, byte strings, text strings and null, and nothing else; every count and length has a
limit in `Limits`. `docs/protocol.md` has the grammar.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple, NoReturn, TypeAlias

import cbor2

from phextsync.errors import ProtocolError
from phextsync.index import Coordinate, CoordinateRange, cbor_items, cbor_size
from phextsync.phext_names import PHEXTS_MAX, is_phext_name

PROTOCOL_MAJOR: Final = 1
PROTOCOL_MINOR: Final = 2

PRESENCE_MINOR: Final = 1
"""The minor version from which on a node understands `Presence`."""

NEIGHBOURS_MINOR: Final = 2
"""The minor version from which on a node understands `Neighbours`."""

NODE_ID_BYTES: Final = 16
KEY_BYTES: Final = 12
DIGEST_BYTES: Final = 16

# CBOR tags that cbor2 would interpret by itself; a tag that is not here reaches the tag hook.
_KNOWN_TAGS: Final = (
    *range(6),
    *(25, 28, 29, 30, 35, 36, 37, 52, 54, 100, 256, 258, 260, 261, 1004, 43000, 55799),
)
_REASON_BYTES_MAX: Final = 200


@dataclass(frozen=True, slots=True)
class Limits:
    """Every size that a peer could otherwise choose."""

    frame_bytes_max: int = 1 << 20
    """One frame in memory on each side of each link; a larger scroll travels in parts."""
    updates_bytes_goal: int = 64 << 10
    """A frame of updates is closed when it has this many bytes: large enough that the cost of
    a frame vanishes, small enough that a live edit never waits behind more than one."""
    scroll_bytes_max: int = 64 << 20
    """The encoded state of one scroll, put together from its parts."""
    assemblies_bytes_max: int = 256 << 20
    """Parts that wait for the rest of their scrolls, over all links: four of the largest."""
    entries_max: int = 1 << 14
    """Entries in one frame. The largest frame of ours has 13,000: the updates of one scroll that
    was changed so often while a peer was slow."""
    scrolls_max: int = 1 << 11
    """Different scrolls in one frame of updates: a new one may take half a millisecond, and others
    wait meanwhile. Ours have 1,640 at most."""
    items_max: int = 1 << 17
    """CBOR items in one frame. One of a byte takes 56 when it is read; 16,384 entries have five."""
    phexts_max: int = PHEXTS_MAX
    """Phexts of one node, and so of one peer."""
    ranges_max: int = 64
    """Interest ranges for one phext."""
    name_bytes_max: int = 255
    """A phext's or a node's name in UTF-8, a reason."""
    wants_max: int = 4096
    """Scrolls asked for and not yet answered on one link, and so in one frame."""
    wants_bytes_max: int = 1 << 20
    """Versions in requests that are not yet answered on one link, and one frame more."""
    found_max: int = 1 << 16
    """Scrolls that comparisons found and that wait to be asked for or sent, on one link, of each
    kind about 250 bytes; what is beyond is found by the next comparison."""
    gaps_max: int = 1 << 14
    """Scrolls of which a peer sent updates without those that they build on."""
    answers_max: int = 1 << 12
    """Short messages (pongs, refusals, conflicts) that wait for a peer that does not read them,
    half a kilobyte each. Whoever reads never has more than one frame asks for."""
    refusals_max: int = 1 << 14
    """Scrolls whose updates a peer refused, on one link."""
    refusals_reported_max: int = 8
    """Lines for the operator about what one link brought and was refused; one more says that
    there is more."""
    conflicts_max: int = 4
    """Times that one link may have us take another text of one scroll with its version."""
    window_frames: int = 256
    """Frames of updates under way on one link without an acknowledgement."""
    held_frames_max: int = 64
    """Frames kept of a link of which it is not yet known whether it stays: 3 s at most."""
    held_bytes_max: int = 4 << 20
    """Bytes of those frames: as many at the size that frames of updates aim at."""
    compare_steps_max: int = 64
    """Messages of one comparison that finds little: twice what the deepest tree of coordinates
    needs. One that finds much may take more, see `entries_per_step_min`."""
    entries_per_step_min: int = 1024
    """Scrolls for each of which a comparison may take another message. A message of ranges has
    256 KiB when there is so much to say: lists of over 10,000 scrolls."""
    audit_entries_max: int = 100_000
    """Scrolls up to which every change is audited; an audit takes 30 ns for each. As many per
    second a peer may have us audit, saved up for `audit_saved_s` at most: 0.3 % of our time."""
    audit_saved_s: float = 8.0
    compares_bytes_max: int = 4 << 20
    """Turns of comparisons that wait for a peer that does not read them; beyond, a comparison is
    ended and repeated later."""
    tail_bytes_max: int = 4 << 20
    """Recent updates kept for peers that are in step; a peer behind them gets a difference."""
    version_bytes_max: int = 256 << 10
    """The version of one scroll in a request."""
    presences_max: int = 1024
    """Nodes whose presence is kept: 1.5 MB at most. Peers of ours always find room."""
    presence_bytes_max: int = 1024
    """The facts that one node tells of itself; it tells them to everybody every few seconds."""
    presence_left_s_max: int = 300
    """Seconds for which a presence may claim to hold without a word from its node."""
    spared_max: int = 1 << 12
    """Scrolls of a peer that get an update from who wrote it and not from us, since the last
    comparison: with more, a comparison is due, and until it has ended the rest is sent."""
    neighbours_max: int = 256
    """Peers that a node tells of; of those beyond it is sent what it has from them already."""


def short_reason(text: str) -> str:
    """Return as much of a reason as a message has room for."""
    return text.encode()[:_REASON_BYTES_MAX].decode("utf-8", "ignore")


ScrollId: TypeAlias = tuple[str, Coordinate]
"""A scroll of a phext."""


@dataclass(frozen=True, slots=True)
class PhextSummary:
    """What a node holds of one phext: its interest, and of what is durable in it the number of
    scrolls, about how many bytes of text they have, and their digest."""

    name: str
    interest: tuple[CoordinateRange, ...]
    count: int
    text_bytes: int
    digest: bytes


@dataclass(frozen=True, slots=True)
class Hello:
    """The first message in each direction. `incarnation` is drawn at each start of a node."""

    major: int
    minor: int
    node_id: bytes
    name: str
    incarnation: bytes
    phexts: tuple[PhextSummary, ...]


@dataclass(frozen=True, slots=True)
class Summary:
    """A phext that is new, or whose comparison is due."""

    phext: PhextSummary


@dataclass(frozen=True, slots=True)
class Compare:
    """One turn of a comparison; `form` and `body` are read by `phextsync.sync.comparison`."""

    phext: str
    session: int
    step: int
    form: int
    body: bytes


class Want(NamedTuple):
    """Scrolls that the sender asks for, each with the version and fingerprint that it has."""

    phext: str
    scrolls: tuple[tuple[Coordinate, bytes, bytes], ...]


class Entry(NamedTuple):
    """An update of one scroll. `update` is empty when the asked-for scroll lacks nothing.

    `origin` and `time_ms` tell who wrote it and when by that node's clock; they are carried and
    stored, never used for a decision. An empty origin means that they are not known.
    """

    coordinate: Coordinate
    update: bytes
    origin: bytes = b""
    time_ms: int = 0


class Updates(NamedTuple):
    """Updates of scrolls of one phext; numbered by position among such frames on the link."""

    phext: str
    entries: tuple[Entry, ...]


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of one `Entry` that is larger than a frame; the last one counts as `Updates`."""

    phext: str
    coordinate: Coordinate
    index: int
    total: int
    piece: bytes


class Acknowledge(NamedTuple):
    """On the sender's disk is everything in the first `received` frames of updates that came to
    it on this link, and everything in the first `sent` ones that it sent."""

    received: int
    sent: int


@dataclass(frozen=True, slots=True)
class Refused:
    """Updates of this scroll were not taken."""

    phext: str
    coordinate: Coordinate
    reason: str


@dataclass(frozen=True, slots=True)
class Conflict:
    """The scroll has our version and, by this BLAKE2b-128, another text."""

    phext: str
    coordinate: Coordinate
    text_digest: bytes


@dataclass(frozen=True, slots=True)
class Ping:
    token: int


@dataclass(frozen=True, slots=True)
class Pong:
    token: int


@dataclass(frozen=True, slots=True)
class Notice:
    """What a node tells of itself: the one with the highest `counter` holds, for `left_ms` from
    now on. Counters begin anew with each incarnation."""

    node_id: bytes
    incarnation: bytes
    counter: int
    left_ms: int
    name: str
    facts: tuple[tuple[str, str | int], ...]


@dataclass(frozen=True, slots=True)
class Presence:
    """Notices that are newer than what the peer is known to have; see `phextsync.sync.presence`."""

    notices: tuple[Notice, ...]


@dataclass(frozen=True, slots=True)
class Neighbours:
    """The nodes that the sender is linked with, besides the receiver: what they write, they send
    it themselves. It takes the place of what was told before."""

    node_ids: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Unknown:
    """A kind of message that a newer minor version may have: nothing to be sent."""

    kind: int


@dataclass(frozen=True, slots=True)
class Goodbye:
    """The link ends; nothing follows."""

    reason: str


Message: TypeAlias = (
    Hello
    | Summary
    | Compare
    | Want
    | Updates
    | Part
    | Acknowledge
    | Refused
    | Conflict
    | Ping
    | Pong
    | Goodbye
    | Presence
    | Neighbours
)

_HELLO, _SUMMARY, _COMPARE, _WANT, _UPDATES, _PART = range(6)
_ACKNOWLEDGE, _REFUSED, _CONFLICT, _PING, _PONG, _GOODBYE, _PRESENCE, _NEIGHBOURS = range(6, 14)
_KINDS_MAX: Final = 256


def encode(message: Message) -> bytes:
    """Return the bytes of one frame."""
    return cbor2.dumps(_to_array(message))


def decode(frame: bytes, limits: Limits) -> Message | Unknown:
    """Read one frame. ProtocolError says what was expected and what was found."""
    items = cbor_items(frame)
    if items > limits.items_max:
        raise ProtocolError(f"expected at most {limits.items_max} items in a frame, found {items}")
    array = load_array(frame)
    kind = array[0]
    if type(kind) is not int or not 0 <= kind < _KINDS_MAX:
        raise ProtocolError(f"expected a message kind below {_KINDS_MAX}, found {kind!r:.40}")
    if kind >= len(_READERS):
        return Unknown(kind)
    return _READERS[kind](_Fields(array, limits))


def load_array(frame: bytes) -> list[object]:
    """Read one non-empty CBOR array that fills `frame`, in the subset that this wire allows."""
    try:
        value = cbor2.loads(
            frame,
            tag_hook=_refuse_tag,
            semantic_decoders=_SEMANTIC_DECODERS,
            max_depth=6,
            allow_indefinite=False,
            allow_duplicate_keys=False,
        )
    except (cbor2.CBORError, UnicodeDecodeError, ValueError) as error:
        raise ProtocolError(f"expected a CBOR array, found {error}"[:200]) from error
    size = cbor_size(frame)
    if size != len(frame):
        raise ProtocolError(
            f"expected {size} bytes in a frame, found {len(frame)}: something is left over"
        )
    if type(value) is not list or not value:
        raise ProtocolError(f"expected a CBOR array, found {type(value).__name__}")
    return value


def _refuse_tag(*_: object) -> NoReturn:
    raise ValueError("a CBOR tag")


_SEMANTIC_DECODERS = {tag: _refuse_tag for tag in _KNOWN_TAGS}


def _to_array(message: Message) -> list[object]:
    match message:
        case Updates(phext, entries):
            return [_UPDATES, phext, [_entry_to_array(entry) for entry in entries]]
        case Acknowledge(received, sent):
            return [_ACKNOWLEDGE, received, sent]
        case Want(phext, scrolls):
            return [_WANT, phext, [[c.key, version, digest] for c, version, digest in scrolls]]
        case Ping(token):
            return [_PING, token]
        case Pong(token):
            return [_PONG, token]
        case Compare(phext, session, step, form, body):
            return [_COMPARE, phext, session, step, form, body]
        case Hello(major, minor, node_id, name, incarnation, phexts):
            summaries = [_summary_to_array(phext) for phext in phexts]
            return [_HELLO, major, minor, node_id, name, incarnation, summaries]
        case Summary(summary):
            return [_SUMMARY, *_summary_to_array(summary)]
        case Part(phext, coordinate, index, total, piece):
            return [_PART, phext, coordinate.key, index, total, piece]
        case Refused(phext, coordinate, reason):
            return [_REFUSED, phext, coordinate.key, reason]
        case Conflict(phext, coordinate, text_digest):
            return [_CONFLICT, phext, coordinate.key, text_digest]
        case Goodbye(reason):
            return [_GOODBYE, reason]
        case Presence(notices):
            return [_PRESENCE, [_notice_to_array(notice) for notice in notices]]
        case Neighbours(node_ids):
            return [_NEIGHBOURS, b"".join(node_ids)]


def _entry_to_array(entry: Entry) -> list[object]:
    if entry.origin:
        return [entry.coordinate.key, entry.update, entry.origin, entry.time_ms]
    return [entry.coordinate.key, entry.update]


def _notice_to_array(notice: Notice) -> list[object]:
    facts = [list(fact) for fact in notice.facts]
    claim = [notice.node_id, notice.incarnation, notice.counter, notice.left_ms]
    return [*claim, notice.name, facts]


def _summary_to_array(summary: PhextSummary) -> list[object]:
    interest = []
    for range_ in summary.interest:
        lower, upper = range_.to_keys()
        interest.append([lower, upper or b""])
    return [summary.name, interest, summary.count, summary.text_bytes, summary.digest]


class _Fields:
    """Takes the fields of one message in order, checking type and size of each."""

    __slots__ = ("_array", "_next", "limits")

    def __init__(self, array: list[object], limits: Limits, start: int = 1) -> None:
        self._array = array
        self._next = start
        self.limits = limits

    def _take(self, expected: str) -> object:
        if self._next >= len(self._array):
            raise ProtocolError(f"expected {expected} as field {self._next}, found the end")
        self._next += 1
        return self._array[self._next - 1]

    def end(self) -> None:
        """Check that nothing follows."""
        if self._next != len(self._array):
            raise ProtocolError(f"expected {self._next} fields, found {len(self._array)}")

    @property
    def left(self) -> int:
        return len(self._array) - self._next

    def integer(self, below: int = 1 << 63) -> int:
        value = self._take("an integer")
        if type(value) is not int or not 0 <= value < below:
            raise ProtocolError(f"expected an integer below {below}, found {value!r:.40}")
        return value

    def octets(self, size_max: int, size_min: int = 0) -> bytes:
        value = self._take("bytes")
        if type(value) is not bytes or not size_min <= len(value) <= size_max:
            found = f"{len(value)} bytes" if type(value) is bytes else type(value).__name__
            raise ProtocolError(f"expected {size_min} to {size_max} bytes, found {found}")
        return value

    def text(self) -> str:
        value = self._take("a text")
        if type(value) is not str:
            raise ProtocolError(f"expected a text, found {type(value).__name__}")
        if len(value.encode()) > self.limits.name_bytes_max:
            raise ProtocolError(
                f"expected a text of at most {self.limits.name_bytes_max} bytes, "
                f"found {len(value.encode())}"
            )
        return value

    def text_or_integer(self) -> str | int:
        if self.left and type(self._array[self._next]) is int:
            return self.integer()
        return self.text()

    def phext(self) -> str:
        name = self.text()
        if not is_phext_name(name):
            raise ProtocolError(f"expected the name of a phext, found {name!r:.60}")
        return name

    def coordinate(self) -> Coordinate:
        key = self.octets(KEY_BYTES, KEY_BYTES)
        try:
            return Coordinate.from_key(key)
        except ValueError as error:
            raise ProtocolError(str(error)) from error

    def array(self, count_max: int) -> list[object]:
        value = self._take("an array")
        if type(value) is not list or len(value) > count_max:
            found = f"{len(value)} items" if type(value) is list else type(value).__name__
            raise ProtocolError(f"expected an array of at most {count_max} items, found {found}")
        return value

    def arrays(self, count_max: int) -> "list[_Fields]":
        """Return readers of an array of arrays."""
        return [_Fields(_checked_array(a), self.limits, 0) for a in self.array(count_max)]


def _checked_array(value: object) -> list[object]:
    if type(value) is not list:
        raise ProtocolError(f"expected an array, found {type(value).__name__}")
    return value


def _read_hello(fields: _Fields) -> Hello:
    major, minor = fields.integer(1 << 16), fields.integer(1 << 16)
    if major != PROTOCOL_MAJOR:
        raise ProtocolError(f"expected protocol version {PROTOCOL_MAJOR}, found {major}.{minor}")
    node_id = fields.octets(NODE_ID_BYTES, NODE_ID_BYTES)
    name = fields.text()
    incarnation = fields.octets(NODE_ID_BYTES, NODE_ID_BYTES)
    summaries = fields.arrays(fields.limits.phexts_max)
    if minor <= PROTOCOL_MINOR:
        fields.end()  # a newer minor version may say more
    return Hello(major, minor, node_id, name, incarnation, tuple(map(_read_summary, summaries)))


def _read_summary(fields: _Fields) -> PhextSummary:
    name = fields.phext()
    interest = tuple(map(_read_range, fields.arrays(fields.limits.ranges_max)))
    count, text_bytes = fields.integer(), fields.integer()
    digest = fields.octets(DIGEST_BYTES, DIGEST_BYTES)
    summary = PhextSummary(name, interest, count, text_bytes, digest)
    fields.end()
    return summary


def _read_range(fields: _Fields) -> CoordinateRange:
    lower, upper = fields.coordinate(), fields.octets(KEY_BYTES)
    fields.end()
    try:
        return CoordinateRange(lower, Coordinate.from_key(upper) if upper else None)
    except ValueError as error:
        raise ProtocolError(str(error)) from error


def _read_lone_summary(fields: _Fields) -> Summary:
    return Summary(_read_summary(fields))


def _read_compare(fields: _Fields) -> Compare:
    limits = fields.limits
    message = Compare(
        fields.phext(),
        fields.integer(),
        fields.integer(),
        fields.integer(256),
        fields.octets(limits.frame_bytes_max),
    )
    fields.end()
    return message


def _read_want(fields: _Fields) -> Want:
    phext = fields.phext()
    scrolls = []
    for scroll in fields.arrays(fields.limits.wants_max):
        scrolls.append(
            (
                scroll.coordinate(),
                scroll.octets(fields.limits.version_bytes_max),
                scroll.octets(DIGEST_BYTES),
            )
        )
        scroll.end()
    fields.end()
    return Want(phext, tuple(scrolls))


def _read_updates(fields: _Fields) -> Updates:
    phext = fields.phext()
    entries = tuple(map(_read_entry, fields.arrays(fields.limits.entries_max)))
    fields.end()
    return Updates(phext, entries)


def _read_entry(fields: _Fields) -> Entry:
    coordinate, update = fields.coordinate(), fields.octets(fields.limits.frame_bytes_max)
    if not fields.left:
        return Entry(coordinate, update)
    entry = Entry(coordinate, update, fields.octets(NODE_ID_BYTES, 1), fields.integer())
    fields.end()
    return entry


def _read_part(fields: _Fields) -> Part:
    limits = fields.limits
    parts_max = 2 * limits.scroll_bytes_max // limits.frame_bytes_max + 1
    message = Part(
        fields.phext(),
        fields.coordinate(),
        fields.integer(parts_max),
        fields.integer(parts_max),
        fields.octets(limits.frame_bytes_max, 1),
    )
    if message.index >= message.total:
        raise ProtocolError(f"expected a part below {message.total}, found {message.index}")
    fields.end()
    return message


def _read_acknowledge(fields: _Fields) -> Acknowledge:
    message = Acknowledge(fields.integer(), fields.integer())
    fields.end()
    return message


def _read_refused(fields: _Fields) -> Refused:
    message = Refused(fields.phext(), fields.coordinate(), fields.text())
    fields.end()
    return message


def _read_conflict(fields: _Fields) -> Conflict:
    message = Conflict(
        fields.phext(), fields.coordinate(), fields.octets(DIGEST_BYTES, DIGEST_BYTES)
    )
    fields.end()
    return message


def _read_ping(fields: _Fields) -> Ping:
    message = Ping(fields.integer())
    fields.end()
    return message


def _read_pong(fields: _Fields) -> Pong:
    message = Pong(fields.integer())
    fields.end()
    return message


def _read_goodbye(fields: _Fields) -> Goodbye:
    message = Goodbye(fields.text())
    fields.end()
    return message


def _read_presence(fields: _Fields) -> Presence:
    message = Presence(tuple(map(_read_notice, fields.arrays(fields.limits.presences_max))))
    fields.end()
    return message


def _read_neighbours(fields: _Fields) -> Neighbours:
    packed = fields.octets(NODE_ID_BYTES * fields.limits.neighbours_max)
    fields.end()
    if len(packed) % NODE_ID_BYTES:
        raise ProtocolError(
            f"expected node ids of {NODE_ID_BYTES} bytes each, found {len(packed)} bytes"
        )
    starts = range(0, len(packed), NODE_ID_BYTES)
    return Neighbours(tuple(packed[start : start + NODE_ID_BYTES] for start in starts))


def _read_notice(fields: _Fields) -> Notice:
    limits = fields.limits
    notice = Notice(
        fields.octets(NODE_ID_BYTES, NODE_ID_BYTES),
        fields.octets(NODE_ID_BYTES, NODE_ID_BYTES),
        fields.integer(1 << 62),
        fields.integer(limits.presence_left_s_max * 1000 + 1),
        fields.text(),
        tuple(map(_read_fact, fields.arrays(limits.presence_bytes_max))),
    )
    fields.end()
    check_facts(notice.facts, limits)
    return notice


def _read_fact(fields: _Fields) -> tuple[str, str | int]:
    fact = (fields.text(), fields.text_or_integer())
    fields.end()
    return fact


def check_facts(facts: tuple[tuple[str, str | int], ...], limits: Limits) -> None:
    """ProtocolError when facts are not what can be told, or too large."""
    size = 0
    for name, value in facts:
        is_plain = isinstance(name, str) and isinstance(value, str | int)
        if not is_plain or isinstance(value, bool):
            found = f"{name!r:.40} and {value!r:.40}"
            raise ProtocolError(f"expected a name, and a text or an integer, found {found}")
        if isinstance(value, int) and not 0 <= value < 1 << 63:
            raise ProtocolError(f"expected a fact from 0 to 2**63 - 1, found {value}")
        for part in (name, str(value)):
            try:
                part_bytes = len(part.encode())
            except UnicodeEncodeError as error:
                raise ProtocolError(f"expected facts in UTF-8, found {part!r:.80}") from error
            size += part_bytes + 2
            if part_bytes > limits.name_bytes_max:
                raise ProtocolError(
                    f"expected names and texts of at most {limits.name_bytes_max} bytes in facts"
                )
    if size > limits.presence_bytes_max:
        raise ProtocolError(f"expected facts of at most {limits.presence_bytes_max} bytes")


_READERS: tuple[Callable[[_Fields], Message], ...] = (
    _read_hello,
    _read_lone_summary,
    _read_compare,
    _read_want,
    _read_updates,
    _read_part,
    _read_acknowledge,
    _read_refused,
    _read_conflict,
    _read_ping,
    _read_pong,
    _read_goodbye,
    _read_presence,
    _read_neighbours,
)
