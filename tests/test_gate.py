"""What was changed while a node was down is in its scrolls before it meets others."""

import os
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
import trio
import trio.testing

from phextsync.files import service
from phextsync.files.bindings import BindingStore, Bound
from phextsync.files.desk import FileDesk, ToldConflict
from phextsync.index import CoordinateRange
from phextsync.node.gate import Gate
from phextsync.node.node import Node, open_node
from phextsync.trust.authority import MeshKey
from phextsync.trust.identity import NodeIdentity
from tests.polling import until, until_text
from tests.test_files import Mesh

_HOST = "127.0.0.1"
_LONG_S = 3600.0
_PATIENCE_S = 120.0
_WAS, _OAT, _SOY = (f"buy {what}milk\n" for what in ("", "oat ", "soy "))


async def test_nobody_passes_a_gate_before_it_is_opened_or_its_time_is_over(
    autojump_clock: trio.testing.MockClock,
) -> None:
    passed: list[float] = []

    async def come(gate: Gate) -> None:
        await gate.passed()
        passed.append(trio.current_time() - began)

    for opened_after_s, expected in ((1.0, 1.0), (9.0, 5.0)):
        began, gate = trio.current_time(), Gate(5.0)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(come, gate)
            nursery.start_soon(come, gate)
            await trio.sleep(opened_after_s)
            gate.open()
        assert passed == [expected] * 2
        assert (gate.is_open, gate.waiting) == (True, 0)
        passed.clear()
    assert Gate(0.0).is_open


@pytest.mark.parametrize("line", [_OAT, ""])
def test_a_change_that_was_made_while_a_node_was_down_is_told_on_both(line: str) -> None:
    """Were it taken in after the other's, it would look like an answer to that."""
    mesh = Mesh(2)
    one, two = mesh.machines
    mesh.join()
    one.disk.put("plan.md", f"plan\n{_WAS}end\n")
    mesh.settle()
    mesh.part()
    mesh.network.crash(0)
    one.disk.put("plan.md", f"plan\n{line}end\n")
    two.disk.put("plan.md", f"plan\n{_SOY}end\n")
    mesh.network.run(0.1)
    two.work()
    one.start()
    one.work()  # which the gate waits for
    mesh.settle()
    told = []
    for machine in mesh.machines:
        assert machine.binding is not None
        told.append([(c.conflict.mine, c.conflict.theirs) for c in machine.binding.conflicts])
    assert told == [[(line, _SOY)], [(_SOY, line)]]


# -- nodes -----------------------------------------------------------------------------------


def _prepare(folder: Path) -> Path:
    """Make a data folder with a bound directory; return that."""
    identity = NodeIdentity.create(MeshKey.generate(bytes(32)), folder.name, os.urandom(32))
    identity.save(folder)
    notes = folder.with_name(f"{folder.name}-notes")
    BindingStore(folder).bind(Bound(notes, "memory", CoordinateRange.parse("7.*")))
    return notes


def _node(folder: Path, *peers: Node, alone_s: float = 0.0) -> AbstractAsyncContextManager[Node]:
    ports = [f"{_HOST}:{peer.port}" for peer in peers]
    return open_node(folder, host=_HOST, port=0, discover=False, peers=ports, alone_s=alone_s)


@asynccontextmanager
async def _serving(folder: Path, *peers: Node) -> AsyncIterator[Node]:
    async with (
        _node(folder, *peers, alone_s=_LONG_S) as node,
        trio.open_nursery() as nursery,
    ):
        await nursery.start(service.serve, node)
        yield node
        nursery.cancel_scope.cancel()


def _told(node: Node) -> list[ToldConflict]:
    assert isinstance(node.directories, FileDesk)
    return node.directories.conflicts()


@pytest.mark.real
async def test_a_node_meets_nobody_before_its_gate_is_open(tmp_path: Path) -> None:
    for name in ("one", "two", "three"):
        _prepare(tmp_path / name)
    async with (
        _node(tmp_path / "one") as one,
        _node(tmp_path / "two", one, alone_s=_LONG_S) as two,
        _node(tmp_path / "three", two),
    ):
        await until(lambda: two.links.gate.waiting >= 2)  # one that it dials, one that came
        assert not two.links.connected()
        two.links.gate.open()
        await until(lambda: len(two.peers()) == 2)


@pytest.mark.real
async def test_a_node_meets_others_when_what_was_done_while_it_was_down_is_in_its_scrolls(
    tmp_path: Path,
) -> None:
    notes, others = _prepare(tmp_path / "one"), _prepare(tmp_path / "two")
    async with _serving(tmp_path / "two") as two:
        (others / "plan.md").write_text(_WAS)
        (others / "old.md").write_text("old\n")
        async with _serving(tmp_path / "one", two) as one:
            await until_text(notes / "plan.md", _WAS)
            await until_text(notes / "old.md", "old\n")
            await one.synced(timeout_s=_PATIENCE_S)
        (notes / "plan.md").write_text(_OAT)
        (notes / "old.md").unlink()
        (others / "plan.md").write_text(_SOY)
        await until(lambda: _SOY in two.phext().values())
        texts: list[list[str]] = []
        async with _serving(tmp_path / "one", two) as one:
            one.on_peer = lambda event: texts.append(list(one.phext().values()))
            for node, mine, theirs in ((one, _OAT, _SOY), (two, _SOY, _OAT)):
                await until(partial(_told, node))
                (told,) = _told(node)
                assert (told.mine, told.theirs) == (mine, theirs)
        assert _OAT in texts[0]
        assert "old\n" not in texts[0]
