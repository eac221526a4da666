"""Channels of frames over every kind of stream, and links that only nodes of one mesh get."""

import logging
import os
import socket
import ssl
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from functools import partial
from pathlib import Path

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from phextsync.errors import LinkError
from phextsync.framing import FRAME_BYTES_MAX, FrameChannel
from phextsync.sockets import SocketStream, TlsStream
from phextsync.sync.limits import Limits
from phextsync.testing import acceptance
from phextsync.testing.memory_links import MemoryLinks
from phextsync.testing.network import SOCKET_BYTES, MemoryNetwork, MemoryStream
from phextsync.transport import (
    PORT,
    SecureLink,
    TlsNetwork,
    client_context,
    connect,
    listen,
    open_link,
    serve,
    server_context,
)
from phextsync.trust.authority import MeshKey
from phextsync.trust.identity import NodeIdentity
from tests.memory_networks import memory_network

_KEY, _OTHER_KEY = MeshKey(bytes(32)), MeshKey(bytes([1]) * 32)
_ANNA = NodeIdentity.create(_KEY, "anna", bytes([1]) * 32)
_BERT = NodeIdentity.create(_KEY, "bert", bytes([2]) * 32)
_MALLORY = NodeIdentity.create(_OTHER_KEY, "mallory", bytes([3]) * 32)
_LOOPBACK = "127.0.0.1"
_LIMIT = 1 << 20
_PATIENCE_S = 120  # only a bug takes that long

Streams = tuple[trio.abc.Stream, trio.abc.Stream]
StreamMaker = Callable[[], AbstractAsyncContextManager[Streams]]


# -- conformance: every kind of stream carries frames alike ------------------------------------


@asynccontextmanager
async def memory_streams() -> AsyncIterator[Streams]:
    yield trio.testing.memory_stream_pair()


@asynccontextmanager
async def tcp_streams() -> AsyncIterator[Streams]:
    (listener,) = await trio.open_tcp_listeners(0, host=_LOOPBACK)
    async with listener:
        dialled = await trio.testing.open_stream_to_socket_listener(listener)
        accepted = await listener.accept()
    async with dialled, accepted:
        yield dialled, accepted


@asynccontextmanager
async def host_streams() -> AsyncIterator[Streams]:
    async with memory_network(2) as network:
        yield await _connected(network)


async def _connected(network: MemoryNetwork) -> Streams:
    listener = network.hosts[1].listen()
    dialled = await network.hosts[0].dial(network.hosts[1].name, PORT)
    accepted = await listener.accept()
    await listener.aclose()
    return dialled, accepted


@asynccontextmanager
async def tls_over_hosts() -> AsyncIterator[Streams]:
    async with host_streams() as (dialled, accepted):
        yield await _tls(dialled, accepted)


@asynccontextmanager
async def tls_over_memory() -> AsyncIterator[Streams]:
    yield await _tls(*trio.testing.memory_stream_pair())


@asynccontextmanager
async def tls_over_tcp() -> AsyncIterator[Streams]:
    async with tcp_streams() as (dialled, accepted):
        client, server = await _tls(dialled, accepted)
        async with client, server:
            yield client, server


async def _tls(dialled: trio.abc.Stream, accepted: trio.abc.Stream) -> Streams:
    client = TlsStream(dialled, client_context(_ANNA), server_side=False)
    server = TlsStream(accepted, server_context(_BERT), server_side=True)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.do_handshake)
        nursery.start_soon(server.do_handshake)
    return client, server


@pytest.fixture(
    params=[
        *(memory_streams, tcp_streams, host_streams),
        *(tls_over_memory, tls_over_tcp, tls_over_hosts),
    ]
)
async def streams(request: pytest.FixtureRequest) -> AsyncIterator[Streams]:
    with trio.fail_after(_PATIENCE_S):
        async with request.param() as pair:
            yield pair


@pytest.fixture
async def channels(streams: Streams) -> tuple[FrameChannel, FrameChannel]:
    return FrameChannel(streams[0], _LIMIT), FrameChannel(streams[1], _LIMIT)


Channels = tuple[FrameChannel, FrameChannel]


async def test_frames_of_every_size_arrive_whole_in_order_both_ways(channels: Channels) -> None:
    frames = [bytes([n]) * size for n, size in enumerate((0, 1, 3, 4, 5, 16384, 65537, _LIMIT, 2))]

    async def send(channel: FrameChannel) -> None:
        for frame in frames:
            await channel.send(frame)

    async def receive(channel: FrameChannel) -> None:
        assert [await channel.receive() for _ in frames] == frames

    async with trio.open_nursery() as nursery:
        for channel in channels:
            nursery.start_soon(send, channel)
            nursery.start_soon(receive, channel)


def test_a_link_takes_the_largest_frame_that_is_made() -> None:
    assert Limits().frame_bytes_max == FRAME_BYTES_MAX


async def test_frames_sent_together_arrive_together_or_one_by_one(channels: Channels) -> None:
    frames = [b"%d" % n * (n % 50) for n in range(3000)] + [bytes(300_000), b"", b"end"]
    left, right = channels
    received: list[bytes] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(left.send_many, frames)
        while len(received) < len(frames):
            if len(received) % 2:
                received.append(await right.receive())
            else:
                received += await right.receive_many()
    assert received == frames


async def test_sending_nothing_sends_nothing(channels: Channels) -> None:
    left, right = channels
    await left.send_many([])
    await left.send(b"first")
    assert await right.receive() == b"first"


async def test_a_frame_over_the_limit_is_refused_before_its_body_is_here(streams: Streams) -> None:
    left, right = streams[0], FrameChannel(streams[1], 1000)
    await left.send_all((1001).to_bytes(4))
    with pytest.raises(LinkError, match="frame of 1001 bytes exceeds 1000"):
        await right.receive()


async def test_frames_before_one_over_the_limit_still_count(streams: Streams) -> None:
    left, right = streams[0], FrameChannel(streams[1], 1000)
    await left.send_all(b"\0\0\0\2hi" + b"\xff" * 4)
    assert await right.receive_many() == [b"hi"]
    with pytest.raises(LinkError, match="exceeds"):
        await right.receive_many()


async def test_our_own_frame_over_the_limit_is_our_fault(streams: Streams) -> None:
    left, right = FrameChannel(streams[0], 10), FrameChannel(streams[1], 10)
    with pytest.raises(ValueError, match="frame of 11 bytes exceeds 10"):
        await left.send(bytes(11))
    with pytest.raises(ValueError, match="frame of 11 bytes exceeds 10"):
        await left.send_many([b"", bytes(11)])
    await left.send(b"fine")
    assert await right.receive() == b"fine"


async def test_a_link_closed_between_frames_just_ends(channels: Channels) -> None:
    left, right = channels
    await left.send(b"last")
    await left.aclose()
    assert [frame async for frame in right] == [b"last"]


async def test_a_link_closed_within_a_frame_says_so(streams: Streams) -> None:
    left, right = streams[0], FrameChannel(streams[1])
    await left.send_all((100).to_bytes(4) + bytes(33))
    await left.aclose()
    with pytest.raises(LinkError, match="within a frame, 37 bytes into it"):
        await right.receive()


async def test_a_cancelled_receive_loses_nothing(streams: Streams) -> None:
    left, right = streams[0], FrameChannel(streams[1])
    encoded = b"\0\0\0\3one\0\0\0\3two"
    for part in (encoded[:2], encoded[2:6]):
        await left.send_all(part)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(right.receive)
            await trio.testing.wait_all_tasks_blocked(0.01)
            nursery.cancel_scope.cancel()
    await left.send_all(encoded[6:])
    with trio.CancelScope() as scope:
        scope.cancel()
        await right.receive()
    assert await right.receive() == b"one"
    with trio.CancelScope() as scope:
        scope.cancel()
        await right.receive()
    assert await right.receive() == b"two"


async def test_sending_to_a_peer_that_is_gone_is_a_link_error(channels: Channels) -> None:
    left, right = channels
    await right.aclose()
    with pytest.raises(LinkError):  # noqa: PT012  a kernel takes some before it notices
        while True:
            await left.send(bytes(65536))


async def test_a_channel_that_we_have_closed_cannot_be_used(channels: Channels) -> None:
    left, _ = channels
    await left.aclose()
    await left.aclose()
    with pytest.raises(trio.ClosedResourceError):
        await left.send(b"late")
    with pytest.raises(trio.ClosedResourceError):
        await left.receive()


async def test_closing_wakes_whoever_receives(channels: Channels) -> None:
    left, _ = channels

    async def receive() -> None:
        with pytest.raises(trio.ClosedResourceError):
            await left.receive()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(receive)
        await trio.testing.wait_all_tasks_blocked(0.01)
        await left.aclose()


async def test_after_a_cancelled_send_nothing_more_is_sent() -> None:
    left, _ = trio.testing.lockstep_stream_pair()
    channel = FrameChannel(left)
    with trio.CancelScope() as scope:
        scope.cancel()
        await channel.send(b"cut")
    with pytest.raises(LinkError, match="middle of a frame"):
        await channel.send(b"next")


async def test_closing_does_not_wait_for_a_peer_that_reads_nothing(
    autojump_clock: trio.testing.MockClock,
) -> None:
    client, server = await _tls(*trio.testing.memory_stream_pair())
    assert isinstance(client, TlsStream)
    stream = client.transport_stream
    assert isinstance(stream, trio.StapledStream)
    send_stream = stream.send_stream
    assert isinstance(send_stream, trio.testing.MemorySendStream)
    send_stream.send_all_hook = trio.sleep_forever
    with trio.fail_after(2):
        await FrameChannel(client).aclose()
    await server.aclose()


@given(
    frames=st.lists(st.binary(max_size=40), max_size=8),
    cuts=st.lists(st.integers(1, 30), max_size=30),
)
def test_frames_do_not_depend_on_how_the_bytes_arrive(frames: list[bytes], cuts: list[int]) -> None:
    encoded = b"".join(len(frame).to_bytes(4) + frame for frame in frames)

    async def main() -> list[bytes]:
        sender, receiver = trio.testing.memory_stream_one_way_pair()
        stream = trio.StapledStream(sender, receiver)
        channel = FrameChannel(stream)
        received: list[bytes] = []

        async def receive() -> None:
            async for frame in channel:
                received.append(frame)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(receive)
            rest = encoded
            for cut in cuts:
                await sender.send_all(rest[:cut])
                rest = rest[cut:]
                await trio.testing.wait_all_tasks_blocked()
            await sender.send_all(rest)
            await sender.aclose()
        return received

    assert trio.run(main) == frames


# -- streams by trio's measure -----------------------------------------------------------------


async def test_streams_between_hosts_keep_trios_contract_for_streams() -> None:
    async with memory_network(2) as network:
        await trio.testing.check_two_way_stream(
            lambda: _connected(network), lambda: _clogged_hosts(network)
        )


async def _clogged_hosts(network: MemoryNetwork) -> Streams:
    streams = await _connected(network)
    for stream in streams:
        assert isinstance(stream, MemoryStream)
        stream.put(bytes(SOCKET_BYTES))
    return streams


async def test_tls_between_hosts_keeps_trios_contract_for_streams() -> None:
    async def make() -> Streams:
        return await _tls(*await _connected(network))

    async with memory_network(2) as network:
        await trio.testing.check_two_way_stream(make, None)


async def test_sockets_keep_trios_contract_for_streams() -> None:
    async def make() -> tuple[SocketStream, SocketStream]:
        one, other = trio.socket.socketpair()
        return SocketStream(trio.SocketStream(one)), SocketStream(trio.SocketStream(other))

    async def make_clogged() -> tuple[SocketStream, SocketStream]:
        streams = await make()
        for stream in streams:
            _clog(stream)
        return streams

    await trio.testing.check_two_way_stream(make, make_clogged)


def _clog(stream: SocketStream) -> int:
    """Send until the socket takes nothing more; return how many bytes it took."""
    sent = 0
    with suppress(BlockingIOError):
        while True:
            sent += os.write(stream.socket.fileno(), bytes(1 << 16))
    return sent


async def test_what_does_not_go_at_once_goes_first_later() -> None:
    one, other = trio.socket.socketpair()
    async with (
        SocketStream(trio.SocketStream(one)) as sender,
        SocketStream(trio.SocketStream(other)) as receiver,
    ):
        sender.send_nowait(b"at once ")
        assert not sender.is_behind
        clog = _clog(sender)
        sender.send_nowait(b"when there is room ")
        assert sender.is_behind
        received = bytearray()

        async def receive() -> None:
            async for data in receiver:
                received.extend(data)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(receive)
            await sender.send_all(b"and then the rest")
            assert not sender.is_behind
            await sender.aclose()
    assert received == b"at once " + bytes(clog) + b"when there is room and then the rest"


async def test_a_forked_child_holds_no_link_open() -> None:
    one, other = trio.socket.socketpair()
    async with (
        SocketStream(trio.SocketStream(one)) as ours,
        SocketStream(trio.SocketStream(other)),
    ):
        descriptor = ours.socket.fileno()
        child = os.fork()
        if child == 0:
            try:
                os.fstat(descriptor)
            except OSError:
                os._exit(0)
            os._exit(1)
        assert await trio.to_thread.run_sync(os.waitpid, child, 0) == (child, 0)


async def test_a_frame_that_is_sent_at_once_overtakes_nothing() -> None:
    async with served(_ANNA) as node:
        link = await connect(_BERT, _LOOPBACK, node.port)
        assert link.channel.may_send_nowait
        async with trio.open_nursery() as nursery:
            nursery.start_soon(link.channel.send_many, [bytes(1 << 20)] * 16)
            await trio.testing.wait_all_tasks_blocked()
            assert not link.channel.may_send_nowait
            for _ in range(16):
                await link.channel.receive()
        link.channel.send_nowait([b"one", b"two"])
        assert [await link.channel.receive() for _ in range(2)] == [b"one", b"two"]
        await link.channel.aclose()


async def test_tls_streams_keep_trios_contract_for_streams() -> None:
    async def make() -> Streams:
        return await _tls(*trio.testing.memory_stream_pair())

    async def make_clogged() -> Streams:
        return await _tls(*trio.testing.lockstep_stream_pair())

    await trio.testing.check_two_way_stream(make, make_clogged)


async def test_a_connection_cut_without_a_goodbye_is_no_end_of_data() -> None:
    async with tcp_streams() as (dialled, accepted):
        client, server = await _tls(dialled, accepted)
        await client.send_all(b"\0\0\0\2hi")
        await trio.aclose_forcefully(dialled)
        channel = FrameChannel(server)
        assert await channel.receive() == b"hi"
        with pytest.raises(LinkError, match="without a goodbye"):
            await channel.receive()


async def test_answers_that_cannot_be_sent_do_not_pile_up() -> None:
    client, server = await _tls(*trio.testing.memory_stream_pair())
    assert isinstance(client, TlsStream)
    client._outgoing.write(bytes(1 << 20))  # as after a flood of requests for new keys
    await server.send_all(b"more")
    with pytest.raises(trio.BrokenResourceError, match="new keys without end"):
        await client.receive_some()


# -- networks ----------------------------------------------------------------------------------


@asynccontextmanager
async def tls_over_tcp_network() -> AsyncIterator[acceptance.Places]:
    yield lambda identity: acceptance.Place(TlsNetwork(identity, _LOOPBACK, 0), _LOOPBACK)


@asynccontextmanager
async def in_memory(*, has_tls: bool) -> AsyncIterator[acceptance.Places]:
    async with memory_network(2) as network:
        hosts = iter(network.hosts)

        def place(identity: NodeIdentity) -> acceptance.Place:
            host = next(hosts)
            return acceptance.Place(MemoryLinks(host, identity, has_tls), host.name)

        yield place


@pytest.mark.parametrize("claim", acceptance.SECURE_NETWORK, ids=lambda claim: claim.__name__)
@pytest.mark.parametrize(
    "network", [tls_over_tcp_network, partial(in_memory, has_tls=True)], ids=["tcp", "memory"]
)
async def test_every_network_with_tls_is_accepted(
    network: Callable[[], AbstractAsyncContextManager[acceptance.Places]],
    claim: Callable[[acceptance.Places], Awaitable[None]],
) -> None:
    async with network() as places:
        await claim(places)


@pytest.mark.parametrize("claim", acceptance.NETWORK, ids=lambda claim: claim.__name__)
async def test_the_network_in_memory_without_tls_is_accepted(
    claim: Callable[[acceptance.Places], Awaitable[None]],
) -> None:
    async with in_memory(has_tls=False) as places:
        await claim(places)


# -- who gets a link ---------------------------------------------------------------------------


class Served:
    """A node that listens and returns every frame, with what it has met."""

    def __init__(self) -> None:
        self.port = 0
        self.links: list[SecureLink] = []

    async def handle(self, link: SecureLink) -> None:
        self.links.append(link)
        async for frame in link.channel:
            await link.channel.send(frame)


@asynccontextmanager
async def served(
    identity: NodeIdentity = _ANNA,
    host: str | None = _LOOPBACK,
    port: int | None = 0,
    **limits: float,
) -> AsyncIterator[Served]:
    node = Served()
    with trio.fail_after(_PATIENCE_S):
        async with trio.open_nursery() as nursery:
            run: Callable[..., Awaitable[object]] = serve
            node.port = await nursery.start(
                lambda task_status: run(
                    identity, host, port, node.handle, task_status=task_status, **limits
                )
            )
            yield node
            nursery.cancel_scope.cancel()


def _warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [
        record.getMessage()
        for record in caplog.records
        if record.name == "phextsync.transport" and record.levelno >= logging.WARNING
    ]


async def _until_logged(caplog: pytest.LogCaptureFixture, lines: int = 1) -> list[str]:
    while len(_warnings(caplog)) < lines:
        await trio.lowlevel.checkpoint()
    return _warnings(caplog)


async def test_a_node_of_another_mesh_is_refused_and_both_sides_say_so_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with served(_ANNA) as node:
        with pytest.raises(LinkError, match=f"{node.port}: refused the peer.*another mesh"):
            await connect(_MALLORY, _LOOPBACK, node.port)
        (line,) = await _until_logged(caplog)
    assert "the peer refused us, it belongs to another mesh" in line
    assert "\n" not in line
    assert node.links == []


_NEW_KEY = MeshKey(b"n" * 32)
_STAGES = {
    "before": lambda identity: identity,
    "during": lambda identity: identity.rotated(_NEW_KEY),
    "after": lambda identity: identity.rotated(_NEW_KEY).finished(),
}


@pytest.mark.parametrize("dialler", _STAGES)
@pytest.mark.parametrize("acceptor", _STAGES)
async def test_while_the_mesh_key_changes_whoever_has_a_key_in_common_is_linked(
    dialler: str, acceptor: str
) -> None:
    anna, bert = _STAGES[acceptor](_ANNA), _STAGES[dialler](_BERT)
    common = [b.mesh_tag for b in bert.bundles if b.mesh_tag in {a.mesh_tag for a in anna.bundles}]
    async with served(anna) as node:
        if not common:
            with pytest.raises(LinkError, match="another mesh"):
                await connect(bert, _LOOPBACK, node.port)
            assert node.links == []
            return
        link = await connect(bert, _LOOPBACK, node.port)
        await link.channel.send(b"hello")
        assert await link.channel.receive() == b"hello"
        assert (link.peer_id, node.links[0].peer_id) == (_ANNA.node_id, _BERT.node_id)
        newest = next(b for b in bert.bundles if b.mesh_tag == common[0])
        assert node.links[0].certificate == newest.certificate_der()
        await link.channel.aclose()


async def test_a_certificate_of_the_old_key_does_not_pass_for_one_of_the_new_key() -> None:
    async with served(_ANNA.rotated(_NEW_KEY)) as node:
        stream = await trio.open_tcp_stream(_LOOPBACK, node.port)
        context = client_context(_BERT)
        context.verify_mode = ssl.CERT_NONE
        tag = _BERT.rotated(_NEW_KEY).mesh_tag
        with pytest.raises(LinkError, match="another mesh"):
            await open_link(stream, context, server_side=False, address="anna", mesh_tag=tag)
        assert node.links == []


async def test_a_stranger_that_trusts_anybody_is_refused_before_a_frame_is_read(
    caplog: pytest.LogCaptureFixture,
) -> None:
    context = client_context(_MALLORY)
    context.verify_mode = ssl.CERT_NONE
    async with served(_ANNA) as node:
        stream = await trio.open_tcp_stream(_LOOPBACK, node.port)
        with pytest.raises(LinkError, match="the peer refused us, it belongs to another mesh"):
            await open_link(stream, context, server_side=False, address="anna")
        (line,) = await _until_logged(caplog)
    assert "refused the peer, it belongs to another mesh" in line
    assert node.links == []


async def test_a_dialler_without_a_certificate_is_refused(caplog: pytest.LogCaptureFixture) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(cadata=_ANNA.bundles[0].authority_der())
    async with served(_ANNA) as node:
        stream = await trio.open_tcp_stream(_LOOPBACK, node.port)
        with pytest.raises(LinkError, match="without a certificate"):
            await open_link(stream, context, server_side=False, address="anna")
        (line,) = await _until_logged(caplog)
    assert "refused a peer without a certificate" in line
    assert node.links == []


async def test_older_tls_is_refused(caplog: pytest.LogCaptureFixture) -> None:
    context = client_context(_BERT)
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_2
    async with served(_ANNA) as node:
        stream = await trio.open_tcp_stream(_LOOPBACK, node.port)
        with pytest.raises(LinkError, match="protocol version"):
            await open_link(stream, context, server_side=False, address="anna")
        assert len(await _until_logged(caplog)) == 1
    assert node.links == []


@pytest.mark.parametrize("greeting", [b"GET / HTTP/1.1\r\n\r\n", b"", bytes(5000), b"\x16\x03\x01"])
async def test_what_is_no_tls_gets_one_line_and_the_others_go_on(
    caplog: pytest.LogCaptureFixture, greeting: bytes
) -> None:
    async with served(_ANNA) as node:
        stream = await trio.open_tcp_stream(_LOOPBACK, node.port)
        if greeting:
            await stream.send_all(greeting)
        await stream.aclose()
        (line,) = await _until_logged(caplog)
        assert "\n" not in line
        link = await connect(_BERT, _LOOPBACK, node.port)
        await link.channel.aclose()


async def test_a_slow_handshake_times_out(caplog: pytest.LogCaptureFixture) -> None:
    async with served(_ANNA, handshake_timeout_s=0.02) as node:
        async with await trio.open_tcp_stream(_LOOPBACK, node.port) as stream:
            assert await stream.receive_some() == b""
        (line,) = await _until_logged(caplog)
    assert "too slow" in line


async def test_stalled_handshakes_do_not_keep_others_out() -> None:
    async with served(_ANNA, handshakes_max=2, handshake_timeout_s=100) as node:
        stalled = [await trio.open_tcp_stream(_LOOPBACK, node.port) for _ in range(4)]
        link = await connect(_BERT, _LOOPBACK, node.port)
        assert await stalled[0].receive_some() == b""  # the oldest went
        for stream in stalled:
            await stream.aclose()
        await link.channel.aclose()


async def test_no_more_handshakes_than_the_limit_are_stalled() -> None:
    async with served(_ANNA, handshakes_max=2, handshake_timeout_s=1000) as node:
        stalled = [await trio.open_tcp_stream(_LOOPBACK, node.port) for _ in range(3)]
        with trio.fail_after(_PATIENCE_S):
            assert await stalled[0].receive_some() == b""  # one too many came, and it was there
        for stream in stalled:
            await stream.aclose()


def test_no_session_can_be_resumed() -> None:
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_context(_ANNA).wrap_bio(to_client, to_server)
    server = server_context(_BERT).wrap_bio(to_server, to_client, server_side=True)
    while client.version() is None or server.version() is None:
        for end in (client, server):
            with suppress(ssl.SSLWantReadError):
                end.do_handshake()
    server.write(b"x")
    assert client.read(1) == b"x"  # whatever came before it would have been taken
    assert client.session is not None
    assert not client.session.has_ticket


async def test_a_dialled_node_that_says_nothing_is_given_up() -> None:
    (listener,) = await trio.open_tcp_listeners(0, host=_LOOPBACK)
    async with listener:
        port = listener.socket.getsockname()[1]
        with pytest.raises(LinkError, match=f"{_LOOPBACK}:{port}: no answer within 0.02 s"):
            await connect(_BERT, _LOOPBACK, port, timeout_s=0.02)


async def test_a_host_name_that_is_none_is_a_link_error() -> None:
    with pytest.raises(LinkError, match="label"):
        await connect(_BERT, "a" * 70 + ".example", PORT)


async def test_one_port_serves_ipv4_and_ipv6() -> None:
    async with served(_ANNA, host=None) as node:
        for host in (_LOOPBACK, "::1"):
            link = await connect(_BERT, host, node.port)
            await link.channel.aclose()


@pytest.mark.parametrize("port", [65_536, 99_999, -1])
async def test_a_port_out_of_range_is_refused_and_no_other_is_taken(port: int) -> None:
    with pytest.raises((LinkError, ExceptionGroup)) as caught:
        async with served(_ANNA, port=port):
            pass
    assert f"expected a port from 0 to 65535, found {port}" in repr(caught.value)


@pytest.mark.parametrize("host", ["192.0.2.1", "not..a.name"])
async def test_a_host_to_listen_on_is_one_of_this_machine(host: str) -> None:
    with pytest.raises(LinkError, match=r"name or an address of this machine.*found '"):
        await listen(host, 0)


async def test_the_default_port_gives_way_when_it_is_taken_and_another_does_not() -> None:
    async with served(_ANNA, port=0) as other:
        with pytest.raises((LinkError, ExceptionGroup)) as caught:
            async with served(_ANNA, port=other.port):
                pass
        assert "cannot listen on" in repr(caught.value)
    async with served(_ANNA, port=None) as first, served(_ANNA, port=None) as second:
        assert len({PORT, first.port, second.port}) >= 2
        link = await connect(_BERT, _LOOPBACK, second.port)
        await link.channel.aclose()


async def test_links_do_not_wait_to_fill_packets() -> None:
    async with served(_ANNA) as node:
        link = await connect(_BERT, _LOOPBACK, node.port)
        await link.channel.send(b"echo")
        assert await link.channel.receive() == b"echo"
        for each in (link, node.links[0]):
            tls = each.channel.stream
            assert isinstance(tls, TlsStream)
            assert isinstance(tls.transport_stream, SocketStream)
            assert tls.transport_stream.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        await link.channel.aclose()


def test_no_key_stays_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    client_context(_ANNA)
    server_context(_ANNA)
    assert list(tmp_path.iterdir()) == []


async def test_links_of_memory_streams_are_links_too() -> None:
    left, right = trio.testing.memory_stream_pair()
    links: dict[str, SecureLink] = {}

    async def open_as(name: str, stream: trio.abc.Stream, context: ssl.SSLContext) -> None:
        links[name] = await open_link(stream, context, server_side=name == "anna", address=name)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(open_as, "anna", left, server_context(_ANNA))
        nursery.start_soon(open_as, "bert", right, client_context(_BERT))
    assert links["anna"].peer_name == "bert"
    assert links["bert"].peer_name == "anna"
