"""Fetch a file over HTTP: resume what a cut transfer left, and stop when the server is too slow or never ends.

Python's standard library is enough, since datasets are fetched before anything is installed.
"""

from __future__ import annotations

import os
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from urllib.error import HTTPError

from util.runtime.file_kinds import HEAD, kind_of

STALL = float(os.environ.get("STALL_SECONDS", 60))  # seconds to wait for data, and over which SLOWEST is measured
SLOWEST = 1000  # bytes a second
MOST_BYTES = int(float(os.environ.get("MOST_MEGABYTES", 20_000)) * 1e6)  # of one file; the largest dataset has 8 GB
ATTEMPTS = 5  # while each brings more bytes
FAILURES = (OSError, HTTPException, ValueError)  # those of urllib


class DownloadError(Exception):
    """A file could not be fetched. The bytes that arrived are kept, and the next call resumes after them."""


class ContentError(DownloadError):
    """A file arrived, but its content is wrong."""


def fetch(url: str, part: Path, accept: Callable[[Path], None], say: Callable[[str], None] = print) -> None:
    """Fetch `url` into the file `part`, then call `accept(part)`, which puts it where it belongs.

    If `accept` raises ContentError, `part` is removed, and fetched again if an earlier call began it.
    """
    part.parent.mkdir(parents=True, exist_ok=True)
    for resumes in [True, False] if _size(part) else [False]:
        say(f"fetching {url}" + (f", from byte {_size(part)}" if resumes else ""))
        try:
            _bring(url, part)
            accept(part)
            break
        except ContentError as error:
            with part.open("rb") as file:
                page = kind_of(file.read(HEAD)) == "a web page"
            part.unlink()
            if not resumes:
                reason = "the server sent a web page in place of the file" if page else error
                raise ContentError(f"{url} is not usable and was removed: {reason}") from error
        finally:
            if not _size(part):
                part.unlink(missing_ok=True)
    part.unlink(missing_ok=True)


def _bring(url: str, part: Path) -> None:
    """Append to `part` the bytes of `url` that it lacks. After a cut, try again if something new has arrived."""
    for _ in range(ATTEMPTS):
        start = _size(part)
        try:
            return _append(url, part, start)
        except HTTPError as error:
            if error.code == 416 and start:  # no bytes are left
                return None
            raise DownloadError(f"the server refuses {url}: {error.code} {error.reason}") from error
        except FAILURES as error:
            reason = error
        if _size(part) == start:
            break
    raise DownloadError(f"{url} did not arrive ({reason}); the same command resumes where it stopped")


def _append(url: str, part: Path, start: int) -> None:
    with open_url(url, start) as response:
        resumes = response.status == 206
        if resumes and not response.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
            part.unlink()
            raise ConnectionError("the server gave another range of bytes than it was asked for")
        with part.open("ab" if resumes else "wb") as file:
            for piece in pieces(response):
                file.write(piece)
                if file.tell() > MOST_BYTES:
                    part.unlink()
                    raise DownloadError(f"{url} gives more than {MOST_BYTES / 1e6:,.0f} megabytes")


def open_url(url: str, start: int = 0) -> HTTPResponse:
    """Ask for the bytes of `url` after the first `start`."""
    headers = {"User-Agent": "python", "Accept-Encoding": "identity", **({"Range": f"bytes={start}-"} if start else {})}
    request = urllib.request.Request(url, headers=headers)
    return urllib.request.build_opener(SafeRedirects).open(request, timeout=STALL)


def pieces(response: HTTPResponse) -> Iterator[bytes]:
    """Yield a response's bytes, and show the progress; OSError if the server is too slow or stops before the end."""
    expected = response.headers.get("Content-Length", "")
    total = int(expected) if expected.isdecimal() else None
    got, mark, shown = 0, (time.monotonic(), 0), 0.0
    while piece := response.read1(2**16):
        yield piece
        got, now = got + len(piece), time.monotonic()
        if sys.stderr.isatty() and (now - shown > 0.5 or got == total):
            end = "\n" if got == total else ""
            print(f"\r{got / 1e6:,.1f} of {(total or 0) / 1e6:,.1f} MB", end=end, file=sys.stderr, flush=True)
            shown = now
        if now - mark[0] > STALL:
            if got - mark[1] < STALL * SLOWEST:
                raise TimeoutError(f"too slow: {got - mark[1]:,} bytes in the last {STALL:g} seconds")
            mark = now, got
    if total is not None and got != total:
        raise ConnectionError(f"{got:,} of {total:,} bytes arrived")


class SafeRedirects(urllib.request.HTTPRedirectHandler):
    """Follow redirects to http and https, but from https only to https, which nobody on the way can change."""

    def redirect_request(self, req, fp, code, msg, headers, newurl):
        if not newurl.startswith("https:" if req.full_url.startswith("https:") else ("http:", "https:")):
            raise HTTPError(req.full_url, code, f"not followed to {newurl}", headers, fp)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
