"""Codec: how messages are written as frames, and read.

A frame is one CBOR array `[kind, ...]`; every count and length has a limit in `Limits`.
`docs/reference/protocol.md` has the grammar; `KINDS` has every kind of message.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeVar, cast

from phextsync.errors import ProtocolError
from phextsync.index import Coordinate, cbor_bytes, cbor_items, cbor_live
from phextsync.phext_names import is_phext_name
from phextsync.sync import codec_of_questions as questions
from phextsync.sync.fields import Fields, load_array, ranges_written
from phextsync.sync.limits import Limits
from phextsync.sync.messages import (
    DIGEST_BYTES,
    LIVE_MINOR,
    PROTOCOL_MAJOR,
    PROTOCOL_MINOR,
    TIME_MS_MAX,
    UPDATE_ID_BYTES,
    Acknowledge,
    Ask,
    Changed,
    Compare,
    Conflict,
    Entry,
    Fetch,
    Fetched,
    Goodbye,
    Graft,
    Had,
    Have,
    Hello,
    Keep,
    Leave,
    Live,
    Message,
    Neighbours,
    Notice,
    Part,
    PhextSummary,
    Ping,
    Pong,
    Presence,
    Prune,
    Refused,
    Regrouped,
    Summary,
    Survey,
    Surveyed,
    Told,
    Unknown,
    Updates,
    Want,
    Watch,
    check_facts,
)
from phextsync.trust.certificates import NODE_ID_BYTES

M = TypeVar("M", bound=Message)

_KINDS_MAX: Final = 256
_TIME_MS_LAST: Final = TIME_MS_MAX - 1


def encode(message: Message) -> bytes:
    """Return the bytes of one frame."""
    number = _NUMBERS[type(message)]
    return cbor_bytes([number, *KINDS[number].write(message)])


def decode(frame: bytes, limits: Limits) -> Message | Unknown:
    """Read one frame. ProtocolError says what was expected and what was found."""
    if len(frame) <= limits.items_max:  # an item takes a byte at least
        # As nearly always, in one pass; for all else it is known below what is wrong.
        live = cbor_live(frame, _LIVE, limits.name_bytes_max, limits.entries_max, _TIME_MS_LAST)
        if live is not None and is_phext_name(live[0]):
            return Live(*live)
    elif (items := cbor_items(frame)) > limits.items_max:
        raise ProtocolError(f"expected at most {limits.items_max} items in a frame, found {items}")
    array = load_array(frame)
    kind = array[0]
    if type(kind) is not int or not 0 <= kind < _KINDS_MAX:
        raise ProtocolError(f"expected a message kind below {_KINDS_MAX}, found {kind!r:.40}")
    if kind >= len(KINDS):
        return Unknown(kind)
    fields = Fields(array, limits)
    message = KINDS[kind].read(fields)
    fields.end()
    return message


def _write_hello(hello: Hello) -> list[object]:
    own = [hello.major, hello.minor, hello.node_id, hello.name, hello.incarnation]
    clock = [hello.clock_ms] if hello.minor >= LIVE_MINOR else []
    return [*own, [_write_phext(summary) for summary in hello.phexts], *clock]


def _read_hello(fields: Fields) -> Hello:
    major, minor = fields.integer(1 << 16), fields.integer(1 << 16)
    if major != PROTOCOL_MAJOR:
        raise ProtocolError(f"expected protocol version {PROTOCOL_MAJOR}, found {major}.{minor}")
    node_id = fields.octets(NODE_ID_BYTES, NODE_ID_BYTES)
    name = fields.text()
    incarnation = fields.octets(NODE_ID_BYTES, NODE_ID_BYTES)
    summaries = fields.arrays(fields.limits.phexts_max)
    clock_ms = fields.integer(TIME_MS_MAX) if minor >= LIVE_MINOR else 0
    if minor > PROTOCOL_MINOR:
        fields.skip_rest()  # a newer minor version may say more
    phexts = tuple(map(_read_phext, summaries))
    return Hello(major, minor, node_id, name, incarnation, phexts, clock_ms)


def _write_summary(message: Summary) -> list[object]:
    return _write_phext(message.phext)


def _read_summary(fields: Fields) -> Summary:
    return Summary(_read_phext(fields))


def _write_phext(summary: PhextSummary) -> list[object]:
    interest = ranges_written(summary.interest)
    return [summary.name, interest, summary.count, summary.text_bytes, summary.digest]


def _read_phext(fields: Fields) -> PhextSummary:
    name = fields.phext()
    interest = fields.ranges()
    count, text_bytes = fields.integer(), fields.integer()
    digest = fields.octets(DIGEST_BYTES, DIGEST_BYTES)
    summary = PhextSummary(name, interest, count, text_bytes, digest)
    fields.end()
    return summary


def _write_compare(turn: Compare) -> list[object]:
    return [turn.phext, turn.session, turn.step, turn.form, turn.body]


def _read_compare(fields: Fields) -> Compare:
    limits = fields.limits
    return Compare(
        fields.phext(),
        fields.integer(),
        fields.integer(),
        fields.integer(256),
        fields.octets(limits.frame_bytes_max),
    )


def _write_want(want: Want) -> list[object]:
    return [want.phext, [[c.key, version, digest] for c, version, digest in want.scrolls]]


def _read_want(fields: Fields) -> Want:
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
    return Want(phext, tuple(scrolls))


def _write_updates(updates: Updates) -> list[object]:
    return [updates.phext, [_write_entry(entry) for entry in updates.entries]]


def _read_updates(fields: Fields) -> Updates:
    phext = fields.phext()
    entries = tuple(map(_read_entry, fields.arrays(fields.limits.entries_max)))
    return Updates(phext, entries)


def _write_entry(entry: Entry) -> list[object]:
    if entry.origin:
        return [entry.coordinate.key, entry.update, entry.origin, entry.time_ms]
    return [entry.coordinate.key, entry.update]


def _read_entry(fields: Fields) -> Entry:
    coordinate, update = fields.coordinate(), fields.octets(fields.limits.frame_bytes_max)
    if not fields.left:
        return Entry(coordinate, update)
    entry = Entry(coordinate, update, fields.octets(NODE_ID_BYTES, 1), fields.integer())
    fields.end()
    return entry


def _write_live(live: Live) -> list[object]:
    flat: list[object] = []
    for coordinate, update, elapsed_ms in live.entries:
        flat += (coordinate.short_key, update, elapsed_ms)
    return [live.phext, flat]


def _read_live(fields: Fields) -> Live:
    phext = fields.phext()
    flat = fields.array(3 * fields.limits.entries_max)
    if len(flat) % 3:
        raise ProtocolError(f"expected entries of 3 items each, found {len(flat)} items")
    entries: list[tuple[Coordinate, bytes, int]] = []
    for short_key, update, time_ms in zip(flat[::3], flat[1::3], flat[2::3], strict=True):
        if type(short_key) is not bytes or type(update) is not bytes:
            found = f"{type(short_key).__name__} and {type(update).__name__}"
            raise ProtocolError(f"expected a short key and an update as bytes, found {found}")
        if type(time_ms) is not int or not 0 <= time_ms < TIME_MS_MAX:
            raise ProtocolError(f"expected an integer below {TIME_MS_MAX}, found {time_ms!r:.40}")
        try:
            coordinate = Coordinate.from_short_key(short_key)
        except ValueError as error:
            raise ProtocolError(str(error)) from error
        entries.append((coordinate, update, time_ms))
    return Live(phext, tuple(entries))


def _write_had(had: Had) -> list[object]:
    return [had.phext, had.coordinate.key, [[*pair] for pair in had.versions]]


def _read_had(fields: Fields) -> Had:
    limits = fields.limits
    phext, coordinate = fields.phext(), fields.coordinate()
    pairs = []
    for pair in fields.arrays(limits.had_max):
        node_id = pair.octets(NODE_ID_BYTES, NODE_ID_BYTES)
        pairs.append((node_id, pair.octets(limits.version_bytes_max, 1)))
        pair.end()
    return Had(phext, coordinate, tuple(pairs))


def _write_part(part: Part) -> list[object]:
    return [part.phext, part.coordinate.key, part.index, part.total, part.piece]


def _read_part(fields: Fields) -> Part:
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
    return message


def _write_acknowledge(acknowledge: Acknowledge) -> list[object]:
    return [acknowledge.received, acknowledge.sent]


def _read_acknowledge(fields: Fields) -> Acknowledge:
    return Acknowledge(fields.integer(), fields.integer())


def _write_refused(refused: Refused) -> list[object]:
    return [refused.phext, refused.coordinate.key, refused.reason]


def _read_refused(fields: Fields) -> Refused:
    return Refused(fields.phext(), fields.coordinate(), fields.text())


def _write_conflict(conflict: Conflict) -> list[object]:
    return [conflict.phext, conflict.coordinate.key, conflict.text_digest]


def _read_conflict(fields: Fields) -> Conflict:
    return Conflict(fields.phext(), fields.coordinate(), fields.octets(DIGEST_BYTES, DIGEST_BYTES))


def _write_token(message: Ping | Pong) -> list[object]:
    return [message.token]


def _read_ping(fields: Fields) -> Ping:
    return Ping(fields.integer())


def _read_pong(fields: Fields) -> Pong:
    return Pong(fields.integer())


def _write_goodbye(goodbye: Goodbye) -> list[object]:
    return [goodbye.reason]


def _read_goodbye(fields: Fields) -> Goodbye:
    return Goodbye(fields.text())


def _write_presence(presence: Presence) -> list[object]:
    return [[_write_notice(notice) for notice in presence.notices]]


def _read_presence(fields: Fields) -> Presence:
    return Presence(tuple(map(_read_notice, fields.arrays(fields.limits.presences_max))))


def _write_notice(notice: Notice) -> list[object]:
    facts = [list(fact) for fact in notice.facts]
    claim = [notice.node_id, notice.incarnation, notice.counter, notice.left_ms]
    return [*claim, notice.name, facts]


def _read_notice(fields: Fields) -> Notice:
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


def _read_fact(fields: Fields) -> tuple[str, str | int]:
    fact = (fields.text(), fields.text_or_integer())
    fields.end()
    return fact


def _write_neighbours(neighbours: Neighbours) -> list[object]:
    return [b"".join(neighbours.node_ids)]


def _read_neighbours(fields: Fields) -> Neighbours:
    return Neighbours(_read_packed(fields, NODE_ID_BYTES, fields.limits.neighbours_max))


def _write_regrouped(message: Regrouped) -> list[object]:
    return [b"".join(message.gone), b"".join(message.come)]


def _read_regrouped(fields: Fields) -> Regrouped:
    count_max = fields.limits.neighbours_max
    gone = _read_packed(fields, NODE_ID_BYTES, count_max)
    return Regrouped(gone, _read_packed(fields, NODE_ID_BYTES, count_max))


def _read_packed(fields: Fields, size: int, count_max: int) -> tuple[bytes, ...]:
    """Read ids that stand one after the other."""
    packed = fields.octets(size * count_max)
    if len(packed) % size:
        raise ProtocolError(f"expected ids of {size} bytes each, found {len(packed)} bytes")
    return tuple(packed[start : start + size] for start in range(0, len(packed), size))


def _write_ids(message: Have | Graft) -> list[object]:
    return [b"".join(message.ids)]


def _read_have(fields: Fields) -> Have:
    return Have(_read_packed(fields, UPDATE_ID_BYTES, fields.limits.update_ids_told_max))


def _read_graft(fields: Fields) -> Graft:
    return Graft(_read_packed(fields, UPDATE_ID_BYTES, fields.limits.update_ids_told_max))


def _write_nothing(_: Prune) -> list[object]:
    return []


def _read_prune(_: Fields) -> Prune:
    return Prune()


def _write_ranges_of(message: Leave | Keep) -> list[object]:
    return [message.phext, message.number, ranges_written(message.ranges)]


def _read_leave(fields: Fields) -> Leave:
    return Leave(fields.phext(), fields.integer(), fields.ranges())


def _read_keep(fields: Fields) -> Keep:
    return Keep(fields.phext(), fields.integer(), fields.ranges())


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of message: its name in the specification, and how its fields are written and
    read."""

    name: str
    message: type[object]
    write: Callable[[Message], list[object]]
    read: Callable[[Fields], Message]


def _kind(
    name: str,
    message: type[M],
    write: Callable[[M], list[object]],
    read: Callable[[Fields], M],
) -> Kind:
    # `encode` gives it messages of this type alone.
    return Kind(name, message, cast(Callable[[Message], list[object]], write), read)


KINDS: Final = (
    _kind("hello", Hello, _write_hello, _read_hello),
    _kind("summary", Summary, _write_summary, _read_summary),
    _kind("compare", Compare, _write_compare, _read_compare),
    _kind("want", Want, _write_want, _read_want),
    _kind("updates", Updates, _write_updates, _read_updates),
    _kind("part", Part, _write_part, _read_part),
    _kind("acknowledge", Acknowledge, _write_acknowledge, _read_acknowledge),
    _kind("refused", Refused, _write_refused, _read_refused),
    _kind("conflict", Conflict, _write_conflict, _read_conflict),
    _kind("ping", Ping, _write_token, _read_ping),
    _kind("pong", Pong, _write_token, _read_pong),
    _kind("goodbye", Goodbye, _write_goodbye, _read_goodbye),
    _kind("presence", Presence, _write_presence, _read_presence),
    _kind("neighbours", Neighbours, _write_neighbours, _read_neighbours),
    _kind("live", Live, _write_live, _read_live),
    _kind("leave", Leave, _write_ranges_of, _read_leave),
    _kind("keep", Keep, _write_ranges_of, _read_keep),
    _kind("fetch", Fetch, questions.write_fetch, questions.read_fetch),
    _kind("fetched", Fetched, questions.write_fetched, questions.read_fetched),
    _kind("survey", Survey, questions.write_survey, questions.read_survey),
    _kind("surveyed", Surveyed, questions.write_surveyed, questions.read_surveyed),
    _kind("have", Have, _write_ids, _read_have),
    _kind("graft", Graft, _write_ids, _read_graft),
    _kind("prune", Prune, _write_nothing, _read_prune),
    _kind("ask", Ask, questions.write_ask, questions.read_ask),
    _kind("told", Told, questions.write_told, questions.read_told),
    _kind("watch", Watch, questions.write_watch, questions.read_watch),
    _kind("changed", Changed, questions.write_changed, questions.read_changed),
    _kind("had", Had, _write_had, _read_had),
    _kind("regrouped", Regrouped, _write_regrouped, _read_regrouped),
)
"""In the order of their numbers."""

_NUMBERS: Final = {kind.message: number for number, kind in enumerate(KINDS)}
_LIVE: Final = _NUMBERS[Live]
