"""Ctrl-C ends the command quietly, wherever it is."""

import subprocess
import sys
from pathlib import Path

import pytest

_PROGRAM = """
import atexit, os, signal, sys, types

class Interrupting:
    def find_spec(self, name, path=None, target=None):
        if name == place:
            os.kill(os.getpid(), signal.SIGINT)

place, sys.argv = sys.argv[1], ["phextsync", *sys.argv[2:]]
signal.signal(signal.SIGINT, signal.SIG_IGN if place == "ignored" else signal.default_int_handler)
sys.meta_path.insert(0, Interrupting())
if place in ("the way out", "ignored"):
    atexit.register(os.kill, os.getpid(), signal.SIGINT)

class Finalized:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGINT)

if place == "a finalizer":
    sys.modules["phextsync.cli.main"] = types.SimpleNamespace(main=Finalized)
from phextsync_command import main
main()
"""


def _interrupted(place: str) -> tuple[int, str, str]:
    """Return status, output and errors of a command that is interrupted at a place."""
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, place, "--version"],
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.real
@pytest.mark.parametrize("module", ["phextsync", "trio", "phextsync.cli.main"])
def test_ctrl_c_ends_a_command_quietly_while_it_is_imported(module: str) -> None:
    assert _interrupted(module) == (130, "", "")


@pytest.mark.real
def test_ctrl_c_ends_a_command_quietly_where_nothing_can_be_raised() -> None:
    assert _interrupted("a finalizer") == (130, "", "")


@pytest.mark.real
def test_ctrl_c_ends_a_command_quietly_on_its_way_out() -> None:
    status, out, errors = _interrupted("the way out")
    assert (status, errors) == (130, "")
    assert out.startswith("phextsync ")


@pytest.mark.real
def test_a_command_that_is_not_to_hear_ctrl_c_does_not() -> None:
    status, out, errors = _interrupted("ignored")
    assert (status, errors) == (0, "")
    assert out.startswith("phextsync ")
