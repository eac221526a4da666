"""Invitations: how a new machine gets its certificate from the administrator's running node.

The new machine has no certificate yet, so a listener of its own serves it, open only while there
are invitations; the mesh's own listener is as strict as ever. Inside TLS the node shows the
authority's certificate; the machine compares both keys with its code before it says the secret,
and gets its certificate for it. An invitation ends by its time or when it is used up; a use is on
disk before it is answered.

    node: [authority certificate (DER)]    machine: [secret, request (PKCS#10, PEM)]
    node: ["ok", certificates (PEM)] or ["error", reason]
"""

import json
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import Final, NoReturn, Self

import cbor2
import trio

from phextsync.boundaries import Boundary, one_line
from phextsync.discovery import parse_address
from phextsync.errors import IdentityError, LinkError, PhextsyncError, StoreDamagedError
from phextsync.framing import FrameChannel
from phextsync.plain_files import read_file
from phextsync.plain_values import read_json
from phextsync.sockets import FOR_FILES, TlsStream
from phextsync.sync.fields import load_array
from phextsync.transport import Complaints, exchange_context, listen
from phextsync.trust.authority import Authority, Bundle
from phextsync.trust.certificates import PIN_BYTES, key_pin, read_request
from phextsync.trust.codes import CHECKSUM_BYTES, decode_code, encode_code
from phextsync.trust.identity import NodeIdentity, PendingIdentity
from phextsync.trust.known_peers import locked
from phextsync.trust.permissions import Permissions
from phextsync.trust.private_files import save_private
from phextsync.waiting import Waiting

INVITATION_PREFIX: Final = "phextsync-invite1-"
SECRET_BYTES: Final = 16  # nobody can try them all
INVITATIONS_FILE: Final = "invitations.json"
PORT: Final = 7440

_STRANGERS_MAX: Final = 16
"""Connections at once that have not said what they want, each for `_PATIENCE_S` and with a socket,
TLS state and a frame; the oldest gives way."""
_PATIENCE_S: Final = 10.0
_CHECK_S: Final = 5.0  # between two looks whether an invitation is still open
_FRAME_BYTES_MAX: Final = 16 << 10
_NO_GUESTS: Final = (
    PhextsyncError,
    trio.BrokenResourceError,
    trio.EndOfChannel,
    trio.TooSlowError,
)

_logger = logging.getLogger("phextsync.node")


@dataclass(frozen=True, slots=True)
class InvitationCode:
    """What a new machine needs to get a certificate: where to ask, a secret, and a digest of the
    keys of the node that answers there and of the mesh's authority."""

    secret: bytes = field(repr=False)
    pin: bytes
    addresses: tuple[str, ...]

    @classmethod
    def from_text(cls, text: str) -> Self:
        """Read a code; letter case, spaces and hyphens do not matter."""
        payload = decode_code(INVITATION_PREFIX, text)
        secret, rest = payload[:SECRET_BYTES], payload[SECRET_BYTES:]
        addresses = rest[PIN_BYTES:].decode("ascii", "replace").split()
        if not addresses:
            raise IdentityError("expected addresses in the invitation, found none")
        return cls(secret, rest[:PIN_BYTES], tuple(addresses))

    def to_text(self) -> str:
        """Return it as one line; a secret until it is used up."""
        payload = self.secret + self.pin + " ".join(self.addresses).encode("ascii")
        # Base 32 needs no padding where the bytes with their checksum are a multiple of 5.
        padding = b" " * (-(len(payload) + CHECKSUM_BYTES) % 5)
        return encode_code(INVITATION_PREFIX, payload + padding)


@dataclass(frozen=True, slots=True)
class Invitation:
    """Uses that are left until `until_s` (None: for ever); what a certificate will allow, for how
    long; and the folder of the authority that issues it."""

    secret_digest: str
    uses: int
    until_s: float | None
    grants: list[str]
    valid_s: float | None
    authority: str

    def is_open(self, now_s: float) -> bool:
        return self.uses > 0 and (self.until_s is None or now_s < self.until_s)


class Invitations:
    """The invitations of one node and the port where they are redeemed, in a file of mode 0600."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / INVITATIONS_FILE

    def read(self, now_s: float) -> tuple[int, list[Invitation]]:
        """Return the port and the invitations that are open."""
        try:
            value = read_json(read_file(self._path))
            rows = [Invitation(**row) for row in value["invitations"]]
            return int(value["port"]), [row for row in rows if row.is_open(now_s)]
        except FileNotFoundError:
            return PORT, []
        except (OSError, ValueError, LookupError, TypeError) as error:
            raise StoreDamagedError(
                f"expected invitations in {self._path}, found {error!r:.80}"
            ) from error

    def add(self, invitation: Invitation, port: int, now_s: float) -> None:
        """Open an invitation."""
        with locked(self._path):
            self._write(port, [*self.read(now_s)[1], invitation])

    def take(self, secret: bytes, now_s: float) -> Invitation:
        """Use an invitation once. IdentityError when none is open for this secret."""
        with locked(self._path):
            port, rows = self.read(now_s)
            for i, row in enumerate(rows):
                if row.secret_digest == secret_digest(secret):
                    rows[i] = replace(row, uses=row.uses - 1)
                    self._write(port, rows)
                    return row
        raise IdentityError("the invitation has expired or was used up: ask for another")

    def _write(self, port: int, rows: Iterable[Invitation]) -> None:
        value = {"port": port, "invitations": [asdict(row) for row in rows]}
        save_private(self._path, json.dumps(value, indent=1).encode())


def secret_digest(secret: bytes) -> str:
    """Return what is kept of a secret."""
    return blake2b(secret, digest_size=16).hexdigest()


# -- the administrator's node --------------------------------------------------------------


async def keep_serving(
    invitations: Invitations,
    identity: Callable[[], NodeIdentity],
    host: str | None,
    changed: Callable[[], Awaitable[None]],
    boundary: Boundary,
    *,
    wall_time_s: Callable[[], float] = time.time,
) -> NoReturn:
    """Redeem invitations whenever there are any; `changed` waits for news of them or of the
    node's identity."""
    while True:
        rows: list[Invitation] = []
        with boundary.around("redeeming invitations") as outcome:
            port, rows = invitations.read(wall_time_s())
            if rows:
                issuer = identity()
                async with serving(
                    invitations, issuer, host, port, boundary, wall_time_s=wall_time_s
                ):
                    while invitations.read(wall_time_s())[1] and identity() is issuer:
                        with trio.move_on_after(_CHECK_S):
                            await changed()
        if outcome.error is not None:
            with trio.move_on_after(_CHECK_S):
                await changed()
        elif not rows:
            await changed()


@asynccontextmanager
async def serving(
    invitations: Invitations,
    identity: NodeIdentity,
    host: str | None,
    port: int,
    boundary: Boundary,
    *,
    wall_time_s: Callable[[], float],
) -> AsyncIterator[None]:
    """Redeem invitations on `port` for as long as the block lasts. LinkError when it is taken."""
    context = exchange_context(identity)
    listeners = await listen(host, port)
    strangers, complaints = Waiting(), Complaints("strangers without an invitation")

    async def answer(stream: trio.SocketStream) -> None:
        if not strangers.make_room(_STRANGERS_MAX, FOR_FILES):
            return
        tls = TlsStream(stream, context, server_side=True)

        async def hear(channel: FrameChannel) -> list[object]:
            await tls.do_handshake()
            await channel.send(cbor2.dumps([identity.bundles[0].authority_der()]))
            return load_array(await channel.receive())

        try:
            with trio.fail_after(_PATIENCE_S):
                async with FrameChannel(tls, _FRAME_BYTES_MAX) as channel:
                    request = await strangers.during(partial(hear, channel))
                    await channel.send(_answer(invitations, request, wall_time_s(), complaints))
        except _NO_GUESTS as error:
            complaints.log("somebody came without a valid invitation: %s", one_line(error))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(
            partial(
                boundary.serve_listeners,
                listeners,
                answer,
                part=lambda _: "a request by invitation",
            )
        )
        try:
            yield
        finally:
            nursery.cancel_scope.cancel()


def _answer(
    invitations: Invitations, request: list[object], now_s: float, complaints: Complaints
) -> bytes:
    match request:
        case [bytes(secret), bytes(wanted)]:
            pass
        case _:
            return cbor2.dumps(["error", "expected a secret and a request"])
    try:
        name = read_request(wanted)[0]
        row = invitations.take(secret, now_s)
        bundle = Authority.load(Path(row.authority)).answer(
            wanted, Permissions.from_uris(row.grants), now_s=now_s, valid_s=row.valid_s
        )
    except PhextsyncError as error:
        complaints.log("refused an invitation: %s", one_line(error))
        return cbor2.dumps(["error", str(error)])
    _logger.warning("%s joined by invitation", name)
    return cbor2.dumps(["ok", bundle.to_pem()])


# -- the new machine -----------------------------------------------------------------------


async def redeem(code: InvitationCode, pending: PendingIdentity) -> Bundle:
    """Get a certificate for a code. LinkError when no address answers as the code says."""
    failures: list[str] = []
    for text in code.addresses:
        try:
            with trio.fail_after(_PATIENCE_S):
                return await _redeem_at(text, code, pending)
        except trio.TooSlowError:
            failures.append(f"{text}: no answer within {_PATIENCE_S:g} s")
        except (LinkError, OSError, trio.BrokenResourceError, trio.EndOfChannel) as error:
            reason = error.strerror if isinstance(error, OSError) else ""
            failures.append(f"{text}: {reason or one_line(error)}")
    raise LinkError(
        f"{'; '.join(failures)}: does the administrator's node run, and the invitation still hold?"
    )


async def _redeem_at(text: str, code: InvitationCode, pending: PendingIdentity) -> Bundle:
    address = parse_address(text, PORT)
    stream = await trio.open_tcp_stream(address.host, address.port)
    tls = TlsStream(stream, exchange_context(None), server_side=False)
    async with FrameChannel(tls, _FRAME_BYTES_MAX) as channel:
        await tls.do_handshake()
        match load_array(await channel.receive()):
            case [bytes(authority)]:
                pass
            case _:
                raise LinkError("expected the certificate of an authority")
        if key_pin(tls.peer_certificate(), authority) != code.pin:
            raise LinkError("expected the keys that the code names, found others")
        await channel.send(cbor2.dumps([code.secret, pending.request()]))
        match load_array(await channel.receive()):
            case ["ok", bytes(pem)]:
                bundle = Bundle.from_pem(pem)
            case ["error", str(reason)]:
                raise IdentityError(f"{text}: {reason[:200]!r}")
            case _:
                raise LinkError("expected a certificate")
    if bundle.authority_der() != authority:
        raise LinkError("expected a certificate of the authority that the code names")
    return bundle
