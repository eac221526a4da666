"""`make mutants`: change the code in one place at a time, and see whether a test notices.

mutmut makes the changes and runs the tests, a fork for each mutant. Each module is mutated in a
folder of its own, `.mutants/<module>`, with a copy of the repository and the tests of `MODULES`
alone, so that a mutant costs seconds. What survives these meets the wider tests of its module.

A sample is drawn by the names of all mutants and a seed; a run that was ended goes on where it was
as long as the code is the same, and tries again what survived when a test was added.

A mutant whose tests do not end is not noticed for being slow: it is tried again alone, and counts
once the same tests have ended several times beside it without the change.
"""

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from hashlib import blake2b
from pathlib import Path
from shutil import copy2, rmtree
from typing import Final, NamedTuple

from sims.arguments import amount, count

ROOT: Final = Path(__file__).parents[1]
_WORK: Final = ROOT / ".mutants"
_EQUIVALENT: Final = Path(__file__).with_name("equivalent_mutants.toml")
_ALONE_S: Final = 30  # and so many times what the tests take without a change
_ALONE_TIMES: Final = 5
_BESIDE: Final = 3  # so often the tests have to end beside a mutant that does not
_SCORE: Final = 0.9  # of the sample, without what is equivalent
_LATEST_S: Final = 60  # before the time is up, no module is begun
_DEFAULT: Final = r',\s*(strict=\w+|"big")?(?=\))'
PYTEST: Final = (
    "-p",
    "no:cacheprovider",
    "--hypothesis-profile=mutants",
    "-W",
    "ignore::pytest.PytestUnraisableExceptionWarning",  # mutmut's own, where `__del__` calls
    # These count steps and calls, of which mutmut adds its own.
    "--deselect=tests/test_edits.py::test_comparing_unlike_texts_takes_steps_in_proportion",
    "--deselect=tests/test_protocol.py::test_an_edit_and_a_commit_take_as_few_calls_as_are_asked_of_them",
    # What mutmut puts into the code imports more at its first call, which the other user may not.
    "--deselect=tests/test_snapshot.py::test_commands_that_read_work_on_the_folder_of_another_user",
)
_CONFIG: Final = """
[tool.mutmut]
source_paths = ["phextsync"]
only_mutate = {sources}
also_copy = ["sims", "docs", "examples", "fuzz", "benchmarks", "README.md", "CHANGELOG.md"]
pytest_add_cli_args = {arguments}
pytest_add_cli_args_test_selection = {tests}
timeout_multiplier = 4.0
timeout_constant = 5.0
"""
_MAKE: Final = """
import sys
from pathlib import Path
from mutmut.mutation.file_mutation import mutate_file_contents
from mutmut.utils.format_utils import get_mutant_name
for path in map(Path, sys.argv[1:]):
    for name in mutate_file_contents(str(path), path.read_text()).mutant_names:
        print(get_mutant_name(path, name))
"""


class Module(NamedTuple):
    """Which files are mutated, the test files that hold them, and those that what survives meets
    then."""

    globs: tuple[str, ...]
    tests: tuple[str, ...]
    wider: tuple[str, ...] = ()


def _module(globs: str, tests: str, wider: str = "") -> Module:
    found = tuple(f"phextsync/{glob}.py" for glob in globs.split())
    return Module(found, *(_files(names) for names in (tests, wider)))


def _files(names: str) -> tuple[str, ...]:
    return tuple(f"tests/test_{name}.py" for name in names.split())


MODULES: Final[Mapping[str, Module]] = {  # a file belongs to the first that names it
    "reconcile": _module("sync/reconcile", "reconcile comparison", "protocol permissions"),
    "sketch": _module("sync/sketch", "sketch comparison", "protocol hostile"),
    "comparison": _module("sync/comparison", "comparison", "protocol link_state hostile"),
    "permissions": _module("trust/permissions", "permissions identity", "membership"),
    "crdt": _module("crdt texts steps", "crdt positions rules", "mapping replica bytes history"),
    "edits": _module("edits alignment", "edits", "merges crdt conflicts"),
    "merges": _module("merges conflicts", "merges conflicts", "edits crdt"),
    "names": _module("files/names files/naming", "names naming", "files directories"),
    "codec": _module("sync/codec sync/messages sync/fields", "messages", "protocol hostile"),
    "protocol": _module(
        "sync/*",
        "protocol link_state presence messages ledger core_parts core_of_links link_parts"
        " holding guests halves tree timing",
        "permissions hostile hostile_machine",
    ),
    "replica": _module(
        "replica/*",
        "replica mapping positions history durability replica_parts holding guests guest_model"
        " halves undelete growth sides taking_back put_back retention",
        "protocol embed direct quarantine",
    ),
    "files": _module(
        "files/*",
        "files directories file_records file_status file_marks files_identity files_renames alike"
        " entries finding folders held presets restored rules settling filesystem names naming",
        "files_cli conflict_copies page_views file_defects odd_files",
    ),
    "store": _module(
        "store/*", "store pages retention snapshot whole durations", "upkeep damage in_memory"
    ),
}


def sources(name: str) -> list[str]:
    """Return the files of a module."""
    taken: dict[str, str] = {}
    for each, module in MODULES.items():
        for glob in module.globs:
            for path in sorted(ROOT.glob(glob)):
                taken.setdefault(str(path.relative_to(ROOT)), each)
    return [path for path, owner in taken.items() if owner == name]


class Outcome(StrEnum):
    """What became of the tests on a mutant."""

    PASSED = "passed"
    FAILED = "failed"
    ENDLESS = "endless"


@dataclass(slots=True)
class Tried:
    """The mutants of one module that were tried, by their names: whether a test noticed each."""

    noticed: dict[str, bool] = field(default_factory=dict)
    differences: dict[str, str] = field(default_factory=dict)  # of those that none noticed
    endless: list[str] = field(default_factory=list)  # those that were noticed by not ending


def main(arguments: Sequence[str] | None = None) -> int:
    """Try a sample of mutants; print what survived and the score. 0 when it is good enough."""
    options = parse(arguments)
    modules = {name: MODULES[name] for name in options.modules.split(",")}
    until = time.monotonic() + 60 * options.minutes
    for name, module in modules.items():
        _prepare(name, module, is_fresh=options.fresh)
    chosen = sample({name: _all(name) for name in modules}, options)
    found: dict[str, Tried] = {}
    for name, module in modules.items():
        if until - time.monotonic() > _LATEST_S or not _todo(name, chosen[name]):
            found[name] = _try(name, module, chosen[name], options.jobs, until)
    wanted = sum(map(len, chosen.values()))
    return tell(found, wanted, _equivalents())


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Return the options of the command."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("--modules", default=",".join(MODULES), help="names with commas between")
    parser.add_argument("--sample", type=count, default=500, help="how many mutants in all")
    parser.add_argument("--seed", type=int, default=0, help="another one, another sample")
    parser.add_argument("--minutes", type=amount, default=55.0, help="then it ends, to go on later")
    parser.add_argument("--jobs", type=count, default=os.cpu_count() or 1)
    parser.add_argument("--fresh", action="store_true", help="forget what earlier runs found")
    options = parser.parse_args(arguments)
    if unknown := {*options.modules.split(",")} - {*MODULES}:
        parser.error(
            f"expected modules of {', '.join(MODULES)}, found {', '.join(sorted(unknown))}"
        )
    return options


def sample(
    mutants: Mapping[str, Iterable[str]], options: argparse.Namespace
) -> dict[str, list[str]]:
    """Return which of all mutants are tried: those whose names' digests are the least."""
    ranked = sorted(
        (blake2b(f"{options.seed} {mutant}".encode()).digest(), name, mutant)
        for name, some in mutants.items()
        for mutant in some
    )
    chosen: dict[str, list[str]] = {name: [] for name in mutants}
    for _, name, mutant in ranked[: options.sample]:
        chosen[name].append(mutant)
    return chosen


# -- folders -------------------------------------------------------------------------------


def _prepare(name: str, module: Module, *, is_fresh: bool) -> None:
    """Have a folder with the repository as it is now. Of other code nothing is kept."""
    folder = _WORK / name
    known = folder / "code.txt"
    code = _digest(path for path in _tracked() if path.startswith("phextsync/"))
    if is_fresh or not known.exists() or known.read_text() != code:
        rmtree(folder, ignore_errors=True)
    for path in (*_tracked(), *(str(p.relative_to(ROOT)) for p in ROOT.glob("phextsync/**/*.so"))):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        copy2(ROOT / path, folder / path)
    given = {"sources": sources(name), "tests": module.tests, "arguments": PYTEST}
    with (folder / "pyproject.toml").open("a") as file:
        file.write(_CONFIG.format(**{key: json.dumps(each) for key, each in given.items()}))
    known.write_text(code)


def _tracked() -> list[str]:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, check=True, capture_output=True)
    return [path for path in listed.stdout.decode().split("\n") if (ROOT / path).is_file()]


def _digest(paths: Iterable[str]) -> str:
    parts = (blake2b((ROOT / path).read_bytes()).digest() for path in paths)
    return blake2b(b"".join(parts)).hexdigest()


def _all(name: str) -> list[str]:
    """Return the names of all mutants of a module."""
    command = [sys.executable, "-c", _MAKE, *sources(name)]
    made = subprocess.run(command, cwd=_WORK / name, check=True, capture_output=True)
    return made.stdout.decode().split()


# -- trying --------------------------------------------------------------------------------


def _try(name: str, module: Module, chosen: list[str], jobs: int, until: float) -> Tried:
    """Try those that have not yet been noticed, by the module's tests and then by wider ones."""
    folder = _WORK / name
    todo = _todo(name, chosen)
    if todo:
        print(f"{name}: {len(todo)} of {len(chosen)} mutants are to be tried", flush=True)
        command = [sys.executable, "-m", "mutmut", "run", "--max-children", str(jobs), *todo]
        _run_until(command, folder, until)
    results = _results(name)
    late = [m for m in chosen if m in results and results[m] is None]
    results |= _alone(folder, "alone", module.tests, late, jobs, until)
    survivors = [m for m in chosen if results.get(m) is Outcome.PASSED]
    if module.wider:
        results |= dict.fromkeys(survivors)
        results |= _alone(folder, "wider", module.wider, survivors, jobs, until)
    tried = Tried()
    for mutant in chosen:
        outcome = results.get(mutant)
        if outcome is None:
            continue
        tried.noticed[mutant] = outcome is not Outcome.PASSED
        if outcome is Outcome.PASSED:
            tried.differences[mutant] = _difference(folder, mutant)
        elif outcome is Outcome.ENDLESS:
            tried.endless.append(mutant)
    return tried


def _run_until(command: list[str], folder: Path, until: float) -> None:
    """Run mutmut in a folder; it keeps what it has found when the time is up."""
    with (folder / "log.txt").open("w") as log:
        process = subprocess.Popen(
            command, cwd=folder, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            status = process.wait(max(1.0, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            status = 0
        finally:
            _end(process)
    if status:
        print(f"expected tests that pass without a change, see {folder / 'log.txt'}", flush=True)


def _todo(name: str, chosen: list[str]) -> list[str]:
    """Return what was not tried yet; what survived is tried again with other tests only."""
    results, told = _results(name), _WORK / name / "tests.txt"
    tests = _digest(path for path in _tracked() if path.startswith(("tests/", "sims/")))
    is_same = told.exists() and told.read_text() == tests
    told.write_text(tests)
    if not is_same:
        for kind in ("alone", "wider"):
            (_WORK / name / f"{kind}.json").unlink(missing_ok=True)
    return [
        m for m in chosen if m not in results or (not is_same and results[m] is not Outcome.FAILED)
    ]


def _results(name: str) -> dict[str, Outcome | None]:
    """Return what became of each mutant that was tried among others; None if it was too slow."""
    found: dict[str, Outcome | None] = {}
    for path in sources(name):
        meta = _WORK / name / "mutants" / f"{path}.meta"
        codes = json.loads(meta.read_text())["exit_code_by_key"] if meta.exists() else {}
        found |= {m: outcome(code) for m, code in codes.items() if code is not None}
    return found


def outcome(code: int) -> Outcome | None:
    """Return what an exit code of pytest or mutmut says; None when mutmut ended what was slow."""
    if code in (-9, -24, 24, 36, 152, 255):  # SIGKILL and SIGXCPU, in all their dresses
        return None
    return Outcome.PASSED if code in (0, 5, 33) else Outcome.FAILED  # passed, no tests


def _alone(
    folder: Path, kind: str, tests: Sequence[str], mutants: Sequence[str], jobs: int, until: float
) -> dict[str, Outcome]:
    """Return what becomes of mutants in processes of their own, as far as there is time for them;
    what is known of `kind` is not tried again."""
    path = folder / f"{kind}.json"
    known = (
        {m: Outcome(o) for m, o in json.loads(path.read_text()).items()} if path.exists() else {}
    )
    todo = [mutant for mutant in mutants if mutant not in known]
    began = time.monotonic()
    if todo and began < until:
        with start_tests(folder, tests, "") as process:
            if process.wait():
                print(f"expected {' '.join(tests)} to pass without a change", flush=True)
                return {}
        patience_s = _ALONE_TIMES * (time.monotonic() - began) + _ALONE_S

        def try_one(mutant: str) -> Outcome | None:
            is_late = time.monotonic() > until
            start = partial(start_tests, folder, tests)
            return None if is_late else watched(start, mutant, patience_s)

        with ThreadPoolExecutor(jobs) as pool:
            told = zip(todo, pool.map(try_one, todo), strict=True)
            known |= {mutant: each for mutant, each in told if each is not None}
        path.write_text(json.dumps(known))
    return {mutant: known[mutant] for mutant in mutants if mutant in known}


def start_tests(folder: Path, tests: Sequence[str], mutant: str) -> "subprocess.Popen[bytes]":
    """Start tests on a mutant, or without a change, in a process of their own."""
    return subprocess.Popen(
        [sys.executable, "-m", "pytest", "-x", "-q", *PYTEST, *tests],
        cwd=folder / "mutants",
        env={**os.environ, "PHEXTSYNC_DAMAGE_CASES": "100", "MUTANT_UNDER_TEST": mutant},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def watched(
    start: Callable[[str], "subprocess.Popen[bytes]"], mutant: str, patience_s: float
) -> Outcome:
    """Return what becomes of tests on a mutant. After `patience_s` those without the change run
    beside them, one after another: endless is what goes on when so many of these have ended."""
    with start(mutant) as process:
        try:
            return outcome(process.wait(patience_s)) or Outcome.FAILED
        except subprocess.TimeoutExpired:
            for _ in range(_BESIDE):
                if process.poll() is None:
                    with start("") as beside:
                        beside.wait()
            code = process.poll()
            return Outcome.ENDLESS if code is None else outcome(code) or Outcome.FAILED
        finally:
            _end(process)


def _end(process: "subprocess.Popen[bytes]") -> None:
    """End a process with all that it started."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _difference(folder: Path, mutant: str) -> str:
    command = [sys.executable, "-m", "mutmut", "show", mutant]
    shown = subprocess.run(command, cwd=folder, check=True, capture_output=True).stdout.decode()
    lines = [line for line in shown.splitlines() if re.match(r"[-+](?![-+])", line)]
    return "\n".join(lines)


# -- telling -------------------------------------------------------------------------------


def tell(found: Mapping[str, Tried], wanted: int, equivalent: Container[tuple[str, str]]) -> int:
    """Print what survived of the modules, and how many were noticed; 0 when that is enough."""
    rows: list[tuple[str, int, int, int]] = []
    for name, tried in found.items():
        left = {m: d for m, d in tried.differences.items() if not _is_same(name, d, equivalent)}
        for mutant, difference in left.items():
            print(f"\n{mutant}\n{difference}")
        for mutant in tried.endless:
            print(f"\n{mutant}\nnoticed by not ending")
        noticed = sum(tried.noticed.values())
        rows.append((name, len(tried.noticed), noticed, len(tried.differences) - len(left)))
    count, noticed, same = (sum(column) for column in zip(*(row[1:] for row in rows), strict=True))
    rows.append(("all", count, noticed, same))
    print(f"\n{'module':12} {'tried':>6} {'noticed':>8} {'equivalent':>11} {'score':>7}")
    for name, of, found_by, alike in rows:
        score = f"{100 * found_by / (of - alike):.1f} %" if of > alike else ""
        print(f"{name:12} {of:6} {found_by:8} {alike:11} {score:>7}")
    if count < wanted:
        print(f"{wanted - count} of {wanted} mutants were not tried: the same command goes on")
    return 0 if count and noticed >= _SCORE * (count - same) else 1


def _is_same(module: str, difference: str, equivalent: Container[tuple[str, str]]) -> bool:
    """Whether nothing differs: it is known to be so there, or only says that what is of one length
    by construction may be of several (`strict`), or leaves out that bytes are big-endian."""
    lines = {re.sub(_DEFAULT, "", line[1:]).strip() for line in difference.strip().splitlines()}
    return (module, squeezed(difference)) in equivalent or len(lines) == 1


def _equivalents() -> set[tuple[str, str]]:
    entries = tomllib.loads(_EQUIVALENT.read_text())["mutant"]
    return {(entry["module"], squeezed(entry["difference"])) for entry in entries}


def squeezed(difference: str) -> str:
    """Return the lines of a difference without their indentation."""
    return "\n".join(f"{line[0]} {line[1:].strip()}" for line in difference.strip().splitlines())


if __name__ == "__main__":
    sys.exit(main())
