"""Lines: what must hold of the files of bound directories, from what users did to them.

Every line that a user writes has a token of its own. What a user's hands did is told from the disk
before and after: a token that came was written, one that went was deleted. In the end each
token that was written and never deleted stands once; none that was gone for good is back.

Nothing here knows of scrolls' versions, records or bases.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from phextsync.testing import Violation

_ASIDE: Final = ".phextsync-o"
_TOKEN: Final = re.compile(r"q\d{5}z")


def tokens_of(text: str) -> list[str]:
    """Return the tokens of a text in order."""
    return _TOKEN.findall(text)


def tokens_in(files: Mapping[str, str]) -> Counter[str]:
    """Return how often each token stands in files, without hidden ones and what editors leave. What
    lies aside while another file takes its place is a user's still."""
    return Counter(
        token
        for path, text in files.items()
        if "/." not in f"/{path.replace(_ASIDE, '')}" and not path.endswith(("~", ".tmp"))
        for token in tokens_of(text)
    )


@dataclass(slots=True)
class Lines:
    """What users wrote and deleted. `forbidden`: what somebody deleted and a scroll has lost."""

    written: dict[str, str] = field(default_factory=dict)  # where and by whom
    deleted: dict[str, None] = field(default_factory=dict)
    again: dict[str, None] = field(default_factory=dict)  # written once more after it was there
    excused: dict[str, str] = field(default_factory=dict)  # not owed, and why
    forbidden: dict[str, None] = field(default_factory=dict)
    doubled: dict[str, None] = field(default_factory=dict)  # lines of both sides may stay
    # From which file to which, and whether that was there.
    taken: dict[str, dict[str, tuple[str, bool]]] = field(default_factory=dict)
    touched: Counter[str] = field(default_factory=Counter)  # how often they were taken away
    vanished: dict[str, None] = field(default_factory=dict)  # a scroll lost them meanwhile
    hidden: dict[str, None] = field(default_factory=dict)  # taken to files that are left alone
    kept: dict[str, int] = field(default_factory=dict)  # with so many others that it is no deletion

    def token(self) -> str:
        """Return a token that nobody has written."""
        number = len(self.written)
        token = f"q{number:05}z"
        self.written[token] = ""
        return token

    def did(self, who: str, before: Mapping[str, int], after: Mapping[str, int]) -> None:
        """A user changed files: so often each token was on the disk, and so often it is."""
        for token, count in after.items():
            if token not in before:
                self.came(token, who)
            elif count > before[token]:  # the user copied it
                self.again[token] = self.doubled[token] = None
        gone = (token for token, count in before.items() if after.get(token, 0) < count)
        self.deleted.update(dict.fromkeys(gone))  # of two copies the other may be on its way out

    def moved(
        self,
        before: Mapping[str, frozenset[str]],
        after: Mapping[str, frozenset[str]],
        ignores: Callable[[str], bool],
    ) -> None:
        """A user changed files: in such files tokens stood, and stand. To put a line into another
        file is to write it again, no matter who deletes it from the first. Two that take a line
        from one file apart may put it into two others. Each machine has its own copy of a file
        that is left alone, as `ignores` tells, so that what is taken from there may come from
        others too, and what is taken there may be written again by others."""
        files = {path for paths in before.values() for path in paths}
        for token, paths in after.items():
            lay = before.get(token, paths)
            for path in sorted(paths - lay):
                self.again[token] = None
                self.forbidden.pop(token, None)
                for old in sorted(lay - paths or lay):
                    self._took(token, old, path, path in files)
                    if ignores(old) and not ignores(path):
                        self.doubled[token] = None
                if ignores(path):
                    self.hidden[token] = None

    def _took(self, token: str, old: str, path: str, is_other: bool) -> None:
        """A user took a token from one path to another, where another file was or none."""
        taken = self.taken.setdefault(token, {})
        taken.pop(path, None)
        first, was_other = taken.setdefault(old, (path, is_other))
        if first != path and (is_other or was_other):
            self.doubled[token] = None

    def torn(
        self, before: Mapping[str, frozenset[str]], after: Mapping[str, frozenset[str]]
    ) -> None:
        """A file was written over, and its old rest is there still: that is what others get, and
        what they make of it may stand beside the whole."""
        both = [
            (t, before.get(t, frozenset()), after.get(t, frozenset())) for t in {**before, **after}
        ]
        files = {path for _, old, new in both for path in old ^ new}
        self.doubled.update((token, None) for token, old, new in both if files & (old | new))

    def put_back(self, tokens: Iterable[str]) -> None:
        """A user put lines back of which a scroll may have lost some: these are written again."""
        for token in tokens:
            if token in self.vanished or token in self.forbidden:
                self.came(token, "")

    def gave_up(self, held: Iterable[str], after: Mapping[str, int]) -> None:
        """A user held lines that were taken away; those that are not on the disk now are gone."""
        self.deleted.update((token, None) for token in held if token not in after)

    def came(self, token: str, who: str) -> None:
        """A token came to a disk by somebody's hands."""
        if not self.written.get(token):
            self.written[token] = who
        else:
            self.again[token] = None
            self.forbidden.pop(token, None)
            self._wrote_again(token)

    def _wrote_again(self, token: str) -> None:
        """A user wrote a line that was there: if another has taken it to a file that is left alone,
        it stands in both when that is so no more."""
        if token in self.hidden:
            self.doubled[token] = None

    def met(self, tokens: Iterable[str]) -> None:
        """A directory is to be taken up as it is: its lines stay beside those of the scrolls. Or
        files have two names: a line that goes from one is there by the other."""
        for token in tokens:
            self.again[token] = self.doubled[token] = None
            self.forbidden.pop(token, None)

    def left(self, tokens: Iterable[str]) -> None:
        """A machine's scrolls had tokens and have them no more. Violation when that must not be."""
        for token in tokens:
            by_others = (self.deleted, self.touched, self.again)
            if token in self.kept and not any(token in tokens for tokens in by_others):
                raise Violation(
                    f"{token} was deleted with most of the files, and nobody confirmed it"
                )
            if token in self.deleted and token not in self.again:
                self.forbidden[token] = None
            elif token in self.touched:
                self.vanished[token] = None

    def saved(self, tokens: Iterable[str]) -> None:
        """A user put lines back, so soon that nobody may have lost them."""
        for token in tokens:
            self._wrote_again(token)
            is_alone = self.touched[token] == 1 and token not in self.again
            if is_alone and token in self.vanished and token not in self.deleted:
                raise Violation(f"{token} was deleted while its file was saved")

    def excuse(self, tokens: Iterable[str], why: str) -> None:
        """Let tokens be owed no more."""
        self.excused.update(dict.fromkeys(tokens, why))

    def check(self, texts: Mapping[str, str]) -> None:
        """Violation when these texts, by name, are not what users may expect."""
        found = Counter(token for text in texts.values() for token in tokens_of(text))
        for token, who in self.written.items():
            if not who:
                continue  # the disk refused it, so the user knows
            if found[token] > 1 and token not in self.doubled:
                where = [name for name, text in texts.items() if token in text]
                raise Violation(f"{token}, {who}, stands {found[token]} times, in {where}")
            is_owed = token not in self.deleted and token not in self.excused
            if is_owed and not found[token]:
                raise Violation(f"{token}, {who}, is lost")
            if token in self.forbidden and found[token]:
                raise Violation(f"{token}, {who}, was deleted and is back")
