"""Serving: the web server of a node, with all that it serves."""

import ssl
import time
from typing import Final

import trio

from phextsync.discovery import Address
from phextsync.gateways.guard import Guard
from phextsync.node.node import Node
from phextsync.web.app import WebApp
from phextsync.web.limits import WebLimits
from phextsync.web.server import WebServer

DEFAULT_PORT: Final = 7440


async def serve(
    node: Node,
    address: Address,
    guard: Guard,
    *,
    tls: ssl.SSLContext | None = None,
    limits: WebLimits | None = None,
    task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve until cancelled; started with the port. LinkError when the address cannot be used, or
    not without a token."""
    guard.check_address(address.host)
    app = WebApp(
        node, guard, now_s=lambda: int(time.time()), is_secure=tls is not None, limits=limits
    )
    server = WebServer(app.asgi, limits, tls)
    async with trio.open_nursery() as nursery:
        telling = "telling other nodes of editors"
        nursery.start_soon(server.boundary.keep_running, telling, app.elsewhere.run)
        sampling = "taking samples of the figures"
        nursery.start_soon(server.boundary.keep_running, sampling, app.figures.run)
        nursery.start_soon(app.agents.run)
        await server.serve(address, task_status=task_status)
