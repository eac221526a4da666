"""What the parts of all replicas of one node share."""

from collections.abc import Callable
from dataclasses import dataclass

from phextsync.replica.author import Author
from phextsync.replica.budget import Budget
from phextsync.replica.clients import Clients
from phextsync.replica.durability import Durability
from phextsync.replica.history_keeper import HistoryKeeper
from phextsync.replica.holding import Holding
from phextsync.replica.listener import Listeners
from phextsync.store.contract import Store


@dataclass(frozen=True, slots=True)
class Shared:
    """`report` keeps a line for the node's operator; `on_failure` is told of a part outside that
    failed; `check_room` raises when a phext is not here and there may be no more; `make` makes a
    phext that is about to have its first scroll."""

    store: Store
    author: Author
    listeners: Listeners
    history: HistoryKeeper
    durability: Durability
    holding: Holding
    clients: Clients
    budget: Budget
    report: Callable[[str], None]
    on_failure: Callable[[str, Exception], None]
    check_room: Callable[[str], None]
    make: Callable[[str], None]

    def set_aside(self, phext: str, problem: str) -> None:
        """A damaged scroll is absent from now on."""
        self.report(f"{problem}; set aside, to be fetched again from a peer")
        self.listeners.set_aside(phext)
