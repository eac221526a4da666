"""Forking: what a forked child does first. Windows forks nothing."""

import os
import sys
from collections.abc import Callable
from contextlib import ExitStack
from typing import Final

if sys.platform == "win32":

    def in_children(call: Callable[[], object]) -> None:
        """Let a process that is forked from this one call something first."""
        del call

else:
    _calls: Final = list[Callable[[], object]]()

    def in_children(call: Callable[[], object]) -> None:
        """Let a process that is forked from this one call something first; what was said last
        comes first, as it uses what others see to."""
        _calls.append(call)

    def _call_all() -> None:
        with ExitStack() as stack:
            for call in _calls:
                stack.callback(call)

    os.register_at_fork(after_in_child=_call_all)
