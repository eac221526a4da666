"""What a model asks is checked, bounded and carried out; each error says what to do next."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phextsync import Coordinate, CoordinateRange, PhextsyncError, aio
from phextsync.agents.claims import lines_of_voter
from phextsync.agents.task_layout import ballot_at
from phextsync.agents.task_plans import known_in
from phextsync.control.status import PeerRow, Status
from phextsync.files.bindings import BindingStore, Bound
from phextsync.gateways.agent import Agent
from phextsync.gateways.tools import PAGE_CHARACTERS, PAGE_ROWS, TOOLS
from phextsync.sync.traffic import Traffic
from sims.processes import PATIENCE_S, make_folder
from tests.command_users import CommandUser

_A = "1.1.1/1.1.1/1.1.1"


def _run(folder: Path, use: Callable[[Agent, aio.AsyncPhext], Awaitable[None]]) -> None:
    async def main() -> None:
        async with (
            asyncio.timeout(PATIENCE_S),
            aio.open(folder, host="127.0.0.1", port=0, discover=False) as handle,
        ):
            await use(Agent(handle), handle.phext())

    asyncio.run(main())


# -- arguments -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "given", "reason"),
    [
        ("read", {}, "read needs 'coordinate'; it takes coordinate, phext, offset"),
        ("read", {"path": "x"}, "read has no argument 'path'; it takes coordinate"),
        ("peers", {"x": 1}, "it takes no arguments"),
        ("read", {"coordinate": _A, "offset": "5"}, "'offset' has to be an integer, not '5'"),
        ("read", {"coordinate": _A, "offset": True}, "'offset' has to be an integer, not True"),
        ("write", {"coordinate": _A, "text": None}, "write needs 'text'"),
        ("replace", {"coordinate": _A, "old": "", "new": 3}, "'new' has to be a string, not 3"),
    ],
)
def test_arguments_that_do_not_fit_are_named(
    name: str, given: dict[str, object], reason: str
) -> None:
    with pytest.raises(PhextsyncError, match=reason):
        TOOLS[name].arguments(given)


_json = st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.floats()


@given(
    st.sampled_from(sorted(TOOLS)),
    st.dictionaries(st.sampled_from(["coordinate", "text", "phext", "offset", "x"]), _json),
)
def test_arguments_are_of_the_kinds_that_the_schema_promises(
    name: str, given: dict[str, object]
) -> None:
    tool = TOOLS[name]
    try:
        arguments = tool.arguments(given)
    except PhextsyncError:
        return
    assert [type(argument) for argument in arguments] == [p.kind for p in tool.parameters]
    assert set(given) <= {parameter.name for parameter in tool.parameters}


_ODD: dict[type, tuple[object, ...]] = {
    str: (*("", " ", "\0", "a\0b", "\ud800", "..", "0.0.0/0.0.0/0.0.0", "*", "~nobody/x", "[/red]"),
          *("x" * 100_000, "9" * 400 + ".*", "NaN", ".clients", '"unbalanced', "| |", "\n")),
    int: (-1, 2**31, 2**64, 10**400, -(10**400), 1e300, float("nan"), float("inf")),
    bool: (0, "true"),
}  # fmt: skip
_USUAL = {"coordinate": _A, "range": "*", "to": "all"}


def test_whatever_stands_in_an_argument_is_taken_or_refused_in_a_line(tmp_path: Path) -> None:
    async def use(agent: Agent, phext: aio.AsyncPhext) -> None:
        for name, tool in TOOLS.items():
            needed = [each.name for each in tool.parameters if each.default is None]
            for odd in tool.parameters:
                for value in _ODD[odd.kind]:
                    given = {each: _USUAL.get(each, "x") for each in needed} | {odd.name: value}
                    try:
                        await agent.call(name, given, None)
                    except PhextsyncError as error:
                        told = str(error)
                        assert told.isprintable(), (name, given)
                        assert len(told) < 1000, (name, given)

    _run(make_folder(tmp_path), use)


def test_null_is_left_out_and_a_whole_float_is_an_integer() -> None:
    read, search = TOOLS["read"], TOOLS["search"]
    given = {"coordinate": _A, "phext": None, "offset": None}
    assert read.arguments(given) == [_A, "memory", 0]
    assert search.arguments({"words": "x", "limit": 5.0}) == ["x", "*", "memory", 5]
    for value in (5.5, float("nan"), float("inf"), "5", True):
        with pytest.raises(PhextsyncError, match="'limit' has to be an integer"):
            search.arguments({"words": "x", "limit": value})


def test_descriptions_are_short() -> None:
    assert all(len(tool.description) < 240 for tool in TOOLS.values())
    assert all(len(p.description) < 80 for tool in TOOLS.values() for p in tool.parameters)


# -- reading and writing -------------------------------------------------------------------


@pytest.mark.real
def test_what_others_write_between_reading_and_writing_stays(tmp_path: Path) -> None:
    async def use(agent: Agent, memory: aio.AsyncPhext) -> None:
        await memory.edit(_A, "one\ntwo\n")
        await agent.call("read", {"coordinate": _A})
        await memory.edit(_A, "zero\none\ntwo\n")
        answer = await agent.call("write", {"coordinate": _A, "text": "one\nTWO\n"})
        assert await memory.get(_A) == "zero\none\nTWO\n"
        assert "both are kept" in answer[0]
        await memory.append(_A, "three\n")
        await agent.call("append", {"coordinate": _A, "text": "four"})
        await agent.call("replace", {"coordinate": _A, "old": "TWO", "new": "2"})
        await agent.call("write", {"coordinate": _A, "text": "one\n2\nfour\nfive\n"})
        assert await memory.get(_A) == "zero\none\n2\nthree\nfour\nfive\n"
        await agent.call("read", {"coordinate": _A})
        assert await agent.call("write", {"coordinate": _A, "text": ""}) == [f"{_A} is deleted"]
        assert await memory.get(_A) is None

    _run(make_folder(tmp_path), use)


@pytest.mark.real
def test_what_others_wrote_survives_that_the_rest_is_deleted(tmp_path: Path) -> None:
    async def use(agent: Agent, memory: aio.AsyncPhext) -> None:
        await memory.edit(_A, "mine\n")
        await agent.call("read", {"coordinate": _A})
        await memory.append(_A, "theirs\n")
        answer = await agent.call("write", {"coordinate": _A, "text": ""})
        assert await memory.get(_A) == "theirs\n"
        assert "others wrote in it since you read it, and that is kept" in answer[0]

    _run(make_folder(tmp_path), use)


@pytest.mark.real
@pytest.mark.parametrize("sessions", [("one", "two"), ("two", None), (None, "one"), (None, None)])
def test_what_one_has_read_says_nothing_of_another(
    tmp_path: Path, sessions: tuple[str | None, str | None]
) -> None:
    first, second = sessions

    async def use(agent: Agent, memory: aio.AsyncPhext) -> None:
        plan = "# Plan\nshared\n"
        await memory.edit(_A, plan)
        page, *notes = await agent.call("read", {"coordinate": _A}, first)
        shown = {} if first is not None else {"read": notes[0].rpartition("=")[2].rstrip("]")}
        for text in ("", "over\n"):
            with pytest.raises(PhextsyncError, match=r"[Rr]ead it.*append or replace"):
                await agent.call("write", {"coordinate": _A, "text": text}, second)
        await agent.call("append", {"coordinate": _A, "text": "by the second"}, second)
        with pytest.raises(PhextsyncError, match=r"[Rr]ead it"):
            await agent.call("write", {"coordinate": _A, "text": "over\n"}, second)
        written = {"coordinate": _A, "text": page + "by the first\n", **shown}
        await agent.call("write", written, first)
        assert sorted((await memory.get(_A) or "").splitlines()) == sorted(
            ["# Plan", "shared", "by the first", "by the second"]
        )

    _run(make_folder(tmp_path), use)


@pytest.mark.real
def test_without_a_session_each_writing_names_the_token_of_the_next(tmp_path: Path) -> None:
    async def use(agent: Agent, memory: aio.AsyncPhext) -> None:
        given: dict[str, object] = {"coordinate": _A, "text": "one\n"}
        for text in ("two\n", "three\n", "four\n"):
            (answer,) = await agent.call("write", given, None)
            given = {"coordinate": _A, "text": text}
            with pytest.raises(PhextsyncError, match="the value of READ that the answer names"):
                await agent.call("write", {**given, "read": "0" * 10}, None)
            given["read"] = answer.rpartition("read=")[2].rstrip("]")
        assert await memory.get(_A) == "three\n"

    _run(make_folder(tmp_path), use)


@pytest.mark.real
@pytest.mark.parametrize("session", ["one", None])
def test_who_has_read_a_part_may_not_write_over_the_rest(
    tmp_path: Path, session: str | None
) -> None:
    async def use(agent: Agent, memory: aio.AsyncPhext) -> None:
        text = "".join(f"line {n}\n" for n in range(4000))
        await memory.edit(_A, text)
        page, *_ = await agent.call("read", {"coordinate": _A}, session)
        for offset in (2 * PAGE_CHARACTERS, 0):
            await agent.call("read", {"coordinate": _A, "offset": offset}, session)
            with pytest.raises(PhextsyncError, match="append or replace"):
                await agent.call("write", {"coordinate": _A, "text": page}, session)
        assert await memory.get(_A) == text
        await agent.call("replace", {"coordinate": _A, "old": "line 3\n", "new": ""}, session)
        text = text.replace("line 3\n", "")
        for offset in range(0, len(text), PAGE_CHARACTERS):
            await agent.call("read", {"coordinate": _A, "offset": offset}, session)
        if session is not None:
            await agent.call("write", {"coordinate": _A, "text": text + "last\n"}, session)
            assert await memory.get(_A) == text + "last\n"

    _run(make_folder(tmp_path), use)


@pytest.mark.real
def test_pages_of_two_versions_are_no_reading(tmp_path: Path) -> None:
    async def use(agent: Agent, memory: aio.AsyncPhext) -> None:
        text = "x" * PAGE_CHARACTERS + "y" * 10
        await memory.edit(_A, text)
        await agent.call("read", {"coordinate": _A})
        await memory.edit(_A, "z" + text)
        await agent.call("read", {"coordinate": _A, "offset": PAGE_CHARACTERS})
        with pytest.raises(PhextsyncError, match="from the start if it has changed"):
            await agent.call("write", {"coordinate": _A, "text": "x"})

    _run(make_folder(tmp_path), use)


@pytest.mark.real
def test_what_is_remembered_is_bounded_and_what_is_forgotten_is_refused(tmp_path: Path) -> None:
    async def use(agent: Agent, memory: aio.AsyncPhext) -> None:
        await memory.edit(_A, "text")
        await agent.call("read", {"coordinate": _A}, "first")
        for number in range(5000):
            await agent.read("memory", Coordinate.parse(_A), f"other {number}")
        with pytest.raises(PhextsyncError, match="characters that you have not read"):
            await agent.call("write", {"coordinate": _A, "text": "x"}, "first")

    _run(make_folder(tmp_path), use)


@pytest.mark.real
def test_phexts_of_the_library_are_closed(tmp_path: Path) -> None:
    async def use(agent: Agent, memory: aio.AsyncPhext) -> None:
        await memory.edit(_A, "text")
        place = {"coordinate": _A, "phext": ".clients"}
        for name, asked in [
            ("read", place),
            ("write", {**place, "text": "x"}),
            ("append", {**place, "text": "x"}),
            ("replace", {**place, "old": "x", "new": "y"}),
            ("list", {"phext": ".clients"}),
            ("search", {"words": "x", "phext": ".clients"}),
            ("changes", {"phext": ".clients"}),
        ]:
            with pytest.raises(PhextsyncError, match=r"found '\.clients': it is hidden"):
                await agent.call(name, asked)
        with pytest.raises(PhextsyncError, match="it is hidden"):
            await agent.watch(".clients")
        assert await agent.phexts() == ["memory"]
        assert ".clients" not in (await agent.call("peers", {}))[0]

    _run(make_folder(tmp_path), use)


@pytest.mark.real
def test_what_is_added_stands_on_lines_of_its_own(tmp_path: Path) -> None:
    async def use(agent: Agent, memory: aio.AsyncPhext) -> None:
        await agent.call("write", {"coordinate": _A, "text": "no line end"})
        for text in ("a", "b\n"):
            await agent.call("append", {"coordinate": _A, "text": text})
        assert await memory.get(_A) == "no line end\na\nb\n"

    _run(make_folder(tmp_path), use)


@pytest.mark.real
def test_answers_come_in_pages(tmp_path: Path) -> None:
    async def use(agent: Agent, memory: aio.AsyncPhext) -> None:
        text = "".join(f"line {n}\n" for n in range(3000))
        await memory.edit(_A, text)
        pieces, offset = [], 0
        while offset < len(text):
            page, note = await agent.call("read", {"coordinate": _A, "offset": offset})
            assert len(page) <= PAGE_CHARACTERS
            assert ("go on with offset=" in note) == (offset + len(page) < len(text))
            pieces.append(page)
            offset += len(page)
        assert "".join(pieces) == text
        await memory.update({f"2.1.1/1.1.1/1.1.{n}": f"scroll {n}" for n in range(1, 251)})
        listed, after = [], ""
        while True:
            page, *more = await agent.call("list", {"range": "2.*", "after": after})
            listed += page.split("\n")
            assert len(page.split("\n")) <= PAGE_ROWS
            if not more:
                break
            after = more[0].rpartition("after=")[2].rstrip("]")
        assert [row.split("  ")[2] for row in listed] == [f"scroll {n}" for n in range(1, 251)]

    _run(make_folder(tmp_path), use)


@pytest.mark.real
def test_errors_and_empty_answers_say_what_to_do_next(tmp_path: Path) -> None:
    async def use(agent: Agent, memory: aio.AsyncPhext) -> None:
        async def error(name: str, **given: object) -> str:
            with pytest.raises(PhextsyncError) as raised:
                await agent.call(name, given)
            assert "\n" not in str(raised.value)
            return str(raised.value)

        await memory.edit(_A, "milk milk\n")
        assert "Use list with a range such as 2.*" in await error(
            "read", coordinate="2.1.1/1.1.1/1.1.1"
        )
        assert "nine numbers from 1 to 999 such as 1.5.2/3.7.3/9.1.1" in await error(
            "append", coordinate="1.1", text="x"
        )
        assert "LOWER..UPPER" in await error("list", range="all")
        assert "'*' is everything" in await error("list", range="..")
        assert "outside of the 10 characters" in await error("read", coordinate=_A, offset=10)
        assert "Read it and copy the text exactly" in await error(
            "replace", coordinate=_A, old="beer", new="x"
        )
        assert "stands 2 times" in await error("replace", coordinate=_A, old="milk", new="x")
        assert "leave it out" in await error("write", coordinate=_A, text="a\x17b")
        assert "a zero byte (U+0000) at offset 1" in await error(
            "append", coordinate=_A, text="a\0"
        )
        assert "name of a phext" in await error("list", phext="no/name")
        assert await memory.get(_A) == "milk milk\n"
        answer = await agent.call(
            "replace", {"coordinate": _A, "old": "milk", "new": "x", "all": True}
        )
        assert "replaced 2 times" in answer[0]
        assert "phexts that exist: memory" in (await agent.call("list", {"range": "9.*"}))[0]
        assert "try fewer words" in (await agent.call("search", {"words": "cow"}))[0]
        near = await agent.call("near", {"coordinate": "2.1.1/1.1.1/1.1.1"})
        assert near == [f"{_A}     1  x x"]
        assert "from 1 to 100, found 0" in await error("near", coordinate=_A, limit=0)
        (nothing,) = await agent.call("near", {"coordinate": _A, "range": "9.*"})
        assert nothing == "there are no scrolls in 9.* of memory"
        assert "no peer is connected" in (await agent.call("peers", {}))[0]

    _run(make_folder(tmp_path), use)


@pytest.mark.real
def test_changes_are_told_once_with_a_number_to_go_on_from(tmp_path: Path) -> None:
    async def use(agent: Agent, memory: aio.AsyncPhext) -> None:
        assert "no changes of memory" in (await agent.call("changes", {}))[0]
        await memory.edit(_A, "one")
        await memory.append(_A, "more")
        await memory.edit("2.1.1/1.1.1/1.1.1", "two")
        wanted = [[_A, "by this machine"], ["2.1.1/1.1.1/1.1.1", "by this machine"]]
        rows = [""]
        while [row.split("  ")[:2] for row in rows[0].split("\n")] != wanted:
            await asyncio.sleep(0)  # callbacks run in this loop
            rows = await agent.call("changes", {})
        since = int(rows[1].rpartition("since=")[2].rstrip("]"))
        assert "no changes" in (await agent.call("changes", {"since": since}))[0]

    _run(make_folder(tmp_path), use)


# -- files of bound directories --------------------------------------------------------------


@pytest.mark.real
def test_files_are_named_by_their_paths_and_names(tmp_path: Path) -> None:
    folder, notes = make_folder(tmp_path / "data"), tmp_path / "notes"
    BindingStore(folder).bind(Bound(notes, "work", CoordinateRange.parse("7.*")))
    path = str(notes / "MEMORY.md")

    async def use(agent: Agent, memory: aio.AsyncPhext) -> None:
        assert path in (await agent.call("append", {"coordinate": path, "text": "milk"}))[0]
        assert (await agent.call("read", {"coordinate": "MEMORY.md"}))[0] == "milk\n"
        await agent.call("replace", {"coordinate": path, "old": "milk", "new": "tea"})
        await agent.call("write", {"coordinate": "new.md", "text": "one"})
        listed = (await agent.call("list", {"phext": "work"}))[0]
        assert f"{path}: tea" in listed
        assert f"{notes / 'new.md'}: one" in listed
        hit = (await agent.call("search", {"words": "tea", "phext": "work"}))[0]
        assert hit.endswith(f"{path}: [tea]")
        await agent.call("changes", {"phext": "work"})
        await agent.call("append", {"coordinate": "MEMORY.md", "text": "coffee"})
        told = ""
        while path not in told:
            await asyncio.sleep(0)  # callbacks run in this loop
            told = (await agent.call("changes", {"phext": "work"}))[0]
        with pytest.raises(PhextsyncError, match="or a file of a bound directory"):
            await agent.call("read", {"coordinate": "none.md"})
        for tool in ("write", "append"):
            with pytest.raises(PhextsyncError, match="split it"):
                await agent.call(tool, {"coordinate": "none.md", "text": "a" * (8 << 20) + "a"})
            with pytest.raises(PhextsyncError, match=r"has no file none\.md"):
                await agent.call("read", {"coordinate": str(notes / "none.md")})
        assert await memory.get(_A) is None

    _run(folder, use)


class _Told:
    """A handle that knows its status alone."""

    async def status(self) -> Status:
        counters: dict[str, Any] = dict.fromkeys((each.name for each in fields(Traffic)), 0)
        peer = PeerRow(
            node_id="0a",
            name="there",
            address="127.0.0.1",
            round_trip_ms=None,
            state="comparing",
            lag_scrolls=0,
            lag_bytes=0,
            last_error="",
            lacks=(".clients: 0, still comparing",),
            **counters,
        )
        late = replace(peer, name="late", lacks=("memory: 1, not yet on its disk", *peer.lacks))
        return Status(running=True, name="here", node_id="0b", folder="", peers=(peer, late))


def test_peers_are_not_said_to_lack_what_an_agent_cannot_see() -> None:
    agent = Agent(cast("aio.AsyncHandle", _Told()))  # of which it needs no more here
    (answer,) = asyncio.run(agent.call("peers", {}))
    assert answer.splitlines()[1:] == [
        "peer there at 127.0.0.1 has everything",
        "peer late at 127.0.0.1 does not have yet: memory: 1, not yet on its disk",
    ]


# -- messages ------------------------------------------------------------------------------


def test_a_model_sends_reads_and_acknowledges_messages(tmp_path: Path) -> None:
    async def use(agent: Agent, memory: aio.AsyncPhext) -> None:
        with pytest.raises(PhextsyncError, match="there is no box 'you'; there are me, all"):
            await agent.call("mail_send", {"to": "you", "text": "x"})
        told = await agent.call("mail_send", {"to": "me", "text": "long " * 4000, "box": "other"})
        place = told[0].removeprefix("sent; it stands at ")
        (line,) = await agent.call("mail_inbox", {"box": "me"})
        assert line.startswith(f"{place}  ")
        assert "  other  long long" in line
        first, text, more = await agent.call("mail_read", {"coordinate": place})
        assert (first, len(text)) == (line, PAGE_CHARACTERS)
        assert more == f"[4000 more: read {place} of mail]"
        ack = {"coordinate": place, "box": "me"}
        assert await agent.call("mail_ack", ack) == ["acknowledged"]
        assert await agent.call("mail_ack", ack) == ["it was acknowledged before"]
        assert await agent.call("mail_inbox", {"box": "me"}) == ["no messages"]

    folder = make_folder(tmp_path)
    CommandUser(folder).out("box", "me")
    _run(folder, use)


# -- tasks ---------------------------------------------------------------------------------


def test_a_model_adds_claims_and_does_tasks(tmp_path: Path) -> None:
    folder = make_folder(tmp_path, "me")
    CommandUser(folder).out("task", "voters", "me")

    async def votes(handle: aio.AsyncHandle) -> None:
        """Vote as the node does, which is no voter here."""
        own, tasks = (await handle.status()).node_id, handle.phext("tasks")
        while True:
            texts = {at: text async for at, text in tasks.items()}
            for each in known_in(texts):
                for line in lines_of_voter(each, own):
                    await tasks.append(ballot_at(own, each.task.coordinate), f"{line}\n")
            await asyncio.sleep(0.01)

    async def use() -> None:
        async with (
            asyncio.timeout(PATIENCE_S),
            aio.open(folder, host="127.0.0.1", port=0, discover=False) as handle,
        ):
            voting = asyncio.create_task(votes(handle))
            await _do_tasks(Agent(handle))
            voting.cancel()

    asyncio.run(use())


async def _do_tasks(agent: Agent) -> None:
    assert await agent.call("task_list", {}) == ["no tasks"]
    told = await agent.call("task_add", {"text": "rebuild\nthe index"})
    task: dict[str, object] = {"coordinate": told[0].removeprefix("added; it stands at ")}
    assert await agent.call("task_list", {}) == [f"{task['coordinate']}  open  rebuild"]
    with pytest.raises(PhextsyncError, match="found one that is open"):
        await agent.call("task_retry", task)
    claims = []
    for fence in (1, 2):
        (answer,) = await agent.call("task_claim", {**task, "worker": "model"})
        assert answer.startswith(f"firm: it is yours alone; claim={fence}:model:")
        claims.append({**task, "claim": answer.partition("claim=")[2]})
        assert await agent.call("task_claim", task) == [
            "it is not to be had: task_list says who has it"
        ]
        assert await agent.call("task_keep", claims[-1]) == ["it is still yours"]
        if fence == 1:
            assert await agent.call("task_fail", {**claims[-1], "why": "no room"}) == ["noted"]
            assert (await agent.call("task_read", task))[1:] == ["rebuild\nthe index", "no room"]
            assert await agent.call("task_retry", task) == ["it can be claimed again"]
    with pytest.raises(PhextsyncError, match="was overtaken: the task is held by 2:model:"):
        await agent.call("task_done", claims[0])
    assert await agent.call("task_done", {**claims[1], "result": "rebuilt"}) == ["done"]
    assert await agent.call("task_list", {}) == ["no tasks"]
