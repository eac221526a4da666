"""Processes that share the work of a suite, one for each core."""

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence


def share(module: str, arguments: Sequence[str], workers: int | None = None) -> Counter[str]:
    """Run a module in a process for each core, with its number and their count as the last
    arguments; return the sum of the counts that they print."""
    of = workers or len(os.sched_getaffinity(0))
    running = [
        subprocess.Popen(
            [sys.executable, "-W", "error", "-m", module, *arguments, str(worker), str(of)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for worker in range(of)
    ]
    total: Counter[str] = Counter()
    failures = []
    for process in running:
        out, errors = process.communicate()
        if process.returncode:
            failures.append(f"status {process.returncode}: {errors[-4000:]}")
        else:
            total.update(json.loads(out))
    assert not failures, "\n".join(failures)
    return total
