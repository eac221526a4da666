"""Corpora: for each target a text file with an input in hexadecimal digits a line."""

from collections.abc import Iterable
from pathlib import Path
from typing import Final

from fuzz.targets import TARGETS

FOLDER: Final = Path(__file__).with_name("corpus")
INPUT_BYTES_MAX: Final = 1024
INPUTS_MAX: Final = 400


def load(name: str) -> list[bytes]:
    """Return the seeds of a target and what earlier runs kept."""
    return [*TARGETS[name].seeds(), *stored(name)]


def stored(name: str) -> list[bytes]:
    """Return what earlier runs kept."""
    path = FOLDER / f"{name}.txt"
    return [bytes.fromhex(line) for line in path.read_text().splitlines()] if path.exists() else []


def keep(name: str, inputs: Iterable[bytes]) -> None:
    """Add inputs to the corpus, small ones, and not beyond what is worth keeping."""
    before = stored(name)
    small = {data for data in inputs if 0 < len(data) <= INPUT_BYTES_MAX} - {*before}
    kept = [*before, *sorted(small, key=lambda data: (len(data), data))][:INPUTS_MAX]
    if kept:
        FOLDER.mkdir(exist_ok=True)
        (FOLDER / f"{name}.txt").write_text("".join(data.hex() + "\n" for data in kept))
