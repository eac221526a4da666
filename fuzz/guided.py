"""Runs one target under atheris, guided by which lines of Python it reaches: `python -m
fuzz.guided NAME`, then what libFuzzer takes."""

import sys

import atheris


def main() -> None:
    """Run until libFuzzer ends the process."""
    name = sys.argv.pop(1)
    with atheris.instrument_imports(include=["phextsync"], exclude=["phextsync.index"]):
        from fuzz.targets import TARGETS
    atheris.Setup(sys.argv, TARGETS[name].run)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
