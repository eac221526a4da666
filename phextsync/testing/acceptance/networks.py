"""What every network must do."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Final, TypeAlias

import trio

from phextsync.errors import LinkError
from phextsync.framing import FRAME_BYTES_MAX
from phextsync.testing.acceptance.patience import PATIENCE_S
from phextsync.transport import Network, SecureLink
from phextsync.trust.authority import MeshKey
from phextsync.trust.identity import NodeIdentity


@dataclass(frozen=True, slots=True)
class Place:
    """Where a node is: what it dials and listens with, and the host that others dial."""

    network: Network
    host: str


Places: TypeAlias = Callable[[NodeIdentity], Place]
"""Gives a node a place of its own, from which it reaches all others that this function gave."""

_KEY: Final = MeshKey(bytes(32))
_ANNA: Final = NodeIdentity.create(_KEY, "anna", bytes([1]) * 32)
_BERT: Final = NodeIdentity.create(_KEY, "bert", bytes([2]) * 32)
_MALLORY: Final = NodeIdentity.create(MeshKey(bytes([1]) * 32), "mallory", bytes([3]) * 32)

Handler: TypeAlias = Callable[[SecureLink], Awaitable[None]]


async def _echo(link: SecureLink) -> None:
    """Return every frame for as long as the link holds."""
    with suppress(LinkError):
        async for frame in link.channel:
            await link.channel.send(frame)


@asynccontextmanager
async def _served(place: Place, handler: Handler) -> AsyncIterator[int]:
    """Listen for as long as the block lasts; give the port."""
    with trio.fail_after(PATIENCE_S):
        async with trio.open_nursery() as nursery:
            yield await nursery.start(place.network.serve, handler)
            nursery.cancel_scope.cancel()


async def _refusal(place: Place, host: str, port: int) -> str:
    """Dial in vain; return why."""
    try:
        await place.network.connect(host, port)
    except LinkError as error:
        return str(error)
    raise AssertionError("expected a LinkError")


async def two_nodes_of_a_mesh_know_each_other(places: Places) -> None:
    anna, bert = places(_ANNA), places(_BERT)
    theirs: list[SecureLink] = []

    async def handle(link: SecureLink) -> None:
        theirs.append(link)
        await _echo(link)

    async with _served(anna, handle) as port:
        link = await bert.network.connect(anna.host, port)
        await link.channel.send(b"hello")
        assert await link.channel.receive() == b"hello"
        assert (link.peer_id, link.peer_name) == (_ANNA.node_id, "anna")
        assert link.address == f"{anna.host}:{port}"
        assert [(each.peer_id, each.peer_name) for each in theirs] == [(_BERT.node_id, "bert")]
        await link.channel.aclose()


async def frames_arrive_whole_and_in_order_however_many_there_are(places: Places) -> None:
    anna, bert = places(_ANNA), places(_BERT)
    frames = [b"%d" % i * (i % 300) for i in range(3000)] + [bytes(FRAME_BYTES_MAX)]
    async with _served(anna, _echo) as port:
        link = await bert.network.connect(anna.host, port)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(link.channel.send_many, frames)
            for frame in frames:
                assert await link.channel.receive() == frame
        await link.channel.aclose()


async def a_peer_that_does_not_read_holds_up_its_sender(places: Places) -> None:
    anna, bert = places(_ANNA), places(_BERT)

    async def ignore(_: SecureLink) -> None:
        await trio.sleep_forever()

    async with _served(anna, ignore) as port:
        link = await bert.network.connect(anna.host, port)
        with trio.move_on_after(0.2) as scope:
            for _ in range(100):
                await link.channel.send(bytes(FRAME_BYTES_MAX))
        assert scope.cancelled_caught, "somebody has buffered 100 MiB"
        await link.channel.aclose()


async def a_link_is_closed_when_its_handler_returns(places: Places) -> None:
    anna, bert = places(_ANNA), places(_BERT)

    async def leave(link: SecureLink) -> None:
        await link.channel.send(b"bye")

    async with _served(anna, leave) as port:
        link = await bert.network.connect(anna.host, port)
        assert [frame async for frame in link.channel] == [b"bye"]
        await link.channel.aclose()


async def who_listens_learns_that_the_dialler_has_closed(places: Places) -> None:
    anna, bert = places(_ANNA), places(_BERT)
    has_ended = trio.Event()

    async def handle(link: SecureLink) -> None:
        await _echo(link)
        has_ended.set()

    async with _served(anna, handle) as port:
        link = await bert.network.connect(anna.host, port)
        await link.channel.aclose()
        await has_ended.wait()


async def where_nobody_listens_is_named(places: Places) -> None:
    anna, bert = places(_ANNA), places(_BERT)
    async with _served(anna, _echo) as port:
        pass
    with trio.fail_after(PATIENCE_S):
        reason = await _refusal(bert, anna.host, port)
    assert reason.startswith(f"{anna.host}:{port}: "), reason
    assert "refused" in reason, reason


async def a_server_that_is_cancelled_ends_its_links(places: Places) -> None:
    anna, bert = places(_ANNA), places(_BERT)
    async with _served(anna, _echo) as port:
        link = await bert.network.connect(anna.host, port)
    with trio.fail_after(PATIENCE_S):
        try:
            await link.channel.receive()
        except (LinkError, trio.EndOfChannel):
            pass
        else:
            raise AssertionError("expected the end of the link")
        await link.channel.aclose()


async def a_cancelled_dialler_leaves_the_server_to_others(places: Places) -> None:
    anna, bert = places(_ANNA), places(_BERT)
    async with _served(anna, _echo) as port:
        for delay_s in (0, 0.0001, 0.0003, 0.001, 0.003):
            with trio.move_on_after(delay_s):
                link = await bert.network.connect(anna.host, port)
                await link.channel.aclose()
        link = await bert.network.connect(anna.host, port)
        await link.channel.send(b"still there?")
        assert await link.channel.receive() == b"still there?"
        await link.channel.aclose()


async def what_a_handler_raises_ends_its_link_alone(places: Places) -> None:
    anna, bert = places(_ANNA), places(_BERT)

    async def fail_once_told(link: SecureLink) -> None:
        async for frame in link.channel:
            if frame == b"fail":
                async with trio.open_nursery():
                    raise ZeroDivisionError
            await link.channel.send(frame)

    async with _served(anna, fail_once_told) as port:
        sound, failing = [await bert.network.connect(anna.host, port) for _ in range(2)]
        await failing.channel.send(b"fail")
        try:
            await failing.channel.receive()
        except (LinkError, trio.EndOfChannel):
            pass
        else:
            raise AssertionError("expected the end of the link")
        await failing.channel.aclose()
        for link in (sound, await bert.network.connect(anna.host, port)):
            await link.channel.send(b"still there?")
            assert await link.channel.receive() == b"still there?"
            await link.channel.aclose()


NETWORK: Final[tuple[Callable[[Places], Awaitable[None]], ...]] = (
    two_nodes_of_a_mesh_know_each_other,
    frames_arrive_whole_and_in_order_however_many_there_are,
    a_peer_that_does_not_read_holds_up_its_sender,
    a_link_is_closed_when_its_handler_returns,
    who_listens_learns_that_the_dialler_has_closed,
    where_nobody_listens_is_named,
    a_server_that_is_cancelled_ends_its_links,
    a_cancelled_dialler_leaves_the_server_to_others,
    what_a_handler_raises_ends_its_link_alone,
)


async def a_node_of_another_mesh_is_refused(places: Places) -> None:
    anna, mallory = places(_ANNA), places(_MALLORY)
    links: list[SecureLink] = []

    async def handle(link: SecureLink) -> None:
        links.append(link)

    async with _served(anna, handle) as port:
        reason = await _refusal(mallory, anna.host, port)
    assert f"{anna.host}:{port}: refused the peer" in reason, reason
    assert "another mesh" in reason, reason
    assert links == []


SECURE_NETWORK: Final = (*NETWORK, a_node_of_another_mesh_is_refused)
"""For networks that prove who is there."""
