"""Shrinking: the fewest steps of a schedule with which a run still fails in the same way."""

import re
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

StepT = TypeVar("StepT")
_NAMES: Final = re.compile(r"q?\d+z?")  # tokens, nodes, places and counts


def fewest(steps: Sequence[StepT], fails: Callable[[Sequence[StepT]], bool]) -> tuple[StepT, ...]:
    """Return some of the steps with which it fails and of which none can be left out."""
    size = max(1, len(steps) // 2)
    while True:
        i, is_smaller = 0, False
        while i < len(steps):
            fewer = [*steps[:i], *steps[i + size :]]
            if fails(fewer):
                steps, is_smaller = fewer, True
            else:
                i += size
        if size > 1:
            size //= 2
        elif not is_smaller:
            return tuple(steps)


def kind_of(failure: str | None) -> str | None:
    """Return what is alike in failures that differ in who, where and how many."""
    return None if failure is None else _NAMES.sub("#", failure)
