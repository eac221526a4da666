"""A copy of the package whose compiled rooms are built with AddressSanitizer, UBSan and coverage.

Python finds the copy first when `environment` is that of a process that runs it with `-P`.
"""

import os
import shutil
import subprocess
import sys
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parent.parent
_BUILT: Final = ROOT / "build" / "sanitized"
COVERAGE: Final = _BUILT / "libcoverage.so"
_SUFFIX: Final = str(sysconfig.get_config_var("EXT_SUFFIX"))  # here: threads may not ask first
_SANITIZE: Final = (
    "-fsanitize=address,undefined",
    "-fno-sanitize-recover=undefined",
    "-fsanitize-coverage=trace-pc",
)


def build() -> None:
    """Build what is older than its sources. About 40 s at first."""
    package = _BUILT / "phextsync"
    shutil.copytree(
        ROOT / "phextsync",
        package,
        dirs_exist_ok=True,
        ignore=shutil.ignore_patterns("*.so", "*.c", "__pycache__"),
    )
    if _is_older(COVERAGE, [Path(__file__).with_name("coverage.c")]):
        source = str(Path(__file__).with_name("coverage.c"))
        _run("gcc", "-O2", "-shared", "-fPIC", source, "-o", str(COVERAGE))
    sources = sorted((ROOT / "phextsync" / "index").glob("*.p[yx][xd]"))
    with ThreadPoolExecutor() as threads:
        extensions = [source for source in sources if source.suffix == ".pyx"]
        list(threads.map(lambda source: _build_extension(source, sources), extensions))


def environment() -> dict[str, str]:
    """Return the environment of a process that imports the copy."""
    library = subprocess.run(
        ["gcc", "-print-file-name=libasan.so"], check=True, capture_output=True, text=True
    ).stdout.strip()
    return {
        **os.environ,
        "LD_PRELOAD": library,
        "ASAN_OPTIONS": "detect_leaks=0:allocator_may_return_null=1",
        "UBSAN_OPTIONS": "print_stacktrace=1",
        "PYTHONMALLOC": "malloc",
        "PYTHONPATH": f"{_BUILT}{os.pathsep}{ROOT}",
        "PYTHONDONTWRITEBYTECODE": "1",
    }


def _build_extension(source: Path, sources: list[Path]) -> None:
    folder = _BUILT / "phextsync" / "index"
    built = folder / (source.stem + _SUFFIX)
    if not _is_older(built, sources):
        return
    generated = folder / f"{source.stem}.c"
    _run(sys.executable, "-m", "cython", "-3", str(folder / source.name), "-o", str(generated))
    _run(
        *("gcc", "-O1", "-g", "-shared", "-fPIC", "-fwrapv", *_SANITIZE),
        f"-I{sysconfig.get_paths()['include']}",
        *(str(generated), str(COVERAGE), f"-Wl,-rpath,{_BUILT}", "-o", str(built)),
    )


def _is_older(built: Path, sources: list[Path]) -> bool:
    return not built.exists() or any(
        source.stat().st_mtime > built.stat().st_mtime for source in sources
    )


def _run(*command: str) -> None:
    subprocess.run(command, check=True, cwd=_BUILT)
