"""What a language model may ask of writers whose work waits."""

from collections.abc import Sequence
from typing import Final

from phextsync.agents.plans import carry_out_awaited
from phextsync.agents.quarantine import AsyncQuarantine, accept_at, writer_named
from phextsync.aio import AsyncHandle
from phextsync.errors import PhextsyncError
from phextsync.gateways.tools import PAGE_ROWS, Argument
from phextsync.phext_names import is_reserved
from phextsync.replica.taking_back import TakenBack

QUARANTINE_TOOLS: Final = frozenset({"quarantine", "quarantine_list", "quarantine_accept"})


async def use_quarantine(node: AsyncHandle, name: str, arguments: Sequence[Argument]) -> list[str]:
    """Carry out one of `QUARANTINE_TOOLS`. PhextsyncError says what was wrong."""
    phext = str(arguments[-1])
    if is_reserved(phext):
        raise PhextsyncError(f"expected the name of a phext, found {phext!r:.60}: it is hidden")
    held = AsyncQuarantine(node, phext=phext)
    match [name, *arguments]:
        case ["quarantine", str(who), str(range_), _]:
            by = await carry_out_awaited(node, writer_named(who))
            if not by.label:  # else a deceived agent could hold people, who have to end it
                raise PhextsyncError(
                    f"expected NODE/WRITER, found {who!r:.80}: a person may hold more"
                )
            await held.begin(by, range_)
            return [f"what {who} puts into {range_} waits now"]
        case ["quarantine_list", _]:
            rows: list[TakenBack] = []
            for each in [*await held.writers(), *await held.ended()]:
                rows += await held.waiting(each.writer, each.range)
            return _told(rows, "nothing waits")
        case ["quarantine_accept", str(range_), _]:
            rows = await carry_out_awaited(node, accept_at(phext, range_))
            return _told(rows, "nothing waits there")
    raise PhextsyncError(f"expected a tool for quarantine, found {name!r:.40}")


def _told(rows: list[TakenBack], none: str) -> list[str]:
    lines = [f"{row.coordinate}  +{row.restored}  {row.restored_line}" for row in rows]
    notes = [f"[{len(lines) - PAGE_ROWS} more]"] if len(lines) > PAGE_ROWS else []
    return ["\n".join(lines[:PAGE_ROWS]) or none, *notes]
