"""Undo: takes back what one writer did to one scroll, and does it again."""

from collections.abc import Callable
from typing import TypeAlias

from phextsync.crdt import Scroll, merged_update
from phextsync.errors import PhextsyncError, TextError
from phextsync.index import Coordinate
from phextsync.replica.changes import current_author, current_session, writing_as
from phextsync.replica.documents import Documents
from phextsync.replica.editor import Editor
from phextsync.replica.tracked import Tracked
from phextsync.texts import check_size

_Travel: TypeAlias = Callable[[Scroll, str], bytes | None]


class History:
    """What one writer did to one scroll, made by `Replica.history`: takes back its steps and does
    them again, and leaves alone what others wrote.

    A step is one change, or a batch; of more than `steps.STEPS_MAX` the oldest are forgotten. It
    keeps the scroll's document open until it is closed, and is lost with it: after a restart, when
    the document failed, or when the node has to take another client id. An edit that is refused
    loses none of them, but for one of more than a mebibyte that makes the state too large.
    """

    def __init__(
        self,
        replica: object,
        editor: Editor,
        documents: Documents,
        tracked: Tracked,
        coordinate: Coordinate,
        writer: str,
    ) -> None:
        self.coordinate = coordinate
        self.writer = writer
        self._session = current_session()
        with writing_as(writer):
            self._author = current_author()
        self._replica = replica  # lives as long as somebody holds it
        self._editor = editor
        self._documents = documents
        self._tracked = tracked
        self._is_open = True
        opened = documents.get(coordinate)
        if opened is not None and opened.label:
            documents.write_as(coordinate, opened, "")  # what it does again is of all writers
        tracked.add(coordinate, self._author)
        try:
            self._scroll().steps.track(self._author)
        except PhextsyncError:
            self.close()
            raise

    def __enter__(self) -> "History":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def can_undo(self) -> bool:
        """Whether there is a step to take back."""
        return self._scroll().steps.can_undo(self._author)

    @property
    def can_redo(self) -> bool:
        """Whether a step was taken back and the writer has done nothing since."""
        return self._scroll().steps.can_redo(self._author)

    def undo(self) -> bool:
        """Take back the last step; say whether there was one. TextError when what comes back would
        make the text too large: the step can still be taken back when there is room."""
        return self.can_undo and self._travel(Scroll.undo, Scroll.redo)

    def redo(self) -> bool:
        """Do the step again that was taken back last; say whether there was one. TextError as of
        `undo`."""
        return self.can_redo and self._travel(Scroll.redo, Scroll.undo)

    def close(self) -> None:
        """Forget the steps, and let the document be closed."""
        if not self._is_open:
            return
        self._is_open = False
        if self._tracked.remove(self.coordinate, self._author):
            opened = self._documents.get(self.coordinate)
            if opened is not None:  # else its document failed, and the steps went with it
                opened.scroll.steps.untrack(self._author)

    def _travel(self, step: _Travel, back: _Travel) -> bool:
        refused: list[TextError] = []

        def travel(scroll: Scroll) -> bytes | None:
            before = scroll.size
            update = step(scroll, self._author)
            try:
                check_size(self.coordinate, before, scroll.size)
            except TextError as error:  # how much comes back is not known before
                refused.append(error)
                return merged_update((update, back(scroll, self._author)))
            return update

        with writing_as(self.writer, self._session):
            self._editor.edit(self.coordinate, travel, "")
        if refused:
            raise refused[0]
        return True

    def _scroll(self) -> Scroll:
        if not self._is_open:
            raise PhextsyncError(f"{self.coordinate}: expected an open history, found a closed one")
        self._editor.check_held(self.coordinate)
        return self._documents.open_or_create(self.coordinate).scroll
