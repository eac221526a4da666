"""Measured: what `phextsync measure` found last, as it is kept in the data folder."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from phextsync.durable_files import write_whole
from phextsync.errors import PhextsyncError
from phextsync.plain_files import read_file
from phextsync.plain_values import read_json

MEASURED_FILE: Final = "measured.json"

_BYTES_MAX: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class MeasuredSection:
    """A table of what was measured, and how."""

    title: str
    method: str
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class Measured:
    """A whole report: `machine` says where, `header` what the columns of all tables are."""

    time_ms: int
    title: str
    machine: tuple[tuple[str, str], ...]
    header: tuple[str, ...]
    sections: tuple[MeasuredSection, ...]


def keep(folder: Path, tables: str) -> None:
    """Keep a report (`reporting.Document.tables`) in a data folder, in place of the last one."""
    write_whole(folder / MEASURED_FILE, tables.encode())


def kept(folder: Path) -> Measured | None:
    """Return the report that a data folder has, None for none. PhextsyncError when it cannot be
    read."""
    path = folder / MEASURED_FILE
    try:
        return _report(read_json(read_file(path, _BYTES_MAX)))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise PhextsyncError(
            f"expected a report in {path}: {error}; `phextsync measure` makes a new one"
        ) from error


def _report(told: object) -> Measured:
    match told:
        case {
            "time_ms": int(time_ms),
            "title": str(title),
            "machine": dict(machine),
            "header": list(header),
            "sections": list(sections),
        }:
            where = tuple((str(name), str(value)) for name, value in machine.items())
            made = tuple(map(_section, sections))
            return Measured(time_ms, title, where, tuple(map(str, header)), made)
    raise ValueError("it is of another form")


def _section(told: object) -> MeasuredSection:
    match told:
        case {"title": str(title), "method": str(method), "rows": list(rows)} if all(
            isinstance(row, list) for row in rows
        ):
            return MeasuredSection(title, method, tuple(tuple(map(str, row)) for row in rows))
    raise ValueError("a section is of another form")
