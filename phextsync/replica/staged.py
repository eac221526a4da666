"""Staged: values by key on their way to the store."""

from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Staged(Generic[K, V]):
    """The values of the next batch, and of the one that was taken last and has not ended yet."""

    def __init__(self) -> None:
        self._next: dict[K, V] = {}
        self._taken: dict[K, V] = {}

    def __bool__(self) -> bool:
        """Whether the next batch has any."""
        return bool(self._next)

    @property
    def is_taken(self) -> bool:
        """Whether the batch taken last has any."""
        return bool(self._taken)

    def set(self, key: K, value: V) -> None:
        """Let the next batch have a value."""
        self._next[key] = value

    def drop(self, key: K) -> None:
        """Let no later batch have a value."""
        self._next.pop(key, None)
        self._taken.pop(key, None)

    def latest(self) -> dict[K, V]:
        """Return all values that are not yet durable."""
        return {**self._taken, **self._next}

    def get(self, key: K) -> V | None:
        """Return the latest value, None when none is under way."""
        return self._next[key] if key in self._next else self._taken.get(key)

    def take(self) -> dict[K, V]:
        """Return the values of a batch; `written` or `refused` must follow."""
        self._taken, self._next = self._next, {}
        return self._taken

    def written(self) -> None:
        """The values taken last are durable."""
        self._taken = {}

    def refused(self) -> None:
        """The values taken last come with the next batch, but for those set since."""
        self._next, self._taken = self.latest(), {}
