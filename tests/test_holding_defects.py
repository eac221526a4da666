"""Where nodes hold parts the checks of the simulation can fail, too; see `test_defects`."""

from collections.abc import Iterable
from dataclasses import replace

import pytest

from phextsync.control import placing
from phextsync.index import CoordinateRange
from phextsync.node import follower
from phextsync.node.witness import Witness
from phextsync.placement.members import Member
from phextsync.ranges import holds
from phextsync.replica.guests import Guests
from phextsync.replica.holding import Holding
from phextsync.replica.replicas import ReplicaSet
from phextsync.sync.announcements import Announcements
from phextsync.sync.leaving import Leaving
from phextsync.sync.link import Link
from phextsync.sync.promises import Promises
from phextsync.sync.rights import Interest
from phextsync.sync.synchronizer import Synchronizer
from phextsync.testing import Fault, SetHeld
from phextsync.trust.permissions import UNRESTRICTED
from sims.tables import built_in
from tests.planted import Record, caught, lie_about_disks

_HOLDING = built_in()["holding"]
_PLACED = built_in()["placed"]
_VISITS = built_in()["visits"]
_GIVES_UP = r"gives up q\d+z at .*, which is on \d other disks, expected \d"


def test_what_is_dropped_before_others_have_it_on_their_disks_is_counted(
    monkeypatch: pytest.MonkeyPatch, record_property: Record
) -> None:
    def is_promised(_: Leaving, link: Link, phext: str, range_: CoordinateRange) -> bool:
        return holds(link.promises.kept.get(phext, ()), range_)

    monkeypatch.setattr(Leaving, "_has", is_promised)
    caught(record_property, _HOLDING, 20, _GIVES_UP)


def test_two_that_give_up_and_count_on_each_other_lose_the_last_copy(
    monkeypatch: pytest.MonkeyPatch, record_property: Record
) -> None:
    monkeypatch.setattr(Interest, "firm", Interest.of)
    monkeypatch.setattr(Promises, "given_up", lambda *_: ())
    both = (Fault(4.0, SetHeld(0, (), 1)), Fault(4.0, SetHeld(1, (), 1)))
    two = replace(_HOLDING, nodes=2, limited=0, generators={}, fixed=both)
    caught(record_property, two, 1, _GIVES_UP)


def test_one_that_may_not_write_is_no_copy(
    monkeypatch: pytest.MonkeyPatch, record_property: Record
) -> None:
    monkeypatch.setattr("phextsync.sync.leaving._may_keep", lambda *_: True)
    caught(record_property, _HOLDING, 40, _GIVES_UP)


def test_what_a_peer_received_and_has_not_written_is_no_copy(
    monkeypatch: pytest.MonkeyPatch, record_property: Record
) -> None:
    lie_about_disks(monkeypatch)
    caught(record_property, _PLACED, 40, f"{_GIVES_UP}|was acknowledged")


def test_fewer_copies_than_were_asked_for_are_counted(
    monkeypatch: pytest.MonkeyPatch, record_property: Record
) -> None:
    monkeypatch.setattr(Leaving, "_copies", lambda *_: 1)
    caught(record_property, _PLACED, 10, _GIVES_UP)


def test_placement_that_each_computes_from_members_of_its_own_is_not_the_same(
    monkeypatch: pytest.MonkeyPatch, record_property: Record
) -> None:
    whole = placing.members_of

    def of_some(replicas: ReplicaSet) -> tuple[dict[bytes, Member], list[str]]:
        members, problems = whole(replicas)
        own = replicas.node_id
        return {i: m for i, m in members.items() if i <= own}, problems

    for reader in (placing, follower):
        monkeypatch.setattr(reader, "members_of", of_some)
    caught(record_property, replace(_PLACED, settle_s=10), 2, "not followed by|gives up")


def test_who_is_not_told_that_nothing_is_held_sends_everything(
    monkeypatch: pytest.MonkeyPatch, record_property: Record
) -> None:
    def held_alone(self: Announcements) -> list[str]:
        return [name for name in self._replicas.names() if self._rights.of(name).held]

    monkeypatch.setattr(Announcements, "_told_first", held_alone)
    caught(record_property, _HOLDING, 30, "is sent to \\d, which does not hold it")


def test_what_a_certificate_does_not_allow_is_noticed_where_nobody_looks_at_it(
    monkeypatch: pytest.MonkeyPatch, record_property: Record
) -> None:
    whole = Synchronizer.link_opened

    def opened(
        core: Synchronizer, now: float, link: int, peer: bytes, *, dialled: bool, **_: object
    ) -> None:
        core.replicas.permissions = UNRESTRICTED
        whole(core, now, link, peer, dialled=dialled)

    monkeypatch.setattr(Synchronizer, "link_opened", opened)
    scenario = replace(_HOLDING, limited=3)
    found = "is sent to 3, which may not read it|may not write there"
    caught(record_property, scenario, 4, found)


def test_a_range_that_is_dropped_and_stays_on_the_disk_is_kept(
    monkeypatch: pytest.MonkeyPatch, record_property: Record
) -> None:
    def at_once(holding: Holding, phext: str, ranges: Iterable[CoordinateRange]) -> bool:
        dropped = tuple(ranges)
        drop(holding, phext, dropped)
        for range_ in dropped:
            holding.dropped(phext, range_)
        return True

    drop = Holding.drop
    monkeypatch.setattr(Holding, "drop", at_once)
    caught(record_property, _HOLDING, 4, "which it does not hold")


def test_what_a_visitor_wrote_and_noted_nowhere_is_lost_with_its_node(
    monkeypatch: pytest.MonkeyPatch, record_property: Record
) -> None:
    monkeypatch.setattr(Guests, "edited", lambda *_: None)
    caught(record_property, _VISITS, 40, r"q\d+z was written at .* from elsewhere, and is lost")


def test_what_nobody_says_is_silent_stays_without_its_copies(
    monkeypatch: pytest.MonkeyPatch, record_property: Record
) -> None:
    monkeypatch.setattr(Witness, "look", lambda *_: None)
    caught(record_property, built_in()["chosen"], 8, r"q\d+z at .* is on 2 disks, expected 3")
