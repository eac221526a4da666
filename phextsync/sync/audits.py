"""Audits: comparisons that read every entry, and how many of them a link may ask for."""

from phextsync.sync.limits import Limits


class Audits:
    """The audits of one link. Each costs as many entries as are read; the link saves up for them,
    since the side that starts an audit has the other read every entry."""

    def __init__(self, now: float, limits: Limits, *, interval_s: float) -> None:
        self._limits = limits
        self._interval_s = interval_s
        self._saved = 0.0
        self._saved_at = now
        self._done: dict[str, tuple[float, bytes]] = {}  # when the next may be, the last digest

    def begin(self, now: float, phext: str, *, count: int, digest: bytes, cost: int) -> bool:
        """Say whether the next comparison of a phext is to be an audit, and note that.

        What was audited is not audited again; large phexts wait, since it reads every entry.
        """
        due, audited = self._done.get(phext, (0.0, b""))
        is_large = count > self._limits.audit_entries_max
        if not count or digest == audited or (is_large and now < due):
            return False
        if not self.afford(now, cost):
            return False
        self._done[phext] = (now + self._interval_s, digest)
        return True

    def afford(self, now: float, cost: int, *, shares: int = 1) -> bool:
        """Say whether the link has saved up for `cost` entries, and take them off. The side that
        answers allows for two shares, so that clocks need not agree."""
        rate = shares * self._limits.audit_entries_max
        most = rate * self._limits.audit_saved_s
        saved = min(most, self._saved + rate * (now - self._saved_at))
        self._saved_at = now
        can = saved >= min(most, cost)
        self._saved = saved - cost if can else saved
        return can
