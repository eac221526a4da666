"""Clients of Yjs that are not ours, on Node.js: `tests/yjs/clients.mjs`, driven from tests."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from subprocess import PIPE
from typing import Any, Final

import pytest
import trio

_ROOT: Final = Path(__file__).parents[1]
_INSTALLED: Final = _ROOT / ".yjs"
_PROGRAM: Final = _ROOT / "tests" / "yjs" / "clients.mjs"


class YjsClients:
    """A process of clients; each command names one by a number of its own."""

    def __init__(self, process: trio.Process) -> None:
        self._process = process
        self._answers: dict[int, trio.MemorySendChannel[dict[str, Any]]] = {}
        self._count = 0
        self._writing = trio.Lock()

    async def ask(self, do: str, id: int = 0, **more: Any) -> Any:
        """Let a client do something; return what it answers."""
        self._count += 1
        number = self._count
        send, receive = trio.open_memory_channel[dict[str, Any]](1)
        self._answers[number] = send
        line = json.dumps({"do": do, "id": id, "number": number, **more})
        assert self._process.stdin is not None
        async with self._writing:
            await self._process.stdin.send_all(line.encode() + b"\n")
        answer = await receive.receive()
        assert "error" not in answer, answer
        return answer["value"]

    async def read(self) -> None:
        """Give answers to those who wait for them."""
        buffer = b""
        assert self._process.stdout is not None
        async for data in self._process.stdout:
            *lines, buffer = (buffer + data).split(b"\n")
            for line in lines:
                if line.startswith(b'{"number"'):
                    answer = json.loads(line)
                    self._answers.pop(answer["number"]).send_nowait(answer)


@asynccontextmanager
async def yjs_clients() -> AsyncIterator[YjsClients]:
    """Run a process of clients. Skips the test where they are not installed."""
    if not (_INSTALLED / "ready").exists():
        pytest.skip("the clients of Yjs are not installed: make yjs")
    command = ["node", "--input-type=module", "-e", _PROGRAM.read_text()]
    async with trio.open_nursery() as nursery:
        process = await trio.lowlevel.open_process(
            command, stdin=PIPE, stdout=PIPE, cwd=str(_INSTALLED)
        )
        clients = YjsClients(process)
        nursery.start_soon(clients.read)
        try:
            yield clients
        finally:
            with trio.CancelScope(shield=True):
                process.kill()
                await process.wait()
            nursery.cancel_scope.cancel()
