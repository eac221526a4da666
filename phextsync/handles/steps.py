"""Steps of one writer, taken back and done again by plain calls."""

import weakref
from typing import TypeVar

from phextsync.control import operations
from phextsync.control.operations import Operation
from phextsync.handles.engine import Engine
from phextsync.handles.requests import closed_history

T = TypeVar("T")


class Steps:
    """What one writer of a handle did to one scroll, made by `Phext.history`: takes back its steps
    and does them again, as `History` does where the node runs.

    They are held where the node runs. When another process takes the node over they are forgotten,
    and what is done from then on can be undone.
    """

    def __init__(
        self, handle: object, engine: Engine, phext: str, coordinate: str, writer: str
    ) -> None:
        self.writer = writer
        self._handle = handle
        self._engine = engine
        self._scroll = phext, coordinate
        self._tracked = engine.begin(operations.TRACK, phext, coordinate, writer)
        engine.wait(self._tracked)
        self._finish = weakref.finalize(self, engine.cancel, self._tracked)

    def __enter__(self) -> "Steps":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def can_undo(self) -> bool:
        """Whether there is a step to take back."""
        return self._ask(operations.STEPS)[0]

    @property
    def can_redo(self) -> bool:
        """Whether a step was taken back and the writer has done nothing since."""
        return self._ask(operations.STEPS)[1]

    def undo(self) -> bool:
        """Take back the last step; say whether there was one."""
        return self._ask(operations.UNDO)

    def redo(self) -> bool:
        """Do the step again that was taken back last; say whether there was one."""
        return self._ask(operations.REDO)

    def close(self) -> None:
        """Forget the steps."""
        self._finish()

    def _ask(self, operation: Operation[T]) -> T:
        if not self._finish.alive:
            raise closed_history(self._scroll[1])
        return self._engine.ask(operation, *self._scroll, writer=self.writer)
