"""Runs a program in processes that hash differently, to see whether it repeats itself."""

import os
import subprocess
import sys


def outputs(program: str) -> set[bytes]:
    """Return what a Python program prints, in two processes: one output if it repeats itself."""
    return {
        subprocess.run(
            [sys.executable, "-c", program],
            capture_output=True,
            check=True,
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
        ).stdout
        for hash_seed in ("1", "2")
    }
