"""`python -m fuzz NAME|all --seconds N [--seed S]`: one line a target.

Targets in Python run under atheris where it is installed, the compiled ones under the sanitizers
of gcc. Each runs in a process of its own, so that an abort is a finding like any other. Findings
go to tests/vectors/fuzz, where a test replays them.
"""

import argparse
import hashlib
import importlib.util
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fuzz import corpora, sanitized
from fuzz.loop import FILE_BYTES
from fuzz.targets import TARGETS
from sims.arguments import amount

FINDINGS: Final = Path(__file__).parent.parent / "tests" / "vectors" / "fuzz"
_RUNS: Final = re.compile(r"Done (\d+) runs")
_START_S: Final = 300.0  # what a process may take beside fuzzing before it counts as hung


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one target did; not sound when its process did not end as it should. `finding` is the
    input that broke a promise, and `log` how."""

    name: str
    engine: str
    executions: int
    is_sound: bool
    finding: bytes | None
    log: str


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line asks for; 1 when something was found."""
    parser = argparse.ArgumentParser(prog="python -m fuzz", description=__doc__)
    parser.add_argument("name", choices=[*TARGETS, "all"])
    parser.add_argument("--seconds", type=amount, default=30, help="in all")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    names = list(TARGETS) if options.name == "all" else [options.name]
    if any(TARGETS[name].is_compiled for name in names):
        sanitized.build()
    are_sound = True
    for name in names:
        outcome = _run(name, options.seconds / len(names), options.seed)
        print(
            f"{name:12} {outcome.engine:10} {outcome.executions:10} executions  "
            f"corpus {len(corpora.load(name))}",
            flush=True,
        )
        if not outcome.is_sound:
            are_sound = False
            print(outcome.log[-4000:])
        if outcome.finding is not None:
            print(f"found: {_store(name, outcome.finding)}", flush=True)
    return 0 if are_sound else 1


def _run(name: str, seconds: float, seed: int) -> Outcome:
    if TARGETS[name].is_compiled:
        return _run_loop(name, seconds, seed, is_sanitized=True)
    if importlib.util.find_spec("atheris") is None:
        return _run_loop(name, seconds, seed, is_sanitized=False)
    return _run_guided(name, seconds, seed)


def _run_loop(name: str, seconds: float, seed: int, *, is_sanitized: bool) -> Outcome:
    engine = "asan+ubsan" if is_sanitized else "mutations"
    with tempfile.NamedTemporaryFile() as shown:
        shown.truncate(FILE_BYTES)
        status, log = _execute(
            [sys.executable, "-P", "-m", "fuzz.loop", name, str(seconds), str(seed), shown.name],
            seconds,
            sanitized.environment() if is_sanitized else _environment(),
        )
        content = Path(shown.name).read_bytes()
    if status == 0:
        executions = json.loads(log.splitlines()[-1])["executions"]
        return Outcome(name, engine, executions, True, None, log)
    size = int.from_bytes(content[:4])
    return Outcome(name, engine, 0, False, content[4 : 4 + size], log)


def _environment() -> dict[str, str]:
    """Return the environment of a process that finds this package with `-P`."""
    return {**os.environ, "PYTHONPATH": str(sanitized.ROOT)}


def _run_guided(name: str, seconds: float, seed: int) -> Outcome:
    with tempfile.TemporaryDirectory() as folder:
        inputs, findings = Path(folder, "inputs"), Path(folder, "findings")
        inputs.mkdir()
        findings.mkdir()
        for number, data in enumerate(corpora.load(name)):
            (inputs / f"seed-{number}").write_bytes(data)
        status, log = _execute(
            [
                *(sys.executable, "-m", "fuzz.guided", name, str(inputs)),
                f"-max_total_time={max(1, round(seconds))}",
                *(f"-seed={seed + 1}", f"-artifact_prefix={findings}/"),
                *("-timeout=60", "-rss_limit_mb=4096", "-max_len=4096"),
            ],
            seconds,
            None,
        )
        grown = [path.read_bytes() for path in sorted(inputs.iterdir()) if "seed" not in path.name]
        corpora.keep(name, grown)
        found = [path.read_bytes() for path in sorted(findings.iterdir())]
    runs = _RUNS.search(log)
    finding = found[0] if found else None
    return Outcome(name, "atheris", int(runs[1]) if runs else 0, status == 0, finding, log)


def _execute(
    command: list[str], seconds: float, environment: dict[str, str] | None
) -> tuple[int, str]:
    try:
        done = subprocess.run(
            command,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=seconds + _START_S,
        )
    except subprocess.TimeoutExpired as error:
        return -1, f"it hangs: {(error.stdout or b'').decode(errors='replace')}"
    return done.returncode, done.stdout.decode(errors="replace")


def _store(name: str, data: bytes) -> Path:
    FINDINGS.mkdir(parents=True, exist_ok=True)
    path = FINDINGS / f"{name}-{hashlib.blake2b(data, digest_size=6).hexdigest()}.bin"
    path.write_bytes(data)
    return path


if __name__ == "__main__":
    sys.exit(main())
