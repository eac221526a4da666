"""What a language model may ask of tasks, and answers of bounded size."""

from collections.abc import Sequence
from typing import Final

from phextsync.agents.claims import Verdict
from phextsync.agents.task_layout import TASKS
from phextsync.agents.tasks import AsyncTasks
from phextsync.aio import AsyncHandle
from phextsync.errors import PhextsyncError
from phextsync.gateways.tools import PAGE_CHARACTERS, PAGE_ROWS, Argument

TASK_TOOLS: Final = frozenset(
    {
        *("task_add", "task_list", "task_read", "task_claim"),
        *("task_keep", "task_done", "task_fail", "task_retry"),
    }
)
_WAIT_S: Final = 5.0  # a model waits for the answer


async def use_tasks(node: AsyncHandle, name: str, arguments: Sequence[Argument]) -> list[str]:
    """Carry out one of `TASK_TOOLS`. PhextsyncError says what was wrong."""
    tasks = AsyncTasks(node)
    match [name, *arguments]:
        case ["task_add", str(text)]:
            return [f"added; it stands at {(await tasks.add(text)).coordinate}"]
        case ["task_list"]:
            return await _list(tasks)
        case ["task_read", str(place)]:
            return await _read(tasks, place)
        case ["task_claim", str(place), str(worker)]:
            return await _claim(AsyncTasks(node, worker), place)
        case ["task_keep", str(place), str(claim)]:
            await tasks.keep(place, claim, wait_s=_WAIT_S)
            return ["it is still yours"]
        case ["task_done", str(place), str(claim), str(result)]:
            is_final = (await tasks.done(place, claim, result, wait_s=_WAIT_S)).is_firm
            return ["done" if is_final else "noted; too few voters have it: say it again later"]
        case ["task_fail", str(place), str(claim), str(why)]:
            await tasks.fail(place, claim, why, wait_s=_WAIT_S)
            return ["noted"]
        case ["task_retry", str(place)]:
            await tasks.retry(place)
            return ["it can be claimed again"]
    raise PhextsyncError(f"expected a tool for tasks, found {name!r:.40}")


async def _list(tasks: AsyncTasks) -> list[str]:
    lines = [each.line() for each in await tasks.tasks() if not each.standing.is_final]
    notes = [f"[{len(lines) - PAGE_ROWS} more: do these first]"] if len(lines) > PAGE_ROWS else []
    return ["\n".join(lines[:PAGE_ROWS]) or "no tasks", *notes]


async def _read(tasks: AsyncTasks, place: str) -> list[str]:
    found = await tasks.read(place)
    said = [found.line(), found.task.text[:PAGE_CHARACTERS]]
    if found.standing.what:
        said.append(found.standing.what[:PAGE_CHARACTERS])
    rest = len(found.task.text) - PAGE_CHARACTERS
    return [*said, f"[{rest} more: read {place} of {TASKS}]"] if rest > 0 else said


async def _claim(tasks: AsyncTasks, place: str) -> list[str]:
    claim = await tasks.claim(place, wait_s=_WAIT_S)
    if claim.verdict is Verdict.LOST:
        return ["it is not to be had: task_list says who has it"]
    if not claim.is_firm:
        return [f"not firm so far, do not do it yet: ask with task_keep, claim={claim}"]
    return [f"firm: it is yours alone; claim={claim}"]
