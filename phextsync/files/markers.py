"""Markers: the file in a bound directory that says which binding it is, and of which data folder.

Data folders know nothing of each other. By the markers in a directory, above it and below it, one
finds those that others have bound, and the data folders whose lists say whether they still are.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from phextsync.errors import DirectoryError
from phextsync.plain_files import read_file

MARKER_FILE: Final = ".phextsync-bound"
MARKER_BYTES_MAX: Final = 8192
_RUN: Final = re.compile(r"run ([0-9a-f]{16} [0-9]{1,15})")


class Marker(NamedTuple):
    """What a marker says: `token` is that of a binding, empty where somebody made the file by hand;
    `folder` its data folder, `run` which run of a node changed it last (see `restored`), each empty
    where that is not said."""

    token: str
    folder: str = ""
    run: str = ""

    @classmethod
    def decode(cls, data: bytes) -> "Marker":
        """Read a marker. Anything can be read as one."""
        token, _, rest = data.decode("utf-8", "surrogateescape").strip("\n").partition("\n")
        folder, _, last = rest.rpartition("\n")
        told = _RUN.fullmatch(last)
        return cls(token.strip(), rest) if told is None else cls(token.strip(), folder, told[1])

    def encode(self) -> bytes:
        """Return what stands in the file."""
        lines = [self.token, self.folder] if self.folder or self.run else [self.token]
        lines += [f"run {self.run}"] if self.run else []
        return "".join(f"{line}\n" for line in lines).encode("utf-8", "surrogateescape")


def read_marker(directory: Path) -> Marker | None:
    """Return the marker of a directory, None when it has none. DirectoryError when it has one that
    cannot be read."""
    path = directory / MARKER_FILE
    try:
        return Marker.decode(read_file(path, MARKER_BYTES_MAX))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise DirectoryError(f"{path}: {error.strerror}") from error


def markers_about(directory: Path) -> Iterator[tuple[Path, Marker]]:
    """Give the markers in a directory, in those above it, and in those below it, with where they
    lie. DirectoryError when one cannot be read. Costs a look at each file below."""
    for folder in (directory, *directory.parents):
        marker = read_marker(folder)
        if marker is not None:
            yield folder, marker
    for below, folders, files in os.walk(directory):
        folders.sort()
        if MARKER_FILE in files and Path(below) != directory:
            marker = read_marker(Path(below))
            if marker is not None:
                yield Path(below), marker
