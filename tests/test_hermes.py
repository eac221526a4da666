"""Hermes' memory provider: no call waits for the node, and nothing that it was given is lost."""

import json
import mmap
import signal
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator
from importlib import import_module
from itertools import islice
from pathlib import Path

import pytest

import phextsync
from phextsync import Handle
from phextsync.errors import (
    ClosedError,
    PermissionDeniedError,
    StoreError,
    StoreLockedError,
    TextError,
)
from phextsync.files.entries import entries_of
from phextsync.files.markers import MARKER_FILE
from phextsync.handles.blocking import attach
from phextsync.handles.phexts import Phext
from phextsync.hosts import hermes
from phextsync.hosts.delivery import REFUSED, Delivery
from phextsync.hosts.hermes import CONFIGURATION, HermesMemory
from phextsync.hosts.journal import Item, Journal
from phextsync.hosts.recall import Recall, found, words_to_search
from phextsync.hosts.shared_lists import LISTS, SAID_MAX, change_list, turn_text
from phextsync.index import Coordinate
from phextsync.search import Hit, SearchIndex
from sims.processes import PATIENCE_S, make_folder
from tests.polling import until_now


def _open(folder: Path) -> Handle:
    return phextsync.open(folder, host="127.0.0.1", port=0, discover=False)


# -- the journal -------------------------------------------------------------------------------


def test_what_waits_comes_in_order_and_once(tmp_path: Path) -> None:
    journal = Journal(tmp_path, "one")
    assert journal.put({"id": "1"})
    assert journal.put({"id": "2"}, is_durable=True)
    seen = []
    while (waiting := journal.first(0)) is not None:
        seen.append(waiting.item["id"])
        assert not waiting.is_again
        journal.done()
    assert seen == ["1", "2"]
    journal.close()
    assert list(tmp_path.iterdir()) == []


def test_a_journal_is_bounded_and_has_room_again_when_all_is_delivered(tmp_path: Path) -> None:
    journal = Journal(tmp_path, "one", size=mmap.PAGESIZE)
    count = 0
    while journal.put({"id": str(count)}):
        count += 1
    assert 100 < count < 300
    for _ in range(count):
        journal.done()
    assert journal.put({"id": "x" * 2000})
    assert not journal.put({"id": "x" * 3000})
    journal.close()


def test_what_a_killed_process_left_is_delivered_by_the_next(tmp_path: Path) -> None:
    program = (
        "import sys, os, pathlib; from phextsync.hosts.journal import Journal\n"
        "journal = Journal(pathlib.Path(sys.argv[1]), 'killed')\n"
        "[journal.put({'id': str(i)}) for i in range(5)]\n"
        "journal.first(0); journal.done()\n"
        f"os.kill(os.getpid(), {int(signal.SIGKILL)})\n"
    )
    ended = subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=False)
    assert ended.returncode == -signal.SIGKILL
    other = Journal(tmp_path, "alive")
    other.put({"id": "of another that lives"})
    journal = Journal(tmp_path, "next")
    journal.adopt()
    seen = []
    while (waiting := journal.first(0)) is not None:
        seen.append((waiting.item["id"], waiting.is_again))
        journal.done()
    assert seen == [(str(i), True) for i in range(1, 5)]
    assert sorted(path.stem for path in tmp_path.iterdir()) == ["alive", "next"]
    other.close()
    journal.close()


def test_a_damaged_journal_gives_what_stands_before_the_damage(tmp_path: Path) -> None:
    journal = Journal(tmp_path, "one", size=mmap.PAGESIZE)
    journal.put({"id": "1"})
    at = len(json.dumps({"id": "1"})) + 5
    journal.put({"id": "2"})
    data = bytearray((tmp_path / "one.journal").read_bytes())
    data[at + 5] = 0xFF
    (tmp_path / "old.journal").write_bytes(data)
    journal.done()
    journal.done()
    journal.adopt()
    waiting = journal.first(0)
    assert waiting is not None
    assert waiting.item == {"id": "1"}
    assert len(journal) == 1
    journal.done()
    journal.close()


# -- delivery ----------------------------------------------------------------------------------


def test_what_fails_for_a_while_is_tried_again_and_what_is_refused_is_put_aside(
    tmp_path: Path,
) -> None:
    seen: list[tuple[str, bool]] = []
    answers: dict[str, list[Exception]] = {
        "1": [ClosedError("gone"), StoreError("full")],
        "2": [TextError("no text")],
        "3": [PermissionDeniedError("not yours")],
    }

    def prepare() -> None:
        if not seen:
            seen.append(("prepared", False))
            raise StoreError("locked")

    def deliver(item: Item, is_again: bool) -> None:
        seen.append((item["id"], is_again))
        if answers.get(item["id"]):
            raise answers[item["id"]].pop(0)

    journal = Journal(tmp_path, "one")
    for number in "1234":
        journal.put({"id": number})
    delivery = Delivery(journal, tmp_path, prepare, deliver, retry_s=0.001)
    until_now(lambda: not len(journal))
    assert delivery.close(PATIENCE_S)
    tries = [("1", False), ("1", True), ("1", True), ("2", False), ("3", False), ("4", False)]
    assert seen == [("prepared", False), *tries]
    aside = [json.loads(line) for line in (tmp_path / REFUSED).read_text().splitlines()]
    assert [(item["id"], item["because"]) for item in aside] == [
        ("2", "no text"),
        ("3", "not yours"),
    ]
    journal.close()


# -- recall ------------------------------------------------------------------------------------


def _hit(last: int, score: float, text: str) -> Hit:
    return Hit(Coordinate.parse(f"1.1.1/1.1.1/1.1.{last}"), text, score)


def test_the_scrolls_with_most_of_a_question_come_first(tmp_path: Path) -> None:
    index = SearchIndex(tmp_path / "index")
    told = ["the database", "a database\nof staging", "what is it in", "and more of other things"]
    places = [Coordinate.parse(f"1.1.1/1.1.1/1.1.{n}") for n in range(1, 5)]
    index.put("memory", [(at.key, b"f", text) for at, text in zip(places, told, strict=True)])

    def search(words: str, limit: int) -> list[Hit]:
        return index.find(words, "memory", limit=limit)

    assert found("Where is the STAGING database?", search).splitlines() == [
        "- 1.1.1/1.1.1/1.1.2: a [database] of [staging]",
        "- 1.1.1/1.1.1/1.1.1: the [database]",
    ]
    assert found("is it", search) == "- 1.1.1/1.1.1/1.1.3: what [is] [it] in"
    assert found("", search) == ""
    assert words_to_search("is it in a db") == ["is", "it", "in", "db"]
    index.close()


def test_a_slow_search_holds_up_nobody_and_its_answer_comes_with_the_next_question() -> None:
    may_answer = threading.Event()

    def search(word: str, limit: int) -> list[Hit]:
        assert may_answer.wait(PATIENCE_S)
        return [_hit(1, 1.0, word)]

    recall = Recall(search)
    assert recall.ask("first", wait_s=0.01) == ""
    may_answer.set()
    until_now(lambda: recall.ask("first", wait_s=0.01) == "- 1.1.1/1.1.1/1.1.1: first ~")
    recall.hand_over("second")
    until_now(lambda: recall.ask("second", wait_s=0.01) == "- 1.1.1/1.1.1/1.1.1: second ~")
    recall.close()


# -- the provider ------------------------------------------------------------------------------


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Hermes' home, configured for a folder."""
    made = tmp_path / "hermes"
    made.mkdir()
    data = make_folder(tmp_path / "data")
    HermesMemory().save_config({"data": str(data), "phext": "memory"}, str(made))
    return made


@pytest.fixture
def provider(home: Path) -> Iterator[HermesMemory]:
    made = HermesMemory(_open)
    made.initialize("session", hermes_home=str(home), platform="cli", agent_identity="coder")
    yield made
    made.shutdown()


def _call(provider: HermesMemory, tool: str, **arguments: object) -> dict[str, object]:
    answer = json.loads(provider.handle_tool_call(tool, arguments))
    assert isinstance(answer, dict)
    return answer


def _texts(home: Path) -> dict[str, str]:
    with _open(home.parent / "data") as handle:
        return {str(place): text for place, text in handle.phext().items()}


def test_turns_become_the_scroll_of_their_session(provider: HermesMemory, home: Path) -> None:
    provider.sync_turn("where is it?", "in the barn")
    provider.sync_turn("a\x17\x00b", "x" * (SAID_MAX + 5))
    provider.on_delegation("find it", "found")
    provider.on_session_switch("other", reset=True)
    provider.sync_turn("new", "session")
    until_now(lambda: provider._journal is not None and not len(provider._journal))
    provider.shutdown()
    (one, other) = sorted(_texts(home).items(), key=lambda row: -len(row[1]))
    assert one[0].startswith("2.2.1/")
    lines = one[1].splitlines()
    assert lines[1:3] == ["user: where is it?", "assistant: in the barn"]
    assert lines[4] == "user: a  b"
    assert lines[5].endswith("x... (5 characters more)")
    assert lines[7:] == ["user: task: find it", "assistant: found"]
    assert other[1].splitlines()[1:] == ["user: new", "assistant: session"]


def test_what_is_delivered_again_stands_there_once(provider: HermesMemory, home: Path) -> None:
    said = {"user": "a", "assistant": "b", "session": "s", "by": "coder", "time": "1800000000"}
    turn = {"kind": "turn", "id": "12", **said}
    fact = {"kind": "add", "target": "memory", "text": "a fact", "old": "", "id": "13"}
    until_now(lambda: provider._handle is not None)
    for is_again in (False, True, True):
        provider._deliver(turn, is_again)
        provider._deliver(fact, is_again)
    provider.shutdown()
    assert sorted(_texts(home).values()) == sorted([f"{turn_text(turn)}\n", "a fact\n§\n"])


def test_a_list_that_others_change_meanwhile_is_looked_at_again_at_once(
    provider: HermesMemory, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    until_now(lambda: provider._handle is not None)
    assert provider._handle is not None
    phext = provider._handle.phext()
    insert, others = Phext.insert, iter(["one of others\n§\n", "another\n§\n"])

    def insert_later(self: Phext, *where: object, **seen: object) -> None:
        for text in islice(others, 1):
            insert(self, LISTS["memory"], 0, text)
        insert(self, *where, **seen)  # type: ignore[arg-type]

    monkeypatch.setattr(Phext, "insert", insert_later)
    fact = {"kind": "add", "target": "memory", "text": "a fact", "old": "", "id": "13"}
    change_list(phext, fact)
    provider.shutdown()
    found = _texts(home)[str(LISTS["memory"])]
    assert sorted(entries_of(found)) == ["a fact", "another", "one of others"]


def test_tools_keep_find_read_and_forget(provider: HermesMemory) -> None:
    until_now(lambda: provider._handle is not None)
    for text in ("the barn is red", "the barn has a cat"):
        assert _call(provider, "phextsync_remember", text=text)["success"]
    answer: dict[str, object] = {}

    def has(text: str) -> bool:
        nonlocal answer
        answer = _call(provider, "phextsync_read", at=str(LISTS["memory"]))
        return text in str(answer.get("text"))

    until_now(lambda: has("cat"))
    assert answer == {"success": True, "text": "the barn is red\n§\nthe barn has a cat\n§\n"}
    at = f'"at": "{LISTS["memory"]}"'
    until_now(lambda: at in json.dumps(_call(provider, "phextsync_search", query="cat")))
    until_now(lambda: "[barn]" in provider.prefetch("what about the barn?"))
    assert _call(provider, "phextsync_forget", text="red")["success"]
    until_now(lambda: not has("red"))
    assert _call(provider, "phextsync_read", at="5.5.5/5.5.5/5.5.5")["error"]
    assert "expected" in str(_call(provider, "phextsync_read", at="x")["error"])
    assert "expected query as text" in str(_call(provider, "phextsync_search")["error"])
    assert "expected one of the tools" in str(_call(provider, "other")["error"])


@pytest.mark.parametrize("given", [None, 5, "", " \n", ["a fact"], {"a": "fact"}])
def test_a_tool_takes_texts_and_nothing_else(provider: HermesMemory, given: object) -> None:
    until_now(lambda: provider._handle is not None)
    for tool, name in (
        ("search", "query"),
        ("read", "at"),
        ("remember", "text"),
        ("forget", "text"),
    ):
        answer = _call(provider, f"phextsync_{tool}", **{name: given})
        assert f"expected {name} as text" in str(answer["error"])
    assert provider._journal is not None
    assert not len(provider._journal)


def test_what_no_node_can_take_holds_up_nothing_else(provider: HermesMemory, home: Path) -> None:
    provider.on_delegation({"goal": "find it"}, None)  # type: ignore[arg-type]
    provider.sync_turn(["a", "b"], 5)  # type: ignore[arg-type]
    provider.sync_turn("of a session", "that is none", session_id="\ud800")
    assert provider._journal is not None
    provider._journal.put({"kind": "of a later version"})
    assert _call(provider, "phextsync_remember", text="kept")["success"]
    until_now(lambda: provider._journal is not None and not len(provider._journal))
    provider.shutdown()
    *turns, facts = sorted(_texts(home).values())
    for said in (
        "user: task: {'goal': 'find it'}\nassistant: \n",
        "user: ['a', 'b']\nassistant: 5\n",
    ):
        assert any(said in turn for turn in turns)
    assert any("assistant: that is none" in turn for turn in turns)
    assert facts == "kept\n§\n"
    (refused,) = (home / "phextsync-journal" / REFUSED).read_text().splitlines()
    assert json.loads(refused)["because"] == "KeyError('target')"


def test_a_question_that_is_no_text_ends_no_search(provider: HermesMemory) -> None:
    until_now(lambda: provider._handle is not None)
    assert provider._handle is not None
    provider._handle.phext()["3.1.1/1.1.1/1.1.1"] = "the barn is red"
    for question in (None, 5, ["the", "barn"]):
        provider.queue_prefetch(question)  # type: ignore[arg-type]
        provider.prefetch(question)  # type: ignore[arg-type]
    until_now(lambda: "[barn]" in provider.prefetch("what about the barn?"))


def test_a_list_changes_as_hermes_changed_its_own(provider: HermesMemory, home: Path) -> None:
    provider.on_memory_write("add", "memory", "one")
    provider.on_memory_write("add", "memory", "two")
    provider.on_memory_write("add", "user", "likes tea")
    provider.on_memory_write("replace", "memory", "two changed", {"old_text": "two"})
    provider.on_memory_write("remove", "memory", "", {"old_text": "one"})
    provider.on_memory_write("replace", "memory", "three", {"old_text": "not there"})
    until_now(lambda: provider._journal is not None and not len(provider._journal))
    provider.shutdown()
    texts = _texts(home)
    assert entries_of(texts[str(LISTS["memory"])]) == ["two changed", "three"]
    assert entries_of(texts[str(LISTS["user"])]) == ["likes tea"]
    (home / "memories").mkdir()
    (home / "memories" / MARKER_FILE).touch()
    again = HermesMemory(_open)
    again.initialize("session", hermes_home=str(home))
    again.on_memory_write("add", "memory", "in a bound file")
    assert again._journal is not None
    assert not len(again._journal)
    again.shutdown()


def test_an_entry_that_cannot_be_told_from_others_stays(provider: HermesMemory) -> None:
    until_now(lambda: provider._handle is not None)
    assert provider._handle is not None
    phext = provider._handle.phext()
    phext[LISTS["memory"]] = "tea at 4\n§\ntea at 5\n§\n"
    item = {"kind": "remove", "target": "memory", "text": "", "old": "tea"}
    change_list(phext, item)
    assert entries_of(phext[LISTS["memory"]]) == ["tea at 4", "tea at 5"]


def test_without_a_node_every_call_returns_and_the_next_session_delivers(home: Path) -> None:
    opened = threading.Event()

    def refuse(folder: Path) -> Handle:
        opened.set()
        raise StoreError("the disk is away")

    provider = HermesMemory(refuse)
    provider.initialize("session", hermes_home=str(home))
    assert opened.wait(PATIENCE_S)
    provider.sync_turn("a question", "an answer")
    provider.queue_prefetch("a question")
    assert provider.prefetch("a question") == ""
    assert "go on without it" in str(_call(provider, "phextsync_search", query="x")["error"])
    assert _call(provider, "phextsync_remember", text="kept")["success"]
    provider.shutdown()
    again = HermesMemory(_open)
    again.initialize("session", hermes_home=str(home))
    until_now(lambda: again._handle is not None and again._journal is not None)
    until_now(lambda: again._journal is not None and not len(again._journal))
    again.shutdown()
    assert any("an answer" in text for text in _texts(home).values())
    assert [path.name for path in (home / "phextsync-journal").iterdir()] == []


def test_subagents_write_nothing(home: Path) -> None:
    provider = HermesMemory(_open)
    provider.initialize("session", hermes_home=str(home), agent_context="subagent")
    provider.sync_turn("a", "b")
    assert provider._journal is not None
    assert not len(provider._journal)
    assert not _call(provider, "phextsync_remember", text="x")["success"]
    provider.shutdown()


def test_a_provider_without_a_data_folder_is_not_available(tmp_path: Path, home: Path) -> None:
    provider = HermesMemory()
    provider._home = home
    assert provider.is_available()
    (home / CONFIGURATION).write_text(json.dumps({"data": str(tmp_path / "none")}))
    assert not provider.is_available()
    assert provider.backup_paths() == []


def test_the_entry_point_names_the_module_that_registers() -> None:
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
    points = project["entry-points"]["hermes_agent.memory_providers"]
    assert {name: import_module(at) for name, at in points.items()} == {hermes.NAME: hermes}
    given: list[object] = []

    class Context:
        def register_memory_provider(self, provider: object) -> None:
            given.append(provider)

    hermes.register(Context())
    assert [type(provider) for provider in given] == [HermesMemory]


def test_a_session_finds_the_node_again_that_was_away_and_never_runs_it(home: Path) -> None:
    data = home.parent / "data"
    provider = HermesMemory()
    node = _open(data)
    provider.initialize("session", hermes_home=str(home))
    until_now(lambda: provider._handle is not None)
    assert provider._handle is not None
    node.close()
    provider.sync_turn("while it was away", "kept")
    node = _open(data)
    until_now(lambda: provider._journal is not None and not len(provider._journal))
    assert not provider._handle.is_owner
    assert node.is_owner
    provider.shutdown()
    assert any("while it was away" in text for text in node.phext().values())
    node.close()
    with pytest.raises(StoreLockedError, match="`phextsync up` runs it"):
        attach(data)
