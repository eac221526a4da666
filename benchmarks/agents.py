"""Agents: what a memory costs Hermes, and what it keeps.

Losses are those of real instances of hermes-agent on two machines under cuts and kills
(`sims.agents`); beside them, the same writes into its own list when that is copied from machine to
machine. Times are those of the provider's calls, of a process beside the node, which holds many
scrolls; beside them what Hermes takes to write an entry into its own list. How long a message and
a task take to a machine that was off for an hour is measured in virtual time, with real nodes.
"""

import json
import os
import signal
import statistics
import subprocess
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from random import Random
from typing import Final

from benchmarks.nodes import make_folders
from benchmarks.report import Report
from phextsync.agents import AsyncMail, AsyncTasks, Voter
from phextsync.handles.blocking import attach
from phextsync.hosts.hermes import HermesMemory
from phextsync.index import Coordinate
from phextsync.testing import Crash, MemoryMesh, Restart
from sims import agents
from sims.processes import Process

_CALLS: Final = 1000
_WORDS: Final = 20_000
_WORDS_PER_SCROLL: Final = 40
_POLL_S: Final = 0.02
_OFF_S: Final = 3600.0
_STEP_S: Final = 0.01
_RETURN_MAX_S: Final = 60.0
_OWN: Final = """
import json, sys, time
from tools.memory_tool import MemoryStore
store = MemoryStore(10_000_000, 10_000_000)
store.load_from_disk()
took = []
for number in range(200):
    began = time.perf_counter()
    store.add("memory", f"fact {number} of the day")
    took.append(1000 * (time.perf_counter() - began))
print(json.dumps(took))
"""


def run(*, quick: bool) -> Report:
    """Measure; `quick` takes fewer writes and scrolls."""
    report = Report()
    exponent = 4 if quick else 5
    size = f"1e{exponent}"
    writes = 100 if quick else 1000
    assert agents.PYTHON.exists(), agents.MISSING
    with tempfile.TemporaryDirectory(prefix="phextsync-bench-") as folder:
        place = Path(folder)
        report.add("own_add_p99_ms", [_p99(_own_ms(place / "own"))], "ms")
        _calls(report, place / "calls", 10**exponent, size)
        _returns(report)
        for name, measure in (("own", agents.run_copied), ("agents", agents.run)):
            (place / name).mkdir(exist_ok=True)
            outcome = measure(place / name, writes)
            report.add(f"{name}_writes", [outcome.writes], "writes")
            report.add(f"{name}_lost", [len({*outcome.lost})], "writes")
            report.add(f"{name}_doubled", [len({*outcome.doubled})], "writes")
            report.add(f"{name}_refused", [len(outcome.refused)], "writes")
    return report


def _own_ms(home: Path) -> list[float]:
    """Return what Hermes takes to write an entry into its own list."""
    home.mkdir()
    environment = {**os.environ, "HERMES_HOME": str(home)}
    command = [str(agents.PYTHON), "-P", "-c", _OWN]
    ended = subprocess.run(command, env=environment, check=True, capture_output=True, cwd=home)
    return [float(each) for each in json.loads(ended.stdout.splitlines()[-1])]


def _calls(report: Report, folder: Path, count: int, size: str) -> None:
    """Measure the calls of a provider beside a node with many scrolls."""
    (data,) = make_folders(folder, "node")
    home = folder / "home"
    home.mkdir()
    (home / "phextsync.json").write_text(json.dumps({"data": str(data)}))
    process = Process(data, (), ("--no-mdns", "--host", "127.0.0.1", "--port", "0"))
    process.start()
    provider = HermesMemory()
    source = Random(1)
    try:
        with attach(data) as handle:
            phext = handle.phext()
            phext.import_texts((_place(number), _words(source)) for number in range(count))
            handle.search("word1", timeout_s=3600.0)  # waits until all is indexed
        provider.initialize("session", hermes_home=str(home))
        _wait_for(provider)
        question = "what do we know of {0} and {1}, and where?".format
        turns = [_ms(lambda: provider.sync_turn(_words(source), "I see")) for _ in range(_CALLS)]
        report.add("sync_turn_p99_ms", [_p99(turns)], "ms", "own_add_p99_ms")
        _wait_for(provider)
        recall = provider._recall
        assert recall is not None
        late, asked = 0, []
        for _ in range(_CALLS // 2):
            words = question(_word(source), _word(source))
            before = recall.late
            asked.append(_ms(lambda words=words: provider.prefetch(words)))  # type: ignore[misc]
            late += recall.late - before
            recall.ask(words, wait_s=60.0)  # an agent asks seldom: the answer is there long before
        report.add(f"prefetch_p99_ms@{size}", [_p99(asked)], "ms")
        report.add(f"prefetch_late_share@{size}", [late / len(asked)], "ratio")
    finally:
        provider.shutdown()
        process.stop(signal.SIGTERM)


def _returns(report: Report) -> None:
    """Measure how long after its return a machine has what came for it while it was off."""
    mesh = MemoryMesh(1, 3, beside=lambda node: Voter(node).run())

    async def until(is_there: Callable[[], Awaitable[int]]) -> float:
        """Return how many seconds after the return something is there."""
        while mesh.now < 4 + _OFF_S + _RETURN_MAX_S and not await is_there():
            await mesh.run_until(mesh.now + _STEP_S)
        return mesh.now - 4 - _OFF_S

    async def body() -> None:
        await mesh.run_until(2)
        names = [mesh.node(number).identity.name for number in range(3)]
        ids = [mesh.node(number).identity.node_id.hex() for number in range(3)]
        await AsyncMail(mesh.node(2), names[2]).make_box()
        await mesh.run_until(4)
        mesh.apply(Crash(2, is_silent=True))
        await AsyncMail(mesh.node(0), names[0]).send(names[2], "when you are back")
        await AsyncTasks(mesh.node(0)).add("when you are back", voters=ids)
        await mesh.run_until(4 + _OFF_S)
        mesh.apply(Restart(2))
        await mesh.run_until(mesh.now + _STEP_S)

        async def messages() -> int:
            return len((await AsyncMail(mesh.node(2), names[2]).inbox()).messages)

        async def tasks() -> int:
            return len(await AsyncTasks(mesh.node(2)).tasks())

        report.add("message_after_an_hour_off_s", [await until(messages)], "s")
        report.add("task_after_an_hour_off_s", [await until(tasks)], "s")
        await mesh.run_until(mesh.now + _OFF_S)
        report.add("message_copies", [await messages()], "messages")
        report.add("task_copies", [await tasks()], "tasks")

    mesh.run(body)


def _wait_for(provider: HermesMemory) -> None:
    """Wait until the node is reached, and nothing waits for it."""
    while provider._handle is None or (provider._journal is not None and len(provider._journal)):
        time.sleep(_POLL_S)


def _place(number: int) -> Coordinate:
    parts = (number // 999**2, number // 999 % 999, number % 999)
    return Coordinate(1, 1, 1, 1, 1, 1, *(1 + part for part in parts))


def _word(source: Random) -> str:
    return f"word{int(_WORDS ** source.random())}"


def _words(source: Random) -> str:
    return " ".join(_word(source) for _ in range(_WORDS_PER_SCROLL))


def _ms(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return 1000 * (time.perf_counter() - began)


def _p99(values: list[float]) -> float:
    return statistics.quantiles(values, n=100)[98]
