"""What is wrong with a command line of a simulation, fuzzer or benchmark is told in one line."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

import benchmarks.__main__
import fuzz.__main__
import sims.__main__
import sims.kills
import sims.soak
import sims.tasks
import tests.mutants

_MAINS: dict[str, Callable[[Sequence[str]], object]] = {
    "sims": sims.__main__.main,
    "sims.kills": sims.kills.main,
    "sims.soak": sims.soak.main,
    "sims.tasks": sims.tasks.main,
    "benchmarks": benchmarks.__main__.main,
    "fuzz": fuzz.__main__.main,
    "tests.mutants": tests.mutants.main,
}
_SEEDS = "argument {}: expected seeds such as 7 or 0-99, found {}"
_COUNT = "argument {}: expected a whole number above 0, found {}"
_AMOUNT = "argument {}: expected a number above 0, found {}"
_WRONG = [
    *(("sims.tasks", [seeds], _SEEDS.format("seeds", seeds)) for seeds in ("x", "3-1", "1-2-3")),
    ("sims", ["sweep", "--seeds=1-"], _SEEDS.format("--seeds", "1-")),
    ("sims.tasks", [], "the following arguments are required: seeds"),
    ("sims", ["sweep", "--seeds=-1"], _SEEDS.format("--seeds", "-1")),
    ("sims", ["report", "folder", "--seeds=x"], _SEEDS.format("--seeds", "x")),
    ("sims", ["branches", "--seeds=x"], _SEEDS.format("--seeds", "x")),
    ("sims", ["sweep", "--jobs=0"], _COUNT.format("--jobs", "0")),
    ("sims.kills", ["--kills=-3"], _COUNT.format("--kills", "-3")),
    ("sims.soak", ["--minutes=nan"], _AMOUNT.format("--minutes", "nan")),
    ("sims.soak", ["--rate=0"], _AMOUNT.format("--rate", "0")),
    ("fuzz", ["all", "--seconds=-1"], _AMOUNT.format("--seconds", "-1")),
    ("tests.mutants", ["--sample=x"], _COUNT.format("--sample", "x")),
    ("tests.mutants", ["--modules=sketch,nope"], ", found nope"),
    ("benchmarks", ["six", "--against=/nowhere"], "a version of phextsync, found /nowhere"),
]  # fmt: skip


@pytest.mark.parametrize(("command", "argv", "told"), _WRONG)
def test_a_wrong_argument_is_one_line_below_how_it_is_used(
    command: str, argv: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        _MAINS[command](argv)
    assert ended.value.code == 2
    *usage, line = capsys.readouterr().err.splitlines()
    assert usage[0].startswith(f"usage: python -m {command} ")
    assert line.startswith(f"python -m {command}")
    assert line.endswith(told)


@pytest.mark.parametrize("command", sorted(_MAINS))
def test_every_command_tells_how_it_is_used(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        _MAINS[command](["--help"])
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: python -m {command} ")


@pytest.mark.parametrize("text", ["{", "[1]", '[{"seed": 1}]', "5", ""])
@pytest.mark.parametrize("command", ["compare", "report"])
def test_what_no_sweep_wrote_is_one_line(
    command: str, text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "swept.json"
    file.write_text(text)
    argv = ["compare", str(file), str(file)] if command == "compare" else [
        "report", str(tmp_path / "folder"), str(file)
    ]  # fmt: skip
    assert sims.__main__.main(argv) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"sims: {file}: expected what a sweep wrote: ")
