"""Hosting: what the peer of one link asks to be shown of what we hold and it does not.

It is shown what it could be sent as an update: what we hold, may write and it may read. Answers are
made when the link can take them. A peer that subscribes to a scroll is sent its changes from then
on, as many scrolls as there is room for.
"""

from collections import OrderedDict, deque
from collections.abc import Callable
from itertools import islice
from typing import Final

from phextsync.errors import ProtocolError, StoreDamagedError
from phextsync.index import EMPTY_VERSION, Coordinate, CoordinateRange, contains
from phextsync.ranges import Ranges, holds
from phextsync.replica.replica import Replica
from phextsync.replica.replicas import ReplicaSet
from phextsync.sync.asked import Asking
from phextsync.sync.durable_first import DurableFirst
from phextsync.sync.limits import Limits
from phextsync.sync.messages import (
    DIGEST_BYTES,
    Ask,
    Fetch,
    Fetched,
    FetchMode,
    Survey,
    Surveyed,
    SurveyedScroll,
    Told,
    Verdict,
)
from phextsync.sync.rights import LinkRights
from phextsync.texts import first_line, too_large_state

_LINE_CHARACTERS: Final = 60
_ROW_BYTES: Final = 300  # what a row has besides its text and version, at most


class Hosting:
    """What one peer asked for and has not been shown yet: `asked`, and `pieces` of answers."""

    def __init__(
        self,
        replicas: ReplicaSet,
        rights: LinkRights,
        durable_first: DurableFirst,
        limits: Limits,
        work_out: Callable[[Ask], bool],
        report: Callable[[str], None],
    ) -> None:
        self._replicas = replicas
        self._rights = rights
        self._durable_first = durable_first
        self._limits = limits
        self._report = report
        self.asked: OrderedDict[int, Asking] = OrderedDict()
        self.pieces: deque[Fetched | Told] = deque()
        self._worked_out: dict[int, None] = {}  # for these
        self._work_out = work_out

    def ask(self, message: Asking) -> None:
        """The peer asks. ProtocolError when it has asked for too much, or twice under a number."""
        if isinstance(message, Fetch) and message.mode is FetchMode.UNSUBSCRIBE:
            self._rights.subscribed.pop((message.phext, message.coordinate), None)
            return
        number, count = message.number, len(self.asked) + len(self._worked_out)
        is_twice = number in self.asked or number in self._worked_out
        if is_twice or count >= self._limits.fetches_max:
            raise ProtocolError(
                f"expected at most {self._limits.fetches_max} questions at once under numbers of "
                f"their own, found {count + 1}"
            )
        self.asked[message.number] = message

    def keep_to(self, phext: str, _scope: Ranges) -> None:
        """One of the sides holds something else of a phext: the peer has to subscribe again."""
        for scroll in [each for each in self._rights.subscribed if each[0] == phext]:
            del self._rights.subscribed[scroll]

    def next_answer(self) -> Fetched | Surveyed | Told | None:
        """Return the next answer, or the next piece of one. None while all that is asked for is
        held back until it is on our disk."""
        if self.pieces:
            return self.pieces.popleft()
        for number, asked in list(self.asked.items()):
            if isinstance(asked, Ask):
                if self._worked_out:  # one at a time: what is worked out waits to be taken
                    continue
                del self.asked[number]
                if (told := self._told(asked)) is not None:
                    return told
                continue
            if isinstance(asked, Survey):
                del self.asked[number]
                return self._surveyed(asked)
            if (asked.phext, asked.coordinate) not in self._durable_first:
                del self.asked[number]
                return self._fetched(asked)
        return None

    # -- scrolls ---------------------------------------------------------------------------

    def _fetched(self, asked: Fetch) -> Fetched | Told:
        coordinate, rights = asked.coordinate, self._rights.of(asked.phext)
        if not contains(rights.send, coordinate):
            return self._refused(asked, Verdict.NOT_ALLOWED)
        if not contains(rights.held, coordinate):
            return self._refused(asked, Verdict.NOT_HELD)
        replica = self._replicas.open(asked.phext)
        state = b""
        try:
            fingerprint = replica.fingerprint(coordinate)
            is_same = fingerprint[:DIGEST_BYTES] == asked.digest
            if not is_same:
                state = replica.difference(coordinate, EMPTY_VERSION) or b""
        except StoreDamagedError:  # set aside: it comes back from another holder
            return self._refused(asked, Verdict.NOT_HELD)
        if len(state) > self._limits.scroll_bytes_max:
            self._report(f"{asked.phext} {coordinate} is not shown: {too_large_state(len(state))}")
            return self._refused(asked, Verdict.NOT_HELD)
        is_subscribed = self._subscribe(asked)
        if is_same:
            return Fetched(asked.number, Verdict.SAME, is_subscribed, fingerprint)
        size = self._limits.item_bytes_max
        total = max(1, -(-len(state) // size))
        for i in range(total):
            piece = state[i * size : (i + 1) * size]
            said = asked.number, Verdict.GIVEN, is_subscribed, fingerprint
            self.pieces.append(Fetched(*said, i, total, piece))
        return self.pieces.popleft()

    def _refused(self, asked: Fetch, verdict: Verdict) -> Fetched:
        """Return an answer without a text. Who asked to be told of changes is not, even if it was:
        it does not ask for the end of what it does not know of."""
        if asked.mode is FetchMode.SUBSCRIBE:
            self._rights.subscribed.pop((asked.phext, asked.coordinate), None)
        return Fetched(asked.number, verdict, is_subscribed=False)

    def _subscribe(self, asked: Fetch) -> bool:
        """Tell the peer of changes from now on, if it asked for that and there is room."""
        subscribed, scroll = self._rights.subscribed, (asked.phext, asked.coordinate)
        has_room = scroll in subscribed or len(subscribed) < self._limits.subscriptions_max
        if asked.mode is not FetchMode.SUBSCRIBE or not has_room:
            return False
        subscribed[scroll] = None
        return True

    # -- ranges ----------------------------------------------------------------------------

    def _verdict(self, asked: Survey | Ask) -> Verdict:
        rights = self._rights.of(asked.phext)
        if not holds(rights.show, asked.range):
            return Verdict.NOT_ALLOWED
        return Verdict.GIVEN if holds(rights.held, asked.range) else Verdict.NOT_HELD

    def _told(self, asked: Ask) -> Told | None:
        """Begin to work out what is asked for, or say why not."""
        verdict = self._verdict(asked)
        if verdict is Verdict.GIVEN:
            self._worked_out[asked.number] = None
            if self._work_out(asked):
                return None
            del self._worked_out[asked.number]
            verdict = Verdict.NOT_HELD
        return Told(asked.number, verdict)

    def tell(self, asked: Ask, answer: bytes) -> None:
        """This was worked out. What the peer may not read any more it is not told."""
        if self._worked_out.pop(asked.number, asked) is asked:
            return
        verdict = self._verdict(asked)
        if verdict is not Verdict.GIVEN:
            self.pieces.append(Told(asked.number, verdict))
            return
        size = self._limits.item_bytes_max
        total = max(1, -(-len(answer) // size))
        for i in range(total):
            piece = answer[i * size : (i + 1) * size]
            self.pieces.append(Told(asked.number, Verdict.GIVEN, i, total, piece))

    def _surveyed(self, asked: Survey) -> Surveyed:
        verdict = self._verdict(asked)
        if verdict is not Verdict.GIVEN:
            return Surveyed(asked.number, verdict)
        replica = self._replicas.open(asked.phext)
        limits = self._limits
        rows, rest = rows_of(
            replica,
            asked.range,
            max(1, min(limits.surveyed_max, limits.item_bytes_max // (2 * _ROW_BYTES))),
            bytes_goal=limits.frame_bytes_goal if asked.with_texts else None,
            text_bytes_max=min(limits.item_bytes_max - _ROW_BYTES, limits.version_bytes_max),
        )
        told = (r for r in rows if (asked.phext, r.coordinate) not in self._durable_first)
        return Surveyed(asked.number, Verdict.GIVEN, rest, tuple(told))


def rows_of(
    replica: Replica,
    range_: CoordinateRange,
    count_max: int,
    *,
    bytes_goal: int | None = None,
    text_bytes_max: int = 0,
) -> tuple[list[SurveyedScroll], Coordinate | None]:
    """Return what a survey tells of the scrolls that are held in a range, so many at most, and
    where the rest begins; with a goal with texts, until they and their versions have so many bytes.
    Only the size is told of a text that has more than `text_bytes_max` with its version."""
    # To read one that is damaged takes it out of what is iterated over.
    places = list(islice(replica.coordinates(range_), count_max + 1))
    rows: list[SurveyedScroll] = []
    size = 0
    for coordinate in places[:count_max]:
        if bytes_goal is not None and size >= bytes_goal:
            return rows, coordinate
        row = row_of(replica, coordinate, None if bytes_goal is None else text_bytes_max)
        if row is not None:
            rows.append(row)
            size += row.size + len(row.version) if row.text is not None else 0
    return rows, places[count_max] if len(places) > count_max else None


def row_of(
    replica: Replica, coordinate: Coordinate, text_bytes_max: int | None = None
) -> SurveyedScroll | None:
    """Return what a survey tells of a scroll that is here, None when it has no text; with its text
    where that may have so many bytes with its version."""
    text = replica.read(coordinate)
    if not text:
        return None
    digest = replica.fingerprint(coordinate)[:DIGEST_BYTES]
    line = first_line(text, _LINE_CHARACTERS)
    row = SurveyedScroll(coordinate, replica.read_size(coordinate), digest, line)
    if text_bytes_max is None or row.size > text_bytes_max:
        return row
    version = replica.version(coordinate)
    is_large = row.size + len(version) > text_bytes_max
    return row if is_large else row._replace(text=text, version=version)
