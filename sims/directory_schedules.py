"""Schedules of directories: what three machines are like, and what happens on them.

One seed makes one schedule, which is data: it can be stored, run again, and shrunk.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from typing import Final

from sims.habits import HABITS
from sims.tools import HURRIES, RARE_TOOLS, TOOLS

SECONDS: Final = 24.0
MACHINES: Final = 3
_SLIP: Final = 0.04  # of all runs
_SOME: Final = 0.3
_HURRIED: Final = 0.15
_RARELY: Final = 0.1
_ALL_HABITS: Final = {name: often for name, (_, often) in (HABITS | TOOLS).items()}
_ALL_HURRIES: Final = {name: often for name, (_, often) in HURRIES.items()}
_STEPS: Final = (20, 60)
_HURRY_S: Final = 10.0
_HURRIED_FAULTS: Final = ("cut", "hold", "kill", "power")
_CALLS_MAX: Final = 120


@dataclass(frozen=True, slots=True)
class Step:
    """Something that happens at a time; with `calls`, before that many calls of the machine's
    file system are done after it. All its choices follow from `pick`."""

    at: float
    machine: int
    kind: str
    pick: int = 0
    seconds: float = 0.0
    calls: int = 0


@dataclass(frozen=True, slots=True)
class Kind:
    """What the file system of a machine can do."""

    part_bytes_max: int = 255
    folds_case: bool = False
    has_exchange: bool = True
    has_links: bool = True
    knows_births: bool = True
    reuses_numbers: bool = True


@dataclass(frozen=True, slots=True)
class Schedule:
    """All of a run: what the machines are like, and what happens."""

    seed: int
    kinds: tuple[Kind, ...]
    steps: tuple[Step, ...]


FAULTS: Final[dict[str, int]] = {
    "cut": 6,
    "hold": 3,
    "kill": 5,
    "power": 3,
    "refuse": 6,
    "full": 3,
    "store_full": 2,
    "unmount": 2,
    "unmount_folder": 1,
    "pull": 6,
    "agent": 5,
    "map": 2,
    "rename_in_map": 2,
    "unmark": 1,
}
"""What else happens, and how often."""
RARE_FAULTS: Final[dict[str, int]] = {"clock": 3}
"""What happens besides in runs with some of all habits and faults."""


def drawn(seed: int) -> Schedule:
    """Return the schedule of a seed."""
    hurry = Random(f"haste {seed}")
    if hurry.random() < _HURRIED:
        return _hurried(seed, hurry)
    source = Random(f"any {seed}")
    if source.random() < _SOME:  # few kinds meet more often than many do
        habits = {"new": 16, **_some(source, _ALL_HABITS, source.randint(2, 7))}
        some_faults = _some(source, FAULTS | RARE_FAULTS, source.randint(1, 4))
    else:
        source = Random(seed)
        habits, some_faults = {name: often for name, (_, often) in HABITS.items()}, FAULTS
    kinds = _kinds(source)
    users = source.choices(list(habits), list(habits.values()), k=source.randint(*_STEPS))
    count = source.randint(0, 12)
    faults = source.choices(list(some_faults), list(some_faults.values()), k=count)
    steps = [_step(source, kind) for kind in (*users, *faults)]
    starts = [Step(0.1 * i, source.randrange(MACHINES), "new", _pick(source)) for i in range(6)]
    seldom = [*_slips(Random(f"slip {seed}")), *_rarely(Random(f"rare {seed}"))]
    steps = sorted((*starts, *steps, *seldom), key=lambda step: step.at)
    return Schedule(seed, kinds, tuple(steps))


def _hurried(seed: int, source: Random) -> Schedule:
    """Return a schedule in which files are renamed and changed faster than a rename counts, by two
    machines or all, and in half of all without faults."""
    kinds = _kinds(source)
    users = source.randint(2, MACHINES)
    starts = [Step(0.1 * i, source.randrange(users), "hurry", _pick(source)) for i in range(3)]
    steps = [_hurry(source, users) for _ in range(source.randint(20, 80))]
    count = source.choice((0, 0, 1, 2, 4))
    faults = [_step(source, kind) for kind in source.choices(_HURRIED_FAULTS, k=count)]
    return Schedule(seed, kinds, tuple(sorted((*starts, *steps, *faults), key=lambda s: s.at)))


def _hurry(source: Random, users: int) -> Step:
    at = round(source.uniform(1.5, _HURRY_S), 2)
    calls = source.randint(1, _CALLS_MAX) if source.random() < 0.2 else 0
    (kind,) = source.choices(list(_ALL_HURRIES), list(_ALL_HURRIES.values()))
    return Step(at, source.randrange(users), kind, _pick(source), 0.02, calls)


def _kinds(source: Random) -> tuple[Kind, ...]:
    is_same = source.random() < 0.7
    first = _kind(source)
    return tuple(first if is_same else _kind(source) for _ in range(MACHINES))


def _some(source: Random, of: Mapping[str, int], count: int) -> dict[str, int]:
    return {name: of[name] for name in source.sample(list(of), count)}


def _slips(source: Random) -> Iterator[Step]:
    """Give what happens in few runs alone, since it makes many files."""
    if source.random() < _SLIP:
        seconds = round(source.uniform(2.5, 8), 2)
        machine = source.randrange(MACHINES)
        yield Step(round(source.uniform(2, 16), 2), machine, "slip", 0, seconds)


def _rarely(source: Random) -> Iterator[Step]:
    """Give what happens in few runs besides all else."""
    if source.random() < _RARELY:
        for kind in source.choices([*RARE_TOOLS, "blind"], k=source.randint(1, 4)):
            yield _step(source, kind)


def _step(source: Random, kind: str) -> Step:
    is_user = kind in _ALL_HABITS or kind in RARE_TOOLS
    seconds = source.choice((0.02, 0.1, 0.3, 0.8)) if is_user else source.uniform(0.3, 8)
    calls = source.randint(1, _CALLS_MAX) if source.random() < 0.5 else 0
    at = round(source.uniform(1.5, SECONDS), 2)
    return Step(at, source.randrange(MACHINES), kind, _pick(source), round(seconds, 2), calls)


def _kind(source: Random) -> Kind:
    return Kind(
        143 if source.random() < 0.1 else 255,
        source.random() < 0.15,
        source.random() < 0.7,
        source.random() < 0.8,
        source.random() < 0.8,
        source.random() < 0.9,
    )


def _pick(source: Random) -> int:
    return source.getrandbits(32)


def to_json(schedule: Schedule, about: str = "") -> str:
    """Return a schedule as it is stored, with what was wrong."""
    head = {"about": about, "seed": schedule.seed, "kinds": [asdict(k) for k in schedule.kinds]}
    rows = ",\n  ".join(json.dumps(asdict(step)) for step in schedule.steps)
    return json.dumps(head, indent=1)[:-2] + f',\n "steps": [\n  {rows}\n ]\n}}\n'


def read_stored(path: Path) -> Schedule:
    """Read what was stored. ValueError, which names the file, when it is not such a file."""
    try:
        row = json.loads(path.read_text())
        kinds = tuple(Kind(**kind) for kind in row["kinds"])
        return Schedule(row["seed"], kinds, tuple(Step(**step) for step in row["steps"]))
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{path}: expected a schedule of directories: {error!r}") from error
