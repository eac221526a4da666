"""Kept ends: which ends of lines stay when what one writer wrote is taken out.

Without, what others wrote into the lines of that writer would become one line with the next: words
that nobody wrote. The end of a line that the writer had parted goes, and the line is whole again.
"""

from collections.abc import Iterable, Sequence

from phextsync.crdt import Scroll
from phextsync.inserts import Id, IdSet, Inserted


def kept_ends(now: Scroll, removed: IdSet, inserted: Sequence[Inserted]) -> IdSet:
    """Return which of the ids that are removed are ends of lines that part what others wrote, and
    put together nowhere. Looks at lines only where others wrote beside what is removed."""
    kept = IdSet()
    if not any(_is_beside(each, removed) for each in inserted):
        return kept
    before, last_end = IdSet(), IdSet()  # what stays of this line, and the last end after it
    for (_, runs), end in zip(now.lines(), now.line_ends(), strict=True):
        ends = _ids(end)
        rest = _without(_without(_ids(runs), removed), ends)
        if rest:
            if before and last_end and not _are_next(before, rest, inserted):
                _add_all(kept, last_end)
                before = IdSet()
            _add_all(before, rest)
            last_end = IdSet()
        if _without(ends, removed):
            before, last_end = IdSet(), IdSet()
        elif before and ends and not last_end:
            last_end = ends
    return kept


def _is_beside(each: Inserted, removed: IdSet) -> bool:
    """Whether somebody else put something beside what is removed, that may still stand."""
    sides = (each.left, each.right)
    is_beside = any(side is not None and side in removed for side in sides)
    return is_beside and (each.client, each.clock) not in removed


def _are_next(before: IdSet, after: IdSet, inserted: Iterable[Inserted]) -> bool:
    """Whether something of two parts was written as one, or right beside the other."""
    if any((client, start - 1) in before for client, start, _ in after):
        return True
    return any(
        (_is_in(each.left, before) and any(_of(each, after)))
        or (_is_in(each.right, after) and any(_of(each, before)))
        for each in inserted
    )


def _is_in(id_: Id | None, ids: IdSet) -> bool:
    return id_ is not None and id_ in ids


def _of(each: Inserted, ids: IdSet) -> Iterable[tuple[int, int]]:
    return ids.within(each.client, each.clock, each.clock + each.units)


def _ids(runs: Iterable[tuple[int, int, int]]) -> IdSet:
    ids = IdSet()
    for client, clock, units in runs:
        ids.add(client, clock, clock + units)
    return ids


def _without(ids: IdSet, others: IdSet) -> IdSet:
    rest = IdSet()
    for client, start, stop in ids:
        for part in others.without(client, start, stop):
            rest.add(client, *part)
    return rest


def _add_all(ids: IdSet, others: IdSet) -> None:
    for range_ in others:
        ids.add(*range_)
