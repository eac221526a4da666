"""What a program passes to a node or a handle is taken, or refused in a line; it stays whole."""

import asyncio
import inspect
import math
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path

import pytest
import trio

import phextsync
from phextsync import PhextsyncError, aio
from phextsync.agents.mail import AsyncMail, Mail
from phextsync.agents.tasks import AsyncTasks, Tasks
from phextsync.handles.blocking import Handle
from phextsync.handles.engine import Options
from sims.processes import make_folder

_A = "1.1.1/1.1.1/1.1.1"
_ODD: list[object] = [
    *(math.nan, math.inf, -math.inf, 1e308, 1.5, -1, 0, 2**63, 10**400, -(10**40), True, None),
    *("", "\ud800", "\0", "..", "[/red]", "x" * 300, b"x", [None], [1], [("a",)], {}, {1: 2}),
    *({"a": 10**40}, object(), int),
]
_USUAL: dict[str, object] = {
    **dict.fromkeys(("key", "at"), _A),
    **{"range_": "*", "phext": "memory", "to": "all", "default": "x", "facts": {}, "update": b""},
    **dict.fromkeys(("text", "base", "old", "words", "result", "name"), "x"),
    **dict.fromkeys(("offset", "start", "stop", "before_ms"), 0),
    **{"time_ms": 10**12, "ranges": ["*"], "coordinates": [_A], "scrolls": [(_A, "x")]},
    **{"by": phextsync.Writer(bytes(16), None), "request": "phexts", "callback": print},
    **{"timeout_s": 0.01, "wait_s": 0.01, "rate": 1 << 20, "repair_after_s": 60, "kept_ms": None},
}
_TIMES = ("timeout_s", "wait_s")
_FOR_EVER = [None, math.inf, 1e308, 2**63, 10**400]
_LASTS = {"close", "subscribe", "changes"}
_OPEN: Options = {"host": "127.0.0.1", "port": 0, "discover": False}
_OPTIONS: dict[str, list[object]] = {
    "host": ["", 5, b"x", []],
    "port": [-1, 70_000, 10**40, True, 1.5, math.nan, "7439"],
    "peers": ["host", b"host", 5, [None], [b"x"], ["[::1"], ["h:x"], iter(["h"])],
    "interests": ["*", 5, {"memory": "*"}, {"memory": ["*"]}],
    "links_max": [0, -1, True, math.nan, math.inf, "16", None],
}
_REFUSED = (PhextsyncError, TypeError, ValueError, LookupError, TimeoutError)


def _calls(of: object) -> Iterator[tuple[str, Callable[[], object]]]:
    """Iterate over calls of all methods, in each of which one argument has an odd value."""
    for name, method in inspect.getmembers(of, callable):
        if name.startswith("_") or name in _LASTS:
            continue
        given = inspect.signature(method).parameters
        for odd in given.values():
            for value in _ODD:
                if odd.name in _TIMES and value in _FOR_EVER:
                    continue
                by_place: list[object] = []
                by_name = {each: _USUAL[each] for each in _TIMES if each in given}
                for each in given.values():
                    what = value if each is odd else _USUAL.get(each.name, "x")
                    if each.kind is each.KEYWORD_ONLY:
                        if each is odd or each.default is each.empty:
                            by_name[each.name] = what
                    elif each.kind is not each.VAR_POSITIONAL or each is odd:
                        by_place.append(what)
                yield (
                    f"{type(of).__name__}.{name}({odd.name}={value!r:.40})",
                    partial(method, *by_place, **by_name),
                )


def _check(what: str, error: Exception) -> None:
    assert isinstance(error, _REFUSED), (what, error)
    assert "\n" not in str(error), what


def test_odd_values_are_taken_or_refused_at_a_handle(tmp_path: Path) -> None:
    with phextsync.open(make_folder(tmp_path / "data"), **_OPEN) as handle:
        for of in (handle.phext(), handle, Mail(handle), Tasks(handle)):
            for what, call in _calls(of):
                try:
                    found = call()
                    if isinstance(found, Iterator):
                        list(islice(found, 2))
                except Exception as error:
                    _check(what, error)
        _is_whole(handle)


def _is_whole(handle: Handle) -> None:
    memory = handle.phext("after")
    memory[_A] = "alive"
    handle.durable(timeout_s=60)
    assert memory[_A] == "alive"


def test_odd_values_are_taken_or_refused_at_a_handle_of_asyncio(tmp_path: Path) -> None:
    async def use() -> None:
        async with aio.open(make_folder(tmp_path / "data"), **_OPEN) as handle:
            for of in (handle.phext(), handle, AsyncMail(handle), AsyncTasks(handle)):
                for what, call in _calls(of):
                    try:
                        found = call()
                        if inspect.isawaitable(found):
                            await found
                        elif isinstance(found, AsyncIterator):
                            await anext(found, None)
                    except Exception as error:
                        _check(what, error)
            memory = handle.phext("after")
            await memory.edit(_A, "alive")
            await handle.durable(timeout_s=60)
            assert await memory.get(_A) == "alive"

    asyncio.run(use())


@pytest.mark.parametrize("option", _OPTIONS)
def test_an_odd_option_opens_nothing(option: str, tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "data")
    for value in _OPTIONS[option]:
        with pytest.raises(_REFUSED, match=r"^expected [^\n]+, found [^\n]+$"):
            phextsync.open(folder, **{**_OPEN, option: value})  # type: ignore[arg-type]
    with phextsync.open(folder, **_OPEN) as handle:  # nothing keeps it
        assert handle.is_owner


@pytest.mark.parametrize("folder", ["", "a\0b", 5, None, b"x"])
def test_an_odd_folder_is_none(folder: object) -> None:
    with pytest.raises((PhextsyncError, TypeError), match=r"^expected the path of a data folder, "):
        phextsync.open(folder)  # type: ignore[arg-type]


@pytest.mark.parametrize("timeout_s", [math.nan, True, "1", b"", []])
async def test_a_node_waits_for_no_odd_time(timeout_s: float, tmp_path: Path) -> None:
    async with phextsync.open_node(make_folder(tmp_path / "data"), **_OPEN) as node:
        with (
            trio.fail_after(60),
            pytest.raises((PhextsyncError, TypeError), match=r"^expected sec"),
        ):
            await node.synced(timeout_s=timeout_s)


@pytest.mark.parametrize("timeout_s", [-1, -math.inf, -(10**400), 0])
async def test_a_time_that_is_over_is_over(timeout_s: float, tmp_path: Path) -> None:
    async with phextsync.open_node(make_folder(tmp_path / "data"), **_OPEN) as node:
        with trio.fail_after(60), pytest.raises(phextsync.NotSyncedError, match="within 0 s"):
            await node.synced(timeout_s=timeout_s)


async def test_fewer_peers_than_none_are_not_waited_for(tmp_path: Path) -> None:
    async with phextsync.open_node(make_folder(tmp_path / "data"), **_OPEN) as node:
        await node.synced(peers=0)
        with pytest.raises(PhextsyncError, match=r"^expected a number of peers, or None for all"):
            await node.synced(peers=-1)
