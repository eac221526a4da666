"""Two agents on two machines share one memory and write to each other, also while cut off.

Two nodes run on loopback, with folders of their own, joined by a cable that can be cut. The agents
are scripts: each keeps its part of one MEMORY.md and reads its mailbox. While the cable is cut both
go on; when it is mended both machines hold the same text, and nobody's line is missing. Exits with
status 1 if anything differs or is lost.
"""

import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import trio

from phextsync import MeshKey, Node, NodeIdentity, open_node

MEMORY = "1.1.1/1.1.1/1.1.1"
MAILBOXES = {"ada": "2.1.1/1.1.1/1.1.1", "bob": "2.1.1/1.1.1/1.1.2"}
PATIENCE_S = 60.0


class Agent:
    """A scripted agent on its own machine."""

    def __init__(self, name: str, node: Node) -> None:
        self.name = name
        self.node = node
        self.memory = node.phext("memory")

    def learn(self, heading: str, fact: str) -> None:
        """Note a fact under a heading of MEMORY.md."""
        self.memory.replace(MEMORY, f"## {heading}\n", f"## {heading}\n- {fact} ({self.name})\n")

    def mail(self, to: str, text: str) -> None:
        """Put a line into another agent's mailbox."""
        self.memory.append(MAILBOXES[to], f"from {self.name}: {text}\n")

    def take_mail(self) -> list[str]:
        """Read and empty the own mailbox; what arrives meanwhile stays for the next time."""
        return self.memory.pop(MAILBOXES[self.name], "").splitlines()

    async def until(self, holds: Callable[[], bool]) -> None:
        """Wait until something is true of what this machine holds."""
        changed = trio.Event()
        unsubscribe = self.memory.subscribe(lambda change: changed.set())
        while not holds():
            await changed.wait()
            changed = trio.Event()
        unsubscribe()

    def holds(self) -> dict[str, str]:
        """Return all scrolls of this machine."""
        return {str(place): text for place, text in self.memory.scrolls()}


class Cable:
    """A line to a port of this machine, which can be cut and mended."""

    def __init__(self, port: int) -> None:
        self._far = port
        self._carrying: list[trio.CancelScope] = []
        self.is_cut = False
        self.port = 0

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        self.port = listeners[0].socket.getsockname()[1]
        task_status.started()
        await trio.serve_listeners(self._carry, listeners)

    def cut(self) -> None:
        """Carry nothing more, neither on connections that are open nor on new ones."""
        self.is_cut = True
        for scope in self._carrying:
            scope.cancel()
        self._carrying.clear()

    def mend(self) -> None:
        """Carry new connections again."""
        self.is_cut = False

    async def _carry(self, near: trio.SocketStream) -> None:
        async with near:
            if self.is_cut:
                return
            async with (
                await trio.open_tcp_stream("127.0.0.1", self._far) as far,
                trio.open_nursery() as nursery,
            ):
                self._carrying.append(nursery.cancel_scope)
                nursery.start_soon(self._copy, near, far, nursery.cancel_scope)
                await self._copy(far, near, nursery.cancel_scope)

    async def _copy(
        self, source: trio.SocketStream, target: trio.SocketStream, scope: trio.CancelScope
    ) -> None:
        try:
            async for data in source:
                await target.send_all(data)
        except trio.BrokenResourceError:
            pass
        scope.cancel()


async def act(ada: Agent, bob: Agent, cable: Cable) -> bool:
    """The story; True if it ended as it should."""
    ada.memory[MEMORY] = "# MEMORY\n\n## People\n\n## Shopping\n"
    ada.mail("bob", "hello, I have begun our memory")
    await bob.until(lambda: MEMORY in bob.memory and MAILBOXES["bob"] in bob.memory)
    print("bob's mail:", *bob.take_mail())
    await bob.node.synced(peers=1)

    cable.cut()
    print("the cable is cut")
    ada.learn("Shopping", "milk")
    ada.learn("People", "the neighbour is called Grace")
    ada.mail("bob", "buy the milk, please")
    bob.learn("Shopping", "bread")
    bob.mail("ada", "what is the neighbour called?")
    print("they differ:", ada.holds() != bob.holds())

    cable.mend()
    print("the cable is mended")
    await ada.until(lambda: MAILBOXES["ada"] in ada.memory and "bread" in ada.memory[MEMORY])
    await bob.until(lambda: MAILBOXES["bob"] in bob.memory and "Grace" in bob.memory[MEMORY])
    mail = [*ada.take_mail(), *bob.take_mail()]
    print("their mail:", *mail, sep="\n  ")
    ada.mail("bob", "she is called Grace, see MEMORY")
    await ada.node.synced(peers=1)  # what ada has is on bob's disk
    await bob.node.synced(peers=1)

    print(bob.memory[MEMORY], end="")
    once = ("## People", "## Shopping", "milk (ada)", "Grace (ada)", "bread (bob)")
    return len(mail) == 2 and all(bob.memory[MEMORY].count(line) == 1 for line in once)


async def main(folder: Path) -> bool:
    """Run both machines and the story."""
    key = MeshKey.generate(os.urandom(32))
    for name in MAILBOXES:
        NodeIdentity.create(key, name, os.urandom(32)).save(folder / name)
    with trio.fail_after(PATIENCE_S):
        async with open_node(folder / "ada", host="127.0.0.1", port=0, discover=False) as here:
            cable = Cable(here.port)
            async with trio.open_nursery() as nursery:
                await nursery.start(cable.run)
                peers = [f"127.0.0.1:{cable.port}"]
                async with open_node(
                    folder / "bob", host="127.0.0.1", port=0, peers=peers, discover=False
                ) as there:
                    ada, bob = Agent("ada", here), Agent("bob", there)
                    is_well = await act(ada, bob, cable)
                    is_well &= ada.holds() == bob.holds()
                    print("both machines hold the same" if is_well else "something is missing")
                nursery.cancel_scope.cancel()
    return is_well


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        sys.exit(0 if trio.run(main, Path(temporary)) else 1)
