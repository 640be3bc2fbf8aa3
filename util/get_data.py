"""Fetch a published data set from Python: `GetData("cyclegan").get("./datasets", "maps")`.

The bash scripts in datasets/ do the same, and go on with what an interrupted download left.
"""

from __future__ import annotations

import http.client
import os
import re
import time
import urllib.request
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.error import HTTPError

from util.download.archive import ArchiveError, unpack
from util.errors import UserError, did_you_mean

URLS = {
    "cyclegan": "http://efrosgans.eecs.berkeley.edu/cyclegan/datasets/",
    "pix2pix": "http://efrosgans.eecs.berkeley.edu/pix2pix/datasets/",
}
ARCHIVE = re.compile(r"[\w-][\w.-]*\.(zip|tar\.gz)")
TIMEOUT = 60  # seconds to connect, between two pieces of data, and over which SLOWEST is measured
SLOWEST = 1000  # bytes a second
LONGEST_LIST, LARGEST = 10**7, 20 * 10**9  # bytes; the largest data set has 8 GB


class GetData:
    """The data sets of one paper: technique "cyclegan" (trainA, trainB, ...) or "pix2pix" (side-by-side pairs).

    The environment variable BASE_URL names another server, with a page that links to the archives.
    """

    def __init__(self, technique: str = "cyclegan", verbose: bool = True):
        if technique.lower() not in URLS:
            raise UserError(f"technique {technique!r} is not one of {', '.join(URLS)}.{did_you_mean(technique, URLS)}")
        self.url = os.environ.get("BASE_URL", URLS[technique.lower()]).rstrip("/") + "/"
        self.verbose = verbose

    def get(self, save_path: str | os.PathLike, dataset: str | None = None) -> str:
        """Fetch and unpack a data set into a folder of `save_path`, and return that folder's absolute path.

        dataset: its name, such as "maps" or "maps.zip"; None lists what the server has and asks for a number.
        A folder that exists is kept as it is. Raises UserError: no such data set, no connection, a broken archive.
        """
        root = Path(save_path).absolute()
        if not dataset or not (root / _name(dataset)).is_dir():
            dataset = self._ask() if dataset is None else self._find(_name(dataset))
        folder = root / _name(dataset)
        if folder.is_dir():
            self._say(f"warning: {folder} exists already; nothing was fetched")
        else:
            self._fetch(dataset, folder)
        return str(folder)

    def _say(self, text: str) -> None:
        if self.verbose:
            print(text, flush=True)

    def _archives(self) -> list[str]:
        """List the archives that the server's page links to."""
        page = _Links()
        page.feed(b"".join(self._pieces(self.url, LONGEST_LIST)).decode("utf-8", "replace"))
        names = {link.rpartition("/")[2] for link in page.links}
        return sorted(name for name in names if ARCHIVE.fullmatch(name))

    def _find(self, name: str) -> str:
        archives = {_name(archive): archive for archive in self._archives()}
        if name not in archives:
            known = ", ".join(archives) or "nothing"
            raise UserError(f"{self.url} has no data set {name!r}; it has {known}.{did_you_mean(name, archives)}")
        return archives[name]

    def _ask(self) -> str:
        archives = self._archives()
        if not archives:
            raise UserError(f"{self.url} lists no archives.")
        for number, archive in enumerate(archives):
            print(f"({number}): {archive}")
        while True:
            try:
                answer = input("Number of the data set to fetch: ").strip()
            except EOFError:
                raise UserError("No number was given. Name the data set instead: get(save_path, 'maps').") from None
            if answer.isdecimal() and int(answer) < len(archives):
                return archives[int(answer)]
            print(f"{answer!r} is not a number from 0 to {len(archives) - 1}")

    def _fetch(self, archive: str, folder: Path) -> None:
        self._say(f"fetching {self.url}{archive}")
        folder.parent.mkdir(parents=True, exist_ok=True)
        part = folder.parent / f"{archive}.get.part"  # another name than the scripts', which would go on with it
        try:
            with part.open("wb") as file:
                for piece in self._pieces(self.url + archive, LARGEST):
                    file.write(piece)
            unpack(part, folder)
        except ArchiveError as error:
            raise UserError(f"{self.url}{archive} is not usable: {error}.") from error
        finally:
            part.unlink(missing_ok=True)
        self._say(f"unpacked to {folder}")

    def _pieces(self, url: str, most: int) -> Iterator[bytes]:
        """Yield what a URL gives, as it arrives; UserError unless it is whole, at most `most` bytes, and in time."""
        got, before, mark = 0, 0, time.monotonic()
        request = urllib.request.Request(url, headers={"User-Agent": "get_data", "Accept-Encoding": "identity"})
        try:
            with urllib.request.build_opener(_NoDowngrade).open(request, timeout=TIMEOUT) as response:
                while piece := response.read1(2**16):
                    yield piece
                    got += len(piece)
                    if got > most:
                        raise UserError(f"{url} gave more than {most:,} bytes, which no such file has.")
                    if time.monotonic() - mark > TIMEOUT:
                        if got - before < TIMEOUT * SLOWEST:
                            raise UserError(f"{url} is too slow: {got - before:,} bytes in the last {TIMEOUT} seconds.")
                        before, mark = got, time.monotonic()
                expected = response.headers.get("Content-Length", "")
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise UserError(f"Cannot get {url}: {error}.") from error
        if expected.isdecimal() and got != int(expected):
            raise UserError(f"{url} did not arrive whole: {got:,} of {int(expected):,} bytes.")


class _NoDowngrade(urllib.request.HTTPRedirectHandler):
    """Follow redirects on the web, but not from https to what anyone on the way can change."""

    def redirect_request(self, req, fp, code, msg, headers, newurl):
        if not newurl.startswith("https:" if req.full_url.startswith("https:") else ("http:", "https:")):
            raise HTTPError(req.full_url, code, f"not followed to {newurl}", headers, fp)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


class _Links(HTMLParser):
    """Collect where a page's links lead."""

    def __init__(self):
        super().__init__()
        self.links: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.links += [value for name, value in attrs if tag == "a" and name == "href" and value]


def _name(archive: str) -> str:
    return re.sub(r"\.(zip|tar\.gz)$", "", archive)
