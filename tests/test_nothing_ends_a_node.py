"""Nothing ends a node but its owner: each of its tasks goes on after an error of what it calls."""

import logging
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from fuzz.desk import Node as DeskNode
from phextsync.boundaries import Boundary
from phextsync.cli import node as node_cli
from phextsync.cli.doors import Doors
from phextsync.cli.supervisor import Supervisor
from phextsync.control.desk import Desk
from phextsync.control.frames import encode_request
from phextsync.files import service
from phextsync.files.bindings import BindingStore, Bound
from phextsync.gateways.guard import Guard
from phextsync.index import EVERYTHING, Coordinate
from phextsync.node.gate import Gate
from phextsync.node.node import Node
from phextsync.sync.messages import Ask
from phextsync.testing import MemoryMesh, Reset
from phextsync.testing.mesh import PHEXT

_A = Coordinate(*[1] * 9)
Error = Callable[[], Exception]


def _bug() -> Exception:
    return ZeroDivisionError("a bug")


def _group() -> Exception:
    return ExceptionGroup("", [_bug()])


_both = pytest.mark.parametrize("error", [_bug, _group])


def _failing(error: Error, count: int = 1_000_000) -> Callable[..., None]:
    """Return what raises an error when it is called, so often."""
    left = [count]

    def fail(*_: object, **__: object) -> None:
        left[0] -= 1
        if left[0] >= 0:
            raise error()

    return fail


_PARTS: dict[str, Callable[[Node], tuple[object, str]]] = {
    "whom to dial": lambda node: (node.dialler._neighbourhood, "wants"),
    "whether to dial": lambda node: (node.dialler._neighbourhood, "has_room"),
    "who is told of peers": lambda node: (node, "on_peer"),
    "what is told": lambda node: (node, "drain"),
    "which links to end": lambda node: (node.dialler, "review"),
    "whom it has met": lambda node: (node.acquaintances, "see_again"),
    "what it remembers": lambda node: (node.acquaintances.remembered, "save_if_changed"),
    "whose certificate ends": lambda node: (node.links, "end_expired"),
    "what is placed": lambda node: (node.following, "_follow"),
}


@_both
@pytest.mark.parametrize("part", sorted(_PARTS))
def test_a_node_lives_and_is_linked_again_where_a_task_of_it_fails(
    part: str, error: Error, monkeypatch: pytest.MonkeyPatch
) -> None:
    mesh = MemoryMesh(1, 2, on_error=lambda _: None)

    async def body() -> None:
        await mesh.run_until(1)
        node = mesh.node(0)
        with monkeypatch.context() as patch:
            patch.setattr(*_PARTS[part](node), _failing(error))
            mesh.apply(Reset(0, 1))
            mesh.edit(0, _A, lambda replica: replica.append(_A, "ours\n"))
            await mesh.run_until(mesh.now + 20)
        assert mesh.node(0) is node
        await mesh.settle(120)

    mesh.run(body)


@_both
def test_who_is_told_of_peers_and_fails_keeps_no_peer_out(error: Error) -> None:
    seen: list[Exception] = []
    mesh = MemoryMesh(1, 2, on_error=seen.append)

    async def body() -> None:
        mesh.node(0).on_peer = _failing(error)
        mesh.edit(1, _A, lambda replica: replica.append(_A, "theirs\n"))
        await mesh.settle(120)
        mesh.apply(Reset(0, 1))
        await mesh.settle(120)

    mesh.run(body)
    assert {type(each) for each in seen} == {ZeroDivisionError}


@_both
@pytest.mark.parametrize("part", ["what is told", "whom it has met", "which links to end"])
def test_a_part_of_keeping_time_that_fails_holds_up_no_other(
    part: str, error: Error, monkeypatch: pytest.MonkeyPatch
) -> None:
    mesh = MemoryMesh(1, 1, on_error=lambda _: None)
    called: list[float] = []

    async def body() -> None:
        node = mesh.node(0)
        with monkeypatch.context() as patch:
            patch.setattr(*_PARTS[part](node), _failing(error))
            patch.setattr(node.links, "end_expired", called.append)
            await mesh.run_until(mesh.now + 5)

    mesh.run(body)
    assert called


@_both
def test_an_answer_to_a_peer_that_fails_is_passed_over(
    error: Error, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Exception] = []
    told: list[int] = []
    mesh = MemoryMesh(1, 2, on_error=seen.append)

    async def body() -> None:
        await mesh.settle(60)
        node = mesh.node(0)
        (link,) = node.links.numbers()
        words = encode_request(0, 0, ["nothing that is worked out"])
        with monkeypatch.context() as patch:
            fail = _failing(error, 1)

            def tell(_now: float, _link: int, asked: Ask, _answer: bytes) -> None:
                fail()
                told.append(asked.number)

            patch.setattr(node.core.elsewhere, "tell", tell)
            for number in (1, 2):
                node.answering.ask(link, Ask(number, PHEXT, EVERYTHING, words))
            await mesh.run_until(mesh.now + 5)
        await mesh.settle(60)

    mesh.run(body)
    assert told == [2]
    assert {type(each) for each in seen} == {ZeroDivisionError}


@_both
def test_what_is_not_durable_is_written_at_the_end_whatever_fails_then(
    error: Error, monkeypatch: pytest.MonkeyPatch
) -> None:
    mesh = MemoryMesh(1, 1, on_error=lambda _: None)

    async def body() -> None:
        node = mesh.node(0)
        monkeypatch.setattr(node.acquaintances.remembered, "save_if_changed", _failing(error))
        node.phext(PHEXT)[_A] = "text"
        assert await node.stop()
        monkeypatch.undo()

    mesh.run(body)


@_both
async def test_bindings_that_cannot_be_read_are_read_again(
    error: Error,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    autojump_clock: MockClock,
) -> None:
    boundary = Boundary(logging.getLogger("phextsync.tests"))
    node: Any = SimpleNamespace(
        folder=tmp_path, links=SimpleNamespace(gate=Gate(0)), boundary=boundary
    )
    is_read = trio.Event()
    with monkeypatch.context() as patch:
        state, bindings = BindingStore.state, BindingStore.bindings
        fails, fails_later = _failing(error, 2), _failing(partial(OSError, 5, "the disk fails"), 2)

        def failing_state(store: BindingStore) -> tuple[int, ...]:
            fails()
            return state(store)

        def failing_bindings(store: BindingStore) -> list[Bound]:
            fails_later()
            trio.from_thread.run_sync(is_read.set)
            return bindings(store)

        patch.setattr(BindingStore, "state", failing_state)
        patch.setattr(BindingStore, "bindings", failing_bindings)
        async with trio.open_nursery() as nursery:
            await nursery.start(service.Directories(node).serve)
            await is_read.wait()
            nursery.cancel_scope.cancel()
    lines = [each.getMessage() for each in caplog.records]
    assert [line.partition(":")[0] for line in lines] == ["reading what is bound failed"] * 2
    assert boundary.errors.count == 4


@_both
async def test_a_process_that_cannot_be_forgotten_keeps_no_other(
    error: Error, monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    node = DeskNode()
    desk = Desk(node)
    desk._awaited = {b"one", b"two"}
    left: list[bytes] = []
    fail = _failing(error, 1)

    def leave(client: bytes) -> None:
        fail()
        left.append(client)

    monkeypatch.setattr(desk, "left", leave)
    await desk.forget_missing()
    assert left == [b"two"]
    assert [type(each) for each in node.errors] == [ZeroDivisionError]


@_both
async def test_what_up_does_beside_its_node_ends_no_node(
    error: Error,
    monkeypatch: pytest.MonkeyPatch,
    autojump_clock: MockClock,
) -> None:
    boundary = Boundary(logging.getLogger("phextsync.tests"))
    node: Any = SimpleNamespace(boundary=boundary)
    run = node_cli._Run(
        Path("none"), "127.0.0.1", None, (), False, False, False,
        Doors(Guard(None), None, None, None, ()),
    )  # fmt: skip

    async def rest(*_: object, **__: object) -> None:
        await trio.sleep_forever()

    called: Counter[str] = Counter()
    all_twice = trio.Event()

    def fail(name: str) -> str:
        called[name] += 1
        if len(called) == 3 and min(called.values()) > 1:
            all_twice.set()
        raise error()

    async def failing(name: str, _: object) -> None:
        fail(name)

    monkeypatch.setattr(service, "serve", rest)
    monkeypatch.setattr(node_cli, "Voters", lambda _: SimpleNamespace(run=rest))
    monkeypatch.setattr(node_cli, "is_terminal", lambda: True)
    monkeypatch.setattr(node_cli, "_addresses", lambda *_: [])
    monkeypatch.setattr(node_cli, "_state", lambda _: fail("_state"))
    for name in ("_tell_peers", "_show_progress"):
        monkeypatch.setattr(node_cli, name, partial(failing, name))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(node_cli._serve, node, run, Supervisor({}))
        await all_twice.wait()
        nursery.cancel_scope.cancel()
