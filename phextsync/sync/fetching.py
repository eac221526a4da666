"""Fetching: scrolls that are not held here are asked for, and become guests.

A guest has one host, a holder that tells of its changes. Another holder that is linked is asked
whether it has the same. Where it has not, one of them is behind or does not tell the truth: the
guest has what both told and no host, so that it is asked for again when it is read next.

Our edits of a guest go to each linked holder, as all updates do. Only of a holder that was asked
since its link began is it known that it has them on its disk: it was sent what it lacked, and
acknowledges that and what came since.
"""

from collections.abc import Callable, Iterable, Mapping

from phextsync.errors import ProtocolError, ScrollError, StoreDamagedError, UpdateError
from phextsync.index import EMPTY_VERSION, Coordinate, CoordinateRange, contains
from phextsync.replica.replicas import Dropped
from phextsync.sync.asked import Question
from phextsync.sync.lacks import Lacks
from phextsync.sync.link import Link, Shared
from phextsync.sync.messages import (
    DIGEST_BYTES,
    Fetch,
    Fetched,
    FetchMode,
    Part,
    ScrollId,
    Verdict,
)
from phextsync.sync.questions import Questions


class Fetching:
    """The guests of a node and their hosts, over all links."""

    def __init__(
        self, links: Mapping[int, Link], shared: Shared, lacks: Lacks, questions: Questions
    ) -> None:
        self._links = links
        self._replicas = shared.replicas
        self._guests = shared.replicas.guests
        self._holding = shared.replicas.holding
        self._progressed = shared.listener.on_progress
        self._clock = shared.clock
        self._lacks = lacks
        self._questions = questions
        self._asking: dict[ScrollId, Question] = {}
        self._confirming: dict[ScrollId, Question] = {}
        self._told: dict[ScrollId, list[Callable[[bool], None]]] = {}
        self._parked: dict[ScrollId, None] = {}  # about to leave: asked for when they have left
        self._unplaced: dict[ScrollId, None] = {}  # unsent, and nobody is there who would take it

    def fetch(
        self, now: float, phext: str, coordinate: Coordinate, done: Callable[[bool], None]
    ) -> None:
        """Ask the linked holders for a scroll; `done` is told, perhaps at once, whether it is a
        guest now that is as current as its holder."""
        self._clock.advance(now)
        scroll = (phext, coordinate)
        self._told.setdefault(scroll, []).append(done)
        if self._holding.is_leaving(phext, coordinate):
            self._parked[scroll] = None
        elif scroll not in self._asking:
            self._ask(scroll)

    def _ask(self, scroll: ScrollId) -> None:
        question = Question(
            scroll[0],
            CoordinateRange.of(scroll[1]),
            lambda number: self._message(number, scroll),
            lambda is_answered: self._end(scroll, is_answered=is_answered),
        )
        self._asking[scroll] = question
        self._questions.ask(question)

    def _message(self, number: int, scroll: ScrollId) -> Fetch:
        digest = b""
        replica = self._replicas.known(scroll[0])
        if replica is not None and scroll in self._guests:
            digest = replica.fingerprint(scroll[1])[:DIGEST_BYTES]
        return Fetch(number, *scroll, FetchMode.SUBSCRIBE, digest)

    def _end(self, scroll: ScrollId, *, is_answered: bool) -> None:
        del self._asking[scroll]
        if not is_answered and scroll in self._guests.unsent:
            self._unplaced[scroll] = None
        elif not is_answered and scroll in self._guests:
            self._drop_if_behind(scroll)
        for done in self._told.pop(scroll, ()):
            done(is_answered)

    # -- answers ---------------------------------------------------------------------------

    def receive(self, link: Link, fetched: Fetched) -> None:
        """A peer answers. ProtocolError for what answers no question, and for a text that is not
        what its fingerprint says: nothing of it is kept."""
        question = link.asked.find(fetched.number)
        scroll = question.phext, question.range.lower
        state = b""
        if fetched.verdict is Verdict.GIVEN:
            part = Part(*scroll, fetched.index, max(1, fetched.total), fetched.piece)
            entry = link.asked.assembly.add(part)
            if entry is None:
                return
            state = entry.update
        counts = self._questions.answered(link, fetched.number)
        if question.is_over:  # another one was faster
            again = self._asking.get(scroll)  # its answer would cross what ends the subscription
            if fetched.is_subscribed and (again is None or link.number not in again.asked):
                self._unsubscribe(link, scroll)
            return
        if fetched.verdict in (Verdict.NOT_HELD, Verdict.NOT_ALLOWED):
            self._questions.ask(question)
            return
        if self._confirming.get(scroll) is question:
            self._take_confirmation(link, question, fetched, state)
            return
        host = link.number if fetched.is_subscribed and counts else None
        is_enough = False
        try:
            is_enough = self._take(link, scroll, fetched, state, host)
        finally:
            if is_enough:
                self._questions.end(question, is_answered=True)
            else:
                self._questions.ask(question)
        if is_enough and host is not None:
            self._ask_another(question, fetched.fingerprint[:DIGEST_BYTES])
        self._make_room()

    def _ask_another(self, asked: Question, digest: bytes) -> None:
        """Ask a holder that was not asked yet whether it has the same of a new guest."""
        scroll = asked.phext, asked.range.lower
        if scroll in self._confirming:
            return

        def message(number: int) -> Fetch:
            return Fetch(number, *scroll, FetchMode.ONCE, digest)

        def end(_: bool) -> None:
            del self._confirming[scroll]

        question = Question(asked.phext, asked.range, message, end, asked=dict(asked.asked))
        self._confirming[scroll] = question
        self._questions.ask(question)

    def _take_confirmation(
        self, link: Link, question: Question, fetched: Fetched, state: bytes
    ) -> None:
        """Another holder tells what it has: where that is something else, the guest is stale."""
        scroll = question.phext, question.range.lower
        host, ours = self._guests.host(scroll), self._replicas.phext(scroll[0])
        is_same = fetched.verdict is Verdict.SAME or fetched.fingerprint == ours.fingerprint(
            scroll[1]
        )
        try:
            if host is not None and not is_same:
                self._unsubscribe(self._links[host], scroll)
                self._take(link, scroll, fetched, state, None)
        finally:
            self._questions.end(question, is_answered=True)

    def _take(
        self, link: Link, scroll: ScrollId, fetched: Fetched, state: bytes, host: int | None
    ) -> bool:
        """Make a scroll a guest, if it is not held by now; return whether it has all that was shown
        here before."""
        replica, was_here = self._replicas.phext(scroll[0]), scroll in self._guests
        self._holding.admit(*scroll, host)
        version = EMPTY_VERSION
        try:
            if fetched.verdict is Verdict.SAME:
                version = replica.version(scroll[1])
                if replica.fingerprint(scroll[1]) != fetched.fingerprint:
                    raise UpdateError(f"expected another text of {scroll[1]} by its fingerprint")
            elif state:
                taken = replica.guests.take(scroll[1], state, fetched.fingerprint, link.number)
                version = taken.version
                if taken.is_news:
                    replica.publish((scroll[1],), link.peer_id, link.name)
            elif fetched.fingerprint:
                raise UpdateError(f"expected the text of {scroll[1]}, found nothing")
        except (UpdateError, ScrollError) as error:
            self._replicas.part_guests(link.number)
            if not was_here:
                self._guests.forget(scroll)
            raise ProtocolError(str(error)) from error
        except StoreDamagedError:  # ours was; it is set aside, and asked for once more
            self._holding.admit(*scroll)
            return False
        self._settle(link, scroll, version)
        if self._guests.is_enough(scroll, replica.version(scroll[1])):
            return True
        self._holding.admit(*scroll)  # stale: this holder is behind
        return False

    def _settle(self, link: Link, scroll: ScrollId, theirs: bytes) -> None:
        """Send a holder what it lacks of a guest, and let it acknowledge what it may have got from
        others and not on its disk."""
        link.asked.even[scroll] = None
        self._unplaced.pop(scroll, None)
        may_send = contains(link.rights.of(scroll[0]).send, scroll[1])
        is_unsent = scroll in self._guests.unsent
        ours = self._replicas.phext(scroll[0]).version(scroll[1])
        if may_send and (is_unsent or ours != theirs):
            link.outgoing.ask(scroll, theirs)
            link.ready()

    def _drop_if_behind(self, scroll: ScrollId) -> None:
        """Keep nothing that is less than what was shown here before."""
        version = self._replicas.phext(scroll[0]).version(scroll[1])
        if not self._guests.is_enough(scroll, version):
            self._dropped(self._replicas.drop_guest(scroll))

    def _make_room(self) -> None:
        self._dropped(self._replicas.drop_guests(self._asking))

    def _dropped(self, dropped: Iterable[Dropped]) -> None:
        for phext, coordinate, host in dropped:
            for link in self._links.values():
                link.asked.even.pop((phext, coordinate), None)
                if link.number == host:
                    self._unsubscribe(link, (phext, coordinate))

    def _unsubscribe(self, link: Link, scroll: ScrollId) -> None:
        link.outbox.say(Fetch(0, *scroll, FetchMode.UNSUBSCRIBE, b""))
        link.ready()

    # -- what happens meanwhile ------------------------------------------------------------

    def lost(self, link: Link) -> None:
        """A link is gone: what it told of is stale."""
        self._replicas.part_guests(link.number)
        self._questions.lost(link)
        self.met()

    def met(self) -> None:
        """A peer has come, or gone, or holds something else: send what nobody has on its disk to
        whoever would take it now."""
        if self._guests:
            self._unplaced.clear()
            self._send_unsent()

    def acknowledged(self) -> None:
        """A peer has more on its disk."""
        if self._guests.unsent:
            self._note_sent()
        self._progressed()

    def committed(self) -> None:
        """This node has more on its disk, and what left is gone."""
        for phext, coordinate in list(self._parked):
            if not self._holding.is_leaving(phext, coordinate):
                del self._parked[phext, coordinate]
                if (phext, coordinate) not in self._asking:
                    self._ask((phext, coordinate))
        if self._guests.unsent:
            self._note_sent()
            self._send_unsent()
        if self._guests:
            self._make_room()

    def _send_unsent(self) -> None:
        for scroll in list(self._guests.unsent):
            is_placed = any(link.is_ready and scroll in link.asked.even for link in self._all())
            if not is_placed and scroll not in self._asking and scroll not in self._unplaced:
                self._ask(scroll)

    def _note_sent(self) -> None:
        """Note which edits of guests a holder has on its disk by now."""
        for phext in dict.fromkeys(phext for phext, _ in self._guests.unsent):
            unsent = [scroll for scroll in self._guests.unsent if scroll[0] == phext]
            for link in self._all():
                even = [scroll for scroll in unsent if scroll in link.asked.even]
                if even and link.is_ready:
                    under_way = self._lacks.under_way(link, phext)
                    for scroll in even:
                        if scroll[1] not in under_way:
                            self._guests.sent(scroll)

    def _all(self) -> list[Link]:
        return list(self._links.values())
