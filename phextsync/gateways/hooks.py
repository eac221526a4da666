"""Web hooks: what changes is posted to an address of somebody's own, signed, until it is taken.

What has not been sent waits in feeds, which grow with the scrolls that changed up to a bound, never
with the changes; the one post that is under way is repeated until it is answered. While the node is
down nothing is noted: who needs all of it reads again after a `missed`, and when the node starts.
"""

import contextlib
import hmac
import http.client
import json
import logging
import socket
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

import trio

from phextsync.boundaries import printable
from phextsync.errors import LinkError, PhextsyncError
from phextsync.gateways.guard import HOOK_HEADER
from phextsync.node.node import Node
from phextsync.phext_names import is_reserved
from phextsync.replica.changes import ChangeFeed
from phextsync.replica.listener import ReplicaListener
from phextsync.signals import Flag

SIGNATURE: Final = "X-Phextsync-Signature"
NUMBER: Final = HOOK_HEADER.title()

_ROWS_MAX: Final = 500
_FEED_MAX: Final = 4096
_GATHER_S: Final = 0.1
_PAUSE_MIN_S: Final = 1.0
_PAUSE_MAX_S: Final = 300.0
_TIMEOUT_S: Final = 10.0
_GONE: Final = 410

_log: Final = logging.getLogger("phextsync.gateways")

Post = Callable[[bytes, Mapping[str, str]], Awaitable[int]]


@dataclass(frozen=True, slots=True)
class Target:
    """Where to post. PhextsyncError when it is no address of the web."""

    url: str
    secret: str = field(repr=False)
    timeout_s: float = _TIMEOUT_S
    """For a post to be answered."""
    _one: trio.CapacityLimiter = field(
        default_factory=lambda: trio.CapacityLimiter(1), init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        try:
            is_fit = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        except ValueError:
            is_fit = False
        if not is_fit or not self.url.isascii() or not self.url.isprintable() or " " in self.url:
            raise PhextsyncError(f"expected an address of http or https, found {self.url!r:.80}")
        if "@" in parts.netloc:
            raise PhextsyncError(
                f"expected an address without a user and a password, found them for {self.place}:"
                " posts are signed with the secret instead"
            )

    @property
    def place(self) -> str:
        """The address without what may be secret: where it is, not what is asked there."""
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"

    async def post(self, body: bytes, headers: Mapping[str, str]) -> int:
        """Post a body; return the status of the answer. LinkError when there is none in time."""
        connection = self._connection()
        try:
            with trio.fail_after(self.timeout_s):
                return await trio.to_thread.run_sync(
                    self._post, connection, body, headers, abandon_on_cancel=True, limiter=self._one
                )
        except trio.TooSlowError as error:
            raise LinkError(f"no answer within {self.timeout_s:g} s") from error
        finally:
            _break(connection)

    def _connection(self) -> http.client.HTTPConnection:
        parts = urlsplit(self.url)
        secure = parts.scheme == "https"
        kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
        return kind(parts.hostname or "", parts.port, timeout=self.timeout_s)

    def _post(
        self, connection: http.client.HTTPConnection, body: bytes, headers: Mapping[str, str]
    ) -> int:
        parts = urlsplit(self.url)
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        who = {"User-Agent": "phextsync"}  # some servers refuse those that do not say
        try:
            connection.request("POST", path, body, {**who, **headers})
            return connection.getresponse().status
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise LinkError(f"no answer: {error or type(error).__name__}") from error
        finally:
            connection.close()


def _break(connection: http.client.HTTPConnection) -> None:
    """End what a thread may still wait for: one that says a little now and then is never late."""
    with contextlib.suppress(OSError, AttributeError):  # it was never open, or is closed
        connection.sock.shutdown(socket.SHUT_RDWR)


class Hook:
    """Posts the changes of all phexts of a node to one address."""

    def __init__(self, node: Node, target: Target, post: Post | None = None) -> None:
        self._node = node
        self._target = target
        self._post = target.post if post is None else post
        self._boundary = node.boundary.beside(_log)
        self._has_changed = Flag()
        self._feeds: dict[str, ChangeFeed] = {}
        self._number = 0
        node.replicas.listen(ReplicaListener(on_open=self._follow))
        for phext in node.replicas.names():
            self._follow(phext)

    async def run(self) -> None:
        """Post until cancelled, or until the other side says that it is gone for ever (410)."""
        await self._boundary.keep_running(f"the hook {self._target.place}", self._run)

    async def _run(self) -> None:
        while True:
            await self._has_changed.take()
            await trio.sleep(_GATHER_S)
            while rows := self._next_rows():
                if not await self._deliver(rows):
                    _log.warning("the hook %s is gone (410)", printable(self._target.place))
                    return

    async def _deliver(self, rows: list[dict[str, str | None]]) -> bool:
        """Post rows until they are taken; False when nothing is wanted any more."""
        self._number += 1
        body = json.dumps({"node": self._node.identity.name, "changes": rows}).encode()
        headers = {
            "Content-Type": "application/json",
            NUMBER: f"{self._node.incarnation.hex()}-{self._number}",
            SIGNATURE: signature(self._target.secret, body),
        }
        pause_s = _PAUSE_MIN_S
        while True:
            status = 0
            with self._boundary.around(f"the hook {self._target.place}"):
                status = await self._post(body, headers)
                if not 200 <= status < 300 and status != _GONE:
                    raise LinkError(f"expected an answer from 200 to 299, found {status}")
            if 200 <= status < 300 or status == _GONE:
                return status != _GONE
            await trio.sleep(pause_s)
            pause_s = min(2 * pause_s, _PAUSE_MAX_S)

    def _follow(self, phext: str) -> None:
        if phext not in self._feeds and not is_reserved(phext):
            replica = self._node.replicas.phext(phext)
            feed = self._feeds[phext] = replica.feed(coordinates_max=_FEED_MAX)
            feed.on_ready = self._has_changed.set

    def _next_rows(self) -> list[dict[str, str | None]]:
        rows: list[dict[str, str | None]] = []
        for phext, feed in self._feeds.items():
            while len(rows) < _ROWS_MAX and (change := feed.take()) is not None:
                who = {"origin": change.origin.hex() if change.origin else None}
                who["label"] = change.label
                if change.missed is not None:
                    rows.append({"phext": phext, "missed": str(change.missed)})
                rows += [{"phext": phext, "coordinate": str(c), **who} for c in change.coordinates]
        return rows


def signature(secret: str, body: bytes) -> str:
    """Return what proves that a body was posted by somebody who knows the secret."""
    return f"sha256={hmac.digest(secret.encode(), body, 'sha256').hex()}"
