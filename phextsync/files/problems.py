"""Problems: what of a binding cannot be kept in step, since when, and when it is tried again."""

import errno
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from phextsync.errors import PhextsyncError, StoreError, TextError
from phextsync.files.paths import Folders
from phextsync.files.reading import why

RETRY_MIN_S: Final = 1.0
RETRY_MAX_S: Final = 60.0
PROBE_S: Final = 2.0
"""How often at least one of the paths is tried that are refused for a reason which ends for all at
once. When it is not refused any more, the others are tried too."""

_COMMON: Final = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EMFILE, errno.ENFILE)
_COMMON_REASONS: Final = frozenset(why(OSError(number, "")) for number in _COMMON)


@dataclass(slots=True)
class Problem:
    """What is wrong with a path, in one line that says what would help. `since` and `due` are
    monotonic seconds; `due` is None when only a change can help."""

    path: str
    reason: str
    since: float
    due: float | None
    pause_s: float = RETRY_MIN_S


class Problems:
    """The problems of one binding, by path; the empty path is the directory's own."""

    def __init__(self) -> None:
        self._problems: dict[str, Problem] = {}
        self._folders = Folders()  # those that they lie in
        self._news: list[Problem] = []
        self._probes: dict[str, str] = {}  # by reason

    def __len__(self) -> int:
        return len(self._problems)

    def __iter__(self) -> Iterator[Problem]:
        return iter(sorted(self._problems.values(), key=lambda problem: problem.path))

    def __contains__(self, path: object) -> bool:
        return path in self._problems

    def note(self, path: str, reason: str, now: float, *, is_retried: bool) -> None:
        """Note that a path is in trouble; with `is_retried` it is due again after a pause, which
        doubles each time."""
        known = self._problems.get(path)
        if known is None:
            self._folders.add(path)
        if known is None or known.reason != reason:
            self._end_probe(path)
            pause_s = RETRY_MIN_S if known is None else known.pause_s
            since = now if known is None else known.since
            known = self._problems[path] = Problem(path, reason, since, None, pause_s)
            self._news.append(known)
        elif is_retried:
            known.pause_s = min(2 * known.pause_s, RETRY_MAX_S)
        if reason in _COMMON_REASONS and self._probes.setdefault(reason, path) == path:
            known.pause_s = min(known.pause_s, PROBE_S)
        known.due = now + known.pause_s if is_retried else None

    def solve(self, path: str) -> None:
        """Note that a path is in no trouble. What is below it, and had it in its way perhaps, is
        due at once then."""
        self._end_probe(path)
        if self._problems.pop(path, None) is not None:
            self._folders.remove(path)
            if path in self._folders:
                _hurry(p for p in self._problems.values() if p.path.startswith(f"{path}/"))

    def _end_probe(self, path: str) -> None:
        """Let the others be tried that were refused as this path was."""
        known = self._problems.get(path)
        if known is not None and self._probes.get(known.reason) == path:
            del self._probes[known.reason]
            self.hurry(known.reason)

    def due(self, now: float) -> list[str]:
        """Return the paths to be tried again."""
        return [p.path for p in self._problems.values() if p.due is not None and p.due <= now]

    def hurry(self, reason: str | None = None) -> None:
        """Let everything be tried again at once, or what is refused for a reason."""
        retried = (p for p in self._problems.values() if p.due is not None)
        _hurry(p for p in retried if reason in (None, p.reason))

    def next_due(self) -> float | None:
        """Return when the next path is to be tried again."""
        return min((p.due for p in self._problems.values() if p.due is not None), default=None)

    @contextmanager
    def boundary(self, path: str, now: float) -> Iterator[None]:
        """Let what goes wrong with a name stay with it. StoreError passes: a store that refuses
        concerns all."""
        try:
            yield
        except StoreError:
            raise
        except (PhextsyncError, OSError) as error:
            # What no scroll can hold waits for a change of it.
            self.note(path, str(error), now, is_retried=not isinstance(error, TextError))

    def take_news(self) -> list[Problem]:
        """Return what was noted for the first time since the last call."""
        news, self._news = self._news, []
        return news


def _hurry(problems: Iterable[Problem]) -> None:
    for problem in problems:
        problem.due, problem.pause_s = 0.0, RETRY_MIN_S
