"""Random histories of boxes and messages on three nodes, against what was answered there."""

from collections import defaultdict
from collections.abc import Awaitable, Callable
from contextlib import suppress
from random import Random

import pytest
import trio

from phextsync.agents import AsyncMail
from phextsync.agents.mail_layout import Message, is_to_several
from phextsync.errors import PhextsyncError
from phextsync.testing import MemoryMesh
from tests.troubles import cut_or_crash, mend

_BOXES = ("alice", "bob", "carol")
_ADDRESSES = (*_BOXES, "role:day", "role:night", "all")


class _History:
    """What three people did at three machines, any of them in any box, and what was answered."""

    def __init__(self, seed: int) -> None:
        self.mesh = MemoryMesh(seed, 3)
        self.source = Random(seed)
        self.sent: list[Message] = []
        self.acked: dict[str, set[str]] = defaultdict(set)
        self.tried: dict[str, set[str]] = defaultdict(set)  # what may be acknowledged
        self._number = 0

    def mail(self, number: int, box: str) -> AsyncMail:
        return AsyncMail(self.mesh.node(number), box, clock_ms=self.now_ms)

    def now_ms(self) -> int:
        return round(1000 * self.mesh.now)

    async def step(self) -> None:
        """Let one do something at one machine; it may fail, or end with the machine."""
        number, box = self.source.randrange(3), self.source.choice(_BOXES)
        step = self.source.choice((self._make, self._send, self._send, self._send, self._read))
        if not self.mesh.is_up(number):
            return
        done = trio.Event()

        async def run(what: Callable[[int, str], Awaitable[None]]) -> None:
            with suppress(PhextsyncError):  # the node ended, or has not heard of the box
                await what(number, box)
            done.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(run, step)
            with trio.move_on_after(0.5):
                await done.wait()
            nursery.cancel_scope.cancel()

    async def _make(self, number: int, box: str) -> None:
        roles = self.source.sample(("day", "night"), self.source.randrange(2))
        await self.mail(number, box).make_box(*roles)

    async def _send(self, number: int, box: str) -> None:
        # One node sends as one box, so that its number tells the order of what it sent.
        self._number += 1
        after_s = self.source.choice((None, None, 0.5, 5.0))
        to = self.source.choice(_ADDRESSES)
        mail = self.mail(number, _BOXES[number])
        self.sent.append(await mail.send(to, f"{self._number}", expires_after_s=after_s))

    async def _read(self, number: int, box: str) -> None:
        mail = self.mail(number, box)
        inbox = (await mail.inbox()).messages
        self._check_order(box, inbox)
        for message in inbox:
            if self.source.random() < 0.5:
                self.tried[box].add(message.text)
                if await mail.ack(message.coordinate):
                    self.acked[box].add(message.text)
                assert await mail.ack(message.coordinate, message.coordinate) == []
                assert message not in (await mail.inbox()).messages

    def _check_order(self, box: str, inbox: tuple[Message, ...]) -> None:
        """See that each sender's order is kept, and nothing is left out of it."""
        shown = self.tried[box].copy()
        for message in inbox:
            shown.add(message.text)
            book, at = message.coordinate.parts[:6], message.coordinate
            for sent in self.sent:
                if sent.coordinate.parts[:6] == book and sent.coordinate < at:
                    assert sent.text in shown or sent.is_expired(self.now_ms())

    async def check(self) -> None:
        """See that every machine shows the same of each box: all that was answered and is neither
        acknowledged nor over, in each sender's order."""
        told: dict[str, tuple[Message, ...]] = {}
        for number in range(3):
            for box in await self.mail(number, "").boxes():
                inbox = await self.mail(number, box.name).inbox()
                assert inbox.waiting == ()
                assert told.setdefault(box.name, inbox.messages) == inbox.messages
                self._check_order(box.name, inbox.messages)
                ours = {
                    message.text
                    for message in self.sent
                    if message.to in box.addresses
                    and not (is_to_several(message.to) and message.sender == box.name)
                    and not message.is_expired(self.now_ms())
                }
                shown = [message.text for message in inbox.messages]
                assert ours - self.tried[box.name] <= {*shown}
                assert self.acked[box.name].isdisjoint(shown)
                assert len(shown) == len({*shown})


@pytest.mark.parametrize("seed", range(8))
def test_through_cuts_and_crashes_each_box_shows_what_was_sent_to_it(seed: int) -> None:
    history = _History(seed)
    mesh, source = history.mesh, history.source

    async def body() -> None:
        await mesh.run_until(1)
        for _ in range(6):
            mesh.apply(cut_or_crash(source))
            end = mesh.now + 2
            while mesh.now < end:
                await history.step()
                await mesh.run_until(mesh.now + source.random() / 5)
            mend(mesh)
            await mesh.run_until(mesh.now + source.choice((0.05, 2)))
        await mesh.run_until(mesh.now + 30)
        await history.check()

    mesh.run(body)
    assert len(history.sent) > 10
    assert any(history.acked.values())
