"""Random commands of a memory tool, done to memory files and to the local files of Anthropic's SDK.

Where both differ on purpose (`docs/howto/memory-tool.md` lists it), commands are not drawn or not
compared: what a folder's size is, empty files, folders without files, hidden names, and errors of
the file system that the SDK lets through.
"""

import os
import re
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Final

from anthropic.lib.tools import ToolError
from anthropic.tools.memory import BetaLocalFilesystemMemoryTool

from phextsync.errors import PhextsyncError

Command = dict[str, object]
Tool = Callable[[Command], str]

COMMANDS: Final = 24
"""In a sequence."""

_NAMES: Final = (
    "a.md",
    "b",
    "d",
    "d/a.md",
    "d/e",
    "d/e/f.md",
    "d/e/g/h",
    "long name.txt",
    "ä/ö",
    "Z",
)
_WORDS: Final = ("one", "two", "two two", "drei\r", "", "\t", "🙂", "aaa")
_SIZE: Final = re.compile(r"^\S+\t(?=.*/$)", re.MULTILINE)


def run(seed: int, folder: Path, tool: Tool, texts: Callable[[], dict[str, str]]) -> int:
    """Do one sequence to both; return how many commands were answered, and not refused. `texts`
    gives the files that `tool` has, by their names."""
    random = Random(seed)
    oracle = BetaLocalFilesystemMemoryTool(str(folder))
    answered = 0
    for number in range(COMMANDS):
        command = _command(random, texts())
        where = f"seed {seed}, command {number}: {command}"
        expected, is_told = _answer_of(lambda c: str(oracle.call(c)), command)
        _prune(oracle.memory_root)
        found, is_refused = _answer_of(tool, command)
        if is_told is None:  # the file system's own error
            assert is_refused, where
        else:
            assert (_comparable(found), is_refused) == (_comparable(expected), is_told), where
        assert texts() == _files(oracle.memory_root), where
        answered += not is_refused
    return answered


def _answer_of(tool: Tool, command: Command) -> tuple[str, bool | None]:
    """Return what is answered, and whether it is an error; None for one that nobody meant."""
    try:
        return tool(command), False
    except (ToolError, PhextsyncError) as error:
        return str(error), True
    except (OSError, ValueError) as error:
        return str(error), None


def _comparable(answer: str) -> str:
    if not answer.startswith("Here're the files"):
        return answer
    header, _, rows = answer.partition("\n")
    return f"{header}\n{_SIZE.sub('', rows.partition('	')[2])}"


def _prune(root: Path) -> None:
    for folder, _, _ in sorted(os.walk(root), reverse=True):
        if folder != str(root) and not os.listdir(folder):
            os.rmdir(folder)


def _files(root: Path) -> dict[str, str]:
    found = (Path(folder) / name for folder, _, names in os.walk(root) for name in names)
    return {str(path.relative_to(root)): path.read_bytes().decode() for path in found}


def _command(random: Random, files: dict[str, str]) -> Command:
    kinds = ("view", "create", "create", "str_replace", "str_replace", "insert", "delete", "rename")
    match random.choice(kinds):
        case "view":
            lines = random.choice(
                (None, None, [1, -1], [2, 3], [0, 1], [3, 2], [2, -2], [9, 9], [1])
            )
            return {"command": "view", "path": _path(random), "view_range": lines}
        case "create":
            text = _text(random) or "x"
            return {"command": "create", "path": _path(random), "file_text": text}
        case "str_replace":
            return _str_replace(random, files)
        case "insert":
            line, text = random.randint(-1, 5), _text(random)
            return {
                "command": "insert",
                "path": _existing(random, files),
                "insert_line": line,
                "insert_text": text,
            }
        case "delete":
            return {"command": "delete", "path": _path(random)}
        case _:
            old = _existing(random, files)
            return {"command": "rename", "old_path": old, "new_path": _path(random)}


def _str_replace(random: Random, files: dict[str, str]) -> Command:
    path = _existing(random, files)
    old = random.choice((*_WORDS, "aa", "o", "\n", "a\n"))
    new = random.choice((*_WORDS, "o\no", "\n"))
    if not new and old in files.values():  # it would leave an empty file
        new = "."
    return {"command": "str_replace", "path": path, "old_str": old, "new_str": new}


def _existing(random: Random, files: dict[str, str]) -> str:
    if not files or not random.randrange(5):
        return _path(random)
    return f"/memories/{random.choice(sorted(files))}"


def _path(random: Random) -> str:
    name = random.choice(_NAMES)
    match random.randrange(24):
        case 0:
            return f"/memories/{name}/"
        case 1:
            return f"/memories//{name}"
        case 2:
            return f"/memories/./d/../{name}"
        case 3:
            return random.choice(("/memories", "/memories/", "/memories/.", "/memories/d/.."))
        case 4:
            return random.choice(("", "memories", "/etc/passwd", "/", "/mem"))
        case 5:
            return f"/memories/../{name}"
        case 6:
            return f"/memories/../memories/{name}"
        case 7:
            return random.choice(("/memories/d/../../../x", "/memories/..", "/memories/nul\0"))
        case 8:
            return f"/memories/{'x' * 256}"
        case _:
            return f"/memories/{name}"


def _text(random: Random) -> str:
    lines = [random.choice(_WORDS) for _ in range(random.randint(0, 4))]
    return "\n".join(lines) + random.choice(("", "\n", "\n\n"))
