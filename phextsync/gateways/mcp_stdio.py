"""The streams of one client of the MCP server, on which no request stays without an answer.

The SDK drops a line that it cannot read, and its client waits for ever. A program that cuts a text
within a character writes such a line: half a character has a form in JSON, and none in UTF-8.
Others send lists of requests, as older versions of the protocol had, or number them by 1.0.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from mcp import types
from mcp.server.stdio import stdio_server
from mcp.shared.message import SessionMessage
from pydantic import ValidationError

from phextsync.plain_values import read_json

_Incoming = SessionMessage | Exception
_NOTIFICATIONS: Final = "notifications/"


@asynccontextmanager
async def answered_stdio(
    given: anyio.AsyncFile[str] | None = None, answers: anyio.AsyncFile[str] | None = None
) -> AsyncIterator[
    tuple[MemoryObjectReceiveStream[_Incoming], MemoryObjectSendStream[SessionMessage]]
]:
    """Give what comes and what goes by standard input and output, or by other files."""
    stdio = stdio_server(given, answers)
    async with stdio as (incoming, outgoing), anyio.create_task_group() as tasks:
        passed, requests = anyio.create_memory_object_stream[_Incoming](0)

        async def sift() -> None:
            async with passed, incoming:
                async for message in incoming:
                    refusal = _refusal(message)
                    if refusal is None:
                        await passed.send(message)
                    else:
                        await outgoing.send(refusal)

        tasks.start_soon(sift)
        yield requests, outgoing
        tasks.cancel_scope.cancel()


def _refusal(message: _Incoming) -> SessionMessage | None:
    """Return the answer to a line that the SDK would drop, None if nobody waits for one."""
    if isinstance(message, ValidationError):
        found = message.errors()[0]
        line = found["input"]
        is_text = isinstance(line, str)
        if is_text and not line.strip():
            return None
        reason = f"expected a request in JSON: {found['msg']}"
        return _error(types.PARSE_ERROR if is_text else types.INVALID_REQUEST, reason, _id(line))
    if isinstance(message, SessionMessage) and isinstance(
        message.message, types.JSONRPCNotification
    ):
        method = message.message.method
        if not method.startswith(_NOTIFICATIONS):  # a request to the SDK only with such an id
            reason = f"expected a string or an integer as the id of {method!r:.60}"
            return _error(types.INVALID_REQUEST, reason, None)
    return None


def _id(line: object) -> str | int | None:
    """Return the id in what came, None where it has none that an answer may have."""
    try:
        request = read_json(line) if isinstance(line, str) else line
    except ValueError:
        return None
    found = request.get("id") if isinstance(request, dict) else None
    return found if isinstance(found, str | int) and not isinstance(found, bool) else None


def _error(code: int, reason: str, id_: str | int | None) -> SessionMessage:
    data = types.ErrorData(code=code, message=reason)
    return SessionMessage(types.JSONRPCError(jsonrpc="2.0", id=id_, error=data))
