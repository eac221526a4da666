"""What generators of faults take: each parameter, its default, and what it may be."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple, get_args

from phextsync.testing.faults import Rubbish
from sims.schedules import GENERATORS

REQUIRED: Final = object()
"""The default of a parameter that has none."""
_TIMES_MAX: Final = 100_000


class Parameter(NamedTuple):
    """What a parameter of a generator means, and what it may be, in a table of parameters and for
    that many nodes."""

    about: str
    expected: str
    allows: Callable[[object, Mapping[str, object], int], bool]


def parameters(generator: str) -> dict[str, Any]:
    """Return the parameters of a generator with their defaults, `REQUIRED` where there is none."""
    signature = inspect.signature(GENERATORS[generator])
    return {
        name: REQUIRED if parameter.default is parameter.empty else parameter.default
        for name, parameter in signature.parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY
    }


def check(generators: Mapping[str, object], nodes: int) -> None:
    """ValueError unless these are generators with parameters that they take."""
    for generator, given in generators.items():
        if generator not in GENERATORS:
            raise ValueError(f"expected faults among {', '.join(GENERATORS)}, found {generator}")
        if not isinstance(given, Mapping):
            raise ValueError(f"expected a table for the faults {generator}, found {given!r}")
        known = parameters(generator)
        for name in known:
            if known[name] is REQUIRED and name not in given:
                raise ValueError(f"expected {name} for the faults {generator}, found none")
        for name, value in given.items():
            if name not in known:
                expected = ", ".join(known) or "no parameters"
                raise ValueError(f"expected {expected} for the faults {generator}, found {name}")
            rule = PARAMETERS[generator, name]
            if not rule.allows(value, given, nodes):
                which = f"{name} of the faults {generator}"
                raise ValueError(f"expected {rule.expected} for {which}, found {value!r}")


def is_whole(value: object, lower: int, upper: int) -> bool:
    """Whether a value is a whole number from `lower` to `upper`."""
    return isinstance(value, int) and not isinstance(value, bool) and lower <= value <= upper


def is_number(value: object, lower: float, upper: float) -> bool:
    """Whether a value is a number from `lower` to `upper`."""
    return (
        isinstance(value, int | float) and not isinstance(value, bool) and lower <= value <= upper
    )


def _is_bool(value: object, _table: Mapping[str, object], _nodes: int) -> bool:
    return isinstance(value, bool)


def _is_times(value: object, _table: Mapping[str, object], _nodes: int) -> bool:
    return is_whole(value, 0, _TIMES_MAX)


def _is_fraction(value: object, _table: Mapping[str, object], _nodes: int) -> bool:
    return is_number(value, 0, 0.9)  # of 1 nothing would ever arrive


def _is_regions(value: object, _table: Mapping[str, object], _nodes: int) -> bool:
    return is_whole(value, 2, 16)


def _is_latency(value: object, _table: Mapping[str, object], _nodes: int) -> bool:
    return is_number(value, 0, 2)


def _is_repair_after(value: object, _table: Mapping[str, object], _nodes: int) -> bool:
    return is_whole(value, 60, 3600)


def _is_copies(value: object, _table: Mapping[str, object], _nodes: int) -> bool:
    return is_whole(value, 1, 16)


def _is_rubbish(value: object, _table: Mapping[str, object], _nodes: int) -> bool:
    return value in ("", *get_args(Rubbish))


def _is_machines(value: object, _table: Mapping[str, object], nodes: int) -> bool:
    return is_whole(value, 0, nodes)


def _is_count_of(value: object, table: Mapping[str, object], _nodes: int) -> bool:
    of = table.get("of")
    return is_whole(value, 0, len(of) if isinstance(of, Sequence) else _TIMES_MAX)


def _are_kinds(value: object, _table: Mapping[str, object], _nodes: int) -> bool:
    return isinstance(value, list) and all(kind in _KINDS for kind in value)


_KINDS: Final = tuple(name for name in GENERATORS if REQUIRED not in parameters(name).values())


def _times(about: str) -> Parameter:
    return Parameter(about, f"a whole number from 0 to {_TIMES_MAX}", _is_times)


PARAMETERS: Final[Mapping[tuple[str, str], Parameter]] = {
    ("halves", "is_oneway"): Parameter("one half still hears the other", "true or false", _is_bool),
    ("halves", "meets"): Parameter("they meet before the end", "true or false", _is_bool),
    ("resets", "times"): _times("links that end"),
    ("shapes", "duplication"): Parameter(
        "fraction of frames that arrive twice", "a fraction up to 0.9", _is_fraction
    ),
    ("shapes", "reordering"): Parameter(
        "fraction of frames that the next ones overtake", "a fraction up to 0.9", _is_fraction
    ),
    ("holds", "times"): _times("directions of which frames wait"),
    ("halfopen", "times"): _times("ends of links that go without a word"),
    ("crashes", "times"): _times("crashes"),
    ("torn", "times"): _times("power cuts and rotten disks"),
    ("full-disks", "times"): _times("disks that fill up, each at most once"),
    ("sleepers", "times"): _times("closed lids"),
    ("clocks", "times"): _times("clocks that are set"),
    ("clones", "times"): _times("copied folders"),
    ("garbage", "times"): _times("frames of garbage"),
    ("garbage", "of"): Parameter(
        'what is sent; "": noise or frames, by chance',
        f'"" or one of {", ".join(get_args(Rubbish))}',
        _is_rubbish,
    ),
    ("deaf", "times"): _times("nodes that read nothing for a time"),
    ("offline", "machines"): Parameter(
        "machines that go away for good", "at most the number of nodes", _is_machines
    ),
    ("regions", "count"): Parameter("regions", "a whole number from 2 to 16", _is_regions),
    ("regions", "latency_s"): Parameter(
        "seconds from one to another", "a number from 0 to 2", _is_latency
    ),
    ("lost", "part"): Parameter("how many of them", "a fraction up to 0.9", _is_fraction),
    ("holdings", "times"): _times("what is told to machines"),
    ("parts", "copies"): Parameter(
        "machines that hold each library", "a whole number from 1 to 16", _is_copies
    ),
    ("placed", "copies"): Parameter(
        "machines that hold each range", "a whole number from 1 to 16", _is_copies
    ),
    ("placed", "times"): _times("changes of what is placed"),
    ("placed", "repair_after_s"): Parameter(
        "seconds of silence until others hold what a machine held",
        "a whole number from 60 to 3600",
        _is_repair_after,
    ),
    ("members", "times"): _times("machines that go"),
    ("some", "count"): Parameter(
        "kinds of faults that happen", "at most the number of kinds in `of`", _is_count_of
    ),
    ("some", "of"): Parameter(
        "the kinds, without parameters", f"a list of {', '.join(_KINDS)}", _are_kinds
    ),
    ("swarm", "of"): Parameter(
        "these kinds, without parameters", f"a list of {', '.join(_KINDS)}", _are_kinds
    ),
}
