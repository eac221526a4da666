"""Two agents share a task list; whoever claims a task first does it. Is that so under partitions?

An agent claims a task by adding a line to the task's scroll, while it sees no other claim there.
Agents that cannot see each other may both claim it; when they meet, both lines are there, and
the rule decides: the smallest line owns the task. `python examples/claims.py` tests the rule by
partitions that Hypothesis chooses, and shrinks one that breaks it.
"""

from functools import partial

from hypothesis import given, settings
from hypothesis import strategies as st

from phextsync import Coordinate
from phextsync.testing import Fault, Partition, Repair, World

TASKS = [Coordinate(1, 1, 1, 1, 1, 1, 1, 1, number) for number in (1, 2, 3)]
APART = Partition(((0,), (1,)))
faults = st.lists(st.builds(Fault, st.floats(0, 9), st.sampled_from([APART, Repair()])), max_size=6)
claims = st.tuples(st.floats(0, 9), st.integers(0, 1), st.sampled_from(TASKS))


def claim(world: World, agent: int, task: Coordinate) -> None:
    """An agent claims a task that nobody has, as far as it can see."""
    if not world.text(agent, task):
        line = f"{world.oracle.token()} agent {agent}\n"
        world.edit(agent, task, lambda replica: replica.append(task, line))


def owner(text: str) -> str | None:
    """The rule: it looks at the text alone, so equal texts have equal owners."""
    return min(text.splitlines(), default=None)


@settings(max_examples=60, deadline=None)
@given(faults, st.lists(claims, max_size=8), st.integers(0, 99))
def test_agents_agree_who_owns_a_task(
    faults: list[Fault], claims: list[tuple[float, int, Coordinate]], seed: int
) -> None:
    world = World(seed, count=2)
    world.schedule(faults)
    for time, agent, task in claims:
        world.at(time, partial(claim, world, agent, task))
    world.run_until(10)
    world.settle(within_s=10)  # fails unless both hold the same and no claim was lost
    for task in TASKS:
        assert owner(world.text(0, task)) == owner(world.text(1, task))
        assert (owner(world.text(0, task)) is None) == all(task != t for _, _, t in claims)


if __name__ == "__main__":
    test_agents_agree_who_owns_a_task()
    print("the agents always agreed")
