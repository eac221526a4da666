"""Views: a range of a phext as a mapping of its own.

Anything that holds scrolls (`Whole`) can be seen through one; nothing is copied, and a view follows
what it shows.
"""

from collections.abc import ItemsView, Iterable, Iterator, Mapping, MutableMapping, ValuesView
from typing import TYPE_CHECKING, Protocol, TypeAlias

from phextsync.errors import CoordinateError
from phextsync.index import Coordinate, CoordinateRange

Key: TypeAlias = Coordinate | str
"""A coordinate, or its text."""
Range: TypeAlias = CoordinateRange | str
"""A range, or its text: a coordinate, a prefix such as `2.*`, `LOWER..UPPER`, or `*`."""
Scrolls: TypeAlias = (
    Mapping[str, str] | Mapping[Coordinate, str] | Mapping[Key, str] | Iterable[tuple[Key, str]]
)
"""Coordinates with the text of each."""
if TYPE_CHECKING:
    Bounds: TypeAlias = slice[Key | None, Key | None, None]
else:
    Bounds = slice  # which takes no parameters before Python 3.14
"""`lower:upper`; either is a coordinate, or a prefix that stands for its first coordinate."""


class Whole(Protocol):
    """What a view is a part of."""

    def __getitem__(self, key: Key, /) -> str: ...
    def __setitem__(self, key: Key, text: str, /) -> None: ...
    def __delitem__(self, key: Key, /) -> None: ...
    def __contains__(self, key: object, /) -> bool: ...
    def coordinates(self, range_: CoordinateRange, /) -> Iterator[Coordinate]: ...
    def scrolls(self, range_: CoordinateRange, /) -> Iterator[tuple[Coordinate, str]]: ...
    def clear(self, range_: CoordinateRange, /) -> None: ...


class RangeView(MutableMapping[Key, str]):
    """The scrolls of `whole` in `range`, in order. Others are not in it and cannot be set."""

    def __init__(self, whole: Whole, range_: CoordinateRange) -> None:
        self.range = range_
        self._whole = whole

    def __getitem__(self, key: Key) -> str:
        if as_coordinate(key) not in self.range:
            raise KeyError(key)
        return self._whole[key]

    def __setitem__(self, key: Key, text: str) -> None:
        if as_coordinate(key) not in self.range:
            raise CoordinateError(f"expected a coordinate in {self.range}, found {key}")
        self._whole[key] = text

    def __delitem__(self, key: Key) -> None:
        if as_coordinate(key) not in self.range:
            raise KeyError(key)
        del self._whole[key]

    def __contains__(self, key: object) -> bool:
        return (
            isinstance(key, Coordinate | str)
            and as_coordinate(key) in self.range
            and key in self._whole
        )

    def __len__(self) -> int:
        return sum(1 for _ in self._whole.coordinates(self.range))

    def __iter__(self) -> Iterator[Coordinate]:
        return self._whole.coordinates(self.range)

    def __repr__(self) -> str:
        return f"<RangeView {self.range}: {len(self)} scrolls>"

    def items(self) -> ItemsView[Key, str]:
        """Return the scrolls of the range; reading them opens no documents."""
        return _Items(self)

    def values(self) -> ValuesView[str]:
        """Return the texts of the range; reading them opens no documents."""
        return _Values(self)

    def scrolls(self) -> Iterator[tuple[Coordinate, str]]:
        """Iterate in order over coordinates and texts, as of the call."""
        return self._whole.scrolls(self.range)

    def clear(self) -> None:
        """Delete every scroll of the range, as one batch."""
        self._whole.clear(self.range)


class _Items(ItemsView[Key, str]):
    def __init__(self, view: RangeView) -> None:
        super().__init__(view)
        self._view = view

    def __iter__(self) -> Iterator[tuple[Coordinate, str]]:
        return self._view.scrolls()


class _Values(ValuesView[str]):
    def __init__(self, view: RangeView) -> None:
        super().__init__(view)
        self._view = view

    def __iter__(self) -> Iterator[str]:
        return (text for _, text in self._view.scrolls())


def as_coordinate(key: Key) -> Coordinate:
    """Return the coordinate that `key` is or names. CoordinateError when it names none, TypeError
    when it is neither a coordinate nor a text."""
    if isinstance(key, str):
        return Coordinate.parse(key)
    if isinstance(key, Coordinate):
        return key
    raise TypeError(f"expected a coordinate or its text, found {type(key).__name__}")


def as_range(range_: Range | Bounds) -> CoordinateRange:
    """Return the range that `range_` is, names or bounds. CoordinateError when it is none,
    TypeError when it is neither a range nor a text."""
    if isinstance(range_, CoordinateRange):
        return range_
    if isinstance(range_, str):
        return CoordinateRange.parse(range_)
    if not isinstance(range_, slice):
        raise TypeError(f"expected a range or its text, found {type(range_).__name__}")
    if range_.step is not None:
        raise CoordinateError(f"expected bounds without a step, found {range_.step!r:.40}")
    return CoordinateRange(_bound(range_.start), _bound(range_.stop))


def _bound(bound: Key | None) -> Coordinate | None:
    return CoordinateRange.parse(bound).lower if isinstance(bound, str) else bound
