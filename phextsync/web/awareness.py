"""Awareness: what the clients at one scroll tell of themselves, for as long as they are there.

The states of y-protocols' awareness: JSON of each client under a clock that grows. A participant
speaks for one client, the first of which it tells what it was not told; what it tells of others,
they tell themselves. Of a client for which another speaks it is heard when that one is gone: a
connection that is dead may be there still when the one that follows it comes. Sans-IO.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from phextsync.errors import ProtocolError
from phextsync.plain_values import read_json
from phextsync.varints import varints
from phextsync.web.lib0 import Reader, sized_text

STATE_BYTES_MAX: Final = 4 << 10
"""Bytes of what one client tells of itself: its name, its colour, its cursor."""
CLIENTS_MAX: Final = 512
"""Clients at one scroll, those at other nodes included; the others are not told of."""

ELSEWHERE: Final = 0
"""The participant of clients at other nodes."""

_GONE_MAX: Final = 256
_CLOCK_MAX: Final = 1 << 52  # half of what JavaScript counts: whoever counts on is read by others
_TOLD_OF_MAX: Final = 4 * CLIENTS_MAX  # clients in one message: most clients pass on all they hear


@dataclass(slots=True)
class _Client:
    participant: int
    clock: int
    state: str


def _ignore(client: int) -> None:
    """Nobody listens."""


class Awareness:
    """The clients at one scroll. `on_change(client)` is called when there is another state."""

    def __init__(self, on_change: Callable[[int], None] = _ignore) -> None:
        self._on_change = on_change
        self._clients: dict[int, _Client] = {}
        self._gone: dict[int, int] = {}  # their last clocks, the oldest first
        self._spoken_for: dict[int, int] = {}
        self._waiting: dict[int, tuple[int, int, str]] = {}  # who would speak for whom, and what

    def __iter__(self) -> Iterator[int]:
        return iter(self._clients)

    def __len__(self) -> int:
        return len(self._clients)

    def state(self, client: int) -> str:
        """Return the JSON that a client tells, `null` when it is gone."""
        found = self._clients.get(client)
        return "null" if found is None else found.state

    def here(self) -> list[tuple[int, int, str]]:
        """Return client, clock and state of those who are at this node, in their order."""
        rows = self._clients.items()
        return [
            (client, row.clock, row.state) for client, row in rows if row.participant != ELSEWHERE
        ]

    def take(self, participant: int, update: bytes, *, has_heard: bool = False) -> None:
        """Take what a participant tells, which may be what it was told, if it `has_heard` anything.
        ProtocolError when that cannot be read, or is too much."""
        reader = Reader(update)
        count = reader.integer()
        if count > _TOLD_OF_MAX:
            raise ProtocolError(f"expected at most {_TOLD_OF_MAX} clients, found {count}")
        for _ in range(count):
            client, clock, state = reader.integer(), reader.integer(), reader.text()
            if self._spoken_for.get(participant, client) != client:
                continue
            _check(state)
            if state == "null":
                self._take_gone(participant, client, min(clock, _CLOCK_MAX))
                continue
            if has_heard and participant not in self._spoken_for and clock <= self._last(client):
                continue  # it passes on what it heard
            self._spoken_for[participant] = client
            self.put(participant, client, clock, state)

    def put(self, participant: int, client: int, clock: int, state: str) -> None:
        """A client has a state, unless it had a newer one, or another speaks for it. One that comes
        back gets a new clock: with the one that it had nobody would listen to it."""
        known, clock = self._clients.get(client), min(clock, _CLOCK_MAX)
        if known is not None and known.participant != participant:
            self._waiting[client] = participant, clock, state
            return
        if known is None:
            if len(self._clients) >= CLIENTS_MAX:
                return
            if client in self._gone:
                clock = max(clock, self._gone.pop(client) + 1)
        elif clock <= known.clock:
            return
        self._clients[client] = _Client(participant, clock, state)
        self._on_change(client)

    def leave(self, participant: int) -> None:
        """A participant has ended, and the client for which it spoke is gone."""
        client = self._spoken_for.pop(participant, None)
        if client is not None:
            self._take_gone(participant, client)

    def remove(self, client: int) -> None:
        """A client at another node is gone."""
        self._take_gone(ELSEWHERE, client)

    def encode(self, clients: Iterable[int]) -> bytes:
        """Return the message about some clients, those who are gone among them."""
        rows = []
        for client in clients:
            clock = max(0, self._last(client))
            rows.append(varints(client, clock) + sized_text(self.state(client)))
        return varints(len(rows)) + b"".join(rows)

    def _last(self, client: int) -> int:
        """Return the last clock of a client, -1 of one that is not known."""
        found = self._clients.get(client)
        return self._gone.get(client, -1) if found is None else found.clock

    def _take_gone(self, participant: int, client: int, clock: int = 0) -> None:
        """A participant has no more to tell of a client; who waits to speak for it is heard."""
        if client in self._waiting and self._waiting[client][0] == participant:
            del self._waiting[client]
        known = self._clients.get(client)
        if known is None or known.participant != participant:
            return
        self._remove(client, max(clock, known.clock))
        if client in self._waiting:
            after, clock, state = self._waiting.pop(client)
            self.put(after, client, clock, state)

    def _remove(self, client: int, clock: int) -> None:
        del self._clients[client]
        self._gone.pop(client, None)
        self._gone[client] = clock
        if len(self._gone) > _GONE_MAX:
            del self._gone[next(iter(self._gone))]
        self._on_change(client)


def _check(state: str) -> None:
    """ProtocolError unless every client can read a state: one that cannot would fail there."""
    if len(state.encode()) > STATE_BYTES_MAX:
        raise ProtocolError(
            f"expected at most {STATE_BYTES_MAX} bytes of awareness, found {len(state)}"
        )
    try:
        value = read_json(state, parse_constant=_no_constant)
    except ValueError as error:
        raise ProtocolError(f"expected awareness as JSON, found {state!r:.60}") from error
    if not isinstance(value, dict | None):
        raise ProtocolError(f"expected awareness as an object of JSON, found {state!r:.60}")


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")
