"""Messages: what a frame may say, as values. `docs/reference/protocol.md` has their meaning."""

from dataclasses import dataclass
from enum import IntEnum
from typing import Final, NamedTuple, TypeAlias

from phextsync.errors import ProtocolError
from phextsync.index import Coordinate, CoordinateRange
from phextsync.sync.limits import Limits

PROTOCOL_MAJOR: Final = 1
PROTOCOL_MINOR: Final = 8

PRESENCE_MINOR: Final = 1
"""The minor version from which on a node understands `Presence`."""

NEIGHBOURS_MINOR: Final = 2
"""The minor version from which on a node understands `Neighbours`."""

LIVE_MINOR: Final = 3
"""The minor version from which on a node tells its clock, and understands `Live`."""

HOLDING_MINOR: Final = 4
"""The minor version from which on a node may hold something else while a link lasts, and
understands `Leave` and `Keep`."""

TREE_MINOR: Final = 5
"""The minor version from which on a node understands `Have`, `Graft` and `Prune`."""

FETCH_MINOR: Final = 5
"""The minor version from which on a node shows what it holds to one that does not hold it."""

ASK_MINOR: Final = 6
"""From this minor version on a node can be asked for what is worked out of what it holds."""

OLD_LEFT_S_MAX: Final = 300
"""Seconds that a notice may have left for a node of a minor version before that."""

HAD_MINOR: Final = 7
"""The minor version from which on a node understands `Had`."""

REGROUPED_MINOR: Final = 8
"""The minor version from which on a node understands `Regrouped`."""

LIMITED_TREE_MINOR: Final = 8
"""The minor version from which on a link may be one of the tree whatever certificates allow."""

TIME_MS_MAX: Final = 1 << 62
"""The clock of a hello and what is counted from there are below it."""

DIGEST_BYTES: Final = 16
"""What of a fingerprint, or of a sum of them, goes over the wire."""

UPDATE_ID_BYTES: Final = 8
"""Of the digest by which nodes tell which updates they have."""

FINGERPRINT_BYTES: Final = 32
"""The whole of one."""

_REASON_BYTES_MAX: Final = 200

ScrollId: TypeAlias = tuple[str, Coordinate]
"""A scroll of a phext."""


UpdateId: TypeAlias = bytes
"""What names an update on every node."""


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
    """The first message in each direction. `incarnation` is drawn at each start of a node;
    `clock_ms` is what its clock shows now, as the times of entries: `Live` counts from there."""

    major: int
    minor: int
    node_id: bytes
    name: str
    incarnation: bytes
    phexts: tuple[PhextSummary, ...]
    clock_ms: int = 0


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


class Had(NamedTuple):
    """Nodes had these versions of a scroll, each the id of one and the version. It goes ahead of
    updates of which they tell who wrote them knowing what."""

    phext: str
    coordinate: Coordinate
    versions: tuple[tuple[bytes, bytes], ...]


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


class Live(NamedTuple):
    """Updates of scrolls of one phext that the sender wrote itself since its hello: each has a
    coordinate, the update, and when it was written, in milliseconds from the clock of the hello.
    It is numbered as `Updates` are, and worth the same."""

    phext: str
    entries: tuple[tuple[Coordinate, bytes, int], ...]


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
    now on. Counters begin again with each incarnation."""

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
class Regrouped:
    """What is other than the sender last told of its `Neighbours`: whom it is no longer linked
    with, and whom it is now."""

    gone: tuple[bytes, ...]
    come: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Leave:
    """The sender gives these ranges of a phext up, in place of what it told of it before: it is no
    longer to be counted among those that have them. `number` grows each time."""

    phext: str
    number: int
    ranges: tuple[CoordinateRange, ...]


@dataclass(frozen=True, slots=True)
class Keep:
    """Of what the receiver gives up by its `Leave` of that number, the sender keeps these ranges,
    and counts the receiver no longer among those that have them."""

    phext: str
    number: int
    ranges: tuple[CoordinateRange, ...]


class FetchMode(IntEnum):
    """What a node asks a holder for."""

    ONCE = 0  # a scroll as it is
    SUBSCRIBE = 1  # the same, and its changes from then on
    UNSUBSCRIBE = 2  # no more changes of it; not answered


class Verdict(IntEnum):
    """What a holder says to one who asks."""

    GIVEN = 0  # here it is
    SAME = 1  # it is what the asker has
    NOT_HELD = 2
    NOT_ALLOWED = 3  # the asker may not read it, or would not take it from here


@dataclass(frozen=True, slots=True)
class Fetch:
    """Asks under a number for a scroll that the sender does not hold; `digest`: of the fingerprint
    of what it has of it."""

    number: int
    phext: str
    coordinate: Coordinate
    mode: FetchMode
    digest: bytes


@dataclass(frozen=True, slots=True)
class Fetched:
    """Answers a `Fetch`: a verdict, whether the changes will be told, the fingerprint of the
    scroll, and, if it is given, a piece of its state. All pieces follow each other."""

    number: int
    verdict: Verdict
    is_subscribed: bool
    fingerprint: bytes = b""
    index: int = 0
    total: int = 1
    piece: bytes = b""


@dataclass(frozen=True, slots=True)
class Survey:
    """Asks under a number for the first scrolls of a range that the sender does not hold, with
    their whole texts or without."""

    number: int
    phext: str
    range: CoordinateRange
    with_texts: bool = False


class SurveyedScroll(NamedTuple):
    """A scroll with text: bytes of the text in UTF-8, the digest of its fingerprint, the beginning
    of its first line. Where texts were asked for, the text too if it is short enough, and the
    version that makes its fingerprint."""

    coordinate: Coordinate
    size: int
    digest: bytes
    line: str
    text: str | None = None
    version: bytes = b""


@dataclass(frozen=True, slots=True)
class Surveyed:
    """Answers a `Survey`: a verdict, where the rest of the range begins that there was no room for
    (None: nowhere), and scrolls in order."""

    number: int
    verdict: Verdict
    rest: Coordinate | None = None
    scrolls: tuple[SurveyedScroll, ...] = ()


@dataclass(frozen=True, slots=True)
class Ask:
    """Asks under a number for what is worked out of a range that the sender does not hold: `words`
    are an operation and what it takes besides phext and range, in CBOR."""

    number: int
    phext: str
    range: CoordinateRange
    words: bytes


@dataclass(frozen=True, slots=True)
class Told:
    """Answers an `Ask`: a verdict and, if it is given, a piece of the answer. All pieces follow
    each other."""

    number: int
    verdict: Verdict
    index: int = 0
    total: int = 1
    piece: bytes = b""


@dataclass(frozen=True, slots=True)
class Watch:
    """Asks under a number to be told which scrolls of a range change that the sender does not hold;
    without a range no more."""

    number: int
    phext: str
    ranges: tuple[CoordinateRange, ...]


@dataclass(frozen=True, slots=True)
class Changed:
    """Answers a `Watch`, again and again: these scrolls have changed; or, if some were missed,
    anything may have. Another verdict ends it."""

    number: int
    verdict: Verdict
    are_missed: bool = False
    coordinates: tuple[Coordinate, ...] = ()


@dataclass(frozen=True, slots=True)
class Have:
    """On the sender's disk are these updates, which it did not send on this link."""

    ids: tuple[UpdateId, ...]


@dataclass(frozen=True, slots=True)
class Graft:
    """The receiver is to send what it hears at once, beginning with these updates; the sender does
    so too."""

    ids: tuple[UpdateId, ...]


@dataclass(frozen=True, slots=True)
class Prune:
    """The receiver is to tell the ids of updates in place of sending them; the sender does so
    too."""


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
    | Live
    | Leave
    | Keep
    | Fetch
    | Fetched
    | Survey
    | Surveyed
    | Have
    | Graft
    | Prune
    | Ask
    | Told
    | Watch
    | Changed
    | Had
    | Regrouped
)


def short_reason(text: str) -> str:
    """Return as much of a reason as a message has room for."""
    return text.encode()[:_REASON_BYTES_MAX].decode("utf-8", "ignore")


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
