"""Clients: under which client ids this node writes, and which node writes under which.

A client id is a lease: the store says with each batch which one a phext is written under, and
after a clean stop it may be used again. One that another node was seen to use is given up.

A writer with a label has a client id of its own, which follows from that of the phext and the
label: so the characters themselves tell which writer of a node wrote them.
"""

from collections.abc import Callable
from contextlib import suppress
from hashlib import blake2b
from random import Random
from typing import Final, Protocol

from phextsync.index import Coordinate, update_clock
from phextsync.prefixes import numbers_of
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
        self._tell(phext, client_id, "")

    def note_label(self, phext: str, client_id: int, label: str) -> None:
        """Tell whose the client id of a label is, if that is not told yet."""
        if self.written_by(phext, client_id) is None:
            self._tell(phext, client_id, f"\t{label}")

    def _tell(self, phext: str, client_id: int, label: str) -> None:
        coordinate = _place_of(client_id)
        if phext != CLIENTS and self._author.may_write(CLIENTS, coordinate):
            line = f"{client_id} {self.node_id.hex()} {phext}{label}\n"
            self._open_lines().import_unknown(coordinate, line)

    def give_up(self, phext: str) -> None:
        """Let no later batch make the lease of the client id durable that a phext had."""
        self._durability.end_lease(phext)

    def writer_of(self, phext: str, client_id: int) -> bytes | None:
        """Return the node that writes `phext` under a client id, None when that is not known."""
        found = self.written_by(phext, client_id)
        return None if found is None else found[0]

    def written_by(self, phext: str, client_id: int) -> tuple[bytes, str] | None:
        """Return the node that writes `phext` under a client id, and the label of its writer; None
        when that is not known."""
        clients = self._known_lines()
        lines = "" if clients is None else clients.read(_place_of(client_id))
        for line in lines.splitlines():
            match line.split(" ", 2):
                case [client, node, told] if client == str(client_id):
                    name, _, label = told.partition("\t")
                    with suppress(ValueError):
                        if name == phext:
                            return bytes.fromhex(node), label
        return None


class Client:
    """The client id under which this node writes one phext, drawn when it is needed first."""

    def __init__(self, phext: str, leased: int | None, clients: Clients) -> None:
        self._phext = phext
        self._clients = clients
        self.current = leased  # None: it has none yet
        self._is_noted = leased is not None
        self._labels: dict[str, int] = {}  # client ids that follow from the current one
        self._noted: set[str] = set()

    @property
    def id(self) -> int:
        """The client id that a document is to write under."""
        return self.renew() if self.current is None else self.current

    def renew(self) -> int:
        """Write under a new client id from now on, and return it."""
        self.current = self._clients.draw()
        self._is_noted = False
        self._forget_labels()
        return self.current

    def id_of(self, label: str) -> int:
        """Return the client id under which a writer with a label is to write; without a label it
        is that of the phext."""
        if not label:
            return self.id
        known = self._labels.get(label)
        if known is None:
            data = self.id.to_bytes(8, "big") + label.encode()
            digest = blake2b(data, digest_size=8, person=b"phextsync label").digest()
            known = self._labels[label] = int.from_bytes(digest, "big") >> 12
        return known

    def give_up(self) -> None:
        """What was written under the client id may be lost: it must not write again."""
        self.current = None
        self._forget_labels()
        self._clients.give_up(self._phext)

    def clocks_in(self, update: bytes) -> list[tuple[int, int]]:
        """Return the client ids of which an update shows something, and the clocks of that."""
        if self.current is None:
            return []
        if not self._labels:
            clock = update_clock(update, self.current)
            return [(self.current, clock)] if clock else []
        clients = (self.current, *self._labels.values())
        return [(client, clock) for client in clients if (clock := update_clock(update, client))]

    def sign(self, label: str = "") -> None:
        """Note under which client id this node writes, before it does so for the first time: who
        only reads and relays has nothing to tell the mesh."""
        if self.current is None or not self._is_noted:
            client = self.id
            self._is_noted = True
            self._clients.note(self._phext, client)
        if label and label not in self._noted:
            self._noted.add(label)
            self._clients.note_label(self._phext, self.id_of(label), label)

    def is_signed(self, label: str) -> bool:
        """Whether `sign` has nothing to note for a writer of that label."""
        return self.current is not None and self._is_noted and (not label or label in self._noted)

    def _forget_labels(self) -> None:
        self._labels.clear()
        self._noted.clear()


def _place_of(client_id: int) -> Coordinate:
    """Return where `CLIENTS` says who writes under a client id."""
    digest = blake2b(client_id.to_bytes(8, "big"), digest_size=18).digest()
    return Coordinate(*numbers_of(digest))
