"""Serve the built book at http://127.0.0.1:8000, compressed as hosts of static pages do.

python -m tools.read [FOLDER] [PORT]
"""

import contextlib
import gzip
import sys
from functools import lru_cache, partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path

TEXT = (".html", ".css", ".js", ".svg", ".xml", ".txt", ".json")


@lru_cache(maxsize=256)
def packed(path, changed):
    """Return a file's contents, compressed; `changed` is the time of its last change."""
    return gzip.compress(Path(path).read_bytes())


class Handler(SimpleHTTPRequestHandler):
    """Serves files; those that are text, compressed."""

    def send_head(self):
        """Send the header, and return the file to copy."""
        path = Path(self.translate_path(self.path))
        if path.is_dir() and self.path.split("?")[0].endswith("/"):
            path /= "index.html"
        accepted = "gzip" in self.headers.get("Accept-Encoding", "")
        if not (accepted and path.is_file() and path.suffix in TEXT):
            return super().send_head()
        body = packed(path, path.stat().st_mtime)
        self.send_response(200)
        self.send_header("Content-Type", self.guess_type(str(path)))
        self.send_header("Content-Encoding", "gzip")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        return BytesIO(body)

    def log_message(self, *_):
        """Say nothing of single requests."""


def server(folder="_build/html", port=8000):
    """Return a server, for this machine only."""
    return ThreadingHTTPServer(("127.0.0.1", int(port)), partial(Handler, directory=str(folder)))


if __name__ == "__main__":
    with server(*sys.argv[1:]) as running:
        print(f"Read at http://127.0.0.1:{running.server_port}, and stop with Ctrl+C.")
        with contextlib.suppress(KeyboardInterrupt):
            running.serve_forever()
