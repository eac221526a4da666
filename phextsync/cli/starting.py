"""Starting: whether `up` can do what config.toml says, before a node is started."""

from collections.abc import Mapping
from pathlib import Path

from phextsync.cli.doors import check_said
from phextsync.cli.settings import Settings
from phextsync.errors import DirectoryError
from phextsync.files.bindings import BindingStore
from phextsync.store.fleeting import check_no_store


def check_start(settings: Settings, environment: Mapping[str, str]) -> None:
    """PhextsyncError or OSError for what ends an `up` without options on the folder of settings."""
    if settings.values.get("data-in-memory"):
        check_in_memory(settings.path.parent)
    check_said(settings.values, environment)


def check_in_memory(folder: Path) -> None:
    """PhextsyncError where the scrolls of a folder cannot be in memory."""
    if BindingStore(folder).bindings():
        raise DirectoryError(
            "expected no bound directory with --data-in-memory: `phextsync unbind` ends a binding"
        )
    check_no_store(folder)
