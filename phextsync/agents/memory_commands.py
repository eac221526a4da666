"""Memory commands: view, create, str_replace, insert, delete and rename of memory files.

What they answer, and what their errors say, is what the local files of Anthropic's SDK do. Where
files are overwritten there, lines of others stay here: a command that finds a file changed since it
read it begins again.
"""

import posixpath
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeVar

from phextsync.agents.memory_files import MemoryFiles, name_of
from phextsync.agents.memory_scrolls import Scrolls
from phextsync.errors import ConflictError, PhextsyncError
from phextsync.files.ignoring import Ignoring
from phextsync.files.reading import check_file_text
from phextsync.index import Coordinate

LINES_MAX: Final = 999_999
"""Lines of a file that can be viewed."""

_ATTEMPTS_MAX: Final = 100  # of a command that others get in the way of
_NUMBER_WIDTH: Final = 6
_AROUND: Final = 2  # lines that are shown on either side of a change
_DEPTH_MAX: Final = 2
T = TypeVar("T")


class MemoryCommands:
    """The six commands on one range. PhextsyncError says what an agent has to do otherwise."""

    def __init__(self, scrolls: Scrolls) -> None:
        """CoordinateError when the range is not a prefix with four free parts."""
        self._scrolls = scrolls
        self._files_last = MemoryFiles(scrolls.range, "", ())

    async def view(self, path: str, view_range: Sequence[int] | None = None) -> str:
        """Return the lines of a file with their numbers, of `view_range` the first and the last
        (-1 is the file's); or what lies in a folder, with bytes, two levels deep."""
        name = name_of(path)
        files = await self._files()
        place = files.at(name)
        if place is not None:
            return _numbered(path, await self._scrolls.text(place), view_range)
        if not files.has_folder(name):
            raise _missing(path)
        sizes = await self._scrolls.sizes()
        return _listed(path, {each: sizes.get(c, 0) for each, c in files.below(name).items()})

    async def create(self, path: str, file_text: str) -> str:
        """Make a file with a text, which must not be empty."""
        return await self._until_done(lambda: self._create(path, file_text))

    async def str_replace(self, path: str, old_str: str, new_str: str) -> str:
        """Replace the one place where `old_str` stands; return the lines around it."""
        return await self._until_done(lambda: self._str_replace(path, old_str, new_str))

    async def insert(self, path: str, insert_line: int, insert_text: str) -> str:
        """Put lines behind line `insert_line`, 0 for the beginning."""
        return await self._until_done(lambda: self._insert(path, insert_line, insert_text))

    async def delete(self, path: str) -> str:
        """Delete a file, or a folder with all that lies in it. What others write into it that has
        not come here yet stays, as a file of that name."""
        name = name_of(path)
        if not name:
            raise PhextsyncError("Cannot delete the /memories directory itself")
        files = await self._files()
        place = files.at(name)
        places = [*files.below(name).values()] if place is None else [place]
        if not places:
            raise PhextsyncError(f"The path {path} does not exist")
        await self._scrolls.clear(places)
        await self._scrolls.settle()
        return f"Successfully deleted {path}"

    async def rename(self, old_path: str, new_path: str) -> str:
        """Give a file, or a folder, another name. What others write into it meanwhile comes
        along."""
        return await self._until_done(lambda: self._rename(old_path, new_path))

    async def clear_all_memory(self) -> str:
        """Delete all files."""
        await self._scrolls.clear((await self._files()).paths.values())
        await self._scrolls.settle()
        return "All memory cleared"

    # -- one attempt of each ---------------------------------------------------------------

    async def _create(self, path: str, text: str) -> str:
        name = name_of(path)
        files = await self._files()
        if files.has_folder(name) or files.at(name) is not None:
            raise PhextsyncError(f"File {path} already exists")
        files.check_new(name, await self._ignoring(files))
        check_file_text(path, text)
        if not text:
            raise PhextsyncError(
                f"expected some text for {path}, found none: an empty file is not kept"
            )
        place = files.place_for(name)
        await self._name(files, {place: name})
        if not await self._scrolls.begin(place, text):
            raise PhextsyncError(f"File {path} already exists")
        return f"File created successfully at: {path}"

    async def _str_replace(self, path: str, old: str, new: str) -> str:
        place, text = await self._read(path)
        count = text.count(old)
        if not count:
            raise PhextsyncError(
                f"No replacement was performed, old_str `{old}` did not appear verbatim in {path}."
            )
        if count > 1:
            lines = ", ".join(map(str, _lines_with(text, old)))
            raise PhextsyncError(
                f"No replacement was performed. Multiple occurrences of old_str `{old}` in lines: "
                f"{lines}. Please ensure it is unique"
            )
        changed = text.replace(old, new)
        if not changed:
            raise PhextsyncError(
                f"No replacement was performed: nothing would be left of {path}, and an empty file "
                "is not kept. Use delete"
            )
        await self._write(path, place, changed, seen=text)
        at = text.count("\n", 0, text.find(old))
        rows = changed.split("\n")
        first, last = max(0, at - _AROUND), min(len(rows), at + _AROUND + 1)
        return (
            "The memory file has been edited. Here is the snippet showing the change "
            "(with line numbers):\n" + _with_numbers(rows[first:last], first + 1)
        )

    async def _insert(self, path: str, line: int, text: str) -> str:
        place, before = await self._read(path)
        rows = before.removesuffix("\n").split("\n")
        if not 0 <= line <= len(rows):
            raise PhextsyncError(
                f"Invalid `insert_line` parameter: {line}. "
                f"It should be within the range [0, {len(rows)}]."
            )
        rows.insert(line, text.rstrip("\n"))
        changed = "\n".join(rows)
        await self._write(path, place, changed.removesuffix("\n") + "\n", seen=before)
        return f"The file {path} has been edited."

    async def _rename(self, old_path: str, new_path: str) -> str:
        old, new = name_of(old_path), name_of(new_path)
        if not old:
            raise PhextsyncError("Cannot rename the /memories directory itself")
        files = await self._files()
        if files.has_folder(new) or files.at(new) is not None:
            raise PhextsyncError(f"The destination {new_path} already exists")
        place = files.at(old)
        if place is None and not files.has_folder(old):
            raise PhextsyncError(f"The path {old_path} does not exist")
        if new.startswith(f"{old}/"):
            raise PhextsyncError(f"expected a path outside {old_path}, found {new_path}")
        below = {} if place is not None else files.below(old)
        names = {c: posixpath.join(new, rest) for rest, c in below.items()}
        if place is not None:
            names[place] = new
        ignoring = await self._ignoring(files)
        for name in names.values():
            files.check_new(name, ignoring)
        await self._name(files, names)
        return f"Successfully renamed {old_path} to {new_path}"

    # -- scrolls ---------------------------------------------------------------------------

    async def _files(self) -> MemoryFiles:
        present = await self._scrolls.present()
        last = self._files_last
        text = await self._scrolls.text(last.names.map_coordinate)
        self._files_last = files = last.now(self._scrolls.range, text, present)
        return files

    async def _ignoring(self, files: MemoryFiles) -> Ignoring:
        rules = files.ignore_file
        return Ignoring("" if rules is None else await self._scrolls.text(rules))

    async def _read(self, path: str) -> tuple[Coordinate, str]:
        name = name_of(path)
        files = await self._files()
        place = files.at(name)
        if place is not None:
            return place, await self._scrolls.text(place)
        if files.has_folder(name):
            raise PhextsyncError(f"The path {path} is not a file.")
        raise _missing(path)

    async def _write(self, path: str, place: Coordinate, text: str, *, seen: str) -> None:
        check_file_text(path, text)
        await self._scrolls.edit(place, text, seen)

    async def _name(self, files: MemoryFiles, names: dict[Coordinate, str]) -> None:
        before, text = files.names.text, files.map_with(names)
        if text != before:
            await self._scrolls.edit(files.names.map_coordinate, text, before)

    async def _until_done(self, attempt: Callable[[], Awaitable[str]]) -> str:
        for _ in range(_ATTEMPTS_MAX):
            try:
                answer = await attempt()
            except ConflictError:
                continue
            await self._scrolls.settle()
            return answer
        raise ConflictError(
            f"others changed it each of {_ATTEMPTS_MAX} times; nothing was changed here: try again"
        )


def _missing(path: str) -> PhextsyncError:
    return PhextsyncError(f"The path {path} does not exist. Please provide a valid path.")


def _numbered(path: str, text: str, view_range: Sequence[int] | None) -> str:
    rows = text.split("\n")
    if len(rows) > LINES_MAX:
        raise PhextsyncError(f"File {path} exceeds maximum line limit of 999,999 lines.")
    first, last = 0, len(rows)
    if view_range and len(view_range) == 2:
        first = max(1, view_range[0]) - 1
        last = last if view_range[1] == -1 else view_range[1]
    shown = _with_numbers(rows[first:last], first + 1)
    return f"Here's the content of {path} with line numbers:\n{shown}"


def _with_numbers(rows: Sequence[str], first: int) -> str:
    return "\n".join(f"{number:>{_NUMBER_WIDTH}}\t{row}" for number, row in enumerate(rows, first))


def _lines_with(text: str, part: str) -> list[int]:
    """Return the numbers of the lines in which a part begins, overlapping ones as well."""
    found: list[int] = []
    line, counted, at = 1, 0, text.find(part)
    while at >= 0:
        line += text.count("\n", counted, at)
        counted = at
        found.append(line)
        at = text.find(part, at + 1)
    return found


def _listed(path: str, sizes: dict[str, int]) -> str:
    """Return what lies in a folder. `sizes` are the bytes of the files in it, by their paths."""
    total: dict[tuple[str, ...], int] = {}
    names: dict[tuple[str, ...], str] = {}
    for name, size in sizes.items():
        parts = tuple(name.split("/"))
        if any(part.startswith(".") for part in parts):
            continue
        for depth in range(1, len(parts) + 1):
            way = parts[:depth]
            total[way] = total.get(way, 0) + size
            names[way] = "/".join(way) + ("/" if depth < len(parts) else "")
    rows = [f"{_size(sum(sizes.values()))}\t{path}"]
    rows += (
        f"{_size(total[way])}\t{path}/{names[way]}"
        for way in sorted(total)
        if len(way) <= _DEPTH_MAX
    )
    what = f"the files and directories up to 2 levels deep in {path}, excluding hidden items"
    return "\n".join([f"Here're {what}:", *rows])


def _size(size: int) -> str:
    """Return bytes for people, by powers of 1,024."""
    power = min(3, max(0, size.bit_length() - 1) // 10)
    scaled = size / 1024**power
    number = str(int(scaled)) if scaled == int(scaled) else f"{scaled:.1f}"
    return f"{number}{'BKMG'[power]}"
