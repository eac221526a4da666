"""Strangers and hostile members on real sockets: floods, stalls, and mDNS spam on loopback."""

import logging
import os
import socket
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
import zeroconf
from trio.testing import MockClock
from zeroconf._dns import DNSRecord
from zeroconf._protocol.outgoing import DNSOutgoing

from phextsync import transport
from phextsync.discovery import Announcement
from phextsync.errors import LinkError
from phextsync.index import EMPTY_VERSION
from phextsync.mdns import SERVICE_TYPE, Mdns
from phextsync.node.dialler import TARGETS_MAX
from phextsync.node.links import LINKS_PER_PEER
from phextsync.node.node import Node, open_node
from phextsync.sockets import TlsStream
from phextsync.sync.codec import decode, encode
from phextsync.sync.limits import Limits
from phextsync.sync.messages import Hello, PhextSummary, Ping, Want
from phextsync.transport import LINES_MAX, LINES_S, connect, server_context
from phextsync.trust.authority import MeshKey
from phextsync.trust.identity import NodeIdentity
from sims.attacks import place, summary

pytestmark = pytest.mark.real

_LOOPBACK = "127.0.0.1"
_PATIENCE_S = 120
_KEY = MeshKey.generate(os.urandom(32))


def _identity(name: str) -> NodeIdentity:
    return NodeIdentity.create(_KEY, name, os.urandom(32))


def _folder(parent: Path, name: str) -> Path:
    _identity(name).save(parent / name)
    return parent / name


@asynccontextmanager
async def _anna(parent: Path) -> AsyncIterator[Node]:
    folder = _folder(parent, "anna")
    async with open_node(folder, host=_LOOPBACK, port=0, discover=False) as node:
        yield node


async def _linked(identity: NodeIdentity, node: Node) -> transport.SecureLink:
    return await connect(identity, _LOOPBACK, node.port, timeout_s=_PATIENCE_S)


async def _until_logged(caplog: pytest.LogCaptureFixture, text: str) -> str:
    with trio.fail_after(_PATIENCE_S):
        while True:
            for record in caplog.records:
                if text in record.getMessage():
                    return record.getMessage()
            await trio.sleep(0.01)


async def _greet(link: transport.SecureLink, identity: NodeIdentity, *phexts: PhextSummary) -> None:
    hello = Hello(1, 0, identity.node_id, identity.name, os.urandom(16), phexts)
    await link.channel.send(encode(hello))


async def test_a_flood_of_silent_connections_keeps_no_peer_out_and_fills_no_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    began = trio.current_time()
    async with _anna(tmp_path) as node:
        flood = [await trio.open_tcp_stream(_LOOPBACK, node.port) for _ in range(400)]
        with trio.fail_after(_PATIENCE_S):
            link = await _linked(_identity("bert"), node)
            await link.channel.send(encode(Ping(7)))
            assert isinstance(decode(await link.channel.receive(), Limits()), Hello)
        await link.channel.aclose()
        for stream in flood:
            await stream.aclose()
    refusals = [r for r in caplog.records if r.name == "phextsync.transport"]
    whiles = 2 + (trio.current_time() - began) // LINES_S
    assert 0 < len(refusals) <= whiles * (LINES_MAX + 1)


async def test_one_identity_gets_few_links(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, mock_clock: MockClock
) -> None:
    mock_clock.rate = 0.1  # links that say nothing stay until the last of them is there
    greedy = _identity("greedy")
    async with _anna(tmp_path) as node:
        links = [await _linked(greedy, node) for _ in range(LINKS_PER_PEER + 2)]
        await _until_logged(caplog, f"{LINKS_PER_PEER} of its own")
        assert len(node.links.numbers()) == LINKS_PER_PEER
        for link in links:
            await link.channel.aclose()


async def test_a_member_that_never_reads_is_left_with_a_reason(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "phextsync.node")
    deaf = _identity("deaf")
    async with _anna(tmp_path) as node:
        assert len(node.phext()) == 0
        link = await _linked(deaf, node)
        await _greet(link, deaf, summary())
        with trio.fail_after(_PATIENCE_S):
            with pytest.raises(LinkError):  # noqa: PT012  the kernels take some first
                for first in range(0, 1 << 30, 4096):
                    places = range(first, first + 4096)
                    wants = tuple((place(i), EMPTY_VERSION, b"") for i in places)
                    await link.channel.send(encode(Want("memory", wants)))
            await _until_logged(caplog, "deaf")
            await _until_logged(caplog, "is gone: expected fewer requests at once")
            assert node.peers() == []
        await link.channel.aclose()


async def test_a_length_of_gigabytes_ends_the_link_before_its_body_is_read(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "phextsync.node")
    mallory = _identity("mallory")
    async with _anna(tmp_path) as node:
        link = await _linked(mallory, node)
        await _greet(link, mallory)
        await link.channel.stream.send_all(b"\xff\xff\xff\xff" + bytes(100))
        await _until_logged(caplog, "frame of 4294967295 bytes exceeds 1048576")
        await link.channel.aclose()


async def test_a_frame_that_comes_byte_by_byte_counts_as_silence(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "phextsync.node")
    slow = _identity("slow")
    async with _anna(tmp_path) as node:
        link = await _linked(slow, node)
        await _greet(link, slow)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_drip, link)
            await _until_logged(caplog, "nothing was heard for 3 s")
            nursery.cancel_scope.cancel()
        await link.channel.aclose()


async def _drip(link: transport.SecureLink) -> None:
    await link.channel.stream.send_all((1 << 19).to_bytes(4))
    while True:
        await trio.sleep(0.1)
        try:
            await link.channel.stream.send_all(b"x")
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return


async def test_a_flood_of_key_updates_ends_the_connection(tmp_path: Path) -> None:
    identity = _identity("mallory")
    pem = tmp_path / "mallory.pem"
    pem.write_bytes(identity.certificate_chain_pem(identity.bundles[0]))
    (listener,) = await trio.open_tcp_listeners(0, host=_LOOPBACK)
    port = listener.socket.getsockname()[1]
    command = ["openssl", "s_client", "-connect", f"{_LOOPBACK}:{port}", "-cert", str(pem)]
    command += ["-key", str(pem), "-quiet", "-no_ign_eof"]
    async with listener:
        process = await trio.lowlevel.open_process(
            command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        stream = await listener.accept()
        tls = TlsStream(stream, server_context(_identity("anna")), server_side=True)
        assert process.stdin is not None
        with trio.fail_after(_PATIENCE_S):
            await tls.do_handshake()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_ask_for_keys, process.stdin)
                with pytest.raises(trio.BrokenResourceError):  # noqa: PT012
                    while await tls.receive_some():
                        pass
                nursery.cancel_scope.cancel()
        await trio.aclose_forcefully(tls)
        process.kill()
        await process.wait()
        await process.stdin.aclose()


async def _ask_for_keys(stdin: trio.abc.SendStream) -> None:
    try:
        while True:
            await stdin.send_all(b"K\n")
            await trio.sleep(0.0005)
    except trio.BrokenResourceError:
        return


async def test_thousands_of_fake_services_hide_no_peer_and_leave_few_addresses(
    tmp_path: Path,
) -> None:
    folder, peer = _folder(tmp_path, "anna"), _identity("bert")
    async with open_node(folder, host=_LOOPBACK, port=0, discoveries=[Mdns([_LOOPBACK])]) as node:
        await trio.to_thread.run_sync(_spam, node.identity.mesh_tag)
        met = trio.Event()

        async def welcome(link: transport.SecureLink) -> None:
            met.set()
            await trio.sleep_forever()

        with trio.fail_after(_PATIENCE_S):
            async with trio.open_nursery() as nursery:
                port = await nursery.start(transport.serve, peer, _LOOPBACK, 0, welcome)
                own = Announcement(peer.node_id, "bert", port, peer.mesh_tag, b"i" * 16)
                async with Mdns([_LOOPBACK]).open(own):
                    await met.wait()
                nursery.cancel_scope.cancel()
        assert len(node.dialler.addresses()) <= TARGETS_MAX


def _spam(mesh_tag: str, count: int = 3000) -> None:
    """Announce services of the mesh that are not there; half of them tell no address."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(_LOOPBACK))
        for number in range(count):
            node_id = number.to_bytes(16).hex()
            info = zeroconf.ServiceInfo(
                SERVICE_TYPE,
                f"{node_id}-{mesh_tag}.{SERVICE_TYPE}",
                port=1 + number % 60000,
                server=f"{node_id}.local.",
                parsed_addresses=[f"127.9.{number // 250}.{1 + number % 250}"],
                properties={"v": "1", "id": node_id, "name": "fake", "mesh": mesh_tag, "inc": ""},
            )
            out = DNSOutgoing(0x8400)
            records: list[DNSRecord] = [info.dns_pointer()]
            if number % 2:
                records += [info.dns_service(), info.dns_text(), *info.dns_addresses()]
            for record in records:
                out.add_answer_at_time(record, 0)
            for packet in out.packets():
                sender.sendto(packet, ("224.0.0.251", 5353))
