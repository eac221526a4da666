"""Ending: signals that end a program, and a program with those that it started."""

import os
import signal
import subprocess
import sys
from contextlib import suppress

if sys.platform == "win32":

    def ending_signals() -> tuple[signal.Signals, ...]:
        """Return the signals at which a program stops."""
        return (signal.SIGINT, signal.SIGTERM, signal.SIGBREAK)

    def end_group(process: "subprocess.Popen[bytes]", patience_s: float) -> None:
        """End a program that leads a group, with what it started; at once after `patience_s`."""
        del patience_s  # it has no order to stop that a program could follow
        process.kill()
        process.wait()

else:

    def ending_signals() -> tuple[signal.Signals, ...]:
        """Return the signals at which a program stops: what `nohup` ignores stays ignored."""
        is_ignored = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
        return (signal.SIGINT, signal.SIGTERM, *(() if is_ignored else (signal.SIGHUP,)))

    def end_group(process: "subprocess.Popen[bytes]", patience_s: float) -> None:
        """End a program that leads a group, with what it started; at once after `patience_s`."""
        os.killpg(process.pid, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(patience_s)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
