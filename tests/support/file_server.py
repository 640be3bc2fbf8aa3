"""A web server on this machine that serves files, and misbehaves on request."""

from __future__ import annotations

import contextlib
import io
import re
import tarfile
import threading
import time
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PAGE = b"<!DOCTYPE html><html><body>Please sign in to this network</body></html>"


class Served:
    """A file of the server and how it is served; `asked` collects the requests' Range headers.

    cut: bytes after which a response breaks off (then `cuts` counts down); with `drip` the rest follows in single
    bytes, `drip` seconds apart. length: the Content-Length claimed (None: the right one; "": none). location: where it
    redirects to. stall: seconds of silence before it hangs up. raw: bytes sent in place of HTTP. endless: the body is
    repeated for ever. lies: a request for a range gets another one.
    """

    def __init__(self, data=b"", status=200, kind="application/zip", ranges=True, cut=None, cuts=99, **rest):
        self.data, self.status, self.kind, self.ranges = data, status, kind, ranges
        self.cut, self.cuts, self.asked = cut, cuts, []
        self.length = self.location = self.raw = None
        self.stall, self.drip, self.endless, self.lies = 0, 0, False, False
        vars(self).update(rest)


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, Served] = {}
        self.url = f"http://127.0.0.1:{self.server_port}"
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    def handle_error(self, request, client_address):
        """Keep quiet about clients that hang up: some tests make them."""


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        served = self.server.files.get(self.path, Served(PAGE, status=404, kind="text/html"))
        served.asked.append(self.headers.get("Range"))
        start = re.match(r"bytes=(\d+)-", self.headers.get("Range") or "")
        start = int(start[1]) if start and served.ranges and served.status == 200 else 0
        if served.raw is not None:
            self.close_connection = True
            return self._give(served, served.raw)
        if served.lies:
            start = start and 1
        body = served.data[start:]
        if start and not body:
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(served.data)}")
            self.send_header("Content-Length", "0")
            return self.end_headers()
        self.send_response(206 if start else served.status)
        self.send_header("Content-Type", served.kind)
        if served.length != "":
            self.send_header("Content-Length", str(len(body) if served.length is None else served.length))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(served.data) - 1}/{len(served.data)}")
        if served.location:
            self.send_header("Location", served.location)
        self.end_headers()
        if served.cut is not None and served.cuts > 0:
            served.cuts -= 1
            return self._give(served, body[: served.cut], body[served.cut :])
        return self._give(served, body)

    def _give(self, served, body, rest=b""):
        """Send a body, and perhaps the rest behind it, for as long as somebody listens."""
        with contextlib.suppress(OSError):
            self.wfile.write(body)
            while served.endless:
                self.wfile.write(body)
            if served.drip:
                for byte in rest:
                    time.sleep(served.drip)
                    self.wfile.write(bytes([byte]))
            time.sleep(served.stall)

    def log_message(self, *args):
        """Say nothing."""


@contextlib.contextmanager
def serving():
    """Serve the files of `server.files` (path: Served) at `server.url` while the body runs."""
    server = Server()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


def zip_of(files):
    box = io.BytesIO()
    with zipfile.ZipFile(box, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return box.getvalue()


def tar_of(files, mode="w:gz"):
    box = io.BytesIO()
    with tarfile.open(fileobj=box, mode=mode) as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return box.getvalue()
