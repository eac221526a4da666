"""Listener: whom the core tells while it works."""

from collections.abc import Callable
from dataclasses import dataclass

from phextsync.sync.messages import Ask


def _ignore(_: float) -> None:
    """Nobody listens."""


def _ignore_all() -> None:
    """Nobody listens."""


def _refuse(_link: int, _asked: Ask) -> bool:
    """Nobody listens."""
    return False


@dataclass(frozen=True, slots=True)
class Listener:
    """`on_ready(link)` is called when a link may have a frame to send; `on_due(time)` when `tick`
    is to be called by then, earlier than it said; `on_progress()` when something was acknowledged
    or a comparison ended. They are called in the middle of work: they note it and return.

    `on_edit(link)` takes the place of `on_ready` when the frame has an edit of this node, not one
    of a batch: there `next_frame` may be called at once.

    `on_asked(link, asked)` is called when a peer that may read all of a range, which is held here,
    asks for what is to be worked out of it; it returns whether `Synchronizer.tell` will be."""

    on_ready: Callable[[int], None] = _ignore
    on_due: Callable[[float], None] = _ignore
    on_progress: Callable[[], None] = _ignore_all
    on_edit: Callable[[int], None] = _ignore
    on_asked: Callable[[int, Ask], bool] = _refuse
