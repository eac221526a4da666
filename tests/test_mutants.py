"""The runner of mutants: the same seed draws the same sample, and its tables name what exists."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.mutants import (
    MODULES,
    PYTEST,
    ROOT,
    Outcome,
    Tried,
    outcome,
    parse,
    sample,
    sources,
    squeezed,
    start_tests,
    tell,
    watched,
)

_ALL = {name: [f"phextsync.{name}.x_f__mutmut_{i}" for i in range(50)] for name in ("a", "b")}


def test_a_sample_follows_from_its_seed_and_grows_by_more() -> None:
    few, more = (sample(_ALL, parse([f"--sample={count}"])) for count in (10, 20))
    assert sum(map(len, few.values())) == 10
    assert all({*few[name]} <= {*more[name]} for name in _ALL)
    assert sample(_ALL, parse(["--sample=10"])) == few
    assert sample(_ALL, parse(["--sample=10", "--seed=1"])) != few


def test_more_than_there_are_is_all() -> None:
    assert {name: len(some) for name, some in sample(_ALL, parse([])).items()} == {"a": 50, "b": 50}


@pytest.mark.parametrize("name", MODULES)
def test_every_module_that_is_mutated_exists_with_its_tests(name: str) -> None:
    module = MODULES[name]
    assert all(list(ROOT.glob(glob)) for glob in module.globs)
    assert sources(name)
    assert [path for path in (*module.tests, *module.wider) if not (ROOT / path).is_file()] == []
    assert module.tests
    assert not {*module.tests} & {*module.wider}


def _left_out() -> list[tuple[str, str]]:
    words = (word.removeprefix("--deselect=") for word in PYTEST if "deselect" in word)
    return [(path, test) for path, _, test in (word.partition("::") for word in words)]


def test_what_is_left_out_exists() -> None:
    assert _left_out()
    assert all(f"def {test}(" in (ROOT / path).read_text() for path, test in _left_out())


def test_wider_tests_leave_out_what_counts_the_calls_that_mutmut_adds(tmp_path: Path) -> None:
    tests = tmp_path / "mutants" / "tests"
    tests.mkdir(parents=True)
    (tests.parent / "conftest.py").write_text(
        "from hypothesis import settings\n\nsettings.register_profile('mutants')\n"
    )
    path, counts_calls = _left_out()[1]
    (tests.parent / path).write_text(
        f"def {counts_calls}():\n    assert False\n\ndef test_other():\n    pass\n"
    )
    assert start_tests(tmp_path, [path], "").wait() == 0
    assert start_tests(tmp_path, [f"{path}::test_none"], "").wait()


def test_every_equivalent_mutant_has_a_reason_and_changes_code_that_is_there() -> None:
    entries = tomllib.loads((Path(__file__).parent / "equivalent_mutants.toml").read_text())
    for entry in entries["mutant"]:
        assert entry["why"]
        code = "".join((ROOT / path).read_text() for path in sources(entry["module"]))
        removed = [
            line[2:] for line in squeezed(entry["difference"]).splitlines() if line[0] == "-"
        ]
        assert removed
        assert all(line in code for line in removed), entry["difference"]


def test_the_score_leaves_out_what_is_equivalent(capsys: pytest.CaptureFixture[str]) -> None:
    names = [f"m{i}" for i in range(10)]
    tried = Tried({name: i > 0 for i, name in enumerate(names)}, {"m0": "-    a\n+    b"})
    assert tell({"a": tried}, wanted=10, equivalent=set()) == 0
    assert "m0\n-    a\n+    b\n" in capsys.readouterr().out
    tried.noticed["m1"] = False
    tried.differences["m1"] = "- c\n+ d"
    assert tell({"a": tried}, wanted=12, equivalent=set()) == 1
    out = capsys.readouterr().out
    assert "80.0 %" in out
    assert "2 of 12 mutants were not tried" in out
    same = {("a", "- a\n+ b")}
    assert tell({"a": tried}, wanted=10, equivalent=same) == 1
    assert tell({"a": tried}, wanted=10, equivalent=same | {("b", "- c\n+ d")}) == 1
    assert tell({"a": tried}, wanted=10, equivalent=same | {("a", "- c\n+ d")}) == 0
    assert "100.0 %" in capsys.readouterr().out


def test_lengths_that_are_equal_by_construction_need_no_test(
    capsys: pytest.CaptureFixture[str],
) -> None:
    difference = "-    for a, b in zip(x, y, strict=True):\n+    for a, b in zip(x, y, ):"
    assert tell({"a": Tried({"m": False, "n": True}, {"m": difference})}, 2, set()) == 0
    other = difference.replace("zip(x, y, )", "zip(y, x, )")
    assert tell({"a": Tried({"m": False, "n": True}, {"m": other})}, 2, set()) == 1
    assert capsys.readouterr().out.count("strict") == 1


def test_bytes_are_big_endian_by_default(capsys: pytest.CaptureFixture[str]) -> None:
    difference = '-    return n.to_bytes(8, "big")\n+    return n.to_bytes(8, )'
    assert tell({"a": Tried({"m": False, "n": True}, {"m": difference})}, 2, set()) == 0
    other = difference.replace("(8, )", "(9, )")
    assert tell({"a": Tried({"m": False, "n": True}, {"m": other})}, 2, set()) == 1
    assert capsys.readouterr().out.count("to_bytes") == 2


def test_a_mutant_that_was_ended_for_being_slow_was_not_noticed() -> None:
    assert [outcome(code) for code in (0, 5, 33)] == [Outcome.PASSED] * 3
    assert [outcome(code) for code in (1, 2, 3, -6, -11)] == [Outcome.FAILED] * 5
    assert {outcome(code) for code in (-9, -24, 24, 36, 152, 255)} == {None}


def _process(code: str) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, start_new_session=True
    )


@pytest.mark.parametrize(("code", "expected"), [(0, Outcome.PASSED), (1, Outcome.FAILED)])
def test_a_slow_mutant_is_judged_by_its_tests(code: int, expected: Outcome) -> None:
    mutant = _process(f"exit(int(input()) + {code})")
    besides = 0

    def start(name: str) -> "subprocess.Popen[bytes]":
        nonlocal besides
        if name:
            return mutant
        besides += 1
        if besides == 2:
            assert mutant.stdin is not None
            mutant.stdin.write(b"0\n")
            mutant.stdin.close()
            mutant.wait()
        return _process("")

    assert watched(start, "m", 0) is expected
    assert besides == 2


def test_a_mutant_is_endless_when_its_tests_go_on_and_others_have_ended_beside_them() -> None:
    started: list[str] = []

    def start(name: str) -> "subprocess.Popen[bytes]":
        started.append(name)
        return _process("input()" if name else "")

    assert watched(start, "m", 0) is Outcome.ENDLESS
    assert started == ["m", "", "", ""]
