"""Times as texts: ISO 8601 in UTC, of clocks that may say anything."""

from datetime import UTC, datetime, timedelta
from typing import Final

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MS: Final = timedelta(milliseconds=1)
_FIRST_MS: Final = (datetime.min.replace(tzinfo=UTC) - _EPOCH) // _MS
_LAST_MS: Final = (datetime.max.replace(tzinfo=UTC) - _EPOCH) // _MS


def time_text(ms: int) -> str:
    """Return milliseconds since 1970 as ISO 8601 has them; what is before the year 1 or after 9999
    as the end of these."""
    time = _EPOCH + min(max(ms, _FIRST_MS), _LAST_MS) * _MS
    return time.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def time_ms(text: str) -> int | None:
    """Return what `time_text` or any ISO 8601 says, None for what is no time."""
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        return None
    return ((time if time.tzinfo else time.replace(tzinfo=UTC)) - _EPOCH) // _MS
