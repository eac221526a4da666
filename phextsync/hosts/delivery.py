"""Delivery: brings what a journal holds to a node, in a thread of its own, one after the other.

The node may be down, slow or absent: then it is tried again, and nobody waits. What the node
refuses for good is put aside in a file beside the journal, so that it holds up nothing else.
"""

import json
import logging
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

from phextsync.errors import (
    AnswerLostError,
    ClosedError,
    ConflictError,
    PermissionDeniedError,
    PhextsyncError,
    StoreError,
)
from phextsync.hosts.journal import Item, Journal, Waiting

REFUSED: Final = "refused.jsonl"
RETRY_S: Final = 1.0

_LOOK_S: Final = 0.5
_PASSING: Final = (AnswerLostError, ClosedError, ConflictError, StoreError, TimeoutError, OSError)
_log: Final = logging.getLogger("phextsync.hosts")


class Delivery:
    """Calls `prepare` until it succeeds, then `deliver` for what waits, with whether that may have
    been delivered before."""

    def __init__(
        self,
        journal: Journal,
        folder: Path,
        prepare: Callable[[], None],
        deliver: Callable[[Item, bool], None],
        *,
        retry_s: float = RETRY_S,
    ) -> None:
        """What is refused for good is put aside in `folder`."""
        self._journal = journal
        self._refused = folder / REFUSED
        self._prepare = prepare
        self._deliver = deliver
        self._retry_s = retry_s
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="phextsync delivery", daemon=True)
        self._thread.start()

    def close(self, patience_s: float) -> bool:
        """Deliver what waits, for at most so long, and end; say whether the thread has ended."""
        self._ending.set()
        self._journal.wake()
        self._thread.join(patience_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        self._journal.adopt()
        while not self._is_done(self._prepare):
            if self._ending.wait(self._retry_s):
                return
        is_again = False
        while True:
            waiting = self._journal.first(0.0 if self._ending.is_set() else _LOOK_S)
            if waiting is None:
                if self._ending.is_set():
                    return
            elif self._is_done(partial(self._deliver_one, waiting, is_again)):
                self._journal.done()
                is_again = False
            else:
                is_again = True
                if self._ending.wait(self._retry_s):
                    return

    def _deliver_one(self, waiting: Waiting, is_again: bool) -> None:
        try:
            self._deliver(waiting.item, is_again or waiting.is_again)
        except PermissionDeniedError as error:
            self._put_aside(waiting.item, str(error))
        except _PASSING:
            raise
        except PhextsyncError as error:
            self._put_aside(waiting.item, str(error))
        except (LookupError, TypeError, ValueError) as error:  # of another version, or damaged
            self._put_aside(waiting.item, repr(error))

    def _is_done(self, call: Callable[[], None]) -> bool:
        """Do something; say whether it was done, or may be tried again."""
        try:
            call()
        except (PhextsyncError, OSError) as error:
            _log.info("%s; tried again", error)
            return False
        return True

    def _put_aside(self, item: Item, why: str) -> None:
        _log.warning("%s: put into %s", why, self._refused)
        with self._refused.open("a", encoding="utf-8") as file:
            file.write(json.dumps({**item, "because": why}) + "\n")
