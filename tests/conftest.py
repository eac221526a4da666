"""Fixtures that more than one file uses."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings

from tests.systems import force

if system := os.environ.get("PHEXTSYNC_TESTS_AS"):
    force(system)
settings.register_profile(  # no test fails because the machine is busy, or by chance
    "steady",
    derandomize=True,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    print_blob=True,
)
settings.register_profile("explore", settings.get_profile("steady"), derandomize=False)
settings.register_profile(  # what fails there is not read by anybody: it need not be shrunk
    "mutants", settings.get_profile("steady"), phases=[Phase.explicit, Phase.generate]
)
settings.load_profile("steady")
pytest.register_assert_rewrite("phextsync.testing.acceptance")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder with a file system of 1 MiB of its own."""
    if getattr(os, "geteuid", lambda: None)() != 0:
        pytest.skip("mounting a small file system needs root")
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(tmp_path)]
    subprocess.run(mount, check=True)
    yield tmp_path
    subprocess.run(["umount", "-l", str(tmp_path)], check=True)
