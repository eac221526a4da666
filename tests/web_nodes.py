"""Nodes that serve the web in this process, for tests."""

import re
import ssl
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from html import unescape
from pathlib import Path
from typing import Final
from urllib.parse import urlencode

import trio

from phextsync import MeshKey, Node, NodeIdentity, open_node
from phextsync.discovery import Address
from phextsync.gateways.guard import Guard
from phextsync.web.limits import WebLimits
from phextsync.web.serving import serve

HOST: Final = "127.0.0.1"
AT: Final = "1.1.1/1.1.1/1.1.1"
PATIENCE_S: Final = 300.0
BROWSER: Final = {"Accept": "text/html", "Sec-Fetch-Mode": "navigate"}


def make_identity(folder: Path, number: int = 0) -> None:
    """Make a folder of one mesh."""
    seed = bytes([number]) * 32
    NodeIdentity.create(MeshKey.generate(bytes(32)), f"node{number}", seed).save(folder)


@asynccontextmanager
async def web_node(
    folder: Path,
    *,
    token: str | None = None,
    limits: WebLimits | None = None,
    peers: Sequence[str] = (),
    port: int = 0,
    tls: ssl.SSLContext | None = None,
) -> AsyncIterator[tuple[Node, int]]:
    """Run a node of `make_identity`; give it and the port of its web server."""
    with trio.fail_after(PATIENCE_S):
        async with (
            open_node(folder, host=HOST, port=0, discover=False, peers=peers) as node,
            trio.open_nursery() as nursery,
        ):
            guard = Guard(token)

            async def start(task_status: trio.TaskStatus[int]) -> None:
                await serve(
                    node,
                    Address(HOST, port),
                    guard,
                    tls=tls,
                    limits=limits,
                    task_status=task_status,
                )

            served = await nursery.start(start)
            yield node, served
            nursery.cancel_scope.cancel()


async def ask(
    port: int,
    method: str,
    path: str,
    body: bytes = b"",
    headers: Mapping[str, str] | None = None,
) -> tuple[int, dict[str, str], bytes]:
    """Send a request; return status, headers and body of the answer."""
    lines = {"Host": f"{HOST}:{port}", "Connection": "close", **(headers or {})}
    head = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in lines.items())]
    if body:
        head.append(f"Content-Length: {len(body)}")
    async with await trio.open_tcp_stream(HOST, port) as stream:
        await stream.send_all("\r\n".join([*head, "", ""]).encode() + body)
        answer = b"".join([bytes(piece) async for piece in stream])
    top, _, rest = answer.partition(b"\r\n\r\n")
    first, *others = top.decode().split("\r\n")
    found = {name.lower(): value for name, _, value in (line.partition(": ") for line in others)}
    return int(first.split()[1]), found, rest


async def page_of(port: int, path: str, status: int = 200) -> str:
    """Return a page, which has to have a status."""
    found, headers, body = await ask(port, "GET", path, headers=BROWSER)
    assert found == status, body
    assert headers["content-type"] == "text/html; charset=utf-8"
    return body.decode()


async def send_form(port: int, path: str, **fields: str) -> tuple[int, str, str]:
    """Send a form; return the status, where it leads, and the page."""
    body = urlencode(fields).encode()
    status, headers, page = await ask(port, "POST", path, body, BROWSER)
    return status, headers.get("location", ""), page.decode()


def links_of(page: str) -> list[str]:
    """Return where a page leads."""
    return [unescape(link) for link in re.findall(r'href="([^"]*)"', page)]
