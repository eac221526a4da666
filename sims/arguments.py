"""Arguments: what the commands of simulations, fuzzers and benchmarks read of a command line.

Each is a `type` of argparse, which tells what is wrong in one line and ends with status 2.
"""

from argparse import ArgumentTypeError
from math import isfinite
from pathlib import Path


def seeds(text: str) -> range:
    """Return the seeds that are meant. ArgumentTypeError when they are none."""
    first, dash, last = text.partition("-")
    if first.isdecimal() and (last.isdecimal() if dash else not last):
        found = range(int(first), int(last or first) + 1)
        if found:
            return found
    raise ArgumentTypeError(f"expected seeds such as 7 or 0-99, found {text}")


def count(text: str) -> int:
    """Return how many there are to be, at least one. ArgumentTypeError for anything else."""
    if text.isdecimal() and int(text) > 0:
        return int(text)
    raise ArgumentTypeError(f"expected a whole number above 0, found {text}")


def amount(text: str) -> float:
    """Return how much of something there is to be, such as seconds. ArgumentTypeError for what is
    no number above 0."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if isfinite(number) and number > 0:
        return number
    raise ArgumentTypeError(f"expected a number above 0, found {text}")


def library(text: str) -> Path:
    """Return a folder that has a version of the library. ArgumentTypeError when it has none."""
    folder = Path(text)
    if (folder / "phextsync" / "__init__.py").is_file():
        return folder
    raise ArgumentTypeError(f"expected a folder with a version of phextsync, found {text}")
