"""The command `phextsync` as it is installed: Ctrl-C ends it quietly at any moment.

It stands beside the package: to import anything of that imports nearly all of it, which is most of
what a short command does. Ctrl-C would print there, and on the way out, what the code was at.
"""

import os
import signal
import sys  # and nothing that takes longer

_INTERRUPTED = 130  # as a shell says of what SIGINT has ended


def main() -> None:
    """Run the command; Ctrl-C is status 130."""
    is_heard = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if is_heard:
        signal.signal(signal.SIGINT, _end)
    sys.unraisablehook = _end_if_interrupted
    from phextsync.cli.main import main as run

    try:
        if is_heard:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        run()
    except KeyboardInterrupt:
        _end(signal.SIGINT, None)
    finally:
        if is_heard:
            signal.signal(signal.SIGINT, _end)


def _end(number: int, frame: object) -> None:
    os._exit(_INTERRUPTED)


def _end_if_interrupted(met: "sys.UnraisableHookArgs") -> None:
    """End at Ctrl-C also in code that can raise nothing, such as what C calls in typer's parser."""
    if issubclass(met.exc_type, KeyboardInterrupt):
        _end(signal.SIGINT, None)
    sys.__unraisablehook__(met)


if __name__ == "__main__":
    main()
