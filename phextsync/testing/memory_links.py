"""MemoryLinks: the links of a node on a host in memory. Frames and TLS are those of `transport`."""

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import NoReturn

import trio
from cryptography.hazmat.primitives.serialization import Encoding

from phextsync import transport
from phextsync.addresses import EVERYWHERE
from phextsync.boundaries import Boundary
from phextsync.errors import IdentityError, LinkError
from phextsync.framing import FrameChannel
from phextsync.testing.network import Host, MemoryStream
from phextsync.transport import SecureLink
from phextsync.trust.certificates import certificate_name, certificate_node_id
from phextsync.trust.identity import NodeIdentity

_logger = logging.getLogger("phextsync.testing")


@dataclass(slots=True)
class MemoryLinks:
    """The `transport.Network` of a node on a host. Without TLS, which costs more than all else,
    certificates are shown and not proved."""

    host: Host
    identity: NodeIdentity
    has_tls: bool = True
    listens_on: str | None = None
    bound: tuple[str, ...] = EVERYWHERE

    async def connect(self, host: str, port: int) -> SecureLink:
        """Dial a node; LinkError names the address and why."""
        if self.has_tls:
            return await transport.connect(self.identity, host, port, open_stream=self.host.dial)
        address = transport.format_address(host, port)
        try:
            with trio.fail_after(transport.CONNECT_TIMEOUT_S):
                return await self._greet(await self.host.dial(host, port), address)
        except trio.TooSlowError:
            reason = f"no answer within {transport.CONNECT_TIMEOUT_S:g} s"
            raise LinkError(f"{address}: {reason}") from None
        except (LinkError, OSError) as error:
            raise LinkError(f"{address}: {error}") from error

    async def serve(
        self,
        handler: Callable[[SecureLink], Awaitable[None]],
        *,
        task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED,
    ) -> NoReturn:
        """Run `handler` for each accepted link until cancelled."""
        listener = self.host.listen()
        task_status.started(transport.PORT)
        if self.has_tls:
            await transport.serve_listeners(
                lambda: self.identity, [listener], handler, peer_address=_peer_name
            )
        await Boundary(_logger).serve_listeners(
            [listener], partial(self._accept, handler), part=_peer_name
        )

    async def _accept(
        self, handler: Callable[[SecureLink], Awaitable[None]], stream: MemoryStream
    ) -> None:
        with trio.move_on_after(transport.HANDSHAKE_TIMEOUT_S) as scope:
            try:
                link = await self._greet(stream, _peer_name(stream))
            except LinkError as error:
                _logger.warning("refused a link from %s: %s", _peer_name(stream), error)
                return
        if not scope.cancelled_caught:
            async with link.channel:
                await handler(link)

    async def _greet(self, stream: MemoryStream, address: str) -> SecureLink:
        """Exchange certificates; close the stream when that fails."""
        channel = FrameChannel(stream)
        try:
            await channel.send(self.identity.certificate.public_bytes(Encoding.DER))
            certificate = await channel.receive()
            return SecureLink(
                channel,
                certificate_node_id(certificate),
                certificate_name(certificate),
                address,
                certificate,
            )
        except BaseException as error:
            stream.reset()
            if isinstance(error, IdentityError | trio.EndOfChannel):
                raise LinkError(f"expected a certificate, found {error!r}") from error
            raise


def _peer_name(stream: MemoryStream) -> str:
    return stream.host.network.hosts[stream.peer].name
