"""Mail: boxes and messages for programs, in plain calls, for asyncio and for trio.

A message is a scroll in the receiver's box, so it comes as soon as both machines have been linked
with each other or with a third, and waits until then. `docs/reference/mail.md` has the rules.
"""

import time
from collections.abc import Callable, Iterable
from typing import TypeVar

from phextsync.agents import mail_plans
from phextsync.agents.mail_layout import MAIL, Box, Message
from phextsync.agents.mail_plans import Sender
from phextsync.agents.mail_state import Inbox
from phextsync.agents.plans import Plan, carry_out, carry_out_awaited
from phextsync.aio import AsyncHandle
from phextsync.control.operations import Asked
from phextsync.index import Coordinate
from phextsync.node.node import Node
from phextsync.replica.views import Key, as_coordinate

T = TypeVar("T")


def wall_time_ms() -> int:
    """Return what the clock of this machine says, in milliseconds since 1970."""
    return time.time_ns() // 1_000_000


class _Steps:
    """The plans of one box."""

    def __init__(self, name: str, phext: str, clock_ms: Callable[[], int]) -> None:
        self._name = name
        self._phext = phext
        self._clock_ms = clock_ms
        self._who: Sender | None = None

    def who(self) -> Plan[Sender]:
        if self._who is None:
            self._who = yield from mail_plans.who(self._name)
        return self._who

    def send(self, to: str, text: str, expires_after_s: float | None) -> Plan[Message]:
        who = yield from self.who()
        now_ms = self._clock_ms()
        return (yield from mail_plans.send(self._phext, who, to, text, expires_after_s, now_ms))

    def inbox(self) -> Plan[Inbox]:
        who = yield from self.who()
        return (yield from mail_plans.inbox(self._phext, who.name, self._clock_ms()))

    def read(self, at: Key) -> Plan[Message]:
        return mail_plans.read(self._phext, as_coordinate(at))

    def ack(self, places: Iterable[Key]) -> Plan[list[Coordinate]]:
        who = yield from self.who()
        named = [as_coordinate(at) for at in places]
        return (yield from mail_plans.ack(self._phext, who.name, named, self._clock_ms()))

    def boxes(self) -> Plan[list[Box]]:
        return [*(yield from mail_plans.boxes(self._phext)).values()]

    def make_box(self, roles: Iterable[str]) -> Plan[Box]:
        who = yield from self.who()
        return (yield from mail_plans.make_box(self._phext, who.name, tuple(roles)))


class Mail:
    """A box behind plain calls: `Mail(handle)`, `handle` from `phextsync.open`.

    `box` is its name, "" that of the node. `clock_ms` says the time, by which messages expire.
    """

    def __init__(
        self,
        asked: Asked,
        box: str = "",
        *,
        phext: str = MAIL,
        clock_ms: Callable[[], int] = wall_time_ms,
    ) -> None:
        self._asked = asked
        self._steps = _Steps(box, phext, clock_ms)

    def send(self, to: str, text: str, *, expires_after_s: float | None = None) -> Message:
        """Send a text to a box, to `role:NAME` or to `all`, and return the message, which is on
        this node's disk. One to several expires after 30 days unless it is said otherwise.

        PhextsyncError when there is no such box or role here.
        """
        return self._do(self._steps.send(to, text, expires_after_s))

    def inbox(self) -> Inbox:
        """Return the messages to this box, its roles and all that are not acknowledged and have
        not expired by this machine's clock."""
        return self._do(self._steps.inbox())

    def read(self, at: Key) -> Message:
        """Return the message at a coordinate. PhextsyncError when there is none."""
        return self._do(self._steps.read(at))

    def ack(self, *places: Key) -> list[Coordinate]:
        """Acknowledge messages, and return those that nobody had acknowledged for this box as far
        as is known here. It is on the disk then, and no node shows them to this box again."""
        return self._do(self._steps.ack(places))

    def boxes(self) -> list[Box]:
        """Return the boxes, by name."""
        return self._do(self._steps.boxes())

    def make_box(self, *roles: str) -> Box:
        """Make this box, or give it more roles, and return it."""
        return self._do(self._steps.make_box(roles))

    def _do(self, plan: Plan[T]) -> T:
        return carry_out(self._asked, plan)


class AsyncMail:
    """A box whose methods are those of `Mail`, awaited: over a handle of `phextsync.aio.open`, or
    over the node of `phextsync.open_node`, in its trio task."""

    def __init__(
        self,
        asked: AsyncHandle | Node,
        box: str = "",
        *,
        phext: str = MAIL,
        clock_ms: Callable[[], int] = wall_time_ms,
    ) -> None:
        self._asked = asked
        self._steps = _Steps(box, phext, clock_ms)

    async def send(self, to: str, text: str, *, expires_after_s: float | None = None) -> Message:
        """Send a text as `Mail.send` does."""
        return await self._do(self._steps.send(to, text, expires_after_s))

    async def inbox(self) -> Inbox:
        """Return the messages that wait, as `Mail.inbox` does."""
        return await self._do(self._steps.inbox())

    async def read(self, at: Key) -> Message:
        """Return the message at a coordinate. PhextsyncError when there is none."""
        return await self._do(self._steps.read(at))

    async def ack(self, *places: Key) -> list[Coordinate]:
        """Acknowledge messages as `Mail.ack` does."""
        return await self._do(self._steps.ack(places))

    async def boxes(self) -> list[Box]:
        """Return the boxes, by name."""
        return await self._do(self._steps.boxes())

    async def make_box(self, *roles: str) -> Box:
        """Make this box, or give it more roles, and return it."""
        return await self._do(self._steps.make_box(roles))

    async def _do(self, plan: Plan[T]) -> T:
        return await carry_out_awaited(self._asked, plan)
