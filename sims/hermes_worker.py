"""An instance of hermes-agent that remembers things: run by the Python of its own environment.

`python sims/hermes_worker.py NAME COUNT ACKS [PAUSE_S]`, with `HERMES_HOME` set. It writes, through
Hermes' own code, into Hermes' own list, replaces entries there, and tells the provider what to
remember and what was said. What was acknowledged goes into the file ACKS, a line of JSON each; when
started again it goes on after what stands there.
"""

import importlib
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

_LIMIT = 10_000_000  # characters: not the budget is tried here


class Worker:
    """One instance."""

    def __init__(self, name: str, acks: Path) -> None:
        self._name = name
        self._acks = os.open(acks, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        memory = importlib.import_module("tools.memory_tool")
        self._tool = memory.memory_tool
        self._store = memory.MemoryStore(_LIMIT, _LIMIT)
        self._store.load_from_disk()
        self._manager = self._provider(name)

    def _provider(self, name: str) -> Any:
        """Return Hermes' manager with the provider that it finds in its home, None without."""
        found = importlib.import_module("plugins.memory").load_memory_provider("phextsync")
        if found is None:
            return None
        assert found.is_available()
        manager = importlib.import_module("agent.memory_manager").MemoryManager()
        manager.add_provider(found)
        manager.initialize_all(
            session_id=f"session of {name}",
            platform="cli",
            hermes_home=os.environ["HERMES_HOME"],
            agent_context="primary",
        )
        return manager

    def note(self, **what: object) -> None:
        """Say what is begun or acknowledged; it is not lost when this process is killed."""
        os.write(self._acks, (json.dumps(what) + "\n").encode())

    def write(self, number: int) -> None:
        """Do write `number`."""
        text = f"{self._name} learnt fact {number} on its way"
        kind = ("add", "add", "add", "add", "replace", "add", "add", "turn", "fact", "fact")[
            number % 10
        ]
        if kind in ("turn", "fact") and self._manager is None:
            kind = "add"
        old = f"{self._name} learnt fact {number - 1} on its way" if kind == "replace" else ""
        self.note(begun=number, kind=kind, text=text, old=old)
        refusal = self._do(kind, text, old)
        self.note(done=number, refusal=refusal)

    def _do(self, kind: str, text: str, old: str) -> str:
        """Write; return why that was refused, nothing when it was not."""
        if kind == "turn":
            self._manager.sync_all(text, "I see", session_id=f"session of {self._name}")
            return "" if self._manager.flush_pending(timeout=60) else "not flushed"
        if kind == "fact":
            answer = self._manager.handle_tool_call("phextsync_remember", {"text": text})
        else:
            answer = self._tool(
                action=kind, target="memory", content=text, old_text=old, store=self._store
            )
        told = json.loads(answer)
        return "" if told["success"] else str(told["error"])

    def end(self) -> None:
        """Let the provider deliver what waits."""
        if self._manager is not None:
            self._manager.shutdown_all()


def main(name: str, count: str, acks: str, pause_s: str = "0") -> None:
    """Do what is not done yet of `count` writes."""
    path = Path(acks)
    lines = path.read_text().splitlines() if path.exists() else []
    first = sum('"begun"' in line for line in lines)
    worker = Worker(name, path)
    for number in range(first, int(count)):
        worker.write(number)
        time.sleep(float(pause_s))
    worker.end()


if __name__ == "__main__":
    main(*sys.argv[1:])
