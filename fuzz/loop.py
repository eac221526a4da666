"""Runs one target in this process: `python -P -m fuzz.loop NAME SECONDS SEED FILE`.

Mutates a corpus; under the sanitizers, whatever meets a new edge joins it. FILE always holds the
input that runs, so that it is known when the process dies. Prints one line of JSON at the end.
"""

import ctypes
import json
import mmap
import sys
import time
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Final

import phextsync
from fuzz import corpora, sanitized
from fuzz.mutate import mutate
from fuzz.targets import TARGETS

FILE_BYTES: Final = 1 << 17
SLOW_S: Final = 2.0
"""More than this for an input of at most 4 KiB is a finding."""


def main() -> None:
    """Run until time is over or something is found."""
    name, seconds, seed, path = sys.argv[1:]
    target, source = TARGETS[name], Random(int(seed))
    corpus = corpora.load(name)
    grown: list[bytes] = []
    new_edges = _new_edges()
    executions, slowest_s = 0, 0.0
    deadline = time.monotonic() + float(seconds)
    with Path(path).open("r+b") as file, mmap.mmap(file.fileno(), FILE_BYTES) as shown:
        while time.monotonic() < deadline:
            seeded = executions < len(corpus)
            data = corpus[executions] if seeded else mutate(source.choice(corpus), corpus, source)
            shown[: 4 + len(data)] = len(data).to_bytes(4) + data
            start = time.process_time()
            target.run(data)
            took_s = time.process_time() - start
            slowest_s = max(slowest_s, took_s)
            assert took_s < SLOW_S, f"took {took_s:.1f} s for {len(data)} bytes"
            executions += 1
            if new_edges() and not seeded:
                corpus.append(data)
                grown.append(data)
    corpora.keep(name, grown)
    print(json.dumps({"executions": executions, "slowest_ms": round(slowest_s * 1000, 1)}))


def _new_edges() -> Callable[[], int]:
    if not sanitized.COVERAGE.exists() or "sanitized" not in str(phextsync.__file__):
        return lambda: 0
    found: Callable[[], int] = ctypes.CDLL(str(sanitized.COVERAGE)).phextsync_new_edges
    return found


if __name__ == "__main__":
    main()
