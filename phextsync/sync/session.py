"""Session: one comparison of one phext over one link, from its first message to the empty one."""

from dataclasses import dataclass

from phextsync.sync.comparison import Comparison


@dataclass(slots=True)
class Session:
    """What is known of a comparison. `comparison` is None while the peer is to begin one.

    `is_needed`: the digests differed. `is_uneven`: something differs. `has_found`: some of that
    will be exchanged; the rest stays, since a certificate does not allow it. `is_withheld`: we have
    some of that and the peer has not. `has_told_all`: our last turn left nothing open. `is_cut`:
    one side ended it before everything was compared. `found`: a number that is the same where the
    same was found.
    """

    number: int
    comparison: Comparison | None
    steps_max: int = 0
    is_needed: bool = False
    is_audit: bool = False
    step: int = 0
    is_open: bool = True
    is_cut: bool = False
    is_uneven: bool = False
    has_found: bool = False
    is_withheld: bool = False
    has_told_all: bool = False
    found: int = 0

    @property
    def found_none(self) -> bool:
        """Whether it has ended and saw that nothing differs: the answer to a root was empty, or
        the digests were equal before it began. A list may be answered by nothing and by updates."""
        steps = (3,) if self.is_audit else (0, 2)
        is_sure = not (self.is_needed or self.is_uneven or self.is_cut)
        return not self.is_open and is_sure and self.step in steps

    @property
    def is_fruitless(self) -> bool:
        """Whether the digests differed and nothing was found: somebody made entries alike. An audit
        that went to its end says that they are not: what differs the peer may not bring."""
        is_explained = self.is_uneven or (self.is_audit and self.has_told_all)
        return self.is_needed and not is_explained

    @property
    def saw_all(self) -> bool:
        """Whether what it saw and did not find is the same on both sides. The peer may end an
        audit, or a comparison whose turns it cannot send, before all is seen. Where something stays
        different, since a certificate does not allow it, the other side may be the one to see it.
        """
        is_whole = not (self.is_audit or self.is_cut)
        return is_whole and (self.is_uneven or self.has_told_all or self.step <= 2)

    def note(self, *, is_found: bool, is_withheld: bool = False) -> None:
        """Note a difference: whether it will be exchanged, and whether the peer will lack it."""
        self.is_uneven = True
        self.has_found |= is_found
        self.is_withheld |= is_withheld
