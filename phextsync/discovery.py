"""Who may be near: what nodes tell of themselves, static addresses and remembered peers.

Discovery only suggests addresses to dial; who answers there is the transport's affair.
"""

import ipaddress
import json
import logging
import math
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol, Self

import trio

from phextsync.addresses import EVERYWHERE
from phextsync.durable_files import write_whole
from phextsync.errors import LinkError, StoreDamagedError
from phextsync.plain_files import read_file
from phextsync.plain_values import read_json
from phextsync.transport import PORT, format_address
from phextsync.trust.certificates import NODE_ID_BYTES

PEERS_FILE: Final = "peers.json"
_UNREADABLE: Final = (ValueError, LookupError, TypeError)
REMEMBERED_PEERS_MAX: Final = 1024
"""When full, the peer seen longest ago is forgotten."""

_SEEN_BEHIND_S: Final = 3600.0

_logger = logging.getLogger("phextsync.discovery")


@dataclass(frozen=True, slots=True, order=True)
class Address:
    """A place to dial. `str` gives `host:port` or `[v6]:port`."""

    host: str
    port: int

    def __str__(self) -> str:
        return format_address(self.host, self.port)


@dataclass(frozen=True, slots=True)
class Announcement:
    """What a node tells the network about itself, and where it `listens_on`: at addresses, of which
    one that stands for all means each of this machine of its family."""

    node_id: bytes
    name: str
    port: int
    mesh_tag: str
    incarnation: bytes = b""
    protocol: str = "1"
    listens_on: tuple[str, ...] = EVERYWHERE
    previous_tags: tuple[str, ...] = ()
    """Of a mesh that changes its authority: who still announces the old one is looked for."""

    @property
    def tags(self) -> tuple[str, ...]:
        return (self.mesh_tag, *self.previous_tags)


@dataclass(frozen=True, slots=True)
class Sighting:
    """What was seen of another node of the mesh; nothing in it is proved."""

    node_id: bytes
    name: str
    addresses: tuple[Address, ...]
    mesh_tag: str
    incarnation: bytes
    protocol: str


class Discovery(Protocol):
    """A way to be found and to find: announces while the block lasts and gives what it sees.

    Only other nodes of the same mesh are given. The channel is bounded: for a slow reader the
    sightings of one node coalesce. It never ends by itself.
    """

    def open(
        self, announcement: Announcement
    ) -> AbstractAsyncContextManager[trio.abc.ReceiveChannel[Sighting]]: ...


def is_loopback(host: str) -> bool:
    """Whether a name or an address stands for this machine alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class RememberedPeers:
    """Where peers answered before, for a start where multicast is blocked, and when each was seen
    last, at whatever address. Time is an argument."""

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._seen_s: dict[bytes, float] = {}
        self._addresses: dict[bytes, Address] = {}
        self._names: dict[bytes, str] = {}
        self._is_changed = False

    def remember(self, node_id: bytes, address: Address, time_s: float) -> None:
        """Note that the node answered at `address` at `time_s`."""
        self._addresses[node_id] = address
        self._seen_s[node_id] = time_s
        self._is_changed = True
        self._make_room()

    def see(self, node_id: bytes, time_s: float) -> None:
        """Note that the node is there at `time_s`; the file is at most an hour behind."""
        before = self._seen_s.get(node_id, -math.inf)
        self._seen_s[node_id] = max(before, time_s)
        self._is_changed |= time_s - before > _SEEN_BEHIND_S
        self._make_room()

    def overlook(self, node_id: bytes) -> None:
        """Take the node for one that was never seen; its address is kept."""
        if node_id in self._seen_s:
            self._seen_s[node_id] = 0.0
            self._is_changed = True

    def remember_name(self, node_id: bytes, name: str) -> None:
        """Note how a node that is remembered calls itself."""
        if node_id in self._seen_s and self._names.get(node_id) != name:
            self._names[node_id] = name
            self._is_changed = True

    def name(self, node_id: bytes) -> str:
        """Return how the node called itself, the empty text when that is not known."""
        return self._names.get(node_id, "")

    def forget(self, node_id: bytes) -> None:
        """Forget a node, if it is known."""
        self._is_changed |= self._seen_s.pop(node_id, None) is not None
        self._addresses.pop(node_id, None)
        self._names.pop(node_id, None)

    def last_seen_s(self, node_id: bytes) -> float | None:
        """Return when the node was last seen, or None."""
        return self._seen_s.get(node_id)

    def seen_since(self, time_s: float) -> Iterator[bytes]:
        """Give the nodes that were seen at `time_s` or later."""
        return (
            node_id for node_id, seen_s in self._seen_s.items() if seen_s >= time_s and seen_s > 0
        )

    def addresses(self) -> tuple[Address, ...]:
        """Return the address of each peer that has one, the one seen last first."""
        return tuple(address for _, (address, _) in self.latest_first())

    def to_json(self) -> str:
        """Return all of it as text that `from_json` reads."""
        entries: list[dict[str, str | float]] = []
        for node_id in self._by_time():
            address = self._addresses.get(node_id)
            entries.append(
                {
                    "node_id": node_id.hex(),
                    "name": self.name(node_id),
                    **({} if address is None else {"address": str(address)}),
                    "last_seen_s": self._seen_s[node_id],
                }
            )
        return json.dumps({"peers": entries}, indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what `to_json` wrote; StoreDamagedError for anything else."""
        remembered = cls()
        try:
            for entry in read_json(text)["peers"][:REMEMBERED_PEERS_MAX]:
                node_id = bytes_of_hex(entry["node_id"], NODE_ID_BYTES)
                if "address" in entry:
                    remembered._addresses[node_id] = parse_address(entry["address"])
                remembered._seen_s[node_id] = float(entry["last_seen_s"])
                if "name" in entry:
                    remembered._names[node_id] = str(entry["name"])
        except (ArithmeticError, AttributeError, LinkError, *_UNREADABLE) as error:
            raise StoreDamagedError(f"expected remembered peers, found {text[:40]!r}") from error
        return remembered

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read the file at `path`. They are hints: a damaged file is logged and none are known."""
        remembered = cls()
        try:
            remembered = cls.from_json(read_file(path).decode())
        except FileNotFoundError:
            pass
        except (OSError, UnicodeError, StoreDamagedError) as error:
            _logger.warning("remembered peers in %s cannot be read: %s", path, error)
        remembered._path = path
        return remembered

    def save_if_changed(self) -> None:
        """Write the file that it was loaded from, when there is something new."""
        if not self._is_changed or self._path is None:
            return
        self._is_changed = False
        try:
            write_whole(self._path, self.to_json().encode())
        except OSError as error:
            _logger.warning("remembered peers cannot be kept in %s: %s", self._path, error)

    def latest_first(self) -> list[tuple[bytes, tuple[Address, float]]]:
        """Return each node that has an address with it, and when it was last seen."""
        return [
            (node_id, (self._addresses[node_id], self._seen_s[node_id]))
            for node_id in self._by_time()
            if node_id in self._addresses
        ]

    def _make_room(self) -> None:
        """Of too many forget one: one that others told of before one that answered."""
        if len(self._seen_s) > REMEMBERED_PEERS_MAX:
            self.forget(
                min(
                    self._seen_s,
                    key=lambda known: (known in self._addresses, self._seen_s[known], known),
                )
            )

    def _by_time(self) -> list[bytes]:
        return sorted(self._seen_s, key=lambda node_id: (-self._seen_s[node_id], node_id))


def parse_address(text: str, default_port: int = PORT) -> Address:
    """Read `host`, `host:port`, `v6` or `[v6]:port`; LinkError for anything else."""
    text = text.strip()
    try:
        if text.startswith("["):
            host, bracket, rest = text[1:].partition("]")
            ipaddress.IPv6Address(host)
            if not bracket or (rest and not rest.startswith(":")):
                raise ValueError
            port = _port(rest[1:]) if rest else default_port
        elif text.count(":") > 1:
            ipaddress.IPv6Address(text)
            host, port = text, default_port
        else:
            host, colon, rest = text.partition(":")
            port = _port(rest) if colon else default_port
            _check_name(host)
    except ValueError:
        raise LinkError(f"expected host, host:port or [v6]:port, found {text!r}") from None
    return Address(host, port)


def check_host(text: str) -> None:
    """LinkError for what is neither the name of a host nor an address."""
    try:
        if ":" in text:
            ipaddress.IPv6Address(text)
        else:
            _check_name(text)
    except ValueError:
        raise LinkError(f"expected the name or the address of a host, found {text!r:.80}") from None


def _check_name(host: str) -> None:
    """ValueError for what is no name of a host."""
    if not host or any(c.isspace() or not c.isprintable() or c in "[]/@" for c in host):
        raise ValueError
    host.encode("idna")  # as who looks it up will do


def bytes_of_hex(text: object, length: int) -> bytes:
    """Return so many bytes of hexadecimal text; ValueError for anything else."""
    if not isinstance(text, str) or len(text) != 2 * length:
        raise ValueError(f"expected {2 * length} hexadecimal digits, found {text!r}")
    return bytes.fromhex(text)


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 5 and 0 < int(text) < 1 << 16):
        raise LinkError(f"expected a port from 1 to 65535, found {text!r:.20}")
    return int(text)
