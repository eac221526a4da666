"""What is asked about a range is whole whoever holds it, or says which part is missing."""

import signal
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import trio

from phextsync.control import operations
from phextsync.control.bringing import served
from phextsync.control.frames import Value, encode_error
from phextsync.errors import NotHeldError, PhextsyncError
from phextsync.gateways.brought import brought
from phextsync.gateways.exchange import Request
from phextsync.gateways.sq import SqApi
from phextsync.index import Coordinate, CoordinateRange
from phextsync.node.pieces import cut
from phextsync.sync.messages import Ask
from phextsync.sync.surveying import Surveying
from phextsync.testing import MemoryMesh, Partition, Repair
from phextsync.testing.mesh import PHEXT
from sims.processes import PATIENCE_S, mesh
from tests.command_users import CommandUser

_PLACES = [Coordinate(library, *[1] * 8) for library in (1, 2, 3, 4, 5)]
_A, _B, _C, _D, _E = _PLACES
_HELD = (["1.*", "2.*"], ["3.*", "4.*"], [f"{_PLACES[4]}.."])


def _run(body: Callable[[MemoryMesh], Awaitable[None]]) -> None:
    """Run a mesh of a node that holds everything and three that hold parts; later that node is gone
    and each holds what no other one does."""
    memory = MemoryMesh(1, 4)

    async def run() -> None:
        await memory.run_until(1)
        for place in _PLACES:
            memory.node(3).phext(PHEXT)[place] = f"{place}\n"
        await memory.run_until(2)
        for number, ranges in enumerate(_HELD):
            await memory.node(number).hold(ranges, PHEXT, copies=1)
        await memory.run_until(5)
        assert [len(memory.node(number).phext(PHEXT)) for number in range(4)] == [2, 2, 1, 5]
        memory.apply(Partition(((0, 1, 2), (3,))))
        await memory.run_until(10)
        await body(memory)

    memory.run(run)


def test_each_node_lists_counts_and_reads_what_any_holds() -> None:
    async def body(memory: MemoryMesh) -> None:
        for number in range(3):
            desk = memory.node(number).desk
            listed = operations.LIST.answer.decode(await desk.wait(["list", PHEXT, "*", ""]))
            assert [(row.coordinate, row.size, row.first_line) for row in listed.rows] == [
                (place, 18, str(place)) for place in _PLACES
            ]
            texts = operations.READ.answer.decode(await desk.wait(["read", PHEXT, "2.*", ""]))
            assert texts.rows == [(_B, f"{_B}\n")]
            places = operations.COORDINATES.answer.decode(
                await desk.wait(["coordinates", PHEXT, "*", str(_B)])
            )
            assert places.rows == [_C, _D, _E]
            assert await desk.wait(["count", PHEXT, "*"]) == 5
            assert (listed.missing, texts.missing, places.missing) == ((), (), ())

    _run(body)


def test_what_is_held_is_answered_at_once() -> None:
    async def body(memory: MemoryMesh) -> None:
        desk = memory.node(0).desk
        for request in (["count", PHEXT, "1.*"], ["list", PHEXT, "2.1.1/*", ""], ["get", PHEXT]):
            assert not desk.must_wait([*request])
        assert not memory.node(3).desk.must_wait(["count", PHEXT, "*"])

    _run(body)


def test_an_answer_says_which_part_is_missing_and_a_number_is_an_error() -> None:
    async def body(memory: MemoryMesh) -> None:
        memory.apply(Partition(((0, 1), (2,), (3,))))
        await memory.run_until(memory.now + 10)
        desk = memory.node(0).desk
        page = operations.READ.answer.decode(await desk.wait(["read", PHEXT, "*", ""]))
        assert [place for place, _ in page.rows] == [_A, _B, _C, _D]
        missing = f"no holder of {PHEXT} {CoordinateRange(_E, None)} is reachable: "
        (line,) = page.missing
        assert line == f"{missing}it is not known who holds it"
        with pytest.raises(NotHeldError, match=r"no holder of .* is reachable"):
            await desk.wait(["count", PHEXT, "*"])
        with pytest.raises(NotHeldError, match=r"is not held here"):
            desk.ask(["clear", PHEXT, "*"])

    _run(body)


def test_all_holders_are_asked_at_once() -> None:
    async def body(memory: MemoryMesh) -> None:
        asked: list[float] = []
        survey = Surveying.survey

        def noting(self: Surveying, now: float, *arguments: object, **more: object) -> None:
            asked.append(now)
            survey(self, now, *arguments, **more)  # type: ignore[arg-type]

        with pytest.MonkeyPatch.context() as watched:
            watched.setattr(Surveying, "survey", noting)
            await memory.node(2).survey("*", PHEXT)
        assert len(asked) >= 2
        assert len({*asked}) == 1

    _run(body)


def test_a_long_range_comes_in_pages_that_are_whole_together() -> None:
    async def body(memory: MemoryMesh) -> None:
        replica = memory.node(1).phext(PHEXT)
        with replica.batch():
            for number in range(1, 601):
                replica[f"3.1.1/1.1.1/2.1.{number}"] = "x" * 2000
        await memory.node(1).durable()
        found: list[Coordinate] = []
        pages = 0
        after: str | None = ""
        while after is not None:
            value = await memory.node(0).desk.wait(["read", PHEXT, "*", after])
            page = operations.READ.answer.decode(value)
            found += [place for place, _ in page.rows]
            pages, after = pages + 1, page.after
        assert found == sorted({*_PLACES, *replica.coordinates("3.*")})
        assert 4 < pages < 20

    _run(body)


def test_a_scroll_that_is_too_large_for_a_page_comes_by_itself() -> None:
    async def body(memory: MemoryMesh) -> None:
        text = "0123456789" * 70_000
        memory.node(1).phext(PHEXT)[_C] = text
        await memory.node(1).durable()
        page = operations.READ.answer.decode(
            await memory.node(0).desk.wait(["read", PHEXT, "3.*", ""])
        )
        assert page.rows == [(_C, text)]

    _run(body)


def test_a_stale_guest_is_listed_as_its_holder_has_it() -> None:
    async def body(memory: MemoryMesh) -> None:
        node = memory.node(0)
        assert await node.fetch(_C, PHEXT) == f"{_C}\n"
        for number in node.links.numbers():
            node.replicas.part_guests(number)
        memory.node(1).phext(PHEXT)[_C] = "newer\n"
        await memory.run_until(memory.now + 1)
        page = operations.READ.answer.decode(await node.desk.wait(["read", PHEXT, "3.*", ""]))
        assert page.rows == [(_C, "newer\n")]

    _run(body)


def test_a_list_has_no_less_than_was_read_of_a_guest_that_left() -> None:
    async def body(memory: MemoryMesh) -> None:
        node = memory.node(0)
        request: list[Value] = ["list", PHEXT, "3.*", ""]
        memory.node(1).phext(PHEXT).append(_D, "more\n")
        await memory.node(1).durable()
        await node.fetch(_D, PHEXT)
        ahead = node.phext(PHEXT).version(_D)  # of what no other holder has of `_C`
        node.replicas.guests.remember((PHEXT, _C), ahead)
        page = operations.LIST.answer.decode(await node.desk.wait(request))
        assert [str(missing) for missing in page.missing] == [
            f"no holder of {PHEXT} {_C} is reachable: it is not known who holds it"
        ]

    _run(body)


def test_a_gap_is_cut_where_what_is_told_or_placed_begins_and_ends() -> None:
    def library(lower: int, upper: int | None) -> CoordinateRange:
        end = None if upper is None else Coordinate(upper, *[1] * 8)
        return CoordinateRange(Coordinate(lower, *[1] * 8), end)

    told = [library(1, 4), library(3, None)]
    assert cut(library(2, 9), told, [library(2, 6), library(6, 9)]) == [
        library(lower, upper) for lower, upper in ((2, 3), (3, 4), (4, 6), (6, 9))
    ]
    many = [library(number, number + 1) for number in range(2, 90)]
    assert cut(library(1, None), [library(5, 80), *many], []) == [
        *(library(lower, upper) for lower, upper in ((1, 2), (2, 3), (3, 4), (4, 5), (5, 80))),
        *many[78:],
        library(90, None),
    ]


def test_commands_list_count_and_export_what_three_processes_hold(tmp_path: Path) -> None:
    options = ["--no-mdns", "--host", "127.0.0.1", "--port", "0"]
    with mesh(tmp_path, ["one", "two", "three"], options=options) as nodes:
        one, two, three = nodes
        for i, node in enumerate(nodes):
            for other in nodes[:i]:
                node.options += ("--peer", f"127.0.0.1:{other.status()['port']}")
            node.start()
        for number, node in enumerate(nodes):
            node.wait_until(lambda status: len(status["peers"]) == 2)
            node.ask("set", PHEXT, str(_PLACES[number]), f"of {number}\n")
        one.ask("synced", PHEXT, "*", 2, PATIENCE_S)
        two.ask("synced", PHEXT, "*", 2, PATIENCE_S)
        three.ask("synced", PHEXT, "*", 2, PATIENCE_S)
        one.ask("hold", PHEXT, ["1.*"], 1)
        one.wait_until(lambda status: not any(row["leaving"] for row in status["holding"]))
        two.ask("hold", PHEXT, ["2.*"], 1)
        two.wait_until(lambda status: not any(row["leaving"] for row in status["holding"]))
        user = CommandUser(two.folder)
        assert [line.split()[-1] for line in user.out("ls").splitlines()] == ["0", "1", "2"]
        assert two.ask("count", PHEXT, "*") == 3
        user.out("export", str(tmp_path / "all.phext"))
        assert (tmp_path / "all.phext").read_bytes().count(b"of ") == 3
        three.stop(signal.SIGKILL)
        two.wait_until(lambda status: len(status["peers"]) == 1)
        run = user.run("ls")
        assert (run.exit_code, "of 0" in run.stdout, "of 2" in run.stdout) == (1, True, False)
        assert "no holder of memory 3." in run.stderr


def test_the_past_of_a_scroll_is_asked_of_who_keeps_it() -> None:
    async def body(memory: MemoryMesh) -> None:
        memory.node(1).replicas.keep_history(1 << 40)
        memory.node(1).phext(PHEXT).append(_C, "more\n")
        await memory.node(1).durable()
        desk = memory.node(0).desk
        log = operations.LOG.answer.decode(await desk.wait(["log", PHEXT, str(_C), None]))
        assert [row.line for row in log][-1] == "more"
        blame = operations.BLAME.answer.decode(await desk.wait(["blame", PHEXT, str(_C)]))
        assert [line.text for line in blame] == [str(_C), "more"]
        versions = operations.VERSIONS.answer.decode(
            await desk.wait(["versions", PHEXT, str(_C), None])
        )
        show = await desk.wait(["show", PHEXT, str(_C), versions[-1].time_ms])
        assert show == f"{_C}\nmore\n"
        with pytest.raises(PhextsyncError, match="history"):
            await desk.wait(["show", PHEXT, str(_C), 0])
        memory.node(1).phext(PHEXT).clear_scroll(_D)
        await memory.node(1).durable()
        assert await desk.wait(["deleted", PHEXT, str(_D)]) == f"{_D}\n"
        found: list[Coordinate] = []
        rest: str | None = "*"
        while rest is not None:
            told = await desk.wait(["undeletable", PHEXT, rest])
            page = operations.UNDELETABLE.answer.decode(told)
            found += [row.coordinate for row in page.found]
            rest = page.rest
        assert found == [_D]
        memory.apply(Partition(((0,), (1,), (2,), (3,))))
        await memory.run_until(memory.now + 10)
        for request in (["log", PHEXT, str(_C), None], ["undeletable", PHEXT, "3.*"]):
            with pytest.raises(NotHeldError, match=r"no holder of .* is reachable"):
                await desk.wait([*request])

    _run(body)


def test_a_search_has_the_best_of_all_holders_and_says_who_was_not_asked() -> None:
    async def body(memory: MemoryMesh) -> None:
        for number, place, text in ((0, _A, "milk"), (1, _C, "milk milk"), (2, _E, "no milk here")):
            memory.node(number).phext(PHEXT)[place] = text
        for number in range(3):
            hits = await memory.node(number).search("milk", PHEXT)
            assert {hit.coordinate for hit in hits} == {_A, _C, _E}
            assert [hit.score for hit in hits] == sorted((h.score for h in hits), reverse=True)
            assert len(await memory.node(number).search("milk", PHEXT, limit=2)) == 2
        memory.apply(Partition(((0, 1), (2,), (3,))))
        await memory.run_until(memory.now + 10)
        with pytest.raises(NotHeldError, match=r"no holder of .* is reachable"):
            await memory.node(0).search("milk", PHEXT)
        missing: list[str] = []
        hits = await memory.node(0).search("milk", PHEXT, missing=missing)
        assert {hit.coordinate for hit in hits} == {_A, _C}
        assert [line.startswith("no holder of ") for line in missing] == [True]

    _run(body)


def test_the_nearest_are_those_of_all_holders_and_who_was_not_asked_is_said() -> None:
    async def body(memory: MemoryMesh) -> None:
        for number in range(3):
            wait = memory.node(number).desk.wait
            found = operations.NEAR.answer.decode(
                await wait(["near", PHEXT, "*", str(_B), 4, False])
            )
            assert [(row.distance, row.coordinate) for row in found.hits] == [
                (1, _A),
                (1, _C),
                (2, _D),
                (3, _E),
            ]
            assert (found.hits[0].size, found.hits[0].first_line) == (18, str(_A))
            assert found.missing == ()
            for at, count in (("1.2", 4), (str(_B), 0)):
                with pytest.raises(PhextsyncError, match="expected"):
                    await wait(["near", PHEXT, "*", at, count, True])
        memory.apply(Partition(((0, 1), (2,), (3,))))
        await memory.run_until(memory.now + 10)
        answer = await memory.node(0).desk.wait(["near", PHEXT, "*", str(_B), 2, True])
        found = operations.NEAR.answer.decode(answer)
        assert [row.coordinate for row in found.hits] == [_B, _A]
        assert [line.startswith("no holder of ") for line in found.missing] == [True]

    _run(body)


def test_a_search_that_fails_at_one_holder_has_what_the_others_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def fail(_: Ask) -> bytes:
        return encode_error(0, PhextsyncError("it failed there"))

    async def body(memory: MemoryMesh) -> None:
        desk = memory.node(0).desk
        monkeypatch.setattr(memory.node(1).answering, "_answer", fail)
        found = operations.SEARCH.answer.decode(await desk.wait(["search", PHEXT, "*", "1", 9]))
        assert {hit.coordinate for hit in found.hits} == {_A, _B, _E}
        (line,) = found.missing
        assert line.endswith("cannot be searched: it failed there")
        with pytest.raises(PhextsyncError, match="expected a limit"):
            await desk.wait(["search", PHEXT, "*", "1", 0])

    _run(body)


def test_looks_that_take_long_hold_no_other_up() -> None:
    async def body() -> None:
        await memory.run_until(1)
        holder = memory.node(count - 1)
        for place in _PLACES:
            holder.phext(PHEXT)[place] = f"{place}\n"
        await memory.run_until(2)
        for number in range(count - 1):
            await memory.node(number).hold(["1.*"], PHEXT, copies=1)
        await memory.run_until(5)
        ended, look = trio.Event(), holder.answering._wait

        async def slowly(request: list[Value]) -> Value:
            if request[-2] == slow_count:
                await ended.wait()
            return await look(request)

        async def ask(number: int, found_max: int) -> None:
            request: list[Value] = ["near", PHEXT, "2.*", str(_B), found_max, True]
            await memory.node(number).desk.wait(request)

        with pytest.MonkeyPatch.context() as slow:
            slow.setattr(holder.answering, "_wait", slowly)
            async with trio.open_nursery() as nursery:
                for number in range(count - 2):
                    nursery.start_soon(ask, number, slow_count)
                await memory.run_until(memory.now + 1)
                with trio.fail_after(1):
                    await ask(count - 2, slow_count + 1)
                ended.set()

    count, slow_count = 5, 4
    memory = MemoryMesh(1, count)
    memory.run(body)


def test_clients_of_sq_read_and_write_what_any_holds() -> None:
    async def body(memory: MemoryMesh) -> None:
        node = memory.node(0)
        api, grown = SqApi(node.replicas), list[int]()

        async def ask(path: str, query: str = "", method: str = "GET") -> str:
            request = Request(method, f"/api/v2/{path}", f"p={PHEXT}&{query}")
            answer = api.answer(request, 1, await brought(node.desk, request, grown.append))
            assert answer.status == 200, answer
            return answer.body.decode()

        assert await ask("select", f"c={_C}") == f"{_C}\n"
        assert await ask("update", f"c={_D}&s=new") == "Updated 3 bytes"
        assert await ask("insert", f"c={_E}&s=more") == "Inserted 4 bytes"
        assert await ask("delete", f"c={_C}") == "Removed 18 bytes"
        await memory.run_until(memory.now + 1)
        assert [memory.node(1).phext(PHEXT).get(place) for place in (_C, _D)] == [None, "new"]
        toc = await ask("toc")
        assert [line.split()[1] for line in toc.splitlines()] == [f"{p}:" for p in (_A, _B, _D, _E)]
        assert "Scrolls: 4" in await ask("status")
        assert (await ask("get")).count("more") == 1
        assert sum(grown) == 3 * sum(map(len, (f"{_A}\n", f"{_B}\n", "new", f"{_E}\nmore")))
        memory.apply(Partition(((0,), (1,), (2,), (3,))))
        await memory.run_until(memory.now + 10)
        for path in ("toc", "json-export"):
            with pytest.raises(NotHeldError, match=r"no holder of .* is reachable"):
                await ask(path)
        with pytest.raises(NotHeldError, match=r"no holder of .* is reachable"):
            await ask("select", "c=4.2.2/1.1.1/1.1.1")

    _run(body)


def test_requests_of_the_web_read_and_write_what_any_holds() -> None:
    async def body(memory: MemoryMesh) -> None:
        desk = memory.node(0).desk
        assert await served(desk, ["get", PHEXT, str(_C)], "web") == f"{_C}\n"
        await served(desk, ["append", PHEXT, str(_D), "more"], "web")
        assert await served(desk, ["count", PHEXT, "*"], "web") == 5
        await memory.run_until(memory.now + 1)
        assert memory.node(1).phext(PHEXT)[_D] == f"{_D}\nmore"
        memory.apply(Partition(((0,), (1,), (2,), (3,))))
        await memory.run_until(memory.now + 10)
        with pytest.raises(NotHeldError, match=r"no holder of .* is reachable"):
            await served(desk, ["get", PHEXT, str(_E.successor())], "web")

    _run(body)


def test_changes_arrive_wherever_the_range_is_held() -> None:
    async def body(memory: MemoryMesh) -> None:
        node = memory.node(0)
        async with node.changes(PHEXT, texts=True) as changes:
            await memory.run_until(memory.now + 1)
            memory.node(1).phext(PHEXT).append(_C, "more\n")
            change = await changes.receive()
            assert (change.coordinates, change.origin) == ((_C,), memory.node(1).identity.node_id)
            assert [text.new for text in change.texts] == [f"{_C}\nmore\n"]
            memory.node(1).phext(PHEXT).append(_C, "again\n")
            change = await changes.receive()
            assert [(t.old, t.new) for t in change.texts] == [
                (f"{_C}\nmore\n", f"{_C}\nmore\nagain\n")
            ]
            memory.node(2).phext(PHEXT)[_E] = "five"
            assert (await changes.receive()).coordinates == (_E,)
            node.phext(PHEXT)[_A] = "here"
            assert (await changes.receive()).coordinates == (_A,)
        await memory.run_until(memory.now + 1)
        assert node.core.elsewhere.watching.statistics() == (0, ())

    _run(body)


def test_what_changed_while_nobody_told_is_said_to_be_missed() -> None:
    async def body(memory: MemoryMesh) -> None:
        async with memory.node(0).changes(PHEXT, "3.*") as changes:
            await memory.run_until(memory.now + 1)
            memory.apply(Partition(((0, 2), (1,), (3,))))
            await memory.run_until(memory.now + 10)
            memory.node(1).phext(PHEXT)[_C] = "meanwhile"
            memory.apply(Repair())
            await memory.run_until(memory.now + 10)
            assert (await changes.receive()).missed == CoordinateRange.parse("3.*")
            memory.node(1).phext(PHEXT)[_C] = "then"
            assert (await changes.receive()).coordinates == (_C,)

    _run(body)


def test_a_range_that_is_given_up_is_watched_at_others_from_then_on() -> None:
    async def body(memory: MemoryMesh) -> None:
        memory.apply(Repair())
        await memory.run_until(memory.now + 10)
        async with memory.node(0).changes(PHEXT, "2.*") as changes:
            await memory.node(0).hold(["1.*"], PHEXT, copies=1)
            await memory.run_until(memory.now + 10)
            memory.node(3).phext(PHEXT)[_B] = "elsewhere"
            while (change := await changes.receive()).missed is not None:
                pass
            assert change.coordinates == (_B,)

    _run(body)
