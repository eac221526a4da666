"""What a page of another origin, open in a browser of this machine, sends along with a request."""

from collections.abc import Iterator, Mapping
from typing import Final

_HOST: Final = "127.0.0.1"
_FORMS: Final = (
    "application/x-www-form-urlencoded",
    "multipart/form-data; boundary=x",
    "text/plain",
)


def attacks_of_pages(port: int) -> Iterator[Mapping[str, str]]:
    """Give what a page of another origin sends along, with and without what new browsers add."""
    neighbour, own = f"http://{_HOST}:{port + 1}", f"http://{_HOST}:{port}"
    for origin in (neighbour, f"http://localhost:{port}", f"http://{_HOST}", "null", "http://evil"):
        yield {"Origin": origin}
        yield {"Origin": origin, "Sec-Fetch-Site": "same-site"}
    for site in ("same-site", "cross-site"):
        yield {"Sec-Fetch-Site": site}
        yield {"Sec-Fetch-Site": site, "Origin": own}
    for kind in _FORMS:
        yield {"Origin": neighbour, "Content-Type": kind}
        yield {"Origin": neighbour, "Sec-Fetch-Site": "same-site", "Content-Type": kind}
    yield {"Host": f"evil:{port}", "Origin": f"http://evil:{port}", "Sec-Fetch-Site": "same-origin"}
