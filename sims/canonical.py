"""Canonical: one digest of all that an object and what it refers to hold.

Two objects with one digest do the same from then on, whatever they are given, and so a search may
take one for the other. Why that is so:

* It walks over everything that can be reached, so that nothing is forgotten; what it does not know
  how to read is an error, not nothing.
* Orders count: of lists, of dictionaries. Who shares what can change with whom counts: an object
  that was met before is its number. Sets have no order that anyone may use.
* Functions, bound methods and partials hold nothing that changes but by the objects that they
  belong to, and these are attributes of others.
* A document is its version and its text. Versions say which characters and which deletions are in
  it, by client ids that stand for one content each; where one stood for two, the texts tell. There
  is nothing else in it, since what builds on missing characters is never applied.
* An index is its entries: its sums and its sketch follow from them.

Left out is what is counted for people to read, what never changes in a search, and what serves
to save memory, which is never short there.
"""

import types
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from functools import cache, partial
from hashlib import blake2b
from random import Random
from typing import Any, Final
from weakref import WeakValueDictionary

from phextsync.crdt import Fingerprinter, Scroll
from phextsync.index import Coordinate, CoordinateIndex, CoordinateRange, OpenText, OpenTexts
from phextsync.replica.budget import Budget
from phextsync.store.durations import Durations
from phextsync.sync.comparisons import Settings
from phextsync.sync.limits import Limits
from phextsync.sync.listener import Listener
from phextsync.sync.reconcile import Parameters
from phextsync.sync.timing import Timing
from phextsync.sync.traffic import Traffic
from phextsync.trust.permissions import Permissions

_PLAIN: Final = frozenset(
    {type(None), bool, int, float, str, bytes, Coordinate, CoordinateRange}
)  # told by their `repr`
_SILENT: Final = (
    # What is called.
    *(types.FunctionType, types.MethodType, types.BuiltinFunctionType, types.MethodWrapperType),
    *(partial, type),
    # What never changes. A fingerprinter follows from a name.
    *(Fingerprinter, Limits, Listener, Parameters, Permissions, Settings, Timing),
    # Counters of a link, and how long a disk took; which scrolls are closed when memory is short.
    *(Traffic, Durations, Budget),
    # What is drawn, which is a rule of the search and counted there.
    Random,
)
_UNUSED: Final = frozenset(
    {"cost", "used", "moves"}  # by which memory is freed; by which a thread sees that another works
)


def digest(root: object) -> bytes:
    """Return 16 bytes that tell what an object holds. TypeError when it holds what is unknown."""
    walk = _Walk()
    walk.take(root)
    return blake2b(b"\0".join(walk.found), digest_size=16).digest()


def _items_of_index(index: CoordinateIndex) -> Iterable[object]:
    return (*index.entries(), *((place, index.get(place)) for place in index))


_ITEMS: Final[Mapping[type, Callable[[Any], Iterable[object]]]] = {
    Scroll: lambda it: (it.client_id, it.version(), it.text),
    CoordinateIndex: _items_of_index,
    WeakValueDictionary: sorted,
    set: lambda it: sorted(it, key=digest),
    frozenset: lambda it: sorted(it, key=digest),
    **dict.fromkeys((dict, OrderedDict, Counter), lambda it: it.items()),
    **dict.fromkeys((list, deque), iter),
}


class _Walk:
    """What was found on a walk, in its order. `_kept` holds on to what was met: the address of what
    is gone may be that of something new."""

    def __init__(self) -> None:
        self.found: list[bytes] = []
        self._numbers: dict[int, int] = {}
        self._kept: list[object] = []

    def take(self, it: object) -> None:
        kind = type(it)
        if kind in _PLAIN:
            self.found.append(f"{kind.__name__}{it!r}".encode())
        elif kind is tuple:  # whether it is shared tells nothing
            self._take_all(it)  # type: ignore[arg-type]
        elif isinstance(it, _SILENT):
            self.found.append(b"_")
        elif isinstance(it, Enum):
            self.found.append(str(it).encode())
        else:
            self._take_once(it, kind)

    def _take_once(self, it: object, kind: type) -> None:
        number = self._numbers.get(id(it))
        if number is not None:
            self.found.append(b"@%d" % number)
            return
        self._numbers[id(it)] = len(self._numbers)
        self._kept.append(it)
        self.found.append(kind.__name__.encode())
        if kind in _ITEMS:
            self._take_all(_ITEMS[kind](it))
            return
        if isinstance(it, tuple):  # with names
            self._take_all(it)
            return
        for name in _slots(kind):
            self.take(getattr(it, name, None))
        for name, value in sorted(getattr(it, "__dict__", {}).items()):
            if name not in _UNUSED:
                self.found.append(name.encode())
                self.take(value)

    def _take_all(self, items: Iterable[object]) -> None:
        for item in items:
            self.take(item)
        self.found.append(b".")


@cache
def _slots(kind: type) -> tuple[str, ...]:
    """Return the attributes that objects of a class have besides their `__dict__`. TypeError for a
    class of whose objects it cannot be told what they hold."""
    if not kind.__module__.startswith(("phextsync.", "sims.")):
        raise TypeError(f"expected a class whose objects can be read, found {kind}")
    names: list[str] = []
    for each in kind.__mro__:
        is_closed = each.__module__ == "builtins" or each.__module__.startswith(_CLOSED)
        if is_closed and each not in _OPEN:
            raise TypeError(f"expected classes of which all can be read, found {each} in {kind}")
        own = each.__dict__.get("__slots__", ())
        names += (own,) if isinstance(own, str) else own
        names += [n for n, v in each.__dict__.items() if type(v) in _COMPILED and n[0] != "_"]
    return tuple(sorted({*names} - _UNUSED))


_CLOSED: Final = "phextsync.index"  # compiled: attributes need not be seen
_OPEN: Final = (object, OpenText, OpenTexts)
# Attributes of compiled classes.
_COMPILED: Final = (types.GetSetDescriptorType, types.MemberDescriptorType)
