"""What ends a command, or the disk's refusal, leaves nothing by half: at each of its calls."""

import json
import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.crash_images import SHM
from tests.crash_points import CASES, TURNS
from tests.recording import build_recorder, preloaded

pytestmark = pytest.mark.crash


@pytest.mark.parametrize("case", CASES)
def test_a_command_that_ends_anywhere_leaves_nothing_by_half(case: str, tmp_path: Path) -> None:
    library = build_recorder(tmp_path)
    with TemporaryDirectory(prefix="crash-", dir=SHM) as folder:
        root = Path(folder, "root")
        done = subprocess.run(
            [sys.executable, "-m", "tests.crash_points", str(root), case],
            env=preloaded(library, root, Path(os.devnull)),
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stderr[-4000:]
    tried = json.loads(done.stdout)
    assert min(tried["ended"], tried["full"]) >= 6 // TURNS, tried
