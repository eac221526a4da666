"""What every discovery must do."""

import os
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Final, TypeAlias

import trio

from phextsync.discovery import Announcement, Discovery, Sighting
from phextsync.testing.acceptance.patience import PATIENCE_S

Discoveries: TypeAlias = Callable[[], Discovery]
"""Gives another discovery, as on a host of its own, that hears all others."""


MESH_TAG: Final = os.urandom(8).hex()
"""Of this process alone: others that run the same claims at the same time are not peers."""


def announcement(number: int, mesh_tag: str = MESH_TAG) -> Announcement:
    """Return what a node of that number tells of itself."""
    one = bytes([number])
    return Announcement(one * 16, f"küche {number}", 7000 + number, mesh_tag, one * 8)


def _is_of(sighting: Sighting, expected: Announcement) -> bool:
    return sighting == Sighting(
        expected.node_id,
        expected.name,
        sighting.addresses,
        expected.mesh_tag,
        expected.incarnation,
        expected.protocol,
    ) and {address.port for address in sighting.addresses} == {expected.port}


async def _gives_nothing(sightings: trio.abc.ReceiveChannel[Sighting]) -> bool:
    with trio.move_on_after(0.05) as scope:
        await sightings.receive()
    return scope.cancelled_caught


async def nodes_of_a_mesh_see_each_other_and_nobody_else(discoveries: Discoveries) -> None:
    anna, bert = announcement(1), announcement(2)
    with trio.fail_after(PATIENCE_S):
        async with (
            discoveries().open(announcement(3, "cd" * 8)) as seen_by_stranger,
            discoveries().open(anna) as seen_by_anna,
            discoveries().open(bert) as seen_by_bert,
        ):
            assert _is_of(await seen_by_anna.receive(), bert)
            assert _is_of(await seen_by_bert.receive(), anna)
            for sightings in (seen_by_stranger, seen_by_anna, seen_by_bert):
                assert await _gives_nothing(sightings)


async def who_comes_later_sees_and_is_seen(discoveries: Discoveries) -> None:
    with trio.fail_after(PATIENCE_S):
        async with (
            discoveries().open(announcement(1)) as seen_by_anna,
            discoveries().open(announcement(2)),
        ):
            assert _is_of(await seen_by_anna.receive(), announcement(2))
            async with discoveries().open(announcement(3)) as seen_by_carl:
                assert _is_of(await seen_by_anna.receive(), announcement(3))
                seen = {(await seen_by_carl.receive()).node_id for _ in range(2)}
                assert seen == {announcement(n).node_id for n in (1, 2)}


async def a_node_that_comes_back_is_seen_anew(discoveries: Discoveries) -> None:
    bert = announcement(2)
    host = discoveries()
    with trio.fail_after(PATIENCE_S):
        async with discoveries().open(announcement(1)) as seen_by_anna:
            async with host.open(bert):
                assert _is_of(await seen_by_anna.receive(), bert)
            again = replace(bert, incarnation=b"another.")
            async with host.open(again):
                assert _is_of(await seen_by_anna.receive(), again)


async def a_copied_identity_is_nobody_to_meet_and_others_still_are(
    discoveries: Discoveries,
) -> None:
    copy = replace(announcement(1), incarnation=b"another.", port=7999)
    with trio.fail_after(PATIENCE_S):
        async with (
            discoveries().open(announcement(1)) as seen_by_anna,
            discoveries().open(copy) as seen_by_copy,
            discoveries().open(announcement(2)),
        ):
            for sightings in (seen_by_anna, seen_by_copy):
                assert _is_of(await sightings.receive(), announcement(2))


async def leaving_ends_the_sightings(discoveries: Discoveries) -> None:
    with trio.fail_after(PATIENCE_S):
        async with discoveries().open(announcement(1)) as sightings:
            pass
        try:
            await sightings.receive()
        except trio.ClosedResourceError:
            return
    raise AssertionError("expected the sightings to be closed")


DISCOVERY: Final[tuple[Callable[[Discoveries], Awaitable[None]], ...]] = (
    nodes_of_a_mesh_see_each_other_and_nobody_else,
    who_comes_later_sees_and_is_seen,
    a_node_that_comes_back_is_seen_anew,
    a_copied_identity_is_nobody_to_meet_and_others_still_are,
    leaving_ends_the_sightings,
)
