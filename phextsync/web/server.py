"""The web server: listens, with TLS or without, and gives each connection to the application."""

import logging
import ssl
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final

import trio
from starlette.types import ASGIApp

from phextsync.boundaries import Boundary
from phextsync.discovery import Address
from phextsync.errors import LinkError
from phextsync.gateways.http1 import ByteBudget
from phextsync.plain_files import read_file
from phextsync.sockets import SocketStream
from phextsync.waiting import Room
from phextsync.web.limits import WebLimits
from phextsync.web.requests import Requests

Secure = trio.SSLStream[trio.SocketStream]

_log: Final = logging.getLogger("phextsync.web")


class WebServer:
    """Serves one ASGI application; an error of one connection ends that one alone."""

    def __init__(
        self, app: ASGIApp, limits: WebLimits | None = None, tls: ssl.SSLContext | None = None
    ) -> None:
        self.boundary = Boundary(_log)
        self._app = app
        self._limits = limits or WebLimits()
        self._tls = tls
        small, size = self._limits.small_bytes, self._limits.under_way_bytes_max
        self._room = Room(self._limits.connections_max)
        self._under_way = ByteBudget(size, small, "bodies and messages")
        self._answers = ByteBudget(self._limits.answers_bytes_max, small, "answers")

    async def serve(
        self, address: Address, *, task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Listen until cancelled; started with the port. LinkError when the address cannot be
        used."""
        try:
            listeners = await trio.open_tcp_listeners(address.port, host=address.host)
        except OSError as error:
            raise LinkError(f"cannot serve on {address}: {error.strerror or error}") from error
        task_status.started(listeners[0].socket.getsockname()[1])
        await self.boundary.serve_listeners(
            listeners, self.answer_all, part=lambda stream: "a connection of the web server"
        )

    async def answer_all(self, stream: trio.SocketStream) -> None:
        """Serve one connection until it ends."""
        if self._tls is None:
            requests = self._requests(stream, SocketStream(stream))
            await self._room.take(stream, requests.answer_all, requests.turn_away)
        else:
            secure = trio.SSLStream(stream, self._tls, server_side=True, https_compatible=True)
            requests = self._requests(stream, secure)
            await self._room.take(
                stream,
                partial(self._answer_secure, secure, requests),
                partial(self._turn_away_secure, secure, requests),
            )

    async def _answer_secure(self, secure: Secure, requests: Requests) -> None:
        with trio.fail_after(self._limits.handshake_s):
            await self._room.waiting.during(secure.do_handshake)
        await requests.answer_all()

    async def _turn_away_secure(self, secure: Secure, requests: Requests) -> None:
        with trio.fail_after(self._limits.handshake_s):
            await secure.do_handshake()  # before which nothing can be said
        await requests.turn_away()

    def _requests(self, stream: trio.SocketStream, served: trio.abc.Stream) -> Requests:
        return Requests(
            served,
            self._app,
            self._limits,
            self._under_way,
            self._answers,
            is_secure=self._tls is not None,
            waiting=self._room.waiting,
            client=_client_of(stream),
        )


def _client_of(stream: trio.SocketStream) -> tuple[str, int] | None:
    """Return where a client is, None when it is gone already."""
    with suppress(OSError):
        host, port = stream.socket.getpeername()[:2]
        return host, port
    return None


def tls_of(certificate: Path, key: Path) -> ssl.SSLContext:
    """Return TLS with a certificate (and those that vouch for it) and its key, files of PEM.
    LinkError when they cannot be used."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        for file in (certificate, key):
            read_file(file)  # that of TLS would wait for whoever writes into a pipe
        context.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        raise LinkError(
            f"expected a certificate and its key in {certificate} and {key}: {error}"
        ) from error
    return context
