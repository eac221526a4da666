"""A machine that sleeps for hours, or whose clock is set, is even with the others soon after."""

import socket
from pathlib import Path

import pytest
import trio

from phextsync.cli.supervisor import Supervisor
from phextsync.index import Coordinate
from phextsync.testing import SetClock, World

_PLACE = Coordinate(*[1] * 9)
_HOURS_S = 8 * 3600.0
_YEARS_S = 1e8


def _append(world: World, node: int, text: str) -> bool:
    return world.edit(node, _PLACE, lambda replica: replica.append(_PLACE, text))


@pytest.mark.parametrize("node", [0, 1])
def test_a_machine_that_slept_is_even_again(node: int) -> None:
    world = World(1, 3)
    world.run_until(1)
    assert _append(world, node, "q0z\n")
    world.apply(SetClock(node, wall_s=_HOURS_S, leap_s=_HOURS_S))  # all its timers are due at once
    assert _append(world, 2, "q1z\n")
    world.run_until(2)
    assert _append(world, node, "q2z\n")
    world.settle(10)
    texts = {world.text(each, _PLACE) for each in range(3)}
    assert len(texts) == 1
    assert sorted(texts.pop().split()) == ["q0z", "q1z", "q2z"]


@pytest.mark.parametrize("wall_s", [-_YEARS_S, _YEARS_S])
def test_a_clock_that_is_set_loses_no_edit(wall_s: float) -> None:
    lines: list[str] = []
    world = World(1, 2, trace=lines.append)
    world.run_until(1)
    assert _append(world, 0, "q0z\n")
    world.apply(SetClock(0, wall_s=wall_s, leap_s=0))
    assert _append(world, 0, "q1z\n")
    world.run_until(3)
    assert not any("close" in line for line in lines)
    world.settle(5)
    assert sorted(world.text(1, _PLACE).split()) == ["q0z", "q1z"]


async def test_a_node_that_slept_tells_its_manager_once_that_it_lives(
    tmp_path: Path, mock_clock: trio.testing.MockClock
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.setblocking(False)
        supervisor = Supervisor({"NOTIFY_SOCKET": listening.getsockname()})
        async with trio.open_nursery() as nursery:
            nursery.start_soon(supervisor.serve, lambda: "")
            await trio.testing.wait_all_tasks_blocked()
            mock_clock.jump(_HOURS_S)
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        assert [listening.recv(99)[:8] for _ in range(2)] == [b"READY=1\n", b"WATCHDOG"]
        with pytest.raises(BlockingIOError):
            listening.recv(99)
