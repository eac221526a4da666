"""Forking: what a forked child does first. Windows forks nothing."""

import os
import sys
from collections.abc import Callable

if sys.platform == "win32":

    def in_children(call: Callable[[], object]) -> None:
        """Let a process that is forked from this one call something first."""
        del call

else:

    def in_children(call: Callable[[], object]) -> None:
        """Let a process that is forked from this one call something first."""
        os.register_at_fork(after_in_child=call)
