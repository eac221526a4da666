"""The guard of all HTTP doors: which requests may come in, by token, host and page of origin.

With a token, a client that shows it may ask for everything. Without one, only this machine is
served, and web pages have to be kept out: they run in a browser on this machine, and only what the
browser adds to their requests tells them from other programs.
"""

import hmac
import ipaddress
import re
import socket
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Final

import ifaddr

from phextsync.discovery import is_loopback
from phextsync.errors import LinkError, PhextsyncError

HOOK_HEADER: Final = "x-phextsync-number"
"""What only posts of hooks have."""

_NAME: Final = r"(\[[0-9a-fA-F:.]+(?:%25?[\w.~-]+)?\]|[A-Za-z0-9._~-]+)"
_HOST: Final = re.compile(rf"{_NAME}(?::([0-9]{{0,5}}))?")
_ORIGIN: Final = re.compile(r"https?://(.+)", re.IGNORECASE)
_PORT_MAX: Final = 65535
_OWN_SITES: Final = frozenset({"same-origin", "none"})
_NEAR_SITES: Final = _OWN_SITES | {"same-site"}
_READS: Final = frozenset({"GET", "HEAD"})
_FOREIGN_PAGE: Final = "Forbidden: pages of other sites need a token"
_OF_HOOK: Final = "Forbidden: what a hook posts would be a change that is posted again"
_OTHER_ORIGIN: Final = "Forbidden: pages of other origins need a token"


@dataclass(frozen=True, slots=True)
class Refused:
    """The status that answers a request that may not come in, and why."""

    status: int
    reason: str


def own_names() -> frozenset[str]:
    """Return the names and addresses of this machine, in lower case."""
    full = socket.gethostname().lower()
    short = full.partition(".")[0]
    found = [ip for adapter in ifaddr.get_adapters() for ip in adapter.ips]
    addresses = {str(ip.ip) if ip.is_IPv4 else ip.ip[0].partition("%")[0] for ip in found}
    return frozenset({full, short, f"{short}.local", *addresses} - {"", ".local"})


class Guard:
    """Decides for one server. `token` is what clients must show, None for nothing; `allowed_hosts`
    are names by which this machine is also asked."""

    def __init__(
        self,
        token: str | None = None,
        *,
        allowed_hosts: Iterable[str] = (),
        own_names: Callable[[], Collection[str]] = own_names,
    ) -> None:
        self._token = token
        self._allowed = frozenset(map(_checked_host, allowed_hosts))
        self._own_names = own_names

    def check_address(self, host: str) -> None:
        """LinkError unless a server with this guard may listen on `host`."""
        if self._token is None and not is_loopback(host):
            raise LinkError(
                f"expected a loopback address for HTTP without a token, found {host};"
                " give a token to serve others"
            )

    @property
    def wants_token(self) -> bool:
        """Whether clients have to show a token."""
        return self._token is not None

    def is_token(self, shown: str) -> bool:
        """Whether somebody shows the token; without one anything will do."""
        return self._token is None or self._is_token(shown)

    def seal(self, text: str) -> str:
        """Return what only a server with this token can make of a text, in hexadecimal."""
        key = (self._token or "").encode()
        return hmac.digest(key, f"phextsync seal {text}".encode(), "sha256").hex()

    def is_seal(self, text: str, seal: str) -> bool:
        """Whether `seal` is that of a text."""
        return hmac.compare_digest(self.seal(text).encode(), seal.encode())

    def refusal_of_page(self, headers: Iterable[tuple[str, str]]) -> Refused | None:
        """Return why a request may not come in on what a browser sends by itself, a cookie: it has
        to come from a page of the very origin that it is sent to, or from a person."""
        lines = [(name.lower(), value) for name, value in headers]
        names_one = len({value for name, value in lines if name == "host"}) == 1
        return None if names_one and _is_of_own_page(lines) else Refused(403, _OTHER_ORIGIN)

    def refusal(
        self, method: str, headers: Iterable[tuple[str, str]], *, writes: bool = False
    ) -> Refused | None:
        """Return why a request may not come in, None when it may.

        `headers` are names and values (bytes as ISO 8859-1), `writes` says whether a request by
        GET would change something, or opens what can. By other methods all may.
        """
        lines = [(name.lower(), value) for name, value in headers]
        if any(name == HOOK_HEADER for name, _ in lines):
            return Refused(403, _OF_HOOK)
        shown = {value for name, value in lines if name == "authorization"}
        keys = {value for name, value in lines if name == "x-api-key"}
        if len(shown) > 1 or len(keys) > 1:
            return Refused(400, "Bad Request: different lines of Authorization, or of X-Api-Key")
        if self._token is not None:
            is_in = method == "OPTIONS" or any(map(self._is_token, shown | keys))
            return None if is_in else Refused(401, "Unauthorized")
        if not all(self._is_here(_host(value.strip())) for name, value in lines if name == "host"):
            reason = "this is another machine than the one of Host (see --allow-host)"
            return Refused(403, f"Forbidden: {reason}")
        if method == "OPTIONS":  # a browser asks beforehand: it gets no text and changes nothing
            return None
        origins = [value for name, value in lines if name == "origin"]
        sites = [value.strip() for name, value in lines if name == "sec-fetch-site"]
        if len(origins) > 1 or not all(map(self._is_here, map(_host_of_origin, origins))):
            return Refused(403, _FOREIGN_PAGE)
        if len(sites) > 1 or not _NEAR_SITES.issuperset(sites):
            return Refused(403, _FOREIGN_PAGE)
        # A page of another port of this machine may ask, but nothing of it may write: a form is
        # sent without a script and without a question beforehand, of any type that it likes.
        if (writes or method not in _READS) and not _is_of_own_page(lines):
            return Refused(403, _OTHER_ORIGIN)
        return None

    def _is_token(self, shown: str) -> bool:
        value = shown.strip()
        if value[:7].lower() == "bearer ":
            value = value[7:].strip()
        assert self._token is not None
        return hmac.compare_digest(value.encode("latin-1", "replace"), self._token.encode())

    def _is_here(self, host: str | None) -> bool:
        if host is None:
            return False
        if is_loopback(host) or host.endswith(".localhost") or host in self._allowed:
            return True
        return host in self._own_names()


def _is_of_own_page(lines: Iterable[tuple[str, str]]) -> bool:
    """Whether nothing says that a request comes from a page of another origin than the one that it
    is sent to. Names of `lines` are in lower case."""
    pairs = [(name, value.strip()) for name, value in lines]
    hosts = {value.lower() for name, value in pairs if name == "host"}
    own = {f"{scheme}://{host}" for scheme in ("http", "https") for host in hosts}
    origins = {value.lower() for name, value in pairs if name == "origin"}
    sites = {value for name, value in pairs if name == "sec-fetch-site"}
    return sites <= _OWN_SITES and (not origins or (len(hosts) == 1 and origins <= own))


def _host(authority: str) -> str | None:
    """Return the name or the address of `HOST[:PORT]` in one form; None when it is neither."""
    found = _HOST.fullmatch(authority)
    if found is None or int(found[2] or 0) > _PORT_MAX:
        return None
    host = found[1].lower()
    if not host.startswith("["):
        return host.removesuffix(".")
    try:
        address = ipaddress.IPv6Address(host[1:-1].partition("%")[0])
    except ValueError:
        return None
    return str(address.ipv4_mapped or address)


def _host_of_origin(origin: str) -> str | None:
    found = _ORIGIN.fullmatch(origin.strip())
    return None if found is None else _host(found[1])


def _checked_host(name: str) -> str:
    host = _host(name.strip())
    if not host:
        raise PhextsyncError(f"expected the name of a host to allow, found {name!r:.60}")
    return host
