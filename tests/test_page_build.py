"""What the page loads is what its sources make, is small, and says whose it is."""

import subprocess
from pathlib import Path

import pytest

from phextsync.web.built import FOLDER, contents, packed

_ROOT = Path(__file__).parents[1]
_PACKED_BYTES_MAX = 300_000


@pytest.mark.real
def test_the_committed_scripts_are_what_the_sources_and_the_lock_file_make(tmp_path: Path) -> None:
    if not (_ROOT / ".page" / "ready").exists():
        pytest.skip("the packages of the page are not installed: make page")
    command = ["node", str(_ROOT / "page" / "build.mjs"), str(tmp_path)]
    subprocess.run(command, check=True, cwd=_ROOT)
    made = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert {"page.js", "LICENCES.txt"} <= made.keys()
    assert made == {name: (FOLDER / name).read_bytes() for name in made}


def test_all_that_a_browser_loads_is_small() -> None:
    assert sum(len(packed(name)) for name in contents()) <= _PACKED_BYTES_MAX


def test_nothing_is_loaded_from_another_host() -> None:
    for name, data in contents().items():
        if name.endswith(".css"):
            assert b"url(" not in data.replace(b"url(data:", b""), name
            assert b"@import" not in data, name
