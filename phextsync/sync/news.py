"""News: which phexts have changed, by which links, and whether that is durable."""

from collections.abc import Mapping

Sources = dict[int | None, None]


class News:
    """What came besides live updates. The other links are compared when it is durable."""

    def __init__(self) -> None:
        self._fresh: dict[str, Sources] = {}
        self._committing: dict[str, Sources] = {}

    def note(self, phext: str, source: int | None) -> None:
        """The phext changed; `source` is the link that brought it, None for this node."""
        self._fresh.setdefault(phext, {})[source] = None

    def committing(self) -> None:
        """A batch was taken. What was in one that was refused is in it too."""
        for phext, sources in self._fresh.items():
            self._committing.setdefault(phext, {}).update(sources)
        self._fresh = {}

    def committed(self) -> Mapping[str, Sources]:
        """The batch is durable. Return the sources of each phext of which all is; one that changed
        since waits for the next batch."""
        durable: dict[str, Sources] = {}
        for phext, sources in self._committing.items():
            if phext in self._fresh:
                self._fresh[phext].update(sources)
            else:
                durable[phext] = sources
        self._committing = {}
        return durable
