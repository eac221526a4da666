"""The memory tool of Anthropic's SDK on a range of scrolls, for `tool_runner` and for loops of your
own. Needs `pip install 'phextsync[anthropic]'`.

    with phextsync.open("~/mesh") as node:
        tool = MemoryTool(node, "7.*")
"""

from collections.abc import Coroutine
from typing import TypeGuard, TypeVar

from anthropic.lib.tools import ToolError
from anthropic.tools.memory import BetaAbstractMemoryTool, BetaAsyncAbstractMemoryTool
from anthropic.types.beta import BetaCacheControlEphemeralParam

from phextsync.agents.memory_commands import MemoryCommands
from phextsync.agents.memory_scrolls import AsyncScrolls, BlockingScrolls, run_now
from phextsync.aio import AsyncHandle
from phextsync.errors import PhextsyncError
from phextsync.handles.blocking import Handle
from phextsync.node.node import DEFAULT_PHEXT
from phextsync.replica.views import Range, as_range

T = TypeVar("T")


class MemoryTool(BetaAbstractMemoryTool):
    """The memory tool over a handle for threads."""

    def __init__(
        self,
        handle: Handle,
        range_: Range,
        phext: str = DEFAULT_PHEXT,
        *,
        cache_control: BetaCacheControlEphemeralParam | None = None,
    ) -> None:
        """`range_` is a prefix with four free parts, such as "7.*"; else CoordinateError."""
        super().__init__(cache_control=cache_control)
        self._commands = MemoryCommands(BlockingScrolls(handle, phext, as_range(range_)))

    def view(self, command: object) -> str:
        return _now(_view(self._commands, command))

    def create(self, command: object) -> str:
        return _now(_create(self._commands, command))

    def str_replace(self, command: object) -> str:
        return _now(_str_replace(self._commands, command))

    def insert(self, command: object) -> str:
        return _now(_insert(self._commands, command))

    def delete(self, command: object) -> str:
        return _now(_delete(self._commands, command))

    def rename(self, command: object) -> str:
        return _now(_rename(self._commands, command))

    def clear_all_memory(self) -> str:
        return _now(self._commands.clear_all_memory())


class AsyncMemoryTool(BetaAsyncAbstractMemoryTool):
    """The memory tool over a handle for asyncio."""

    def __init__(
        self,
        handle: AsyncHandle,
        range_: Range,
        phext: str = DEFAULT_PHEXT,
        *,
        cache_control: BetaCacheControlEphemeralParam | None = None,
    ) -> None:
        """`range_` is a prefix with four free parts, such as "7.*"; else CoordinateError."""
        super().__init__(cache_control=cache_control)
        self._commands = MemoryCommands(AsyncScrolls(handle, phext, as_range(range_)))

    async def view(self, command: object) -> str:
        return await _told(_view(self._commands, command))

    async def create(self, command: object) -> str:
        return await _told(_create(self._commands, command))

    async def str_replace(self, command: object) -> str:
        return await _told(_str_replace(self._commands, command))

    async def insert(self, command: object) -> str:
        return await _told(_insert(self._commands, command))

    async def delete(self, command: object) -> str:
        return await _told(_delete(self._commands, command))

    async def rename(self, command: object) -> str:
        return await _told(_rename(self._commands, command))

    async def clear_all_memory(self) -> str:
        return await _told(self._commands.clear_all_memory())


async def _told(made: Coroutine[None, None, T]) -> T:
    """Let the model read what was wrong."""
    try:
        return await made
    except PhextsyncError as error:
        raise ToolError(str(error)) from error


def _now(made: Coroutine[None, None, T]) -> T:
    return run_now(_told(made))


async def _view(commands: MemoryCommands, command: object) -> str:
    lines = getattr(command, "view_range", None)
    if lines is not None and not (isinstance(lines, list) and all(map(_is_number, lines))):
        raise PhextsyncError(f"expected view_range as two numbers, found {lines!r:.60}")
    return await commands.view(_text(command, "path"), lines)


async def _create(commands: MemoryCommands, command: object) -> str:
    return await commands.create(_text(command, "path"), _text(command, "file_text"))


async def _str_replace(commands: MemoryCommands, command: object) -> str:
    old, new = _text(command, "old_str"), _text(command, "new_str")
    return await commands.str_replace(_text(command, "path"), old, new)


async def _insert(commands: MemoryCommands, command: object) -> str:
    line = getattr(command, "insert_line", None)
    if not _is_number(line):
        raise PhextsyncError(f"expected insert_line as a number, found {line!r:.60}")
    path, text = _text(command, "path"), _text(command, "insert_text")
    return await commands.insert(path, line, text)


async def _delete(commands: MemoryCommands, command: object) -> str:
    return await commands.delete(_text(command, "path"))


async def _rename(commands: MemoryCommands, command: object) -> str:
    return await commands.rename(_text(command, "old_path"), _text(command, "new_path"))


def _text(command: object, name: str) -> str:
    value = getattr(command, name, None)
    if not isinstance(value, str):
        raise PhextsyncError(f"expected {name} as text, found {value!r:.60}")
    return value


def _is_number(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)
