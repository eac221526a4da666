"""What must be so in every world of a model, told from what can be seen of its nodes alone."""

from collections.abc import Iterator, Sequence

from phextsync.index import covers
from sims.model_node import Seen, Text


def check(
    before: Sequence[Seen], now: Sequence[Seen], deleted: frozenset[str], *, is_doubled: bool
) -> str | None:
    """Return what is wrong with nodes that were seen `before` and are seen `now`, None when nothing
    is. `deleted` are the lines that some user has deleted; `is_doubled`: a frame came twice, which
    links never do. It may end a link, and be an acknowledgement, but must not harm a text."""
    for number, (earlier, seen) in enumerate(zip(before, now, strict=True)):
        found = next(_wrong_alone(earlier, seen, deleted), None)
        found = found or next(_of_two_texts(seen, now), None)
        if found is None and not is_doubled:
            found = next(_wrong_with_others(seen, now, deleted), None)
        if found is not None:
            return f"{found} (node {number})"
    return None


def _wrong_alone(earlier: Seen, seen: Seen, deleted: frozenset[str]) -> Iterator[str]:
    for where, text in (("shown", seen.shown), ("on the disk", seen.disk)):
        if len({*text.lines}) < len(text.lines):
            yield f"doubled: {text.lines} {where}"
    if not _has_all(seen.disk, earlier.disk, deleted):
        yield f"lost: {earlier.disk.lines} was on the disk, which has {seen.disk.lines}"
    if not _has_all(seen.shown, seen.disk, deleted):
        yield f"lost: {seen.disk.lines} is on the disk, and {seen.shown.lines} is shown"
    is_durable = not (seen.may_take or seen.is_writing)
    if is_durable and not _has_all(seen.disk, seen.shown, deleted):
        yield f"not durable: {seen.shown.lines} is shown, and the disk has {seen.disk.lines}"


def _of_two_texts(seen: Seen, now: Sequence[Seen]) -> Iterator[str]:
    for other in now:
        if other.shown.version == seen.shown.version and other.shown.lines != seen.shown.lines:
            yield f"two texts of one version: {seen.shown.lines} and {other.shown.lines}"


def _wrong_with_others(seen: Seen, now: Sequence[Seen], deleted: frozenset[str]) -> Iterator[str]:
    for peer in seen.complete:
        if not _has_all(now[peer].disk, seen.shown, deleted):
            yield (
                f"false claim: {peer} is taken for one that has {seen.shown.lines} on its disk, "
                f"which has {now[peer].disk.lines}"
            )
    for _, reason in seen.ended:
        yield f"a link was ended: {reason}"


def _has_all(text: Text, other: Text, deleted: frozenset[str]) -> bool:
    """Whether a text has all that another one is made of, deletions too: by the versions, and once
    more by the lines, since what made the texts made the versions."""
    missing = {*other.lines} - {*text.lines} - deleted
    return not missing and covers(text.version, other.version)
