"""The checks of the simulation can fail: each test plants a defect and names what catches it."""

from collections.abc import Iterator
from dataclasses import replace
from hashlib import blake2b

import pytest

from phextsync.crdt import Fingerprinter, Scroll
from phextsync.index import CoordinateIndex, CoordinateRange, state_vector
from phextsync.replica.clients import Clients
from phextsync.replica.listener import NewUpdate
from phextsync.store.contract import Batch, LogEntry
from phextsync.store.memory import MemoryStore
from phextsync.sync import reconcile
from phextsync.sync.comparison import Comparison
from phextsync.sync.messages import Entry, ScrollId, Updates
from phextsync.sync.recent import RecentUpdates
from phextsync.sync.relay import Relay
from phextsync.testing import Fault, Partition, Restart, Tear, Workload
from phextsync.testing.oracle import Oracle
from sims import steps
from sims.tables import built_in
from tests.planted import Record, caught, lie_about_disks

_CHURN = replace(built_in()["churn"], settle_s=3)
_DELETIONS = replace(_CHURN, nodes=4, seconds=5, workloads=(Workload("churn", 0.3),))
_CALM = replace(built_in()["calm"], seconds=3, settle_s=3)
_CRASH = replace(built_in()["crash"], settle_s=5)
_TORN = replace(
    _CALM,
    nodes=3,
    seconds=8,
    workloads=(Workload("memory", 8),),
    fixed=tuple(
        Fault(0.5 + 0.8 * i + after, action(i % 3))
        for i in range(9)
        for after, action in ((0, Tear), (0.1, Restart))
    ),
)
_CHAIN = replace(_CALM, nodes=8, degree=2, workloads=(Workload("logs", 1),))
_IMPORTS = replace(
    _CALM,
    nodes=2,
    seconds=6,  # links that are held back longer than 3 s end
    workloads=(Workload("bulk", 1.5),),
    fixed=(Fault(0.1, Partition(((0,), (1,)))),),
)
_SILENT = replace(built_in()["silent"], nodes=3, workloads=(Workload("logs", 8),), settle_s=3)


@pytest.fixture
def record(record_property: Record) -> Record:
    return record_property


def test_state_vectors_in_place_of_versions_leave_deletions_unseen(
    monkeypatch: pytest.MonkeyPatch, record: Record
) -> None:
    def of(_: Fingerprinter, key: bytes, version: bytes, text: bytes) -> bytes:
        return blake2b(key + state_vector(version), digest_size=32).digest()

    monkeypatch.setattr(Fingerprinter, "of", of)
    monkeypatch.setattr("phextsync.testing.simulated_node.fingerprint_on", lambda *_: b"")
    caught(record, _DELETIONS, 8, r"nodes 0 and \d differ|not in sync in time")


def test_a_fingerprint_of_less_than_the_text_is_recomputed(
    monkeypatch: pytest.MonkeyPatch, record: Record
) -> None:
    whole = Fingerprinter.of
    monkeypatch.setattr(
        Fingerprinter, "of", lambda self, key, version, _: whole(self, key, version, b"")
    )
    caught(record, _CALM, 1, "the fingerprint at .* is of other text")


def test_what_is_not_relayed_does_not_arrive(
    monkeypatch: pytest.MonkeyPatch, record: Record
) -> None:
    pass_on = Relay._pass_on
    monkeypatch.setattr(
        Relay, "_pass_on", lambda relay, new: pass_on(relay, new) if new.source is None else []
    )
    caught(record, _CHAIN, 1, "was acknowledged to . and is not on disk")


def test_deletions_that_are_not_sent_leave_the_text(
    monkeypatch: pytest.MonkeyPatch, record: Record
) -> None:
    whole = Scroll.difference

    def without(scroll: Scroll, version: bytes) -> bytes | None:
        update = whole(scroll, version)
        return None if update is not None and update.startswith(b"\0") else update

    monkeypatch.setattr(Scroll, "difference", without)
    caught(record, _DELETIONS, 8, r"nodes 0 and \d differ|not in sync in time")


def test_acknowledging_before_the_write_is_a_false_claim(
    monkeypatch: pytest.MonkeyPatch, record: Record
) -> None:
    lie_about_disks(monkeypatch)
    caught(record, replace(_CALM, seconds=8), 6, "was acknowledged to . and is not on disk")
    assert any("was acknowledged" in (steps.run(seed)[0] or "") for seed in range(90, 150))


def test_a_client_id_used_again_after_a_restore_makes_two_texts_of_one_version(
    monkeypatch: pytest.MonkeyPatch, record: Record
) -> None:
    def same(clients: Clients) -> int:
        return 1 + clients.node_id[-1]

    monkeypatch.setattr(Clients, "draw", same)
    caught(record, _TORN, 4, "differ|disappeared|came back|stands 2 times|lost|was acknowledged")


def test_a_coalesced_update_that_is_dropped_is_missed(
    monkeypatch: pytest.MonkeyPatch, record: Record
) -> None:
    all_of = RecentUpdates.since

    def all_but_the_last(
        recent: RecentUpdates, scroll: ScrollId, first: int, link: int
    ) -> list[LogEntry]:
        updates = all_of(recent, scroll, first, link)
        return updates[: max(1, len(updates) - 1)]

    monkeypatch.setattr(RecentUpdates, "since", all_but_the_last)
    caught(record, _SILENT, 4, r"was acknowledged to . and is not on disk|nodes 0 and \d differ")


def test_a_range_that_leaves_out_its_bound_hides_a_scroll(
    monkeypatch: pytest.MonkeyPatch, record: Record
) -> None:
    split = reconcile._split

    def short(
        index: CoordinateIndex, range_: CoordinateRange, count: int, branches: int
    ) -> Iterator[CoordinateRange]:
        for i, piece in enumerate(split(index, range_, count, branches)):
            lower = piece.lower.successor() if i else piece.lower
            assert lower is not None
            yield CoordinateRange(lower, piece.upper)

    monkeypatch.setattr(reconcile, "_split", short)
    monkeypatch.setattr(Comparison, "_may_sketch", lambda *_: False)
    caught(record, _IMPORTS, 8, "was acknowledged to . and is not on disk|differ")


def test_a_queue_of_updates_for_a_peer_that_does_not_read_has_no_bound(
    monkeypatch: pytest.MonkeyPatch, record: Record
) -> None:
    def push(relay: Relay, new: NewUpdate) -> None:
        entry = Entry(new.coordinate, new.entry.update, new.entry.origin or bytes(16))
        for link in relay._links.values():
            if link.number != new.source:
                link.outbox.say(Updates(new.phext, (entry,)))
                link.ledger.send(new.phext, (new.coordinate,), is_durable=False)
                link.ready()

    monkeypatch.setattr(Relay, "take", push)
    bulk = replace(_SILENT, workloads=(Workload("bulk", 2),))
    caught(record, bulk, 2, r"keeps \d+ messages for")


def test_a_write_that_is_forgotten_is_missing_after_a_start(
    monkeypatch: pytest.MonkeyPatch, record: Record
) -> None:
    commit = MemoryStore.commit

    def forgetful(store: MemoryStore, batch: Batch) -> None:
        commit(store, Batch(batch.writes[1:], batch.leases))

    monkeypatch.setattr(MemoryStore, "commit", forgetful)
    monkeypatch.setattr("phextsync.testing.simulated_node.fingerprint_on", lambda *_: b"")
    caught(record, _CRASH, 1, "was on the disk of . and is lost from it")


def test_an_edit_that_doubles_a_text_is_seen_at_once(
    monkeypatch: pytest.MonkeyPatch, record: Record
) -> None:
    edit = Scroll.edit
    monkeypatch.setattr(Scroll, "edit", lambda scroll, text: edit(scroll, text + text))
    caught(record, _CHURN, 1, "stands 2 times")


def test_a_merge_that_loses_a_line_is_seen_at_once(
    monkeypatch: pytest.MonkeyPatch, record: Record
) -> None:
    append = Scroll.append

    def replaces(scroll: Scroll, text: str) -> bytes | None:
        return append(scroll, text) if scroll.size < 200 else scroll.edit(text)

    monkeypatch.setattr(Scroll, "append", replaces)
    asked = Oracle.asked  # users only append here: what goes, nobody deleted
    monkeypatch.setattr(
        Oracle, "asked", lambda oracle, place, _, after: asked(oracle, place, "", after)
    )
    caught(record, _CALM, 1, "disappeared from")
