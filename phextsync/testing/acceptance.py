"""Acceptance: what every store, network, discovery and file system must do, for whoever writes
another one.

Each claim is a function; it returns when it holds and raises when it does not. A suite is a tuple
of them, made to be a parameter of a test:

    @pytest.mark.parametrize("claim", acceptance.STORE, ids=lambda claim: claim.__name__)
    def test_my_store(claim): claim(MyShelf())

Streams have such a suite in `trio.testing.check_two_way_stream`.
"""

import array
import errno
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from typing import Final, Protocol, TypeAlias

import trio

from phextsync.discovery import Announcement, Discovery, Sighting
from phextsync.errors import LinkError
from phextsync.files.filesystem import FileSystem
from phextsync.index import Coordinate, CoordinateIndex
from phextsync.store.retention import NO_HISTORY, Retention
from phextsync.store.stores import (
    Batch,
    HistoryPiece,
    LogEntry,
    ScrollWrite,
    Store,
    StoredScroll,
)
from phextsync.transport import FRAME_BYTES_MAX, Network, SecureLink
from phextsync.trust.authority import MeshKey
from phextsync.trust.identity import NodeIdentity

PATIENCE_S: Final = 20.0
"""Only a defect takes that long."""

# -- stores --------------------------------------------------------------------------------


class Shelf(Protocol):
    """A place where stores of one kind are opened again and again."""

    @property
    def store(self) -> Store:
        """The store that is open."""

    def reopen(self, *, clean: bool) -> Store:
        """Close the store and open it again; not clean is what a killed process leaves."""


_KEYS: Final = [Coordinate(1, 1, 1, 1, 1, 1, 1, 1, i).key for i in range(1, 9)]


def entry(text: str, time_ms: int = 5) -> LogEntry:
    """Return an update that says no more than `text`."""
    return LogEntry(text.encode(), b"n" * 16, time_ms)


def write(
    key: bytes, *, state: bytes | None = None, log: tuple[LogEntry, ...] = (), size: int = 1
) -> ScrollWrite:
    """Return what a batch does to one scroll, with a fingerprint that follows from `size`."""
    return ScrollWrite(key, bytes([size % 256]) * 32, size, state, log)


def commit(store: Store, *writes: ScrollWrite, phext: str = "memory") -> None:
    """Make writes to one phext durable."""
    store.commit(Batch(tuple((phext, each) for each in writes)))


def a_state_and_its_log_are_read_back_in_order_after_reopening(shelf: Shelf) -> None:
    commit(shelf.store, write(_KEYS[0], state=b"state", log=(entry("one", 1),)))
    commit(shelf.store, write(_KEYS[0], log=(entry("two", 2), entry("three", 3))))
    expected = StoredScroll(b"state", (entry("one", 1), entry("two", 2), entry("three", 3)))
    for clean in (True, False):
        assert shelf.store.read("memory", _KEYS[0]) == expected
        shelf.reopen(clean=clean)
    assert expected.updates == (b"state", b"one", b"two", b"three")
    assert expected.log_bytes == 11


def a_new_state_replaces_state_and_log(shelf: Shelf) -> None:
    commit(shelf.store, write(_KEYS[0], log=(entry("one"), entry("two"))))
    commit(shelf.store, write(_KEYS[0], state=b"all", log=(entry("three"),)))
    assert shelf.store.read("memory", _KEYS[0]) == StoredScroll(b"all", (entry("three"),))


def an_entry_may_have_no_author(shelf: Shelf) -> None:
    commit(shelf.store, write(_KEYS[0], log=(LogEntry(b"x", b"", 0),)))
    assert shelf.store.read("memory", _KEYS[0]) == StoredScroll(None, (LogEntry(b"x", b"", 0),))


def pieces_of_history_are_kept_beside_the_scrolls_while_history_is(shelf: Shelf) -> None:
    def piece(i: int, number: int | None, data: bytes) -> HistoryPiece:
        return HistoryPiece("memory", _KEYS[i], number, data)

    kept = Retention(5, 7)
    commit(shelf.store, *(write(key, state=b"s") for key in _KEYS))
    shelf.store.commit(Batch((), history=(piece(0, 0, b"x"),)))
    assert (shelf.store.last_piece("memory", _KEYS[0]), shelf.store.history) == (-1, NO_HISTORY)
    pieces = [piece(i, number, b"%d" % number) for i in (2, 0, 1) for number in range(3)]
    shelf.store.commit(Batch((), history=tuple(pieces), kept=kept))
    shelf.store.commit(Batch((), history=(piece(1, None, b""), piece(1, 0, b"new"))))
    shelf.store.commit(Batch((), history=(piece(0, 1, b""), piece(2, 3, b"3"))))
    places = [("memory", key) for key in _KEYS[:3]]
    for clean in (True, False):
        store = shelf.store
        assert store.history == kept
        assert store.pieces("memory", _KEYS[0]) == {0: b"0", 2: b"2"}
        assert store.pieces("memory", _KEYS[1]) == {0: b"new"}
        assert list(store.pieces("memory", _KEYS[2], oldest=2)) == [0, 1]
        assert [store.last_piece("memory", key) for key in _KEYS[:4]] == [2, 0, 3, -1]
        assert store.pieces("unknown", _KEYS[0]) == {}
        assert store.histories(None, 2) == places[:2]
        assert store.histories(places[1], 2) == places[2:]
        shelf.reopen(clean=clean)
    only = NO_HISTORY.changed(9, ("memory", _KEYS[1], _KEYS[2]), 11)
    shelf.store.commit(Batch((), history=(piece(1, 1, b"1"), piece(2, 4, b"4")), kept=only))
    for clean in (True, False):
        assert shelf.store.history == only
        assert shelf.store.histories(None, 9) == places[1:2]
        assert shelf.store.pieces("memory", _KEYS[1]) == {0: b"new", 1: b"1"}
        shelf.reopen(clean=clean)
    shelf.store.commit(Batch((), kept=NO_HISTORY))
    assert shelf.reopen(clean=True).histories(None, 9) == []
    assert shelf.store.history == NO_HISTORY


def heads_load_an_index(shelf: Shelf) -> None:
    for i in (3, 1, 2):
        commit(shelf.store, write(_KEYS[i], state=b"s", size=i * 1000))
    heads = shelf.store.heads("memory")
    assert heads.keys == _KEYS[1] + _KEYS[2] + _KEYS[3]
    assert list(array.array("I", heads.sizes)) == [1000, 2000, 3000]
    index = CoordinateIndex()
    index.bulk_load(heads.keys, heads.fingerprints, heads.sizes)
    assert index.fingerprint_of(Coordinate.from_key(_KEYS[2])) == bytes([2000 % 256]) * 32
    assert shelf.store.heads("unknown").keys == b""


def phexts_are_apart_and_named_in_order(shelf: Shelf) -> None:
    for name in ("zeta", "alpha", "日本"):
        commit(shelf.store, write(_KEYS[0], state=name.encode()), phext=name)
    shelf.reopen(clean=False)
    assert shelf.store.phexts() == ["alpha", "zeta", "日本"]
    assert shelf.store.read("zeta", _KEYS[0]) == StoredScroll(b"zeta", ())
    assert shelf.store.read("alpha", _KEYS[1]) is None
    assert shelf.store.read("unknown", _KEYS[0]) is None


def a_range_is_read_in_order_up_to_its_bytes(shelf: Shelf) -> None:
    commit(shelf.store, *(write(key, state=bytes(100)) for key in _KEYS))
    commit(shelf.store, write(_KEYS[0], state=b"other"), phext="other")

    def read(lower: int, upper: int | None, bytes_max: int) -> list[bytes]:
        end = None if upper is None else _KEYS[upper]
        found = shelf.store.read_range("memory", _KEYS[lower], end, bytes_max)
        assert all(scroll.state == bytes(100) for _, scroll in found)
        return [key for key, _ in found]

    assert read(0, None, 10_000) == _KEYS
    assert read(2, 5, 10_000) == _KEYS[2:5]
    assert read(2, 5, 150) == _KEYS[2:4]
    assert read(2, None, 1) == [_KEYS[2]]
    assert shelf.store.read_range("unknown", _KEYS[0], None, 100) == []


def a_client_id_is_kept_over_a_clean_close_and_no_other(shelf: Shelf) -> None:
    assert shelf.store.lease("memory") is None
    shelf.store.commit(Batch((), (("memory", 2**52 - 1), ("c", 7))))
    assert shelf.reopen(clean=True).lease("memory") == 2**52 - 1
    assert shelf.reopen(clean=True).lease("c") == 7
    assert shelf.reopen(clean=False).lease("memory") is None
    assert shelf.reopen(clean=True).lease("memory") is None


def a_scroll_that_was_set_aside_is_absent(shelf: Shelf) -> None:
    commit(shelf.store, write(_KEYS[0], state=b"bad", log=(entry("x"),)), write(_KEYS[1]))
    shelf.store.quarantine("memory", _KEYS[0])
    shelf.store.quarantine("unknown", _KEYS[0])
    assert shelf.store.read("memory", _KEYS[0]) is None
    assert shelf.store.heads("memory").keys == _KEYS[1]
    commit(shelf.store, write(_KEYS[0], log=(entry("new"),)))
    assert shelf.store.read("memory", _KEYS[0]) == StoredScroll(None, (entry("new"),))


def notes_are_kept_with_what_they_are_committed_with(shelf: Shelf) -> None:
    def note(*notes: tuple[bytes, bytes]) -> Batch:
        return Batch((("memory", write(_KEYS[0], log=(entry("x"),))),), notes=notes)

    shelf.store.commit(note((b"a1", b"one"), (b"b1", b"other"), (b"a2", bytes(70_000))))
    shelf.store.commit(note((b"a1", b"two"), (b"a3", b""), (b"a10", b"ten")))
    for clean in (True, False):
        store = shelf.store
        assert (store.note(b"a1"), store.note(b"b1"), store.note(b"a3")) == (b"two", b"other", b"")
        assert store.notes(b"a") == [(b"a1", b"two"), (b"a10", b"ten"), (b"a2", bytes(70_000))]
        assert store.notes(b"c") == []
        shelf.reopen(clean=clean)
    shelf.store.commit(Batch((), notes=((b"a1", b""), (b"a2", b""), (b"none", b""))))
    for clean in (True, False):
        assert shelf.store.notes(b"") == [(b"a10", b"ten"), (b"b1", b"other")]
        shelf.reopen(clean=clean)


STORE: Final[tuple[Callable[[Shelf], None], ...]] = (
    a_state_and_its_log_are_read_back_in_order_after_reopening,
    a_new_state_replaces_state_and_log,
    an_entry_may_have_no_author,
    pieces_of_history_are_kept_beside_the_scrolls_while_history_is,
    heads_load_an_index,
    phexts_are_apart_and_named_in_order,
    a_range_is_read_in_order_up_to_its_bytes,
    a_client_id_is_kept_over_a_clean_close_and_no_other,
    a_scroll_that_was_set_aside_is_absent,
    notes_are_kept_with_what_they_are_committed_with,
)

# -- networks ------------------------------------------------------------------------------


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

# -- discovery -----------------------------------------------------------------------------

Discoveries: TypeAlias = Callable[[], Discovery]
"""Gives another discovery, as on a host of its own, that hears all others."""


MESH_TAG: Final = os.urandom(8).hex()
"""Of this process alone: whoever runs the same claims beside it is no peer."""


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

# -- file systems --------------------------------------------------------------------------


class Ground(Protocol):
    """An empty directory of a file system, and what others do there."""

    @property
    def files(self) -> FileSystem:
        """The file system."""

    def write_in_place(self, path: str, data: bytes) -> None:
        """Write other bytes into a file that is there."""

    def make_link(self, path: str, target: str) -> None:
        """Make a symbolic link to a path, relative to its folder."""

    def make_pipe(self, path: str) -> None:
        """Make a named pipe."""


def _read(files: FileSystem, path: str, bytes_max: int = 1 << 20) -> bytes:
    file = files.open(path)
    try:
        return file.read(bytes_max)
    finally:
        file.close()


def _refused_as(call: Callable[..., object], *arguments: object) -> int | None:
    """Return the number of the error that a call raises, None when it raises none."""
    try:
        call(*arguments)
    except OSError as error:
        return error.errno
    return None


def a_file_is_made_with_its_bytes_and_its_mode(ground: Ground) -> None:
    files = ground.files
    files.write("a", b"one\n", 0o640)
    files.write("b", b"", None)
    files.sync_folder("")
    assert (_read(files, "a"), _read(files, "a", 2), _read(files, "b")) == (b"one\n", b"on", b"")
    status = files.status("a")
    assert status is not None
    assert (status.is_file, status.is_folder, status.size) == (True, False, 4)
    assert status.mode == 0o640
    files.set_mode("a", 0o711)
    changed = files.status("a")
    assert changed is not None
    assert (changed.mode, changed.inode, changed.device) == (0o711, status.inode, status.device)
    assert status.changed_ns <= changed.changed_ns


def what_others_wrote_is_synced_by_its_path(ground: Ground) -> None:
    files = ground.files
    files.make_folder("folder")
    files.write("folder/a", b"one")
    ground.write_in_place("folder/a", b"other")
    files.sync_file("folder/a")
    files.sync_folder("folder")
    files.sync_all()
    assert _read(files, "folder/a") == b"other"
    assert _refused_as(files.sync_file, "folder/none") == errno.ENOENT
    assert _refused_as(files.sync_folder, "none") == errno.ENOENT


def nothing_is_made_where_something_is(ground: Ground) -> None:
    files = ground.files
    files.write("a", b"one")
    files.write("b", b"two")
    files.make_folder("folder")
    for path in ("a", "folder"):
        assert _refused_as(files.write, path, b"x") == errno.EEXIST
        assert _refused_as(files.link, "b", path) == errno.EEXIST
        assert _refused_as(files.make_folder, path) == errno.EEXIST
    assert _read(files, "a") == b"one"


def nothing_is_where_nothing_was_made(ground: Ground) -> None:
    files = ground.files
    files.write("a", b"one")
    for path in ("none", "none/below", "a/below", "a/below/that"):
        assert files.status(path) is None
    assert _refused_as(files.open, "none") == errno.ENOENT
    assert _refused_as(files.open, "a/below") == errno.ENOTDIR
    assert _refused_as(files.write, "none/below", b"") == errno.ENOENT
    assert _refused_as(files.write, "a/below", b"") == errno.ENOTDIR
    assert _refused_as(files.unlink, "none") == errno.ENOENT
    assert _refused_as(files.rename, "none", "b") == errno.ENOENT
    assert _refused_as(files.exchange, "a", "none") in (errno.ENOENT, errno.EINVAL)
    assert _refused_as(files.entries, "none") == errno.ENOENT
    assert _refused_as(files.entries, "a") == errno.ENOTDIR
    assert _refused_as(files.sync_folder, "a") == errno.ENOTDIR


def two_files_change_places_where_the_system_can(ground: Ground) -> None:
    files = ground.files
    files.write("a", b"one")
    files.make_folder("folder")
    files.write("folder/b", b"two")
    refused = _refused_as(files.exchange, "a", "folder/b")
    expected = (b"one", b"two") if refused == errno.EINVAL else (b"two", b"one")
    assert (_read(files, "a"), _read(files, "folder/b")) == expected
    if refused is None:
        files.exchange("a", "folder")
        assert _read(files, "folder") == b"two"
        assert _read(files, "a/b") == b"one"
    assert refused in (None, errno.EINVAL)


def a_file_with_two_names_is_one(ground: Ground) -> None:
    files = ground.files
    files.write("a", b"one")
    files.make_folder("folder")
    refused = _refused_as(files.link, "a", "folder/b")
    if refused is not None:
        assert refused in (errno.EPERM, errno.ENOTSUP, errno.EMLINK)
        return
    statuses = [files.status(path) for path in ("a", "folder/b")]
    assert statuses[0] == statuses[1]
    files.unlink("a")
    assert (files.status("a"), _read(files, "folder/b")) == (None, b"one")
    assert _refused_as(files.link, "folder", "c") == errno.EPERM


def a_file_that_is_renamed_replaces_a_file_and_no_folder(ground: Ground) -> None:
    files = ground.files
    files.write("a", b"one")
    files.write("b", b"two")
    files.make_folder("folder")
    before = files.status("a")
    files.rename("a", "b")
    after = files.status("b")
    assert before is not None
    assert after is not None
    assert (files.status("a"), after.inode, _read(files, "b")) == (None, before.inode, b"one")
    assert _refused_as(files.rename, "b", "folder") == errno.EISDIR
    assert _refused_as(files.rename, "folder", "b") == errno.ENOTDIR
    assert _refused_as(files.rename, "folder", "folder/below") == errno.EINVAL
    files.rename("b", "folder/b")
    files.rename("folder", "other")
    assert _read(files, "other/b") == b"one"


def only_an_empty_folder_is_removed(ground: Ground) -> None:
    files = ground.files
    files.make_folder("folder")
    files.write("folder/a", b"")
    assert _refused_as(files.remove_folder, "folder") == errno.ENOTEMPTY
    assert _refused_as(files.remove_folder, "folder/a") == errno.ENOTDIR
    assert _refused_as(files.unlink, "folder") in (errno.EISDIR, errno.EPERM)
    files.unlink("folder/a")
    files.remove_folder("folder")
    assert files.status("folder") is None


def an_open_file_stays_what_it_is_whatever_its_name_is(ground: Ground) -> None:
    files = ground.files
    files.write("a", b"one")
    files.write("b", b"two")
    file = files.open("a")
    before = file.status()
    files.rename("b", "a")
    assert (file.read(9), _read(files, "a")) == (b"one", b"two")
    assert (file.status().inode, file.status().born_ns) == (before.inode, before.born_ns)
    files.write("c", b"three")  # with the number of no file that is open
    status = files.status("c")
    assert status is not None
    assert status.inode != before.inode
    file.close()
    again = files.open("a")
    ground.write_in_place("a", b"other")
    assert (again.read(9), again.status().size) == (b"other", 5)
    again.close()


def a_folder_names_all_that_is_in_it(ground: Ground) -> None:
    files = ground.files
    names = ["a", "\u200d\U0001f469", "b\udcff", " blanks ", "back\\slash"]
    for name in names:
        files.write(name, b"x")
    files.make_folder("folder")
    files.write("folder/below", b"")
    entries = files.entries("")
    assert sorted(name for name, _ in entries) == sorted([*names, "folder"])
    for name, status in entries:
        assert status == files.status(name)
        assert status.born_ns == 0
    assert [name for name, _ in files.entries("folder")] == ["below"]


def a_link_or_a_pipe_is_no_file_and_is_not_opened(ground: Ground) -> None:
    files = ground.files
    files.write("a", b"one")
    ground.make_link("link", "a")
    ground.make_link("nowhere", "none")
    ground.make_pipe("pipe")
    for path in ("link", "nowhere", "pipe"):
        status = files.status(path)
        assert status is not None
        assert not status.is_file
        assert not status.is_folder
    for path in ("link", "nowhere"):
        assert _refused_as(files.open, path) == errno.ELOOP
        assert _refused_as(files.write, path, b"x") == errno.EEXIST
    file = files.open("pipe")
    assert not file.status().is_file
    file.close()
    files.unlink("link")
    assert _read(files, "a") == b"one"


def a_name_that_is_too_long_is_refused(ground: Ground) -> None:
    files = ground.files
    files.write("a", b"one")
    longest = files.abilities("a").part_bytes_max
    files.write("x" * longest, b"")
    too_long = "x" * (longest + 1)
    assert _refused_as(files.status, too_long) == errno.ENAMETOOLONG
    for call in (files.write, files.link, files.rename):
        arguments = (too_long, b"") if call == files.write else ("a", too_long)
        assert _refused_as(call, *arguments) == errno.ENAMETOOLONG
    assert _refused_as(files.make_folder, too_long) == errno.ENAMETOOLONG
    assert _read(files, "a") == b"one"


FILE_SYSTEM: Final[tuple[Callable[[Ground], None], ...]] = (
    a_file_is_made_with_its_bytes_and_its_mode,
    what_others_wrote_is_synced_by_its_path,
    nothing_is_made_where_something_is,
    nothing_is_where_nothing_was_made,
    two_files_change_places_where_the_system_can,
    a_file_with_two_names_is_one,
    a_file_that_is_renamed_replaces_a_file_and_no_folder,
    only_an_empty_folder_is_removed,
    an_open_file_stays_what_it_is_whatever_its_name_is,
    a_folder_names_all_that_is_in_it,
    a_link_or_a_pipe_is_no_file_and_is_not_opened,
    a_name_that_is_too_long_is_refused,
)
