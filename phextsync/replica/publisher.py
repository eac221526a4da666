"""Publisher: who is told which texts of a phext changed, and when that is one change."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

from phextsync.index import EVERYTHING, Coordinate, CoordinateRange
from phextsync.replica.changes import (
    COORDINATES_MAX,
    TEXTS_MAX,
    Change,
    TextChange,
    current_writer,
)
from phextsync.replica.contents import Contents
from phextsync.replica.listener import Listeners
from phextsync.replica.views import Range, as_range


@dataclass(frozen=True, slots=True)
class _Subscriber:
    range: CoordinateRange
    callback: Callable[[Change], None]
    wants_texts: bool


class Publisher:
    """The subscribers to one phext, and the batch of changes that is under way."""

    def __init__(
        self,
        phext: str,
        contents: Contents,
        on_failure: Callable[[str, Exception], None],
        listeners: Listeners,
    ) -> None:
        self._phext = phext
        self._contents = contents
        self._on_failure = on_failure
        self._listeners = listeners
        self._subscribers: dict[object, _Subscriber] = {}
        self._wants_texts = False
        self._before: dict[Coordinate, str] = {}  # texts before changes not yet published
        self._before_size = 0
        self._collected: dict[Coordinate, str] | None = None  # changed in this batch, by whom
        self._is_split = False
        self._step = 0

    def __len__(self) -> int:
        """How many subscribers there are."""
        return len(self._subscribers)

    def subscribe(
        self, callback: Callable[[Change], None], range_: Range = EVERYTHING, *, texts: bool = False
    ) -> object:
        """Call `callback` after each change in `range_`; return what `unsubscribe` takes."""
        subscription = object()
        self._subscribers[subscription] = _Subscriber(as_range(range_), callback, texts)
        self._wants_texts |= texts
        return subscription

    def unsubscribe(self, subscription: object) -> None:
        """End a subscription, if it has not ended."""
        self._subscribers.pop(subscription, None)
        self._wants_texts = any(each.wants_texts for each in self._subscribers.values())

    def publish(
        self, coordinates: tuple[Coordinate, ...], origin: bytes | None, label: str = ""
    ) -> None:
        """Tell the subscribers that the texts at `coordinates` changed."""
        before = self._before
        if self._collected is None:
            self._before, self._before_size = {}, 0
        for subscriber in tuple(self._subscribers.values()):
            inside = coordinates
            if subscriber.range is not EVERYTHING:
                inside = tuple(c for c in coordinates if c in subscriber.range)
            if inside:
                texts: tuple[TextChange, ...] = ()
                if subscriber.wants_texts:
                    texts = tuple(TextChange(before.get(c), self._contents.read(c)) for c in inside)
                try:
                    subscriber.callback(Change(self._phext, inside, origin, label, texts))
                except Exception as error:
                    self._on_failure(f"a subscriber of {self._phext!r}", error)

    def publish_missed(self, range_: CoordinateRange) -> None:
        """Tell the subscribers that anything in a range may be another, or gone from here."""
        for subscriber in tuple(self._subscribers.values()):
            missed = subscriber.range.intersect(range_)
            if missed is not None:
                try:
                    subscriber.callback(Change(self._phext, (), missed=missed))
                except Exception as error:
                    self._on_failure(f"a subscriber of {self._phext!r}", error)

    def publish_own(self, coordinate: Coordinate) -> None:
        """Tell the subscribers, now or at the end of the batch, of a change made here."""
        if self._collected is not None:
            self._collected[coordinate] = current_writer()
        elif self._subscribers:
            writer = current_writer()
            self._listeners.call(partial(self.publish, (coordinate,), None, writer))

    def keep_before(self, coordinate: Coordinate) -> None:
        """Keep the text as it is before a change, if a subscriber wants it."""
        if not self._wants_texts or coordinate in self._before:
            return
        if any(s.wants_texts and coordinate in s.range for s in self._subscribers.values()):
            text = self._contents.read(coordinate)
            size = self._before_size + len(text)
            if len(self._before) < COORDINATES_MAX and size <= TEXTS_MAX:
                self._before[coordinate] = text
                self._before_size = size

    def forget_before(self, coordinate: Coordinate) -> None:
        """What came is nothing to publish: the next change begins with the text as it is now."""
        self._before_size -= len(self._before.pop(coordinate, ""))

    # -- batches ---------------------------------------------------------------------------

    @property
    def is_involved(self) -> bool:
        """Whether a change made here is more than something to tell: it belongs to a batch, or a
        subscriber wants to know the text before."""
        return self._wants_texts or self._collected is not None

    @property
    def is_in_batch(self) -> bool:
        """Whether a batch of changes is under way."""
        return self._collected is not None

    @contextmanager
    def batch(self) -> Iterator[None]:
        """Make the changes inside one `Change` and one step to undo. RuntimeError at the end when
        a part of it was committed before."""
        if self._collected is not None:
            yield
            return
        self._collected = {}
        self._step += 1
        try:
            yield
        finally:
            collected, self._collected = self._collected, None
            for writer in dict.fromkeys(collected.values()):
                self.publish(tuple(c for c in collected if collected[c] == writer), None, writer)
            is_split, self._is_split = self._is_split, False
        if is_split:
            raise RuntimeError("a batch was held across an await: a part of it was committed first")

    def split(self) -> None:
        """What has changed so far is about to be committed."""
        self._is_split |= self._collected is not None

    def step(self) -> int:
        """Return the number of a change that is about to be made: what is undone together has one
        number."""
        self._step += self._collected is None
        return self._step
