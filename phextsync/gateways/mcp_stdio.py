"""The streams of one client of the MCP server, on which no request stays without an answer.

The SDK drops a line that it cannot read, and its client waits for ever. A program that cuts a text
within a character writes such a line: half a character has a form in JSON, and none in UTF-8.
"""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from mcp import types
from mcp.server.stdio import stdio_server
from mcp.shared.message import SessionMessage
from pydantic import ValidationError

_Incoming = SessionMessage | Exception


@asynccontextmanager
async def answered_stdio() -> AsyncIterator[
    tuple[MemoryObjectReceiveStream[_Incoming], MemoryObjectSendStream[SessionMessage]]
]:
    """Give what comes and what goes by standard input and output."""
    async with stdio_server() as (incoming, outgoing), anyio.create_task_group() as tasks:
        passed, requests = anyio.create_memory_object_stream[_Incoming](0)

        async def sift() -> None:
            async with passed:
                async for message in incoming:
                    refusal = _refusal(message) if isinstance(message, Exception) else None
                    if refusal is None:
                        await passed.send(message)
                    else:
                        await outgoing.send(refusal)

        tasks.start_soon(sift)
        yield requests, outgoing
        tasks.cancel_scope.cancel()


def _refusal(error: Exception) -> SessionMessage | None:
    """Return the answer to a line that cannot be read, None if nobody waits for one."""
    if not isinstance(error, ValidationError):
        return None
    found = error.errors()[0]
    line = found["input"]
    try:
        request = json.loads(line) if isinstance(line, str) else None
    except (ValueError, RecursionError):
        return None
    id_ = request.get("id") if isinstance(request, dict) else None
    if not isinstance(id_, str | int):
        return None
    reason = f"expected a request in JSON: {found['msg']}"
    data = types.ErrorData(code=types.PARSE_ERROR, message=reason)
    return SessionMessage(types.JSONRPCError(jsonrpc="2.0", id=id_, error=data))
