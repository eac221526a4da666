"""Who is let in: names that belong to keys, blocked peers, new mesh keys, certificates."""

import logging
import os
import stat
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path

import pytest
import trio

from phextsync.errors import IdentityError, PermissionDeniedError, StoreDamagedError
from phextsync.index import Coordinate, CoordinateRange
from phextsync.node.node import Node, open_node
from phextsync.trust.authority import Authority, MeshKey
from phextsync.trust.identity import NodeIdentity, PendingIdentity
from phextsync.trust.known_peers import KNOWN_FILE, KnownPeers, State
from phextsync.trust.permissions import UNRESTRICTED, Permissions
from sims.processes import PATIENCE_S
from tests.polling import until

_LOOPBACK = "127.0.0.1"
_PLACE = "1.1.1/1.1.1/1.1.1"
_OTHER = "2.1.1/1.1.1/1.1.1"


def _id(number: int) -> bytes:
    return number.to_bytes(16, "big")


@contextmanager
def _umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


# -- names and keys ------------------------------------------------------------------------


def test_another_key_under_a_known_name_is_refused_until_it_is_allowed(tmp_path: Path) -> None:
    known = KnownPeers.load(tmp_path)
    assert known.admit(_id(1), "anna") is None
    refusal = known.admit(_id(2), "anna")
    assert refusal is not None
    assert "peers allow 00000000" in refusal
    assert known.admit(_id(1), "anna") is None
    known.allow("anna")
    assert known.admit(_id(2), "anna") is None
    assert known.admit(_id(1), "anna") is not None
    known.forget(_id(2).hex())
    assert known.admit(_id(3), "anna") is None


def test_a_key_may_take_another_name_and_leaves_its_old_one() -> None:
    known = KnownPeers()
    assert known.admit(_id(1), "anna") is None
    assert known.admit(_id(1), "annabel") is None
    assert known.admit(_id(2), "anna") is None


def test_a_blocked_node_is_refused_whatever_its_name_and_keeps_it(tmp_path: Path) -> None:
    known = KnownPeers.load(tmp_path)
    known.admit(_id(1), "anna")
    assert known.block("anna").state is State.BLOCKED
    known.block(_id(9).hex())
    for peers in (known, KnownPeers.load(tmp_path)):
        assert peers.admit(_id(1), "bert") == "this node has blocked you"
        assert peers.admit(_id(9), "carl") == "this node has blocked you"
        assert "anna" in str(peers.admit(_id(2), "anna"))
    known.allow(_id(1).hex()[-32:])
    assert known.admit(_id(1), "anna") is None


def test_a_peer_is_found_by_its_name_or_an_unambiguous_beginning_of_its_id() -> None:
    known = KnownPeers()
    known.admit(b"\xab\xcd" + bytes(14), "anna")
    known.admit(b"\xab\xce" + bytes(14), "bert")
    assert known.block("ABCD").name == "anna"
    for who in ("abc", "nobody", "ffff", "abcf", "x" * 32):
        with pytest.raises(IdentityError):
            known.block(who)
    known.admit(b"\xab\xcd\x01" + bytes(13), "carl")
    with pytest.raises(IdentityError, match=r"anna \(abcd0000\), carl"):
        known.forget("abcd")


def test_changes_of_two_processes_are_both_kept(tmp_path: Path) -> None:
    node, command = KnownPeers.load(tmp_path), KnownPeers.load(tmp_path)
    node.admit(_id(1), "anna")
    command.block(_id(2).hex())
    node.admit(_id(3), "carl")
    assert [peer.node_id for peer in KnownPeers.load(tmp_path).peers()] == [_id(2), _id(1), _id(3)]
    node.refresh()
    assert node.is_blocked(_id(2))


def test_files_that_say_who_belongs_are_private_whatever_the_umask(tmp_path: Path) -> None:
    folder = tmp_path / "node"
    with _umask(0):
        NodeIdentity.create(MeshKey(bytes(32)), "anna", bytes(32)).save(folder)
        Authority.generate(bytes(32)).save(tmp_path / "authority")
        PendingIdentity.create("bert", bytes(32)).save(tmp_path / "pending")
        KnownPeers.load(folder).admit(_id(1), "anna")
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) == 5
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in files)
    folders = [path for path in tmp_path.rglob("*") if path.is_dir()]
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o700 for path in folders)


@pytest.mark.parametrize(
    "text", ["", "[]", '{"peers": [{}]}', '{"peers": [{"node_id": "00", "name": "", "state": ""}]}']
)
def test_a_damaged_list_of_peers_lets_nobody_in(tmp_path: Path, text: str) -> None:
    (tmp_path / KNOWN_FILE).write_text(text)
    with pytest.raises(StoreDamagedError, match="nobody is blocked"):
        KnownPeers.load(tmp_path)


def test_members_that_come_under_ever_new_identities_do_not_grow_the_list() -> None:
    known = KnownPeers(peers_max=50)
    for number in range(50):
        assert known.admit(_id(number), f"{number}") is None
    assert "makes room" in str(known.admit(_id(50), "one more"))
    for number in range(200):
        known.admit(_id(1 << 64 | number), "0")
        known.admit(_id(1 << 65 | number), f"new {number}")
    assert len(known.peers()) <= 50 + 64
    assert known.admit(_id(7), "7") is None


# -- nodes ---------------------------------------------------------------------------------


def _member(folder: Path, key: MeshKey, name: str) -> Path:
    NodeIdentity.create(key, name, os.urandom(32)).save(folder / name)
    return folder / name


def _issued(
    folder: Path,
    authority: Authority,
    name: str,
    permissions: Permissions = UNRESTRICTED,
    valid_s: float | None = None,
) -> Path:
    pending = PendingIdentity.create(name, os.urandom(32))
    bundle = authority.answer(pending.request(), permissions, now_s=time.time(), valid_s=valid_s)
    pending.accepted(bundle).save(folder / name)
    return folder / name


@asynccontextmanager
async def _star(*folders: Path) -> AsyncIterator[list[Node]]:
    """Run nodes on loopback that all dial the first."""
    async with AsyncExitStack() as stack:
        nodes: list[Node] = []
        for path in folders:
            peers = [f"{_LOOPBACK}:{nodes[0].port}"] if nodes else []
            context = open_node(path, host=_LOOPBACK, port=0, peers=peers, discoveries=[])
            nodes.append(await stack.enter_async_context(context))
        yield nodes


def _names(node: Node) -> set[str]:
    return {peer.name for peer in node.peers()}


@pytest.mark.real
async def test_a_blocked_peer_loses_its_link_and_is_back_when_it_is_allowed(tmp_path: Path) -> None:
    key = MeshKey(os.urandom(32))
    with trio.fail_after(PATIENCE_S):
        async with _star(*(_member(tmp_path, key, name) for name in ("anna", "bert"))) as nodes:
            anna, bert = nodes
            await until(lambda: _names(anna) == {"bert"})
            KnownPeers.load(anna.folder).block("bert")
            anna.reload()
            await until(lambda: not anna.peers() and not bert.peers())
            assert [peer.reason for peer in anna.absent()] == ["blocked on this node"]
            anna.phext()[_PLACE] = "after"
            await until(lambda: "this node has blocked you" in str(bert.absent()))
            assert _PLACE not in bert.phext()
            assert anna.peers() == []
            KnownPeers.load(anna.folder).allow("bert")
            anna.reload()
            await anna.synced(peers=1)
            assert bert.phext()[_PLACE] == "after"


@pytest.mark.real
async def test_a_new_key_under_a_known_name_is_refused_and_reported(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    key = MeshKey(os.urandom(32))
    anna, bert = (_member(tmp_path, key, name) for name in ("anna", "bert"))
    impostor = _member(tmp_path / "elsewhere", key, "bert")
    with trio.fail_after(PATIENCE_S), caplog.at_level(logging.WARNING):
        async with _star(anna, bert) as nodes:
            await until(lambda: _names(nodes[0]) == {"bert"})
        async with _star(anna, impostor) as nodes:
            await until(lambda: "is known here with key" in str(nodes[1].absent()))
            assert nodes[0].peers() == []
            reports = [r for r in caplog.records if "'bert' is known here" in r.getMessage()]
            assert len(reports) == 1
            KnownPeers.load(anna).allow("bert")
            nodes[0].reload()
            await until(lambda: _names(nodes[0]) == {"bert"})


@pytest.mark.real
async def test_the_mesh_key_changes_while_nodes_run_and_whoever_lacks_it_is_out(
    tmp_path: Path,
) -> None:
    folders = [_member(tmp_path, MeshKey(os.urandom(32)), "anna")]
    old = NodeIdentity.load(folders[0]).mesh_key
    assert old is not None
    folders += [_member(tmp_path, old, name) for name in ("bert", "thief")]
    new = MeshKey(os.urandom(32))

    def change(node: Node, change_of: Callable[[NodeIdentity], NodeIdentity]) -> None:
        change_of(NodeIdentity.load(node.folder)).save(node.folder, replace=True)
        node.reload()

    with trio.fail_after(PATIENCE_S):
        async with _star(*folders) as nodes:
            anna, bert, thief = nodes
            await until(lambda: _names(anna) == {"bert", "thief"})
            links = anna.links.numbers()
            lines: list[str] = []
            for changed in (anna, bert):
                change(changed, lambda identity: identity.rotated(new))
                for node in nodes:
                    lines.append(f"{node.identity.name} {len(lines)}\n")
                    node.phext().append(_PLACE, lines[-1])
                await anna.synced(peers=2)
            assert anna.links.numbers() == links  # not one was lost
            change(anna, NodeIdentity.finished)
            anna.phext().append(_PLACE, "finished\n")
            await until(lambda: _names(anna) == {"bert"})
            thief.phext().append(_PLACE, "from outside\n")
            await anna.synced(peers=1)
            change(bert, NodeIdentity.finished)
            bert.phext().append(_PLACE, "last\n")
            await bert.synced(peers=1)
            await until(lambda: "another mesh" in str(thief.absent()))
            for node in (anna, bert):
                held = node.phext()[_PLACE].splitlines(True)
                assert sorted(held) == sorted([*lines, "finished\n", "last\n"])
            assert _names(anna) == {"bert"}


@pytest.mark.real
async def test_nodes_of_an_administered_mesh_read_and_write_what_their_certificates_say(
    tmp_path: Path,
) -> None:
    authority = Authority.generate(os.urandom(32))
    half = CoordinateRange.parse("2.*")
    whole = CoordinateRange.parse("*")
    folders = [
        _issued(tmp_path, authority, "administrator"),
        _issued(tmp_path, authority, "reader", Permissions.of({"memory": [whole]}, {})),
        _issued(tmp_path, authority, "half", Permissions.of({}, {"memory": [half]})),
    ]
    with trio.fail_after(PATIENCE_S):
        async with _star(*folders) as (administrator, reader, writer):
            administrator.phext()[_PLACE] = "for readers"
            administrator.phext("secret")[_OTHER] = "for nobody"
            await until(lambda: _names(administrator) == {"reader", "half"})
            writer.phext()[_OTHER] = "from the half"
            await administrator.synced(range_=half, peers=2)
            await until(lambda: len(reader.phext()) == 2)
            assert dict(writer.phext().scrolls()) == {Coordinate.parse(_OTHER): "from the half"}
            assert {"secret", ".clients"}.isdisjoint(reader.replicas.names())
            assert {"secret", ".clients"}.isdisjoint(writer.replicas.names())
            with pytest.raises(PermissionDeniedError):
                reader.phext().append(_PLACE, "no")
            with pytest.raises(PermissionDeniedError):
                writer.phext().append(_PLACE, "no")
            # A new certificate takes effect while the node runs.
            request = NodeIdentity.load(reader.folder).request()
            bundle = authority.answer(request, UNRESTRICTED, now_s=time.time(), valid_s=None)
            reader.identity.accepted(bundle).save(reader.folder, replace=True)
            reader.reload()
            reader.phext().append(_PLACE, " and writers")
            await reader.synced(peers=1)
            assert administrator.phext()[_PLACE] == "for readers and writers"


@pytest.mark.real
async def test_a_link_ends_when_the_peers_certificate_expires_and_is_refused_after(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    authority, valid_s, has_met = Authority.generate(os.urandom(32)), 4, False
    anna_folder = _issued(tmp_path, authority, "anna")
    with caplog.at_level(logging.INFO):
        while not has_met:  # on a busy machine it takes longer than the shortest
            folder = _issued(tmp_path, authority, f"guest for {valid_s} s", valid_s=valid_s)
            valid_s *= 4
            with trio.fail_after(PATIENCE_S + valid_s):
                async with _star(anna_folder, folder) as (anna, guest):
                    await until(lambda: bool(anna.peers()) or "expired" in str(guest.absent()))
                    has_met = bool(anna.peers())
                    await until(lambda: not anna.peers())
                    await until(lambda: "expired" in str(guest.absent()))
    assert any("certificate has expired" in r.getMessage() for r in caplog.records)
