"""A server that answers as the recorded SQ does where somebody asks for a file of a phext."""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from urllib.parse import parse_qs, urlsplit


@contextmanager
def old_sq(
    phexts: Mapping[str, str], key: str = "", unsent_bytes: int = 0
) -> Iterator[tuple[str, list[str]]]:
    """Serve phexts, each without so many bytes at its end; give the address, and the lines of the
    requests that came."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            asked.append(self.requestline)
            parts = urlsplit(self.path)
            name = parse_qs(parts.query).get("p", [""])[0]
            if key and self.headers.get("Authorization", "").removeprefix("Bearer ") != key:
                self._answer(401, "Unauthorized", b"Unauthorized")
            elif parts.path != "/api/v2/get":
                self._answer(404, "Not Found", b"Not Found")
            else:
                self._answer(200, "OK", phexts.get(name, "").encode())

        def _answer(self, status: int, reason: str, body: bytes) -> None:
            head = f"HTTP/1.1 {status} {reason}\r\nAccess-Control-Allow-Origin: *\r\n"
            self.wfile.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode())
            self.wfile.write(body[: len(body) - unsent_bytes])
            self.close_connection = True

        def log_message(self, format: str, *args: object) -> None:
            """Tests look at what was asked instead."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
