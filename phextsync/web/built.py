"""Built: the files that the page consists of beside its HTML, as they lie in `static`.

Scripts and styles of others come through `page/build.mjs`; nothing is loaded from another host. An
address has a digest of what it leads to, so that browsers keep it for as long as it is the same.
"""

import gzip
from functools import cache
from hashlib import blake2b
from pathlib import Path
from typing import Final

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

FOLDER: Final = Path(__file__).parent / "static"
_KINDS: Final = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_KEPT: Final = "max-age=31536000, immutable"


@cache
def contents() -> dict[str, bytes]:
    """Return all files by name."""
    paths = sorted(path for path in FOLDER.iterdir() if path.suffix in _KINDS)
    return {path.name: path.read_bytes() for path in paths}


@cache
def packed(name: str) -> bytes:
    """Return a file as gzip has it."""
    return gzip.compress(contents()[name], 9, mtime=0)


@cache
def address(name: str) -> str:
    """Return the path under which a file is served."""
    return f"/static/{name}?{blake2b(contents()[name], digest_size=6).hexdigest()}"


async def answer(request: Request) -> Response:
    """Answer with a file."""
    name = request.path_params["name"]
    if name not in contents():
        return PlainTextResponse("Not Found", 404)
    is_named = address(name).endswith(f"?{request.url.query}")
    headers = {
        "Content-Type": _KINDS[Path(name).suffix],
        "Cache-Control": _KEPT if is_named else "no-cache",
        "Vary": "Accept-Encoding",
    }
    if "gzip" in request.headers.get("accept-encoding", ""):
        return Response(packed(name), headers={**headers, "Content-Encoding": "gzip"})
    return Response(contents()[name], headers=headers)
