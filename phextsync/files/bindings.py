"""Bindings: which directories of this machine are bound, a file in the data folder."""

import json
import os
import sqlite3
import time
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from secrets import token_hex
from shlex import quote
from typing import Final

from phextsync.durable_files import write_whole
from phextsync.errors import DirectoryError, StoreError
from phextsync.files.markers import MARKER_FILE, Marker, markers_about, read_marker
from phextsync.files.names import SECRETS, prefix_of
from phextsync.files.presets import preset_of
from phextsync.files.records import Record, digest_of
from phextsync.index import Coordinate, CoordinateRange
from phextsync.phext_names import is_reserved
from phextsync.plain_files import read_file
from phextsync.plain_values import read_json
from phextsync.ranges import holds, stored_range
from phextsync.systems.locking import lock
from phextsync.systems.opening import PRIVATE
from phextsync.trust.permissions import Permissions

FILE_NAME: Final = "bindings.json"
KEPT_DAYS: Final = 30
"""How long the history of a bound range is kept unless told otherwise."""

_LOCK: Final = "bindings.lock"
_OLD_FILE: Final = "bindings.sqlite"


@dataclass(frozen=True, slots=True)
class Bound:
    """A directory that is bound to a range of a phext. `token` is what its marker holds, nothing
    for one that was bound before markers had tokens; `confirmed_ns` is when deletions were
    confirmed last, since the epoch, 0 when they never were; `preset` names what is known of it."""

    directory: Path
    phext: str
    range: CoordinateRange
    id: str = ""
    token: str = ""
    kept_days: int | None = KEPT_DAYS
    confirmed_ns: int = 0
    preset: str = ""


class BindingStore:
    """The bindings of a data folder. Usable from any process; each change is durable."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.path = folder / FILE_NAME

    def bind(self, bound: Bound, *, create: bool = False) -> Bound:
        """Bind a directory and return what it is bound as: of a link, the directory that it leads
        to. One that is not there is made where its parent is, or with `create`. DirectoryError
        when it, or a part of the range, is bound already, also by another data folder of this
        machine, or when keys or data of a node lie in it or above it; CoordinateError when the
        range does not suit."""
        prefix_of(bound.range)
        preset_of(bound.preset)
        if is_reserved(bound.phext):
            raise DirectoryError(
                f"expected a phext of your own, found {bound.phext}: those whose names begin with "
                "a dot are the library's"
            )
        if bound.directory.is_symlink() and not bound.directory.exists():
            raise DirectoryError(f"expected a directory at {bound.directory}, found a link to none")
        bound = replace(bound, directory=_real(bound.directory), id="", token="")
        _check_path(bound.directory)
        _check_apart_from_all(bound, self.bindings())
        _check_secrets(bound.directory)
        _check_others(bound)
        made = replace(bound, id=token_hex(8), token=token_hex(8))
        with _made(bound.directory, create=create), self._changing() as all_bound:
            _check_apart_from_all(bound, all_bound)  # another may have been faster
            _write_marker(made.directory, self.marker_of(made))
            all_bound.append(made)
        return made

    def marker_of(self, bound: Bound) -> Marker:
        """Return what the marker of a binding says."""
        return Marker(bound.token, str(_real(self._folder)))

    def unbind(self, directory: Path) -> bool:
        """End a binding; files and scrolls stay. Say whether there was one."""
        if not self._is_bound(directory):
            return False
        with self._changing() as all_bound:
            kept = [bound for bound in all_bound if _real(bound.directory) != _real(directory)]
            is_there = len(kept) < len(all_bound)
            all_bound[:] = kept
        return is_there

    def confirm(self, directory: Path) -> bool:
        """Let the deletions be done of what is gone from a bound directory now, at once or when a
        node starts; or, if another directory lies there, let that one count as bound. Say whether
        it was another. DirectoryError when none lies there, none is bound there, or the one that
        lies there is bound by another data folder."""
        if not self._is_bound(directory):
            raise _not_bound(directory)
        with self._changing() as all_bound:
            for number, bound in enumerate(all_bound):
                if _real(bound.directory) == _real(directory):
                    return self._confirm(all_bound, number)
        raise _not_bound(directory)

    def _confirm(self, all_bound: list[Bound], number: int) -> bool:
        bound = all_bound[number]
        if not bound.directory.is_dir():
            raise DirectoryError(
                f"expected a directory at {bound.directory}, found none; put it back, or make one"
            )
        found = read_marker(bound.directory)
        if found is not None and found.token == bound.token:
            now_ns = max(time.time_ns(), bound.confirmed_ns + 1)
            all_bound[number] = replace(bound, confirmed_ns=now_ns)
            return False
        _check_others(bound, is_confirmed=True)
        _write_marker(bound.directory, Marker(""))  # by which nothing is known of what lies there
        return True

    def _is_bound(self, directory: Path) -> bool:
        return any(_real(bound.directory) == _real(directory) for bound in self.bindings())

    def bindings(self) -> list[Bound]:
        """Return all bindings, by directory. StoreError when their file cannot be read."""
        try:
            rows = read_json(read_file(self.path))
            return [_from_row(row) for row in rows]
        except FileNotFoundError:
            return self._old_bindings()
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise StoreError(f"{self.path}: expected a list of bindings: {error}") from error

    def state(self) -> tuple[int, ...]:
        """Return what changes whenever somebody writes; cheap."""
        try:
            status = self.path.stat()
        except FileNotFoundError:
            return ()
        return (status.st_mtime_ns, status.st_ino)

    @contextmanager
    def _changing(self) -> Iterator[list[Bound]]:
        """Give the bindings to be changed, and write them; alone."""
        try:
            flags = os.O_RDWR | os.O_CREAT | PRIVATE
            descriptor = os.open(self._folder / _LOCK, flags, 0o600)
        except OSError as error:
            raise StoreError(f"{self._folder}: {error.strerror}") from error
        try:
            lock(descriptor)
            bound = self.bindings()
            yield bound
            rows = [_to_row(each) for each in sorted(bound, key=lambda each: each.directory)]
            try:
                write_whole(self.path, json.dumps(rows, indent=1).encode())
            except OSError as error:
                raise StoreError(f"{self.path} cannot be written: {error.strerror}") from error
        finally:
            os.close(descriptor)

    # -- as they were kept before --------------------------------------------------------------

    def _old_bindings(self) -> list[Bound]:
        rows = self._old_rows("SELECT directory, phext, range FROM bindings ORDER BY directory")
        return [
            Bound(Path(row[0]), row[1], stored_range(row[2]), digest_of(row[0]).hex()[:16])
            for row in rows
        ]

    def old_records(self, bound: Bound) -> dict[Coordinate, tuple[Record, str]]:
        """Return the records and texts of a binding that an older version kept."""
        if bound.id != digest_of(str(bound.directory)).hex()[:16]:
            return {}
        rows = self._old_rows(
            "SELECT name, text, place, roots FROM records WHERE directory = ?",
            (str(bound.directory),),
        )
        return {
            Coordinate.from_key(place): (
                Record(name, digest_of(text), None, roots=tuple(map(int, roots.split()))),
                text,
            )
            for name, text, place, roots in rows
        }

    def _old_rows(self, query: str, values: tuple[str, ...] = ()) -> list[tuple]:  # type: ignore[type-arg]
        path = self._folder / _OLD_FILE
        if not path.exists():
            return []
        try:
            with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
                return connection.execute(query, values).fetchall()
        except sqlite3.Error as error:
            raise StoreError(f"{path}: {error}") from error


def check_readable(bound: Bound, permissions: Permissions) -> None:
    """DirectoryError when a node with these permissions may not read all of a binding's range."""
    readable = permissions.readable(bound.phext)
    if not holds(readable, bound.range):
        found = ", ".join(map(str, readable))
        what = f"{found} of {bound.phext}" if found else f"nothing of {bound.phext}"
        raise DirectoryError(
            f"expected a range that this node may read, found {bound.range}: its certificate "
            f"allows {what}; bind a range within that, or ask the administrator for more"
        )


def _check_apart_from_all(bound: Bound, others: Iterable[Bound]) -> None:
    for other in others:
        _check_apart(bound, replace(other, directory=_real(other.directory)))


def _check_apart(bound: Bound, other: Bound) -> None:
    if bound.directory == other.directory:
        preset = f" by the preset {other.preset}" if other.preset else ""
        raise DirectoryError(f"{bound.directory} is bound already, to {other.range}{preset}")
    for inner, outer in ((bound, other), (other, bound)):
        if inner.directory.is_relative_to(outer.directory):
            raise DirectoryError(
                f"expected a directory apart from others that are bound, found {bound.directory} "
                f"beside {other.directory}"
            )
    if bound.phext == other.phext and bound.range.intersect(other.range) is not None:
        raise DirectoryError(
            f"{bound.range} of {bound.phext} is bound already, to {other.directory}"
        )


def _check_others(bound: Bound, *, is_confirmed: bool = False) -> None:
    """DirectoryError when a directory, or one below or above it, has the marker of another binding
    that still is one, or of which that cannot be told, unless somebody confirmed it."""
    for place, marker in markers_about(_real(bound.directory)):
        if marker.token in ("", bound.token):
            continue
        beside = "" if place == bound.directory else f" beside {bound.directory}"
        of = Path(marker.folder)
        if marker.folder and os.path.isdir(of):
            if _is_bound(place, marker.token, of):
                command = f"phextsync --data {quote(str(of))} unbind {quote(str(place))}"
                raise DirectoryError(
                    f"expected a directory that no other data folder has bound, found {place}"
                    f"{beside}, which {of} has bound; `{command}` ends that"
                )
        elif not is_confirmed:
            whose = f"of {of}, which is not there" if marker.folder else "of an unknown data folder"
            raise DirectoryError(
                f"expected a directory that no other data folder has bound, found{beside} the "
                f"marker {place / MARKER_FILE} {whose}; if that has ended, remove the marker"
            )


def _is_bound(directory: Path, token: str, folder: Path) -> bool:
    """Whether a data folder has a binding of this token at a directory, as far as that can be
    told. A copy or a directory that was moved is not bound."""
    try:
        all_bound = BindingStore(folder).bindings()
    except StoreError:
        return True
    return any(
        other.token == token and _real(other.directory) == _real(directory) for other in all_bound
    )


def _write_marker(directory: Path, marker: Marker) -> None:
    try:
        write_whole(_real(directory) / MARKER_FILE, marker.encode(), 0o644)
    except OSError as error:
        raise DirectoryError(f"{directory}: {error.strerror}") from error


def _real(path: Path) -> Path:
    """Return the one path by which two that lead to one directory are known to."""
    return Path(os.path.realpath(path))


def _not_bound(directory: Path) -> DirectoryError:
    return DirectoryError(f"{directory} is not bound; `phextsync bindings` lists those that are")


def _check_path(directory: Path) -> None:
    try:
        os.fspath(directory).encode()
    except UnicodeEncodeError:
        raise DirectoryError(
            f"expected a directory whose path is UTF-8, found other bytes in {directory}"
        ) from None


def _check_secrets(directory: Path) -> None:
    """DirectoryError when keys or data of a node lie in a directory, below it, or above it."""
    for folder in (directory, *directory.parents):
        if any(os.path.lexists(folder / name) for name in SECRETS):
            raise DirectoryError(
                f"expected a directory without the keys or data of a node, found them in {folder}"
            )
    for below, folders, files in os.walk(directory):
        if not {*folders, *files}.isdisjoint(SECRETS):
            raise DirectoryError(
                f"expected a directory without the keys or data of a node, found them in {below}"
            )


@contextmanager
def _made(directory: Path, *, create: bool) -> Iterator[None]:
    """Make a directory, if none is there, that is to be bound: what fails leaves nothing of it."""
    was_there = directory.is_dir()
    marker = read_marker(directory)
    _make(directory, create=create)
    try:
        yield
    except BaseException:
        with suppress(OSError):
            if marker is None:
                (directory / MARKER_FILE).unlink(missing_ok=True)
            if not was_there:
                directory.rmdir()
        raise


def _make(directory: Path, *, create: bool) -> None:
    if directory.is_dir():
        return
    if os.path.lexists(directory):
        raise DirectoryError(f"expected a directory at {directory}, found a file")
    if not create and not directory.parent.is_dir():
        raise DirectoryError(
            f"expected a directory at {directory}, found none, and none above it; "
            "make it, or bind with --create"
        )
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DirectoryError(f"{directory}: {error.strerror}") from error


def _to_row(bound: Bound) -> dict[str, object]:
    return {**asdict(bound), "directory": str(bound.directory), "range": str(bound.range)}


def _from_row(row: dict[str, object]) -> Bound:
    kept_days = row.get("kept_days", KEPT_DAYS)
    confirmed_ns = row.get("confirmed_ns", 0)
    return Bound(
        Path(str(row["directory"])),
        str(row["phext"]),
        stored_range(str(row["range"])),
        str(row["id"]),
        str(row["token"]),
        kept_days if isinstance(kept_days, int) else None,
        confirmed_ns if isinstance(confirmed_ns, int) else 0,
        str(row.get("preset", "")),
    )
