"""Policy: what people ask for of a phext, as a text and as a value.

The text is a scroll: a line for each rule, in any order. It is merged as every text is, and any
member may have written it: a line that cannot be read does not count, and is told as a problem.

    phext NAME
    copies NUMBER
    slots NUMBER
    repair-after SECONDS
    rate BYTES
    everywhere RANGE
    pin RANGE NODE-ID...
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from phextsync.errors import CoordinateError
from phextsync.index import Coordinate, CoordinateRange
from phextsync.phext_names import is_phext_name
from phextsync.ranges import stored_range

COPIES_MAX: Final = 64
SLOTS_MAX: Final = 1 << 15
RULES_MAX: Final = 256
"""Ranges of a phext that are pinned or everywhere."""
PINNED_MAX: Final = 64
"""Members that one line pins a range to."""
LINES_MAX: Final = 1 << 17
REPAIR_AFTER_S: Final = 600
"""After so many seconds of silence others hold what a member held, unless it is said otherwise."""
RATE: Final = 8 << 20
"""Bytes a second that a member takes at most of what comes to it, unless it is said otherwise."""

_BOUNDS: Final = {
    "copies": (1, COPIES_MAX),
    "slots": (1, SLOTS_MAX),
    "repair-after": (60, 365 * 86400),  # a minute is less than it takes to hear of 1,000 members
    "rate": (64 << 10, 1 << 40),
}
_DIGITS_MAX: Final = 13


@dataclass(frozen=True, slots=True)
class Rule:
    """A range that some members hold whatever else is said; `everywhere`: all do."""

    range: CoordinateRange
    pinned: tuple[bytes, ...] = ()
    everywhere: bool = False


@dataclass(frozen=True, slots=True)
class Policy:
    """What is asked for of a phext. Without `copies` all of it is everywhere; `slots` is 0 where
    the number follows from that of the members. Others hold what a member held that is silent for
    `repair_after_s`; each takes `rate` bytes a second at most of what comes to it. Rules are in the
    order of their ranges."""

    phext: str = ""
    copies: int | None = None
    slots: int = 0
    rules: tuple[Rule, ...] = ()
    repair_after_s: int = REPAIR_AFTER_S
    rate: int = RATE

    def to_text(self) -> str:
        """Return the text of the policy."""
        lines = [f"phext {self.phext}"]
        if self.copies is not None:
            lines.append(f"copies {self.copies}")
        if self.slots:
            lines.append(f"slots {self.slots}")
        if self.repair_after_s != REPAIR_AFTER_S:
            lines.append(f"repair-after {self.repair_after_s}")
        if self.rate != RATE:
            lines.append(f"rate {self.rate}")
        for rule in self.rules:
            if rule.everywhere:
                lines.append(f"everywhere {rule.range}")
            if rule.pinned:
                lines.append(" ".join(["pin", str(rule.range), *(i.hex() for i in rule.pinned)]))
        return "".join(f"{line}\n" for line in lines)


def read_policy(text: str) -> tuple[Policy, list[str]]:
    """Return what a text asks for, and what cannot be read of it.

    The order of lines has no meaning: of several numbers the greatest counts, of several names the
    least; lines that pin one range are one.
    """
    names: list[str] = []
    numbers = dict.fromkeys(_BOUNDS, 0)
    pinned: dict[CoordinateRange, dict[bytes, None]] = {}
    everywhere: dict[CoordinateRange, None] = {}
    problems: list[str] = []
    for line in text.splitlines()[:LINES_MAX]:
        word, _, rest = line.strip().partition(" ")
        try:
            if word == "phext" and is_phext_name(rest):
                names.append(rest)
            elif word in numbers:
                numbers[word] = max(numbers[word], _number(word, rest))
            elif word == "everywhere":
                everywhere[stored_range(rest)] = None
            elif word == "pin":
                range_, *ids = rest.split()
                found = dict.fromkeys(map(_node_id, ids[:PINNED_MAX]))
                pinned.setdefault(stored_range(range_), {}).update(found)
            elif word:
                raise ValueError(f"expected a rule, found {line!r:.60}")
        except (CoordinateError, ValueError) as error:
            problems.append(str(error))
    ranges = sorted({**pinned, **everywhere}, key=_order)
    if len(ranges) > RULES_MAX:
        problems.append(f"expected at most {RULES_MAX} ranges with rules, found {len(ranges)}")
    rules = tuple(
        Rule(range_, tuple(sorted(pinned.get(range_, ()))), range_ in everywhere)
        for range_ in ranges[:RULES_MAX]
    )
    policy = Policy(
        min(names, default=""),
        numbers["copies"] or None,
        numbers["slots"],
        rules,
        numbers["repair-after"] or REPAIR_AFTER_S,
        numbers["rate"] or RATE,
    )
    return policy, problems


def read_boundaries(text: str) -> tuple[tuple[Coordinate, ...], list[str]]:
    """Return the boundaries that a text lists, a coordinate a line, in order, and what cannot be
    read."""
    found: dict[Coordinate, None] = {}
    problems: list[str] = []
    for line in text.splitlines()[:LINES_MAX]:
        try:
            if line.strip():
                found[Coordinate.parse(line.strip())] = None
        except CoordinateError as error:
            problems.append(str(error))
    return tuple(sorted(found)), problems


def boundaries_text(boundaries: Iterable[Coordinate]) -> str:
    """Return the text of boundaries."""
    return "".join(f"{boundary}\n" for boundary in sorted(set(boundaries)))


def _number(word: str, text: str) -> int:
    least, most = _BOUNDS[word]
    is_number = text.isascii() and text.isdigit() and len(text) <= _DIGITS_MAX
    value = int(text) if is_number else 0
    if not least <= value <= most or (word == "slots" and value & (value - 1)):
        power = ", a power of two" if word == "slots" else ""
        raise ValueError(f"expected {word} from {least} to {most}{power}, found {text!r:.40}")
    return value


def _node_id(text: str) -> bytes:
    if len(text) != 32:
        raise ValueError(f"expected a node id of 32 digits, found {text!r:.40}")
    return bytes.fromhex(text)


def _order(range_: CoordinateRange) -> tuple[bytes, bool, bytes]:
    lower, upper = range_.to_keys()
    return lower, upper is None, upper or b""
