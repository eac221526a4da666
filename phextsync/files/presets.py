"""Presets: what is known of the directories in which agents keep their memory.

A host's own habits: which files are its memory, which of them are lists of entries, what it takes
of them, and by which lock it changes them.
"""

from dataclasses import dataclass
from typing import Final

from phextsync.errors import DirectoryError
from phextsync.files.entries import as_file, as_scroll


@dataclass(frozen=True, slots=True)
class Preset:
    """How the directory of a host is bound. `rules` stand before those of the ignore file; `lists`
    are names of files that are lists of entries; `budgets` how many characters of a file the host
    takes; `lock` what is added to a file's path for that of its lock; `known_by` says where that
    is known from."""

    name: str
    usual: str
    range: str
    known_by: str
    rules: tuple[str, ...] = ()
    lists: tuple[str, ...] = ()
    budgets: tuple[tuple[str, int], ...] = ()
    lock: str = ""

    def is_list(self, path: str) -> bool:
        """Whether a file is a list of entries."""
        return _name(path) in self.lists

    def as_scroll(self, path: str, text: str) -> str:
        """Return the text of a file as its scroll has it."""
        return as_scroll(text) if self.is_list(path) else text

    def as_file(self, path: str, text: str) -> str:
        """Return the text of a scroll as its file has it."""
        return as_file(text) if self.is_list(path) else text

    def lock_of(self, path: str) -> str:
        """Return the path of the lock by which the host changes a file; nothing if by none."""
        return f"{path}{self.lock}" if self.lock and self.is_list(path) else ""

    def excess(self, path: str, text: str) -> str:
        """Say that the host does not take all of a scroll's text; nothing when it does."""
        characters = len(self.as_file(path, text))
        for name, most in self.budgets:
            if name == _name(path) and characters > most:
                return (
                    f"{characters:,} characters, of which {self.name} takes {most:,}: all are "
                    "kept; let the agent shorten or remove some"
                )
        return ""


PLAIN: Final = Preset("", "", "", "")
"""A directory of which nothing is known."""

PRESETS: Final = (
    Preset(
        "hermes",
        "~/.hermes/memories",
        "11.*",
        "tested with hermes-agent 0.19.0",
        rules=("/*", "!/MEMORY.md", "!/USER.md"),
        lists=("MEMORY.md", "USER.md"),
        budgets=(("MEMORY.md", 2200), ("USER.md", 1375)),
        lock=".lock",
    ),
    Preset(
        "claude-code",
        "~/.claude",
        "12.*",
        "its documentation of 2026",
        rules=(
            *("/*", "!/CLAUDE.md", "!/agents/", "!/commands/", "!/rules/", "!/skills/"),
            *("!/projects/", "/projects/*/*", "!/projects/*/memory/"),
        ),
    ),
    Preset(
        "openclaw",
        "~/.openclaw/workspace",
        "13.*",
        "its documentation of 2026",
        rules=("/*", "!/*.md", "!/memory/", "!/skills/"),
    ),
    Preset(
        "agents-md",
        "a project",
        "14.*",
        "https://agents.md",
        rules=("/*", "!/AGENTS.md", "!/CLAUDE.md", "!/GEMINI.md"),
    ),
)


def preset_of(name: str) -> Preset:
    """Return the preset of a name, `PLAIN` of none. DirectoryError names those that there are."""
    if not name:
        return PLAIN
    for preset in PRESETS:
        if preset.name == name:
            return preset
    known = ", ".join(f"{each.name} ({each.known_by})" for each in PRESETS)
    raise DirectoryError(f"expected one of the presets {known}; found {name}")


def _name(path: str) -> str:
    return path.rpartition("/")[2]
