"""Scenarios as tables: read from TOML files by name, or from a stored schedule, and checked.

A stored schedule is a JSON file with the same fields as a table of `scenarios.toml`, the seed, and
the faults themselves in place of generators.
"""

import json
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from random import Random
from typing import Any, Final, Literal, NamedTuple, get_args

from phextsync.testing import Fault, Workload, faults_from_json, faults_to_json
from phextsync.testing.faults import Garbage, Hold, Reset, Shape, nodes_of
from phextsync.testing.trace import generator
from phextsync.testing.workloads import Kind
from phextsync.trust.permissions import Permissions
from sims import parameters, schedules
from sims.overlays import Overlay
from sims.parameters import is_number, is_whole

Tier = Literal["world", "memory", "real"]

STEPS: Final = "steps"
DIRECTORIES: Final = "directories"
SPECIAL: Final = (STEPS, DIRECTORIES)
"""The names of the scenarios that are no tables: `sims.steps` and `sims.directories`."""

_BUILT_IN: Final = Path(__file__).with_name("scenarios.toml")
_SAMPLES: Final = Path(__file__).parents[1] / "examples" / "samples"
_SOCKET_BYTES: Final = 256 << 10
_NODES_MAX: Final = 2000
_LINKS_MAX: Final = 64
_SECONDS_MAX: Final = 3600
_PER_S_MAX: Final = 1000
_PLACING: Final = "phext:.placement?write=*"
_LIMITED: Final = (
    ("phext:?read=*", _PLACING),
    ("phext:?read=*", _PLACING, "phext:memory?write=1.1.1/1.1.1/1.1.1..7.1.1/1.1.1/1.1.1"),
    (_PLACING, "phext:memory?write=1.1.1/1.1.1/1.1.1..7.1.1/1.1.1/1.1.1"),
)
_OF_LINKS: Final = (Hold, Shape, Reset, Garbage)


@dataclass(frozen=True, slots=True)
class Scenario:
    """What a run consists of. `degree`: how many others each node is linked to, 0: all. `links`:
    how many each chooses itself, 0: none. `limited`: how many have certificates that do not allow
    everything. `copies`: on how many machines that are on all is at the end of the work."""

    about: str
    nodes: int
    workloads: tuple[Workload, ...]
    seconds: float
    settle_s: float
    degree: int = 0
    links: int = 0
    copies: int = 0
    socket_bytes: int = _SOCKET_BYTES
    limited: int = 0
    tier: Tier | None = None  # the only one that has such faults
    generators: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    fixed: tuple[Fault, ...] = ()

    def faults(
        self, source: Random, *, nodes: int | None = None, seconds: float | None = None
    ) -> list[Fault]:
        """Return the schedule of a run, drawn from `source`; of fewer nodes or seconds if given."""
        overlay = Overlay(nodes or self.nodes, self.degree)
        drawn = schedules.draw(self.generators, source, overlay, seconds or self.seconds)
        return [*self.fixed, *drawn]

    @property
    def pairs(self) -> tuple[tuple[int, int], ...] | None:
        """The pairs that are linked, None: all."""
        return Overlay(self.nodes, self.degree).pairs if self.degree else None

    @property
    def permissions(self) -> dict[int, Permissions]:
        """What the certificates of the last nodes allow, in turns: to read everything and write no
        text; to write the first half of all libraries; to see and write no more than that."""
        kinds = tuple(map(Permissions.from_uris, _LIMITED))
        return {self.nodes - 1 - i: kinds[i % len(kinds)] for i in range(self.limited)}


class Setting(NamedTuple):
    """What a field of a scenario means, and what it may be."""

    about: str
    expected: str
    allows: Callable[[object], bool]


SETTINGS: Final[Mapping[str, Setting]] = {
    "about": Setting("what happens, for reports", "a text", lambda value: isinstance(value, str)),
    "nodes": Setting(
        "how many nodes there are",
        f"a whole number from 2 to {_NODES_MAX}",
        lambda value: is_whole(value, 2, _NODES_MAX),
    ),
    "degree": Setting(
        "links of each node; 0: to all others",
        "0 (all) or the number of links of each node",
        lambda value: is_whole(value, 0, _NODES_MAX),
    ),
    "links": Setting(
        "links that each node chooses by itself, at most; 0: it is linked as `degree` says",
        f"0 or a whole number from 4 to {_LINKS_MAX}",
        lambda value: value == 0 or is_whole(value, 4, _LINKS_MAX),
    ),
    "copies": Setting(
        "machines that are on and have all, after the work and before faults end; 0: not asked",
        "a whole number from 0 to 16",
        lambda value: is_whole(value, 0, 16),
    ),
    "seconds": Setting(
        "seconds of work; faults are spread over them",
        f"a number above 0 and up to {_SECONDS_MAX}",
        lambda value: is_number(value, 0, _SECONDS_MAX) and value != 0,
    ),
    "settle_s": Setting(
        "seconds within which all nodes are equal once every fault has ended",
        f"a number above 0 and up to {_SECONDS_MAX}",
        lambda value: is_number(value, 0, _SECONDS_MAX) and value != 0,
    ),
    "socket_bytes": Setting(
        "bytes under way on a link before its sender waits",
        "a whole number of bytes above 0",
        lambda value: is_whole(value, 1, 1 << 30),
    ),
    "limited": Setting(
        "how many nodes have certificates that do not allow everything",
        f"a whole number from 0 to {_NODES_MAX}",
        lambda value: is_whole(value, 0, _NODES_MAX),
    ),
    "tier": Setting(
        "the only tier that has such faults",
        f"one of {', '.join(get_args(Tier))}",
        lambda value: value in get_args(Tier),
    ),
    "workloads": Setting(
        "what users do, and how often a second for each node",
        f"a table of times a second, above 0 and up to {_PER_S_MAX}, "
        f"for some of {', '.join(get_args(Kind))}",
        lambda value: isinstance(value, Mapping) and all(map(_is_workload, *_columns(value))),
    ),
    "faults": Setting(
        "generators of faults with their parameters",
        "a table of generators",
        lambda value: isinstance(value, Mapping),
    ),
}


def read_scenarios(path: Path) -> dict[str, Scenario]:
    """Read a TOML file of scenarios, its `defaults` before those of `scenarios.toml`. ValueError,
    which names the scenario, when one of them is wrong."""
    tables = _tables(path)
    defaults = {**_defaults(), **_table("defaults", tables.pop("defaults", {}), path)}
    found = {}
    for name, value in tables.items():
        try:
            if name in SPECIAL or "," in name or name.endswith(".json"):
                raise ValueError(f"expected another name, found {name}")
            found[name] = _scenario({**defaults, **_table(name, value, path)})
        except ValueError as error:
            raise ValueError(f"{path}: scenario {name}: {error}") from error
    if not found:
        raise ValueError(f"{path}: expected a table for each scenario, found none")
    return found


@cache
def built_in() -> Mapping[str, Scenario]:
    """Return the scenarios of `scenarios.toml`. ValueError when one is wrong."""
    return read_scenarios(_BUILT_IN)


def is_of_directories(path: Path) -> bool:
    """Whether a stored schedule is one of `sims.directories`. ValueError when it is no JSON."""
    try:
        table = json.loads(path.read_text())
    except ValueError as error:  # or not UTF-8
        raise ValueError(f"{path}: {error}") from error
    return isinstance(table, dict) and "kinds" in table


def read_schedule(path: Path) -> tuple[Scenario, int]:
    """Read a stored schedule and its seed. ValueError when it is wrong."""
    try:
        table = json.loads(path.read_text())
        if not isinstance(table, dict):
            raise ValueError(f"expected a table of a scenario, found {table!r}")
        seed = table.pop("seed", None)
        if not is_whole(seed, 0, 1 << 64):
            raise ValueError(f"expected a whole number as seed, found {seed!r}")
        fixed = faults_from_json(json.dumps(table.pop("faults", [])))
        return _scenario({**_defaults(), **table}, fixed), seed
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def schedule_to_json(scenario: Scenario, seed: int) -> str:
    """Return what a run of a scenario consists of, its faults as they are drawn from the seed."""
    faults = scenario.faults(generator(seed, "faults"))
    head = {
        "about": scenario.about,
        "seed": seed,
        "nodes": scenario.nodes,
        "degree": scenario.degree,
        "links": scenario.links,
        "copies": scenario.copies,
        "seconds": scenario.seconds,
        "settle_s": scenario.settle_s,
        "socket_bytes": scenario.socket_bytes,
        "limited": scenario.limited,
        "workloads": {workload.kind: workload.per_s for workload in scenario.workloads},
    }
    return json.dumps(head)[:-1] + ',\n"faults":\n' + faults_to_json(faults) + "}\n"


# -- checks --------------------------------------------------------------------------------


def _scenario(table: Mapping[str, Any], fixed: tuple[Fault, ...] = ()) -> Scenario:
    for name, value in table.items():
        if name not in SETTINGS:
            raise ValueError(f"expected {', '.join(SETTINGS)}, found {name}")
        if not SETTINGS[name].allows(value):
            raise ValueError(f"expected {SETTINGS[name].expected} as {name}, found {value!r}")
    values = dict(table)
    generators = values.pop("faults", {})
    parameters.check(generators, values["nodes"])
    _check_nodes(fixed, Overlay(values["nodes"], values["degree"]))
    if values.get("limited", 0) > values["nodes"]:
        raise ValueError(
            f"expected at most the number of nodes as limited, found {table['limited']}"
        )
    workloads = tuple(Workload(k, per_s, _SAMPLES) for k, per_s in values.pop("workloads").items())
    return Scenario(**values, workloads=workloads, generators=generators, fixed=fixed)


def _check_nodes(faults: tuple[Fault, ...], overlay: Overlay) -> None:
    for fault in faults:
        numbers = nodes_of(fault.action)
        if any(not 0 <= number < overlay.nodes for number in numbers):
            raise ValueError(f"expected nodes 0 to {overlay.nodes - 1}, found {fault.action}")
        if isinstance(fault.action, _OF_LINKS) and not overlay.are_linked(*numbers):
            raise ValueError(f"expected two nodes that are linked, found {fault.action}")


def _is_workload(kind: object, per_s: object) -> bool:
    return kind in get_args(Kind) and is_number(per_s, 0, _PER_S_MAX) and per_s != 0


def _columns(table: Mapping[str, object]) -> tuple[list[str], list[object]]:
    return list(table), list(table.values())


def _tables(path: Path) -> dict[str, object]:
    try:
        return tomllib.loads(path.read_text())
    except ValueError as error:  # not TOML, or not UTF-8
        raise ValueError(f"{path}: {error}") from error


def _table(name: str, value: object, path: Path) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ValueError(f"{path}: expected a table for each scenario, found {name} = {value!r}")
    return value


@cache
def _defaults() -> Mapping[str, Any]:
    return {"about": "", **_table("defaults", _tables(_BUILT_IN).get("defaults", {}), _BUILT_IN)}
