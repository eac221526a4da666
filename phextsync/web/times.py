"""The time of day, as an argument."""

from collections.abc import Callable
from typing import TypeAlias

WallTime: TypeAlias = Callable[[], int]
"""Returns seconds since 1970."""
