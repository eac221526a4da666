"""Build what is published, and install it as users do: `python -m release.check`.

The source distribution has to hold all that is in the repository but `_LEFT_OUT`. From it a wheel
is built with each Python that is found; each is installed into an empty environment, with no
compiler on the path and wheels alone from the index, and tests of the source distribution run
there, beside nothing else of it that could be imported.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

_ROOT: Final = Path(__file__).resolve().parent.parent
_PYTHONS: Final = ("3.11", "3.12", "3.13", "3.14")
_LEFT_OUT: Final = (".ci/", ".gitattributes", ".gitignore")
_TESTS: Final = ("coordinate", "crdt", "files", "index", "reconcile", "store", "tutorial")
"""Of `tests/test_*.py`: something of each room, in about a minute."""
_TOOLS: Final = ("pytest", "pytest-timeout", "pytest-trio", "pytest-xdist", "hypothesis", "phext")


def main(arguments: Sequence[str] | None = None) -> int:
    """Check all of it, a line for each thing that was; the exit status is 0 when all holds."""
    parser = argparse.ArgumentParser(prog="python -m release.check", description=__doc__)
    parser.add_argument("--out", type=Path, default=_ROOT / "dist", help="where to put them")
    out = parser.parse_args(arguments).out
    shutil.rmtree(out, ignore_errors=True)
    source = _source_distribution(out)
    _run(sys.executable, "-m", "twine", "check", "--strict", str(source))
    print(f"{source.name}: complete; its description can be shown on an index page")
    pythons = list(_pythons())
    for python in pythons:
        wheel = _wheel(python, source, out)
        _run(sys.executable, "-m", "twine", "check", "--strict", str(wheel))
        _run(_tool("check-wheel-contents"), "--ignore", "W009", str(wheel))
        print(f"{wheel.name}: {_tested(python, source, wheel)}")
    return 0 if pythons else 1


def _source_distribution(out: Path) -> Path:
    _run(sys.executable, "-m", "build", "--sdist", "--outdir", str(out), str(_ROOT))
    (source,) = out.glob("*.tar.gz")
    with tarfile.open(source) as archive:
        there = {name.partition("/")[2] for name in archive.getnames()}
    listed = _run("git", "-C", str(_ROOT), "ls-files").splitlines()
    missing = [name for name in listed if name not in there and not name.startswith(_LEFT_OUT)]
    if missing:
        raise SystemExit(f"{source.name} lacks {', '.join(missing)}; see MANIFEST.in")
    return source


def _pythons() -> Iterator[str]:
    """Find one interpreter of each version, on the path or where pyenv puts them."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    for version in _PYTHONS:
        beside = sorted(pyenv.glob(f"{version}.*/bin/python{version}"))
        found = [*map(str, beside[-1:]), shutil.which(f"python{version}")]
        python = next((path for path in found if path is not None), None)
        if python is None:
            print(f"Python {version}: not on this machine")
        else:
            yield python


def _wheel(python: str, source: Path, out: Path) -> Path:
    with tempfile.TemporaryDirectory() as folder:
        _run(python, "-m", "venv", f"{folder}/venv")
        pip = f"{folder}/venv/bin/pip"
        _run(pip, "wheel", "--quiet", "--no-deps", "--wheel-dir", f"{folder}/wheels", str(source))
        (wheel,) = Path(folder, "wheels").glob("*.whl")
        return Path(shutil.copy(wheel, out))


def _tested(python: str, source: Path, wheel: Path) -> str:
    """Install and test a wheel, and say how that went; SystemExit when it failed."""
    with tempfile.TemporaryDirectory() as folder:
        with tarfile.open(source) as archive:
            archive.extractall(folder, filter="data")
        (root,) = Path(folder).glob("phextsync-*")
        shutil.rmtree(root / "phextsync")
        _run(python, "-m", "venv", f"{folder}/venv")
        bin_ = f"{folder}/venv/bin"
        nothing = Path(folder, "nothing")
        nothing.mkdir()
        bare = {"HOME": folder, "PATH": f"{bin_}:{nothing}", "CC": "false", "CXX": "false"}
        wanted = f"{wheel}[http,mcp,web]"
        _run(f"{bin_}/pip", "install", "--quiet", "--only-binary", ":all:", wanted, env=bare)
        version = _run(f"{bin_}/phextsync", "--version", env=bare).strip()
        _run(f"{bin_}/pip", "install", "--quiet", *_TOOLS)
        tests = [f"tests/test_{name}.py" for name in _TESTS]
        told = _run(
            f"{bin_}/pytest", "-q", "-n", "2", "-m", "not hosts", "-p", "no:cacheprovider",
            "-W", "ignore::DeprecationWarning", *tests, cwd=root,
        )  # fmt: skip
    return f"{version} on {_run(python, '--version').strip()}, no compiler: {told.splitlines()[-1]}"


def _tool(name: str) -> str:
    return str(Path(sys.executable).with_name(name))


def _run(*command: str, cwd: Path | None = None, env: dict[str, str] | None = None) -> str:
    """Return what a command prints; SystemExit with all of it when it fails."""
    done = subprocess.run(
        command, cwd=cwd, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stdout}")
    return done.stdout


if __name__ == "__main__":
    sys.exit(main())
