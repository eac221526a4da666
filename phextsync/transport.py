"""TLS links between nodes. Knows nothing of messages.

A link is TLS 1.3 with certificates on both sides, issued by the mesh's authority. In TLS 1.3 the
dialler learns only at its first read whether it was accepted, so the acceptor speaks first: one
byte, `_WELCOME`. When `connect` returns or the handler of `serve` is called, both sides have
proved who they are.
"""

import contextlib
import errno
import logging
import socket
import ssl
import tempfile
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Final, NoReturn, Protocol, TypeVar

import trio

from phextsync.boundaries import Boundary
from phextsync.errors import IdentityError, LinkError
from phextsync.framing import FRAME_BYTES_MAX, FrameChannel, broken_reason
from phextsync.sockets import FOR_FILES, SocketStream, TlsStream, close_in_children
from phextsync.trust.authority import Bundle
from phextsync.trust.certificates import certificate_name, certificate_node_id
from phextsync.trust.identity import NodeIdentity
from phextsync.waiting import Waiting

PORT: Final = 7439  # PHEX on a keypad

HANDSHAKES_MAX: Final = 64
"""Strangers between connecting and proving who they are; each holds a socket and TLS state."""
HANDSHAKE_TIMEOUT_S: Final = 5.0
CONNECT_TIMEOUT_S: Final = 5.0
LINES_MAX: Final = 10
"""Lines logged in `LINES_S` about strangers; who they are and how many is up to them."""
LINES_S: Final = 10.0

_WELCOME: Final = b"\x01"
_PORT_MAX: Final = 65_535
_PORT_ATTEMPTS: Final = 16

_logger = logging.getLogger("phextsync.transport")

StreamT = TypeVar("StreamT", bound=trio.abc.Stream)


class Complaints:
    """Warnings about strangers, at most `LINES_MAX` in `LINES_S`; a later one tells of the rest."""

    def __init__(self, what: str = "links") -> None:
        self._what = what
        self._since = -LINES_S
        self._lines = 0

    def log(self, text: str, *arguments: object) -> None:
        """Log one line, or count it."""
        now = trio.current_time()
        if now - self._since >= LINES_S:
            if self._lines > LINES_MAX:
                _logger.warning("refused %d more %s", self._lines - LINES_MAX, self._what)
            self._since, self._lines = now, 0
        self._lines += 1
        if self._lines <= LINES_MAX:
            _logger.warning(text, *arguments)


@dataclass(frozen=True, slots=True)
class SecureLink:
    """A link whose two ends know each other. `address` is the peer's, for people to read."""

    channel: FrameChannel
    peer_id: bytes
    peer_name: str
    address: str
    certificate: bytes


class Network(Protocol):
    """How a node reaches others and is reached: at the address that it `listens_on`, None for all
    of the machine. While it serves it is `bound` to addresses, of which some may stand for all of
    their family. Its identity may be replaced while it serves."""

    identity: NodeIdentity
    listens_on: str | None
    bound: tuple[str, ...]

    async def connect(self, host: str, port: int) -> SecureLink:
        """Dial a node; the link is accepted on both sides. LinkError names the address and why."""

    async def serve(
        self,
        handler: Callable[[SecureLink], Awaitable[None]],
        *,
        task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED,
    ) -> NoReturn:
        """Run `handler` for each accepted link until cancelled; started with the port. A link is
        closed when its handler returns or raises; that ends no other."""


@dataclass(slots=True)
class TlsNetwork:
    """TLS over TCP; listens as `serve` says."""

    identity: NodeIdentity
    listens_on: str | None
    port: int | None
    bound: tuple[str, ...] = ()

    async def connect(self, host: str, port: int) -> SecureLink:
        return await connect(self.identity, host, port)

    async def serve(
        self,
        handler: Callable[[SecureLink], Awaitable[None]],
        *,
        task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED,
    ) -> NoReturn:
        listeners = await listen(self.listens_on, self.port)
        self.bound = tuple(str(each.socket.getsockname()[0]) for each in listeners)
        task_status.started(listeners[0].socket.getsockname()[1])
        await serve_listeners(lambda: self.identity, listeners, handler, peer_address=_peer_address)


async def connect(
    identity: NodeIdentity,
    host: str,
    port: int,
    *,
    open_stream: Callable[[str, int], Awaitable[trio.abc.Stream]] = trio.open_tcp_stream,
    timeout_s: float = CONNECT_TIMEOUT_S,
    frame_bytes_max: int = FRAME_BYTES_MAX,
) -> SecureLink:
    """Dial a node; the link is accepted on both sides. LinkError names the address and why.

    While the mesh changes its authority, the link is under the newest one that both sides have.
    """
    address = format_address(host, port)
    *newer, oldest = identity.bundles
    try:
        with trio.fail_after(timeout_s):
            for bundle in newer:
                with contextlib.suppress(LinkError):
                    stream = await open_stream(host, port)
                    return await _dial(identity, bundle, stream, address, frame_bytes_max)
            stream = await open_stream(host, port)
            return await _dial(identity, oldest, stream, address, frame_bytes_max)
    except trio.TooSlowError:
        raise LinkError(f"{address}: no answer within {timeout_s:g} s") from None
    except LinkError as error:
        raise LinkError(f"{address}: {error}") from error
    except (OSError, UnicodeError) as error:
        raise LinkError(f"{address}: {_dial_failure(error)}") from error


async def _dial(
    identity: NodeIdentity,
    bundle: Bundle,
    stream: trio.abc.Stream,
    address: str,
    frame_bytes_max: int,
) -> SecureLink:
    return await open_link(
        stream,
        client_context(identity, bundle),
        server_side=False,
        address=address,
        frame_bytes_max=frame_bytes_max,
        mesh_tag=bundle.mesh_tag,
    )


async def serve(
    identity: NodeIdentity | Callable[[], NodeIdentity],
    host: str | None,
    port: int | None,
    handler: Callable[[SecureLink], Awaitable[None]],
    *,
    handshakes_max: int = HANDSHAKES_MAX,
    handshake_timeout_s: float = HANDSHAKE_TIMEOUT_S,
    frame_bytes_max: int = FRAME_BYTES_MAX,
    task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED,
) -> NoReturn:
    """Listen until cancelled and run `handler` for each accepted link; started with the port.

    `host` and `port` are as `listen` has them. A link is closed when its handler returns or
    raises; that ends no other. Where `identity` is a function, each handshake is under what it
    gives.
    """
    listeners = await listen(host, port)
    task_status.started(listeners[0].socket.getsockname()[1])
    await serve_listeners(
        identity,
        listeners,
        handler,
        peer_address=_peer_address,
        handshakes_max=handshakes_max,
        handshake_timeout_s=handshake_timeout_s,
        frame_bytes_max=frame_bytes_max,
    )


async def serve_listeners(
    identity: NodeIdentity | Callable[[], NodeIdentity],
    listeners: Iterable[trio.abc.Listener[StreamT]],
    handler: Callable[[SecureLink], Awaitable[None]],
    *,
    peer_address: Callable[[StreamT], str],
    handshakes_max: int = HANDSHAKES_MAX,
    handshake_timeout_s: float = HANDSHAKE_TIMEOUT_S,
    frame_bytes_max: int = FRAME_BYTES_MAX,
) -> NoReturn:
    """Do as `serve` on listeners of any kind, each of whose streams has a peer with an address."""
    contexts = _ServerContexts(identity)
    boundary = Boundary(_logger)
    handshakes = Waiting()
    complaints = Complaints()

    async def accept(stream: StreamT) -> None:
        address = peer_address(stream)
        if not handshakes.make_room(handshakes_max, FOR_FILES):
            complaints.log("refused a link from %s: no more files may be open", address)
            return
        shake_hands = partial(
            open_link,
            stream,
            contexts.current(),
            server_side=True,
            address=address,
            frame_bytes_max=frame_bytes_max,
        )
        try:
            with trio.fail_after(handshake_timeout_s):
                link = await handshakes.during(shake_hands)
        except LinkError as error:
            complaints.log("refused a link from %s: %s", address, error)
            return
        except trio.TooSlowError:
            complaints.log("refused a link from %s: its handshake was too slow", address)
            return
        try:
            await handler(link)
        finally:
            with trio.CancelScope(shield=True):
                await link.channel.aclose()

    await boundary.serve_listeners(
        listeners, accept, part=lambda stream: f"the connection from {peer_address(stream)}"
    )


async def open_link(
    stream: trio.abc.Stream,
    context: ssl.SSLContext,
    *,
    server_side: bool,
    address: str,
    frame_bytes_max: int = FRAME_BYTES_MAX,
    mesh_tag: str | None = None,
) -> SecureLink:
    """Make a link of any connected stream; close the stream when that fails with LinkError.

    The dialler names the mesh in which it wants to know the acceptor by its `mesh_tag`.
    """
    below = SocketStream(stream) if isinstance(stream, trio.SocketStream) else stream
    tls = TlsStream(below, context, server_side=server_side, server_name=mesh_tag)
    try:
        await tls.do_handshake()
        if server_side:
            await tls.send_all(_WELCOME)
        elif (welcome := await tls.receive_some(1)) != _WELCOME:
            raise LinkError(f"expected the welcome {_WELCOME!r}, found {welcome!r}")
        certificate = tls.peer_certificate()
        return SecureLink(
            FrameChannel(tls, frame_bytes_max),
            certificate_node_id(certificate),
            certificate_name(certificate),
            address,
            certificate,
        )
    except BaseException as error:
        await trio.aclose_forcefully(tls)
        match error:
            case trio.BrokenResourceError():
                raise LinkError(broken_reason(error)) from error
            case IdentityError():
                raise LinkError(str(error)) from error
            case _:
                raise


def client_context(identity: NodeIdentity, bundle: Bundle | None = None) -> ssl.SSLContext:
    """Return the TLS settings of the side that dials. Costs under a millisecond."""
    return _context(identity, bundle or identity.bundles[0], ssl.PROTOCOL_TLS_CLIENT)


def server_context(identity: NodeIdentity) -> ssl.SSLContext:
    """Return the TLS settings of the side that is dialled.

    While the mesh changes its authority, the dialler says by which one it wants to be known.
    """
    contexts = {
        bundle.mesh_tag: _context(identity, bundle, ssl.PROTOCOL_TLS_SERVER)
        for bundle in identity.bundles
    }

    def choose(tls: ssl.SSLObject, mesh_tag: str | None, _: ssl.SSLContext) -> None:
        if mesh_tag in contexts:
            tls.context = contexts[mesh_tag]

    for context in contexts.values():
        context.num_tickets = 0  # a session that is resumed would show no certificate
    newest = contexts[identity.mesh_tag]
    newest.sni_callback = choose
    return newest


def exchange_context(identity: NodeIdentity | None) -> ssl.SSLContext:
    """Return TLS settings that ask no certificate of the other side: those of a node, or, without
    an identity, of one who has none yet and has to check the node's certificate by itself."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if identity else ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if identity is not None:
        _load_chain(context, identity, identity.bundles[0])
    return context


def format_address(host: str, port: int) -> str:
    """Return `host:port`, or `[host]:port` for an IPv6 address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class _ServerContexts:
    """The TLS settings of an acceptor whose identity may change; made when it does."""

    def __init__(self, identity: NodeIdentity | Callable[[], NodeIdentity]) -> None:
        self._identity = identity
        self._made_of: NodeIdentity | None = None
        self.current()

    def current(self) -> ssl.SSLContext:
        identity = self._identity if isinstance(self._identity, NodeIdentity) else self._identity()
        if identity is not self._made_of:
            self._made_of, self._context = identity, server_context(identity)
        return self._context


def _context(identity: NodeIdentity, bundle: Bundle, protocol: int) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False  # nodes are known by key; their addresses change
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(cadata=bundle.authority_der())
    _load_chain(context, identity, bundle)
    return context


def _load_chain(context: ssl.SSLContext, identity: NodeIdentity, bundle: Bundle) -> None:
    # `ssl` reads keys from files only: this one has mode 0600 and is gone with the block.
    with tempfile.NamedTemporaryFile(prefix="phextsync-") as file:
        file.write(identity.certificate_chain_pem(bundle))
        file.flush()
        context.load_cert_chain(file.name)


async def listen(host: str | None, port: int | None) -> list[trio.SocketListener]:
    """Listen on one port for every family of addresses that `host` has (None: on all), and not in
    child processes. The port None is `PORT`, or any free one if that is taken. LinkError when a
    given one is."""
    listeners = await _listening(host, port)
    for listener in listeners:
        close_in_children(listener)
    return listeners


async def _listening(host: str | None, port: int | None) -> list[trio.SocketListener]:
    if port is not None and not 0 <= port <= _PORT_MAX:  # the system would take the lower 16 bits
        raise LinkError(f"expected a port from 0 to {_PORT_MAX}, found {port}")
    try:
        if port != 0:
            try:
                return list(await trio.open_tcp_listeners(port or PORT, host=host))
            except OSError as error:
                if error.errno != errno.EADDRINUSE or port is not None:
                    raise
        for _ in range(_PORT_ATTEMPTS):
            listeners = list(await trio.open_tcp_listeners(0, host=host))
            if len(listeners) == 1:
                return listeners
            # Each family has been given a port of its own: try the first one's for all.
            free_port = listeners[0].socket.getsockname()[1]
            for listener in listeners:
                listener.socket.close()
            try:
                return list(await trio.open_tcp_listeners(free_port, host=host))
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise
    except (OSError, UnicodeError) as error:
        reason = _dial_failure(error)
        if isinstance(error, socket.gaierror | UnicodeError) or error.errno == errno.EADDRNOTAVAIL:
            expected = "expected the name or an address of this machine to listen on"
            raise LinkError(f"{expected}, found {host!r:.80}: {reason}") from error
        where = format_address(host or "*", port or 0)
        raise LinkError(f"cannot listen on {where}: {reason}") from error
    raise LinkError(f"expected a port that is free for IPv4 and IPv6, found none for {host or '*'}")


def _peer_address(stream: trio.SocketStream) -> str:
    try:
        host, port = stream.socket.getpeername()[:2]
    except OSError:
        return "an address that is gone"
    return format_address(host, port)


def _dial_failure(error: Exception) -> str:
    """Say in one line why a name or an address could not be used."""
    cause = error.__cause__
    causes = cause.exceptions if isinstance(cause, ExceptionGroup) else (cause or error,)
    reasons = {getattr(each, "strerror", None) or str(each): None for each in causes}
    return ", ".join(reasons)
