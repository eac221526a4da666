"""Open scrolls: those that clients have open, and what each client has of them. Sans-IO.

A participant is one client at one scroll. It has no queue that grows: recent updates wait up to a
bound, beyond which all that is kept is a state vector of what the client has, from which the
difference is made when it can be sent. What a client sends goes through `Replica.merge`.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from phextsync.crdt import ROOT, client_clocks, merge_updates
from phextsync.errors import NotHeldError, PermissionDeniedError, PhextsyncError, ProtocolError
from phextsync.gateways.told_cursors import Place
from phextsync.index import (
    Coordinate,
    after_news,
    check_update,
    clock_of,
    covers,
    snapshot_version,
    state_vector,
    update_version,
)
from phextsync.phext_names import is_phext_name, is_reserved
from phextsync.replica.changes import writing_as
from phextsync.replica.listener import NewUpdate, ReplicaListener
from phextsync.replica.replica import Replica
from phextsync.replica.replicas import ReplicaSet
from phextsync.web.awareness import Awareness

WAITING_BYTES_MAX: Final = 64 << 10
"""Bytes of updates that wait for one client; beyond, it gets a difference."""
NEWS_BYTES_MAX: Final = 16 << 10
"""Bytes of updates that are told as news: more is no matter for the moment of an edit."""
VERSION_BYTES_MAX: Final = 32 << 10
"""Bytes of a scroll's version up to which new clients may write there: some 4,000, at which an
edit takes some milliseconds. Peers can ask for a scroll only while its version is below
`Limits.version_bytes_max`, eight times as much."""
PARTICIPANTS_MAX: Final = 2048
"""Clients of one node, each counted once for each scroll that it has open."""

VECTOR_BYTES_MAX: Final = 256 << 10
"""Bytes of a client's state vector: more than any scroll has."""
CLIENT_BYTES: Final = 16
"""What a new client adds to a version at most: its id, its clock, what it deleted first."""

_EMPTY_UPDATE: Final = b"\0\0"
_UPDATE_BYTES: Final = 64  # what an update costs beside its bytes


class TooManyError(PhextsyncError):
    """More scrolls are open, or more sessions wrote in one, than may be."""


def _ignore() -> None:
    """Nobody listens."""


def _ignore_scroll(scroll: "OpenScroll") -> None:
    """Nobody listens."""


class OpenScroll:
    """One scroll that clients have open."""

    def __init__(self, replica: Replica, coordinate: Coordinate) -> None:
        self.replica = replica
        self.coordinate = coordinate
        self.participants: dict[int, Participant] = {}
        self.awareness = Awareness(self._tell_of)
        self.on_awareness: Callable[[], None] = _ignore
        self._writing: Participant | None = None
        self._vector: bytes | None = None

    @property
    def place(self) -> Place:
        """The phext and the coordinate."""
        return self.replica.name, self.coordinate

    @property
    def vector(self) -> bytes:
        """The state vector of the scroll."""
        if self._vector is None:
            self._vector = state_vector(self.replica.version(self.coordinate))
        return self._vector

    def note(self, update: bytes) -> None:
        """An update took effect, of which all but its writer have to hear."""
        if self._vector is not None:
            self._vector = after_news(self._vector, update)
        for participant in self.participants.values():
            if participant is not self._writing:
                participant.note(update)

    def reset(self) -> None:
        """The scroll may be another one than before."""
        self._vector = None
        for participant in self.participants.values():
            participant.fall_behind()

    @contextmanager
    def written_by(self, participant: "Participant") -> Iterator[None]:
        """What takes effect in this block, this participant has already."""
        self._writing = participant
        try:
            yield
        finally:
            self._writing = None

    def _tell_of(self, client: int) -> None:
        for participant in self.participants.values():
            participant.note_client(client)
        self.on_awareness()


class Participant:
    """One client at one scroll. `on_ready()` is called when there is something to send;
    `on_news()` in place of it where that is a little which `next_update` can give at once, in the
    middle of an edit."""

    def __init__(
        self,
        number: int,
        scroll: OpenScroll,
        label: str,
        on_ready: Callable[[], object],
        on_news: Callable[[], object],
    ) -> None:
        self.number = number
        self._scroll = scroll
        self._label = label
        self._on_ready = on_ready
        self._on_news = on_news
        self._has: bytes | None = None  # the version that it is known to have; None: not yet
        self._is_asked = False
        self._is_behind = False
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0
        self._writes_as: set[int] = set()  # client ids for which there was room
        self._clients: dict[int, None] = dict.fromkeys(scroll.awareness)
        self._has_heard = False

    # -- what comes from the client --------------------------------------------------------

    def ask(self, vector: bytes) -> None:
        """The client asks for what is not in its state vector. UpdateError when it is none."""
        if len(vector) > VECTOR_BYTES_MAX:
            raise ProtocolError(
                f"expected a state vector of at most {VECTOR_BYTES_MAX} bytes, found {len(vector)}"
            )
        self._has = snapshot_version(b"\0" + vector)
        self._is_asked = True
        self._forget()
        self._on_ready()

    def take(self, update: bytes) -> bool:
        """Merge what the client wrote; whether all that it builds on is here. What is refused is
        an error: those of `Replica.merge`, and TooManyError when too many wrote there."""
        replica, coordinate = self._scroll.replica, self._scroll.coordinate
        if update == _EMPTY_UPDATE:
            return True
        if not self.may_write and covers(replica.version(coordinate), update_version(update)):
            return True  # it tells what it has, which is no edit
        check_update(update, ROOT)
        self._check_clients(update)
        with writing_as(self._label), self._scroll.written_by(self):
            return replica.merge(coordinate, update).covered

    def _check_clients(self, update: bytes) -> None:
        """TooManyError when a client is one too many of those that ever wrote there."""
        is_large = len(update) > VERSION_BYTES_MAX  # its vector is smaller
        if is_large and len(state_vector(update_version(update))) > VERSION_BYTES_MAX:
            raise TooManyError("expected an update by fewer sessions: no scroll has so many")
        brought = client_clocks(update).keys() - self._writes_as
        if not brought:
            return
        scroll = self._scroll
        version = scroll.replica.version(scroll.coordinate)
        known = sum(1 for client in brought if clock_of(version, client))
        if len(version) + CLIENT_BYTES * (len(brought) - known) > VERSION_BYTES_MAX:
            raise TooManyError(
                f"expected a version of at most {VERSION_BYTES_MAX} bytes, found too many sessions"
                " that wrote in this scroll; put its text into a new one"
            )
        self._writes_as |= brought

    @property
    def may_write(self) -> bool:
        """Whether the client may edit the scroll, which is what this node may."""
        try:
            self._scroll.replica.check_allowed(self._scroll.coordinate)
        except PermissionDeniedError:
            return False
        return True

    # -- what goes to the client -----------------------------------------------------------

    def next_answer(self) -> bytes | None:
        """Return the answer to `ask`, which may be an empty update; None when nothing is asked."""
        if not self._is_asked:
            return None
        self._is_asked = False
        return self._difference() or _EMPTY_UPDATE

    def next_update(self) -> bytes | None:
        """Return what to send now, None for nothing."""
        if self._has is None or self._is_asked:
            return None
        if self._is_behind:
            return self._difference()
        if not self._waiting:
            return None
        waiting, count = self._waiting, len(self._waiting)
        self._forget()
        self._has = snapshot_version(b"\0" + self._scroll.vector)
        return waiting[0] if count == 1 else merge_updates(waiting)

    def next_clients(self) -> bytes | None:
        """Return what to tell of the clients here, None for nothing."""
        if not self._clients:
            return None
        told, self._clients = self._clients, {}
        return self._scroll.awareness.encode(told)

    # -- what happens meanwhile ------------------------------------------------------------

    def note(self, update: bytes) -> None:
        """An update took effect that the client does not have."""
        if self._has is None or self._is_asked or self._is_behind:
            return
        self._waiting.append(update)
        self._waiting_bytes += len(update) + _UPDATE_BYTES
        if self._waiting_bytes > WAITING_BYTES_MAX:
            self.fall_behind()
        elif self._waiting_bytes > NEWS_BYTES_MAX:
            self._on_ready()
        else:
            self._on_news()

    def fall_behind(self) -> None:
        """From now on only what the client has is known, not what it lacks."""
        self._forget()
        self._is_behind = True
        self._on_ready()

    def note_client(self, client: int) -> None:
        """A client has another state."""
        self._clients[client] = None
        self._on_ready()

    def note_all_clients(self) -> None:
        """The client asks who is there."""
        self._clients.update(dict.fromkeys(self._scroll.awareness))
        self._on_ready()

    @property
    def waiting_bytes(self) -> int:
        """What waits for the client, in bytes."""
        return self._waiting_bytes

    @property
    def vector(self) -> bytes:
        """The state vector of the scroll here."""
        return self._scroll.vector

    def note_heard(self) -> None:
        """The client has answered: it may pass on what it was told of others."""
        self._has_heard = True

    def take_clients(self, update: bytes) -> None:
        """Take what the client tells of itself. ProtocolError when it cannot be read."""
        self._scroll.awareness.take(self.number, update, has_heard=self._has_heard)

    def _difference(self) -> bytes | None:
        assert self._has is not None
        update = self._scroll.replica.difference(self._scroll.coordinate, self._has)
        self._forget()
        self._has = snapshot_version(b"\0" + self._scroll.vector)
        return update

    def _forget(self) -> None:
        self._waiting, self._waiting_bytes, self._is_behind = [], 0, False


class OpenScrolls:
    """The open scrolls of a node, made when the first client comes, gone with the last."""

    def __init__(self, replicas: ReplicaSet) -> None:
        self.on_awareness: Callable[[], None] = _ignore
        self.on_open: Callable[[OpenScroll], None] = _ignore_scroll
        self._replicas = replicas
        self._opened: dict[Place, OpenScroll] = {}
        self._numbers = 0
        self._count = 0
        replicas.listen(
            ReplicaListener(
                on_update=self._note, on_held=self._reset_phext, on_set_aside=self._reset_phext
            )
        )

    def __len__(self) -> int:
        return len(self._opened)

    def scroll(self, phext: str, coordinate: Coordinate) -> OpenScroll | None:
        """Return a scroll that is open, None for another."""
        return self._opened.get((phext, coordinate))

    def scrolls(self) -> list[OpenScroll]:
        """Return all that are open, in the order in which they were."""
        return list(self._opened.values())

    def enter(
        self,
        phext: str,
        coordinate: Coordinate,
        label: str,
        on_ready: Callable[[], object],
        on_news: Callable[[], object] | None = None,
    ) -> Participant:
        """Let a client in; without `on_news`, `on_ready` is called for all. NotHeldError when the
        scroll is not held here, or cannot be one of a client, TooManyError when too many are here.
        """
        if is_reserved(phext):
            raise NotHeldError(f"{phext}: phexts whose names begin with a dot are the library's")
        if not is_phext_name(phext):
            raise NotHeldError(f"expected the name of a phext, found {phext!r:.60}")
        if self._count >= PARTICIPANTS_MAX:
            raise TooManyError(f"expected at most {PARTICIPANTS_MAX} open scrolls, found another")
        scroll = self._opened.get((phext, coordinate))
        if scroll is None:
            replica = self._replicas.phext(phext)
            replica.check_held(coordinate)
            scroll = self._opened[phext, coordinate] = OpenScroll(replica, coordinate)
            self.on_open(scroll)
            scroll.on_awareness = self._note_awareness
        self._numbers += 1
        self._count += 1
        participant = scroll.participants[self._numbers] = Participant(
            self._numbers, scroll, label, on_ready, on_news or on_ready
        )
        return participant

    def leave(self, phext: str, coordinate: Coordinate, participant: Participant) -> None:
        """A client has left."""
        scroll = self._opened[phext, coordinate]
        del scroll.participants[participant.number]
        self._count -= 1
        scroll.awareness.leave(participant.number)
        if not scroll.participants:
            del self._opened[phext, coordinate]

    def _note(self, new: NewUpdate) -> None:
        scroll = self._opened.get((new.phext, new.coordinate))
        if scroll is not None:
            scroll.note(new.entry.update)

    def _note_awareness(self) -> None:
        self.on_awareness()

    def _reset_phext(self, phext: str) -> None:
        for (name, _), scroll in self._opened.items():
            if name == phext:
                scroll.reset()
