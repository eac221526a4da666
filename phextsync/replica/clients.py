"""Clients: under which client ids this node writes, and which node writes under which.

A client id is a lease: the store says with each batch which one a phext is written under, and
after a clean stop it may be used again. One that another node was seen to use is given up.
"""

from collections.abc import Callable
from contextlib import suppress
from hashlib import blake2b
from random import Random
from typing import Final, Protocol

from phextsync.index import Coordinate, update_clock
from phextsync.replica.author import Author
from phextsync.replica.durability import Durability

CLIENTS: Final = ".clients"
"""The phext that says which node wrote under which client id: one line a scroll."""


class Lines(Protocol):
    """The phext `CLIENTS`."""

    def read(self, coordinate: Coordinate) -> str:
        """Return the text of a scroll, "" when there is none."""

    def import_unknown(self, key: Coordinate, text: str) -> None:
        """Import a text into a scroll that is not known here."""


class Clients:
    """The client ids of all phexts of a node. `open_lines` opens the phext `CLIENTS`, and
    `known_lines` does so if it is there."""

    def __init__(
        self,
        random: Random,
        author: Author,
        durability: Durability,
        open_lines: Callable[[], Lines],
        known_lines: Callable[[], Lines | None],
    ) -> None:
        self.node_id = author.node_id
        self._random = random
        self._author = author
        self._durability = durability
        self._open_lines = open_lines
        self._known_lines = known_lines

    def draw(self) -> int:
        """Return a new client id."""
        return self._random.getrandbits(52)  # bit 52 is set in those of imports

    def note(self, phext: str, client_id: int) -> None:
        """Let the next batch make the lease of a client id durable, and tell whose it is."""
        self._durability.lease(phext, client_id)
        if phext != CLIENTS:
            coordinate = _place_of(client_id)
            if self._author.may_write(CLIENTS, coordinate):
                line = f"{client_id} {self.node_id.hex()} {phext}\n"
                self._open_lines().import_unknown(coordinate, line)

    def give_up(self, phext: str) -> None:
        """Let no later batch make the lease of the client id durable that a phext had."""
        self._durability.end_lease(phext)

    def writer_of(self, phext: str, client_id: int) -> bytes | None:
        """Return the node that writes `phext` under a client id, None when that is not known."""
        clients = self._known_lines()
        lines = "" if clients is None else clients.read(_place_of(client_id))
        for line in lines.splitlines():
            match line.split(" ", 2):
                case [client, node, name] if (client, name) == (str(client_id), phext):
                    with suppress(ValueError):
                        return bytes.fromhex(node)
        return None


class Client:
    """The client id under which this node writes one phext, drawn when it is needed first."""

    def __init__(self, phext: str, leased: int | None, clients: Clients) -> None:
        self._phext = phext
        self._clients = clients
        self.current = leased  # None: it has none yet
        self._is_noted = leased is not None

    @property
    def id(self) -> int:
        """The client id that a document is to write under."""
        return self.renew() if self.current is None else self.current

    def renew(self) -> int:
        """Write under a new client id from now on, and return it."""
        self.current = self._clients.draw()
        self._is_noted = False
        return self.current

    def give_up(self) -> None:
        """What was written under the client id may be lost: it must not write again."""
        self.current = None
        self._clients.give_up(self._phext)

    def clock_in(self, update: bytes) -> tuple[int, int]:
        """Return the client id, and the clock that an update shows for it; zeros for none."""
        client = self.current
        return (0, 0) if client is None else (client, update_clock(update, client))

    def sign(self) -> None:
        """Note under which client id this node writes, before it does so for the first time: who
        only reads and relays has nothing to tell the mesh."""
        if self.current is None or not self._is_noted:
            client = self.id
            self._is_noted = True
            self._clients.note(self._phext, client)


def _place_of(client_id: int) -> Coordinate:
    """Return where `CLIENTS` says who writes under a client id."""
    place = blake2b(client_id.to_bytes(8, "big"), digest_size=18).digest()
    return Coordinate(*[1 + int.from_bytes(place[i : i + 2], "big") % 999 for i in range(0, 18, 2)])
