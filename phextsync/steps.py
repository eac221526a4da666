"""Steps: what writers did to one text, remembered so that it can be undone and done again."""

from typing import Final

from pycrdt import StackItem, Text, UndoManager

STEPS_MAX: Final = 1000
"""Steps of one writer that can be undone or done again. When there are more, the oldest quarter
is forgotten as another step begins."""

_STEPS_LEFT: Final = STEPS_MAX * 3 // 4


class Steps:
    """The steps of each writer that is tracked. `origin` marks the transactions of the writer that
    writes now; None where nobody is tracked."""

    def __init__(self, text: Text) -> None:
        self._text = text
        self._managers: dict[str, UndoManager] = {}
        # At least as many steps as each of them holds, and the number of the last one begun.
        self._counts: dict[str, tuple[int, int]] = {}
        self._writer = ""
        self._step = [0]  # a list that undo managers hold: Python cannot see cycles through Rust

    @property
    def origin(self) -> str | None:
        return self._writer if self._managers else None

    def begin(self, writer: str, step: int) -> None:
        """What follows is written by `writer`, and undone together if `step` is the same."""
        self._writer = writer
        if writer in self._counts:
            count, last = self._counts[writer]
            if step != last:
                count = self._forget_oldest(writer) if count > STEPS_MAX else count
                self._counts[writer] = count + 1, step
        self._step[0] = step

    def track(self, writer: str) -> None:
        """Remember from now on what `writer` does, so that it can be undone."""
        if writer not in self._managers:
            self._managers[writer] = self._manager([], [])
            self._managers[writer].include_origin(writer)
            self._counts[writer] = 0, 0

    def untrack(self, writer: str) -> None:
        """Forget what `writer` did."""
        del self._counts[writer]
        self._managers.pop(writer).clear()

    def can_undo(self, writer: str) -> bool:
        """Whether there is a step of `writer` to undo."""
        return self._managers[writer].can_undo()

    def can_redo(self, writer: str) -> bool:
        """Whether a step of `writer` was undone, and nothing written by it since."""
        return self._managers[writer].can_redo()

    def undo(self, writer: str) -> None:
        """Take back the last step of `writer`."""
        self._move_one(writer)
        self._managers[writer].undo()

    def redo(self, writer: str) -> None:
        """Do again what `undo` took back last."""
        self._move_one(writer)
        self._managers[writer].redo()

    def _move_one(self, writer: str) -> None:
        """A step moves from those that can be undone to the others, or back; none is added."""
        count, last = self._counts[writer]
        self._counts[writer] = count - 1, last

    def _manager(self, undo: list[StackItem[None]], redo: list[StackItem[None]]) -> UndoManager:
        step = self._step
        return UndoManager(
            scopes=[self._text],
            capture_timeout_millis=1,
            timestamp=lambda: step[0],
            undo_stack=undo,
            redo_stack=redo,
        )

    def _forget_oldest(self, writer: str) -> int:
        """Leave room for more steps of `writer`, and return how many are left: of those that can
        be undone the oldest go."""
        before = self._managers[writer]
        undo, redo = before.undo_stack, before.redo_stack
        excess = max(0, min(len(undo), len(undo) + len(redo) - _STEPS_LEFT))
        if excess:
            manager = self._manager(undo[excess:], redo)
            manager.include_origin(writer)
            self._managers[writer] = manager
            # What they deleted is kept for them until somebody clears them.
            self._manager(undo[:excess], []).clear()
        return len(undo) - excess + len(redo)
