"""Repositories of git, made for tests."""

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest


class Repository:
    """A repository whose commits have the times that tests give."""

    def __init__(self, path: Path, *options: str) -> None:
        if shutil.which("git") is None:
            pytest.skip("needs git")
        self.path = path
        path.mkdir(parents=True)
        self.git("init", "--quiet", "--initial-branch=main", "--template=", *options)

    def git(self, *words: str, env: Mapping[str, str] | None = None) -> str:
        """Run git there; return what it prints."""
        home = {"HOME": str(self.path), "GIT_CONFIG_GLOBAL": os.devnull, "LC_ALL": "C"}
        alone = {"GIT_CONFIG_NOSYSTEM": "1", "PATH": os.environ["PATH"]}
        done = subprocess.run(
            ["git", *words],
            cwd=self.path,
            env={**home, **alone, **(env or {})},
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout.strip()

    def write(self, files: Mapping[str, str | bytes | None]) -> None:
        """Write files; None removes one."""
        for path, text in files.items():
            file = self.path / path
            file.parent.mkdir(parents=True, exist_ok=True)
            if text is None:
                file.unlink()
            else:
                file.write_bytes(text.encode() if isinstance(text, str) else text)

    def commit(
        self, files: Mapping[str, str | bytes | None], author: str, when: str = "2026-03-01"
    ) -> str:
        """Write files and commit all there is, at noon of a day."""
        self.write(files)
        self.git("add", "--all")
        return self.settle("commit", "--quiet", "--allow-empty", "-m", "x", who=author, when=when)

    def settle(self, *words: str, who: str, when: str) -> str:
        """Run what makes a commit, as somebody and at noon of a day; return the commit."""
        time = f"{when}T12:00:00+00:00" if when.count("-") == 2 else when
        env: dict[str, str] = {}
        for role in ("AUTHOR", "COMMITTER"):
            env |= {f"GIT_{role}_NAME": who, f"GIT_{role}_EMAIL": "x@y", f"GIT_{role}_DATE": time}
        self.git(*words, env=env)
        return self.git("rev-parse", "HEAD")
