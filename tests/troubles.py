"""What happens to three machines of a mesh in random tests, and the end of it."""

from random import Random

from phextsync.testing import Action, Crash, MemoryMesh, Partition, Repair, Restart

_CUTS = (((0,), (1, 2)), ((0, 1), (2,)), ((0, 2), (1,)))


def cut_or_crash(source: Random) -> Action:
    """Draw what happens: one machine is cut off, or ends."""
    cut = source.choice(_CUTS)
    crash = Crash(source.randrange(3), is_silent=source.random() < 0.5)
    return source.choice((Partition(cut), crash))


def mend(mesh: MemoryMesh) -> None:
    """Let all run, and reach each other."""
    mesh.apply(Repair())
    for number in range(3):
        if not mesh.is_up(number):
            mesh.apply(Restart(number))
