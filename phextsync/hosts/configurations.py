"""Configurations: the files in which hosts are told of phextsync, and what was written into them.

What was written is kept in the data folder, so that exactly that can be taken back.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import unified_diff
from pathlib import Path
from typing import Final

from phextsync.durable_files import make_folder, write_whole
from phextsync.errors import PhextsyncError, StoreError
from phextsync.hosts.hermes import CONFIGURATION, TESTED
from phextsync.hosts.insertions import Insertion, UnfitError, into_json, into_toml
from phextsync.plain_files import read_file
from phextsync.plain_values import read_json

FILE_NAME: Final = "integrations.json"
SERVER: Final = "phextsync"

_DOCUMENTED: Final = "its documentation of 2026"
_PLUGIN: Final = (
    '"""The memory provider of phextsync: `register_memory_provider` is called in it."""\n\n'
    "from phextsync.hosts.hermes import register\n\n"
    '__all__ = ["register"]\n'
)
_MANIFEST: Final = (
    "name: phextsync\nversion: 0.1.0\n"
    'description: "One memory for all agents of all machines, without a server."\n'
)


@dataclass(frozen=True, slots=True)
class Host:
    """A host of MCP servers: its file below the home, and below a project ("": none), the place
    of servers there, and what an entry has besides command and arguments."""

    name: str
    user: str
    project: str
    path: tuple[str, ...]
    more: tuple[tuple[str, str], ...] = ()


HOSTS: Final = (
    Host("claude-code", ".claude.json", ".mcp.json", ("mcpServers",)),
    Host("cursor", ".cursor/mcp.json", ".cursor/mcp.json", ("mcpServers",)),
    Host("vscode", "", ".vscode/mcp.json", ("servers",), (("type", "stdio"),)),
    Host("zed", ".config/zed/settings.json", ".zed/settings.json", ("context_servers",)),
    Host("openclaw", ".openclaw/openclaw.json", "", ("mcp", "servers")),
    Host("gemini", ".gemini/settings.json", ".gemini/settings.json", ("mcpServers",)),
    Host("codex", ".codex/config.toml", ".codex/config.toml", ("mcp_servers",)),
)
HERMES: Final = "hermes"
NAMES: Final = (HERMES, *(host.name for host in HOSTS))


@dataclass(frozen=True, slots=True)
class Change:
    """What is written into a file; `is_new`: there was none."""

    path: Path
    insertion: Insertion
    is_new: bool

    def diff(self) -> list[str]:
        """Return the lines of it as a unified diff."""
        before = "" if self.is_new else _text(self.path)
        after = self.insertion.done_to(before)
        names = "/dev/null" if self.is_new else str(self.path), str(self.path)
        return [*unified_diff(before.splitlines(), after.splitlines(), *names, lineterm="")]

    def write(self) -> None:
        """Write the file whole."""
        before = "" if self.is_new else _text(self.path)
        make_folder(self.path.parent)
        mode = 0o600 if self.is_new else self.path.stat().st_mode & 0o777
        write_whole(self.path.resolve(), self.insertion.done_to(before).encode(), mode)


def changes_for(
    host: str, command: Path, data: Path, home: Path, project: Path | None = None
) -> list[Change]:
    """Return what has to be written for a host to know phextsync; nothing when it does.
    PhextsyncError for an unknown host, one without such a file, and a file that cannot be
    changed without harm."""
    if host == HERMES:
        return _for_hermes(data, home)
    known = next((each for each in HOSTS if each.name == host), None)
    if known is None:
        raise PhextsyncError(
            f"expected one of the hosts {', '.join(NAMES)}, found {host}; hermes was tested with "
            f"{TESTED}, of the others {_DOCUMENTED.removeprefix('its ')} was read"
        )
    path = _file_of(known, home, project)
    server = {**dict(known.more), "command": str(command), "args": ["mcp", "--data", str(data)]}

    def insert(text: str) -> Insertion | None:
        if path.suffix == ".toml":
            return into_toml(text, known.path[0], SERVER, server)
        return into_json(text, known.path, SERVER, server)

    return _change(path, insert)


def _file_of(host: Host, home: Path, project: Path | None) -> Path:
    below = host.user if project is None else host.project
    if not below:
        which = "--project DIRECTORY" if project is None else "no --project"
        raise PhextsyncError(f"expected {which}: {host.name} has no other file for that")
    return (home if project is None else project) / below


def _change(path: Path, insert: Callable[[str], Insertion | None]) -> list[Change]:
    is_new = not path.exists()
    try:
        insertion = insert("" if is_new else _text(path))
    except UnfitError as error:
        raise PhextsyncError(f"{path}: {error}") from None
    return [] if insertion is None else [Change(path, insertion, is_new)]


def _for_hermes(data: Path, home: Path) -> list[Change]:
    folder = home / "plugins" / SERVER
    settings = json.dumps({"data": str(data)}) + "\n"
    files = {
        folder / "__init__.py": _PLUGIN,
        folder / "plugin.yaml": _MANIFEST,
        home / CONFIGURATION: settings,
    }
    changes: list[Change] = []
    for path, text in files.items():
        if not path.exists():
            changes.append(Change(path, Insertion(0, text), is_new=True))
        elif _text(path) != text:
            raise PhextsyncError(f"{path}: expected no file, found another; move it away first")
    return changes


class Written:
    """What was written for which host, in a file of the data folder."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE_NAME

    def add(self, host: str, changes: Sequence[Change]) -> None:
        """Remember changes, before they are made."""
        rows = self._rows()
        rows += [
            {
                "host": host,
                "path": str(each.path),
                "piece": each.insertion.piece,
                "is_new": each.is_new,
            }
            for each in changes
        ]
        self._keep(rows)

    def take_back(self, host: str) -> list[Path]:
        """Take out of files what was written into them; return which. PhextsyncError, and nothing
        is changed, when one has been changed there since."""
        rows = self._rows()
        mine = [row for row in rows if row["host"] == host]
        there = {row["path"]: row for row in mine if _is_in(row)}
        texts = {Path(str(path)): self._without(row) for path, row in there.items()}
        for path, text in texts.items():
            if text is None:
                path.unlink()
            else:
                write_whole(path.resolve(), text.encode(), path.stat().st_mode & 0o777)
        self._keep([row for row in rows if row["host"] != host])
        return sorted(texts)

    def _without(self, row: dict[str, object]) -> str | None:
        """Return a file's text without a piece, None when nothing is left of a new one."""
        path, piece = Path(str(row["path"])), str(row["piece"])
        text = _text(path)
        if text.count(piece) != 1:
            raise PhextsyncError(
                f"{path}: expected what was written there, found it changed; remove the server "
                f"{SERVER} by hand"
            )
        rest = text.replace(piece, "")
        return None if row["is_new"] and not rest else rest

    def _rows(self) -> list[dict[str, object]]:
        try:
            rows = read_json(read_file(self._path))
            return [dict(row) for row in rows]
        except FileNotFoundError:
            return []
        except (ValueError, TypeError) as error:
            raise StoreError(f"{self._path}: expected what was written: {error}") from error

    def _keep(self, rows: Sequence[dict[str, object]]) -> None:
        write_whole(self._path, json.dumps(rows, indent=1).encode())


def _is_in(row: dict[str, object]) -> bool:
    """Whether a file has something of a server still: it may never have been written, or was
    taken out by hand."""
    path = Path(str(row["path"]))
    text = _text(path) if path.is_file() else ""
    return str(row["piece"]) in text or SERVER in text


def _text(path: Path) -> str:
    try:
        return read_file(path).decode()
    except UnicodeDecodeError as error:
        raise PhextsyncError(f"{path}: expected UTF-8, found other bytes: {error}") from None
