"""Root: whether the directory that lies there is the one that was bound, and what it ignores."""

from collections.abc import Iterable
from typing import Final

from phextsync.errors import DirectoryError, PhextsyncError
from phextsync.files.drafts import put
from phextsync.files.filesystem import FileSystem, Status
from phextsync.files.ignoring import IGNORE_FILE, Ignoring
from phextsync.files.markers import MARKER_BYTES_MAX, MARKER_FILE, Marker
from phextsync.files.reading import Reader, mark_of, why
from phextsync.files.records import Mark
from phextsync.files.writes import ELSEWHERE

_IGNORE_BYTES_MAX: Final = 1 << 20


class Root:
    """One bound directory as a whole. `ignore_problem` says what is wrong with its ignore file;
    `run` is what its marker said of the run that changed it last, when it was checked."""

    def __init__(
        self, files: FileSystem, reader: Reader, marker: Marker, rules: Iterable[str] = ()
    ) -> None:
        """`rules` are patterns that stand before those of the ignore file."""
        self._rules = "".join(f"{rule}\n" for rule in rules)
        self.ignoring = Ignoring(self._rules)
        self.ignore_problem = ""
        self.run = ""
        self._files = files
        self._reader = reader
        self._marker = marker
        self._identity: tuple[int, int] | None = None
        self._ignore_mark: Mark | None = None
        self._has_new_rules = False
        self._has_read = False
        self._older: Ignoring | None = None  # the rules that held before, while others are new

    def check(self) -> bool:
        """Look whether this is the directory that was bound, and read its ignore file. Return
        whether it was, or False when it is another one that somebody marked by hand, which from
        now on is it. DirectoryError when it is gone or another one lies in its place, such as
        that of a disk that is not mounted: its files are not deleted."""
        try:
            root = self._files.status("")
            if root is None or not root.is_folder:
                raise DirectoryError("expected a directory, found none; put it back, or unbind it")
            if self._files.status(MARKER_FILE) is None:
                raise DirectoryError(
                    f"expected {MARKER_FILE} in it, found none: another directory lies there; "
                    "put the right one back, or `phextsync bind --confirm` it"
                )
            self._reader.device, self._identity = root.device, _identity_of(root)
            token, _, run = self._read_marker()
            if token == self._marker.token:
                self.run = run
                self._read_ignore_file()
                self.confirm()
                return True
            if token:
                raise DirectoryError(
                    f"expected the {MARKER_FILE} that was made when it was bound, found another: "
                    "put the right directory back, or `phextsync bind --confirm` it"
                )
            self.run = ""
            self._mark()
            self._read_ignore_file()
            self.confirm()
            return False
        except OSError as error:
            raise DirectoryError(f"expected a directory that can be used: {why(error)}") from error

    def is_same(self) -> bool:
        """Whether the directory is the one that was checked."""
        try:
            root = self._files.status("")
        except OSError:
            return False
        return root is not None and _identity_of(root) == self._identity

    def confirm(self) -> None:
        """DirectoryError when the directory is not the one that was checked."""
        if not self.is_same():
            raise DirectoryError(ELSEWHERE)

    def tell_run(self, run: str) -> None:
        """Let the marker say which run of a node changes the directory, and where its data folder
        is by now. OSError when it cannot; DirectoryError when another directory lies there."""
        self.confirm()
        if self._read_marker().token == self._marker.token:
            self.run = run
            self._mark()

    def _read_marker(self) -> Marker:
        return Marker.decode(self._read_small(MARKER_FILE, MARKER_BYTES_MAX))

    def _mark(self) -> None:
        put(self._files, MARKER_FILE, self._marker._replace(run=self.run).encode(), 0o644)

    def write_beside(self, path: str, data: bytes) -> None:
        """Put a file beside the marker. OSError when it cannot; DirectoryError when another
        directory lies there."""
        self.confirm()
        put(self._files, path, data, 0o644)

    def read_beside(self, path: str, bytes_max: int) -> bytes:
        """Return what a file beside the marker holds. OSError when it cannot be read."""
        return self._read_small(path, bytes_max)

    def _read_small(self, path: str, bytes_max: int) -> bytes:
        file = self._files.open(path)
        try:
            return file.read(bytes_max)
        finally:
            file.close()

    def _read_ignore_file(self) -> None:
        status = self._files.status(IGNORE_FILE)
        mark = mark_of(status) if status is not None and status.is_file else None
        has_read, self._has_read = self._has_read, True
        if mark == self._ignore_mark:
            return
        data = b"" if mark is None else self._read_small(IGNORE_FILE, _IGNORE_BYTES_MAX)
        self._ignore_mark = mark
        try:
            older = self.ignoring
            self.ignoring = Ignoring(self._rules + data.decode("utf-8", "replace"))
            self._older = older if has_read else None
            self._has_new_rules = True
            self.ignore_problem = ""
        except PhextsyncError as error:  # the older rules hold: nothing is sent by mistake
            self.ignore_problem = str(error)

    def take_new_rules(self) -> bool:
        """Whether there are other rules of what is ignored since the last call."""
        has_new_rules, self._has_new_rules = self._has_new_rules, False
        self._older = None
        return has_new_rules

    def is_ignored(self, path: str) -> bool:
        """Whether a path is left alone: hidden, left behind by a program, in the ignore file."""
        return self.ignoring.covers(path)

    def was_followed(self, path: str) -> bool:
        """Whether new rules cover a path that the older ones did not."""
        return self._older is not None and not self._older.covers(path)


def _identity_of(root: Status) -> tuple[int, int]:
    return root.device, root.inode
