"""Hermes: a memory provider for hermes-agent, on top of a handle.

Turns become scrolls, one for a session of an agent, each with one writer. What the agent is told
to remember, and what it writes into its own memory, becomes entries of two lists that all agents
of the mesh share. No call waits for the node: what is written goes into a journal, and what is
asked is answered by what is known in a moment.

Nothing of hermes-agent is imported: a provider is what has its methods.
"""

import contextlib
import json
import logging
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from secrets import token_hex
from typing import Final, Protocol, TypeVar

from phextsync.durable_files import write_whole
from phextsync.errors import ClosedError, PhextsyncError
from phextsync.files.entries import as_file
from phextsync.files.markers import MARKER_FILE
from phextsync.handles.blocking import Handle, attach
from phextsync.handles.phexts import Phext
from phextsync.hosts.delivery import Delivery
from phextsync.hosts.journal import Item, Journal
from phextsync.hosts.recall import Recall
from phextsync.hosts.shared_lists import LISTS, change_list, turn_place, turn_text
from phextsync.node.node import DEFAULT_PHEXT
from phextsync.plain_files import read_file
from phextsync.plain_values import read_json
from phextsync.search import Hit
from phextsync.trust.identity import NodeIdentity

NAME: Final = "phextsync"
TESTED: Final = "hermes-agent 0.19.0"
CONFIGURATION: Final = "phextsync.json"
"""The file in Hermes' home that says which folder and phext."""

_JOURNALS: Final = "phextsync-journal"
_ASK_S: Final = 5.0
_END_S: Final = 2.0
_PRIMARY: Final = "primary"
_log: Final = logging.getLogger("phextsync.hosts")
T = TypeVar("T")

Schema = dict[str, object]


class Context(Protocol):
    """What Hermes gives a plug-in."""

    def register_memory_provider(self, provider: object) -> None:
        """Take a provider."""


def register(context: Context) -> None:
    """Give Hermes the provider, as its plug-ins do."""
    context.register_memory_provider(HermesMemory())


class HermesMemory:
    """The memory provider `phextsync`. No method raises, or waits for the node, but for
    `handle_tool_call`, which waits at most five seconds."""

    name = NAME

    def __init__(self, open_: Callable[[Path], Handle] = attach) -> None:
        self._open = open_
        self._home = _home({})
        self._session = ""
        self._identity = "hermes"
        self._is_primary = False
        self._mirrors = False
        self._handle: Handle | None = None
        self._journal: Journal | None = None
        self._delivery: Delivery | None = None
        self._recall: Recall | None = None
        self._news = ""  # the lists, until a turn has been told of them
        self.dropped = 0  # writes for which there was no room

    # -- its life --------------------------------------------------------------------------

    def is_available(self) -> bool:
        """Whether the data folder is that of a node."""
        return (self._folder() / "identity.pem").exists()

    def initialize(self, session_id: str, **kwargs: object) -> None:
        """Begin for a session; the folder is opened in the background."""
        self._home = _home(kwargs)
        self._session = session_id
        self._identity = str(kwargs.get("agent_identity") or "hermes")
        self._is_primary = kwargs.get("agent_context", _PRIMARY) == _PRIMARY
        # Files that are bound are shared already, entry by entry.
        self._mirrors = not (self._home / "memories" / MARKER_FILE).exists()
        if self._delivery is not None:
            return
        folder = self._home / _JOURNALS
        try:
            self._journal = Journal(folder, f"{os.getpid()}-{token_hex(4)}")
        except OSError as error:
            _log.warning("no memory is written in this session: %s: %s", folder, error)
            return
        self._recall = Recall(self._search)
        self._delivery = Delivery(self._journal, folder, self._begin, self._deliver)

    def shutdown(self) -> None:
        """Deliver what waits, for at most two seconds; the rest is delivered by the next session
        on this machine."""
        if self._recall is not None:
            self._recall.close()
        if self._delivery is not None and self._delivery.close(_END_S):
            if self._handle is not None:
                with contextlib.suppress(TimeoutError):
                    _in_time(self._handle.close, _END_S)
            if self._journal is not None:
                self._journal.close()
        self._handle = self._journal = self._delivery = self._recall = None

    def system_prompt_block(self) -> str:
        """Say what the agent has."""
        return (
            "Your memory is shared with the user's other agents and machines. What is known of a "
            "question is given with it. `phextsync_remember` keeps a fact for all of them, "
            "`phextsync_search` and `phextsync_read` find more."
        )

    # -- turns -----------------------------------------------------------------------------

    def prefetch(self, query: str, *, session_id: str = "") -> str:
        """Return what is known of a question, as far as it is found in a moment."""
        lists, self._news = self._news, ""
        found = "" if self._recall is None else self._recall.ask(_said(query))
        told = f"Found in the shared memory:\n{found}" if found else ""
        return "\n\n".join(part for part in (lists, told) if part)

    def queue_prefetch(self, query: str, *, session_id: str = "") -> None:
        """Look in the background for what is known of a question."""
        if self._recall is not None:
            self._recall.hand_over(_said(query))

    def sync_turn(
        self,
        user_content: str,
        assistant_content: str,
        *,
        session_id: str = "",
        messages: Sequence[Mapping[str, object]] | None = None,
    ) -> None:
        """Let a turn be written into the scroll of its session."""
        said = {"user": user_content, "assistant": assistant_content}
        self._put({"kind": "turn", "session": session_id or self._session, **said})

    def on_delegation(
        self, task: str, result: str, *, child_session_id: str = "", **kwargs: object
    ) -> None:
        """Let a task that another agent did be written as a turn."""
        said = {"user": f"task: {task}", "assistant": result}
        self._put({"kind": "turn", "session": self._session, **said})

    def on_memory_write(
        self,
        action: str,
        target: str,
        content: str,
        metadata: Mapping[str, object] | None = None,
    ) -> None:
        """Do to the shared lists what was done to Hermes' own, unless its files are bound."""
        if self._mirrors and target in LISTS:
            old = str((metadata or {}).get("old_text") or "")
            self._put({"kind": action, "target": target, "text": content, "old": old})

    def on_turn_start(self, turn_number: int, message: str, **kwargs: object) -> None:
        """Nothing is done."""

    def on_session_end(self, messages: Sequence[Mapping[str, object]]) -> None:
        """Nothing is done: turns were written when they were made."""

    def on_session_switch(self, new_session_id: str, **kwargs: object) -> None:
        """Let what follows be written into the scroll of another session."""
        self._session = new_session_id

    def on_pre_compress(self, messages: Sequence[Mapping[str, object]]) -> str:
        """Nothing is added."""
        return ""

    def backup_paths(self) -> list[str]:
        """Nothing: `phextsync backup` copies a folder while a node runs, other programs cannot."""
        return []

    # -- tools -----------------------------------------------------------------------------

    def get_tool_schemas(self) -> list[Schema]:
        """Return the tools."""
        return [
            _schema("phextsync_search", "Search the shared memory.", query="Words to find."),
            _schema("phextsync_read", "Read a scroll that was found.", at="Its coordinate."),
            _schema(
                "phextsync_remember",
                "Keep one lasting fact for all agents of the user.",
                text="The fact, in one sentence.",
            ),
            _schema(
                "phextsync_forget",
                "Remove a fact from the shared memory.",
                text="A part of it that no other fact has.",
            ),
        ]

    def handle_tool_call(self, tool_name: str, args: Mapping[str, object], **kwargs: object) -> str:
        """Do what the model asks for; return JSON with `success`, and `error` or what is asked."""
        try:
            answer = _in_time(lambda: self._answer(tool_name, args), _ASK_S)
        except (PhextsyncError, OSError) as error:
            answer = {"error": str(error)}
        return json.dumps({"success": "error" not in answer, **answer}, ensure_ascii=False)

    def _answer(self, tool_name: str, args: Mapping[str, object]) -> dict[str, object]:
        if tool_name == "phextsync_search":
            hits = self._opened().search(_text(args, "query"), self._phext(), limit=10)
            return {"found": [{"at": str(hit.coordinate), "text": hit.snippet} for hit in hits]}
        if tool_name == "phextsync_read":
            found = self._opened().phext(self._phext()).get(_text(args, "at"))
            return {"error": "nothing stands there"} if found is None else {"text": found}
        kinds = {"phextsync_remember": "add", "phextsync_forget": "remove"}
        if tool_name not in kinds:
            return {"error": f"expected one of the tools of {NAME}, found {tool_name}"}
        text = _text(args, "text")
        item = {"kind": kinds[tool_name], "target": "memory", "text": text, "old": text}
        if not self._put(item, is_durable=True):
            return {"error": "not kept: too much waits for the node already, or this is a subagent"}
        return {"kept": "on this machine; other machines get it as soon as the node runs"}

    # -- setting up ------------------------------------------------------------------------

    def get_config_schema(self) -> list[Schema]:
        """Return what `hermes memory setup` asks for."""
        return [
            {"key": "data", "description": "data folder of phextsync", "default": "~/.phextsync"},
            {"key": "phext", "description": "the phext", "default": DEFAULT_PHEXT},
        ]

    def save_config(self, values: Mapping[str, object], hermes_home: str) -> None:
        """Keep what was answered in Hermes' home."""
        kept = {key: str(values[key]) for key in ("data", "phext") if values.get(key)}
        write_whole(Path(hermes_home) / CONFIGURATION, (json.dumps(kept, indent=2) + "\n").encode())

    def _configured(self, key: str, default: str) -> str:
        try:
            return str(read_json(read_file(self._home / CONFIGURATION))[key])
        except (OSError, ValueError, KeyError, TypeError):
            return default

    def _folder(self) -> Path:
        default = os.environ.get("PHEXTSYNC_DATA") or "~/.phextsync"
        return Path(self._configured("data", default)).expanduser()

    def _phext(self) -> str:
        return self._configured("phext", DEFAULT_PHEXT)

    # -- in the background -------------------------------------------------------------------

    def _put(self, item: Mapping[str, object], *, is_durable: bool = False) -> bool:
        if self._journal is None or not self._is_primary:
            return False
        texts = {name: _said(each) for name, each in item.items()}
        whole = {**texts, "id": token_hex(8), "by": self._identity, "time": str(int(time.time()))}
        is_in = self._journal.put(whole, is_durable=is_durable)
        if not is_in and not self.dropped:
            _log.warning("what is written now is lost: too much waits for the node")
        self.dropped += not is_in
        return is_in

    def _opened(self) -> Handle:
        if self._handle is None:
            raise ClosedError("the node cannot be reached yet; go on without it")
        return self._handle

    def _reach(self) -> Handle:
        """Open the folder if it is not, or not any more."""
        if self._handle is None:
            NodeIdentity.load(self._folder())
            self._handle = self._open(self._folder())
        return self._handle

    def _begin(self) -> None:
        """Read the lists."""
        phext = self._reach().phext(self._phext())
        lists = {name: as_file(phext.get(place, "")) for name, place in LISTS.items()}
        told = [f"Shared list {name}:\n{text}" for name, text in lists.items() if text]
        self._news = "\n\n".join(told) if self._mirrors else ""

    def _deliver(self, item: Item, is_again: bool) -> None:
        try:
            self._write(self._reach().phext(self._phext()), item, is_again)
        except ClosedError:
            self._handle = None  # it has ended: another is opened
            raise

    def _write(self, phext: Phext, item: Item, is_again: bool) -> None:
        if item["kind"] != "turn":
            change_list(phext, item)
            return
        place = turn_place(item)
        if not is_again or f"({item['id']})" not in phext.get(place, ""):
            phext.append_line(place, turn_text(item))

    def _search(self, words: str, limit: int) -> list[Hit]:
        try:
            return self._opened().search(words, self._phext(), limit=limit, timeout_s=_ASK_S)
        except (PhextsyncError, OSError):
            return []


def _home(options: Mapping[str, object]) -> Path:
    home = options.get("hermes_home") or os.environ.get("HERMES_HOME") or "~/.hermes"
    return Path(str(home)).expanduser()


def _said(value: object) -> str:
    """Return what Hermes gives as a text, whatever it is."""
    return "" if value is None else str(value)


def _text(args: Mapping[str, object], name: str) -> str:
    value = args.get(name)
    if not isinstance(value, str) or not value.strip():
        raise PhextsyncError(f"expected {name} as text, found {value!r:.60}")
    return value


def _schema(name: str, description: str, **texts: str) -> Schema:
    properties = {key: {"type": "string", "description": what} for key, what in texts.items()}
    parameters = {"type": "object", "properties": properties, "required": [*texts]}
    return {"name": name, "description": description, "parameters": parameters}


def _in_time(call: Callable[[], T], seconds: float) -> T:
    """Return what a call gives, or raise what it raises. TimeoutError, and the call goes on."""
    given: list[T] = []
    raised: list[BaseException] = []

    def run() -> None:
        try:
            given.append(call())
        except (PhextsyncError, OSError) as error:
            raised.append(error)

    thread = threading.Thread(target=run, name="phextsync call", daemon=True)
    thread.start()
    thread.join(seconds)
    if raised:
        raise raised[0]
    if not given:
        raise TimeoutError(f"the node did not answer within {seconds:g} s; go on without it")
    return given[0]
