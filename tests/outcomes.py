"""What one call in a thread of its own comes to."""

from collections.abc import Callable
from threading import Thread

from sims.processes import PATIENCE_S


class Outcome(Thread):
    """A thread that does one thing."""

    def __init__(self, call: Callable[[], object]) -> None:
        super().__init__(daemon=True)
        self.call = call
        self.given: object = None
        self.start()

    def run(self) -> None:
        try:
            self.given = self.call()
        except BaseException as error:
            self.given = error

    def result(self) -> object:
        self.join(PATIENCE_S)
        assert not self.is_alive()
        return self.given
