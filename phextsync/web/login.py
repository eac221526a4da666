"""Login: a token shown once on a page becomes a cookie, which the browser shows from then on.

The cookie is a time until which it holds, sealed with the token: another token ends all of them,
and nothing is kept here.
"""

from typing import Final

from phextsync.gateways.guard import Guard

KEPT_S: Final = 30 * 24 * 3600
_SHOWN_MAX: Final = 16
_NAME: Final = "phextsync"
_SECURE_NAME: Final = "__Host-phextsync"  # which browsers take from no neighbour, and only by TLS


class Login:
    """Makes cookies of a server, and reads them."""

    def __init__(self, guard: Guard, *, is_secure: bool) -> None:
        self._guard = guard
        self._is_secure = is_secure
        self._name = _SECURE_NAME if is_secure else _NAME

    def cookie(self, now_s: int) -> str:
        """Return the header that gives a browser a cookie."""
        until = str(now_s + KEPT_S)
        return self._header(f"{until}.{self._guard.seal(until)}", KEPT_S)

    def no_cookie(self) -> str:
        """Return the header that takes the cookie away."""
        return self._header("", 0)

    def is_in(self, header: str, now_s: int) -> bool:
        """Whether the header of a request has a cookie that still holds, whatever stands beside it:
        servers at other ports of this machine set cookies too, of any form and of this name."""
        pairs = (pair.partition("=") for pair in header.split(";"))
        shown = [value.strip() for name, _, value in pairs if name.strip() == self._name]
        return any(self._holds(value, now_s) for value in shown[:_SHOWN_MAX])

    def _holds(self, value: str, now_s: int) -> bool:
        until, _, seal = value.partition(".")
        if not (until.isascii() and until.isdigit() and len(until) < 20 and int(until) > now_s):
            return False
        return self._guard.is_seal(until, seal)

    def _header(self, value: str, age_s: int) -> str:
        secure = "; Secure" if self._is_secure else ""
        kept = f"Max-Age={age_s}; Path=/; HttpOnly; SameSite=Strict{secure}"
        return f"{self._name}={value}; {kept}"
