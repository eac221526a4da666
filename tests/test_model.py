"""Every order of a few operations is right, and a planted defect is found with few steps."""

import pytest

from phextsync.crdt import Scroll
from phextsync.index import ORIGIN
from phextsync.replica.clients import Clients
from phextsync.store.contract import Batch
from phextsync.store.memory import MemoryStore
from phextsync.sync.outgoing import Outgoing
from phextsync.sync.synchronizer import Synchronizer
from phextsync.testing import PHEXT
from sims.__main__ import main
from sims.canonical import digest
from sims.model import OPERATIONS, Found, Model
from sims.model_node import Input, ModelNode
from sims.model_states import NodeStates
from tests.planted import lie_about_disks


def _found(count: int, *operations: str, nodes: int = 2, depth_max: int = 1000) -> Found:
    return Model(nodes, operations=operations).search(count, depth_max=depth_max)


def _finds(found: Found, *failures: str, steps: int) -> None:
    assert found.failure is not None
    assert found.failure.startswith(failures), found.failure
    assert len(found.steps) <= steps, found.steps


# -- what holds ----------------------------------------------------------------------------


def test_nothing_is_wrong_after_any_one_operation() -> None:
    found = _found(1, *OPERATIONS)
    assert (found.failure, found.cut_off) == (None, 0)
    assert found.quiet > 10


def test_nothing_is_wrong_among_three_nodes() -> None:
    found = _found(1, "append", nodes=3, depth_max=9)
    assert found.failure is None


def test_a_search_says_what_it_did_not_look_at() -> None:
    assert _found(1, "append", depth_max=3).cut_off > 0


def test_one_search_finds_the_same_worlds_each_time() -> None:
    one, other = (_found(2, "append", "cut", depth_max=6) for _ in range(2))
    assert (one.worlds, one.node_states, one.inputs) == (
        other.worlds,
        other.node_states,
        other.inputs,
    )


def test_it_is_run_by_a_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["model", "--of", "cut,restart"]) == 0
    told = capsys.readouterr().out
    assert "cut off          nothing" in told
    assert "nothing is wrong" in told
    assert main(["model", "--of", "cuts"]) == 2


# -- planted defects -----------------------------------------------------------------------


def test_an_acknowledgement_before_the_write_is_a_false_claim(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lie_about_disks(monkeypatch)
    _finds(_found(1, "append"), "false claim", steps=7)


def test_what_is_not_sent_over_a_new_link_is_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    """An edit that was not durable when the link was made is in no summary."""
    monkeypatch.setattr(Outgoing, "change_uncommitted", lambda *_: None)
    _finds(_found(2, "cut", "append"), "false claim", steps=7)


def test_a_line_that_is_taken_for_one_of_this_node_is_doubled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    receive = Synchronizer.receive

    def receive_and_write(core: Synchronizer, now: float, link: int, frame: bytes) -> None:
        replica = core.replicas.open(PHEXT)
        before = replica.get(ORIGIN, "")
        receive(core, now, link, frame)
        new = replica.get(ORIGIN, "").removeprefix(before)
        if before and new and new != before:
            replica.append(ORIGIN, new)

    search = Model(2, operations=("append",))
    monkeypatch.setattr(Synchronizer, "receive", receive_and_write)
    _finds(search.search(1), "doubled", steps=3)


def test_a_write_that_takes_the_place_of_the_one_before_is_a_loss(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    commit = MemoryStore.commit

    def commit_and_lose(store: MemoryStore, batch: Batch) -> None:
        for phext, write in batch.writes:
            if phext == PHEXT and write.state is None:
                store._scrolls[phext].pop(write.key)
        commit(store, batch)

    search = Model(2, operations=("append",))
    monkeypatch.setattr(MemoryStore, "commit", commit_and_lose)
    _finds(search.search(1), "lost", steps=3)


def test_a_batch_that_says_too_early_that_it_is_written_is_not_durable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    search = Model(2, operations=("append",))
    monkeypatch.setattr(MemoryStore, "commit", lambda *_: None)
    _finds(search.search(1), "not durable", steps=3)


def test_a_client_id_that_is_used_again_after_a_crash_has_two_texts_of_one_version(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Clients, "draw", lambda clients: 1 + clients.node_id[-1])
    _finds(_found(3, "append", "crash"), "two texts of one version", steps=5)


def test_deletions_that_are_not_sent_are_a_false_claim(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = Scroll.difference

    def without(scroll: Scroll, version: bytes) -> bytes | None:
        update = whole(scroll, version)
        return None if update is not None and update.startswith(b"\0") else update

    monkeypatch.setattr(Scroll, "difference", without)
    search = Model(2, operations=("delete",), is_linked=False)
    _finds(search.search(1), "false claim", steps=20)


# -- digests -------------------------------------------------------------------------------


def test_a_digest_tells_orders_and_who_shares_what() -> None:
    one: list[int] = []
    other: list[int] = []
    assert digest([one, one]) != digest([one, other])
    assert digest({1: 2, 3: 4}) != digest({3: 4, 1: 2})
    assert digest({1, 2}) == digest({2, 1})
    assert digest((1, "1")) == digest((1, "1")) != digest(("1", 1))


def test_states_of_one_digest_do_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many inputs lead to one state. Whichever did, the same follows."""
    model = Model(2, operations=("append", "cut"))
    states, others = model.states, list[tuple[int, tuple[int, Input]]]()
    meet = NodeStates._meet

    def note(states: NodeStates, node: ModelNode, came_from: tuple[int, Input]) -> int:
        count = len(states)
        state = meet(states, node, came_from)
        if state < count:
            others.append((state, came_from))
        return state

    monkeypatch.setattr(NodeStates, "_meet", note)
    model.search(2, depth_max=8)
    followed = 0
    for state, (before, given) in others[:150]:
        for following, after, frame in states.known(state)[:2]:
            node = states.made(before)
            states.do(node, given)
            gave = states.do(node, following)
            assert gave == (states.frames[frame - 1] if frame else None)
            assert node.digest() == states.made(after).digest()
            followed += 1
    assert followed > 20


def test_a_digest_of_what_cannot_be_read_is_an_error() -> None:
    with pytest.raises(TypeError, match="expected a class"):
        digest([iter([1])])
