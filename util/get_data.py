"""Fetch a published data set from Python: `GetData("cyclegan").get("./datasets", "maps")`.

The bash scripts in datasets/ do the same, and go on with what an interrupted download left.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from util.unpack import ArchiveError, unpack
from util.util import UserError, did_you_mean

URLS = {
    "cyclegan": "http://efrosgans.eecs.berkeley.edu/cyclegan/datasets/",
    "pix2pix": "http://efrosgans.eecs.berkeley.edu/pix2pix/datasets/",
}
ARCHIVE = re.compile(r"[\w-][\w.-]*\.(zip|tar\.gz)")
TIMEOUT = (30, 60)  # seconds to connect, and between two pieces of data


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
        bs4 = _optional("bs4", "beautifulsoup4")
        with self._request(self.url) as response:
            links = bs4.BeautifulSoup(response.text, "html.parser").find_all("a", href=True)
        names = {link["href"].rpartition("/")[2] for link in links}
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
            self._download(self.url + archive, part)
            unpack(part, folder)
        except ArchiveError as error:
            raise UserError(f"{self.url}{archive} is not usable: {error}.") from error
        finally:
            part.unlink(missing_ok=True)
        self._say(f"unpacked to {folder}")

    def _download(self, url: str, path: Path) -> None:
        with self._request(url) as response, path.open("wb") as file:
            for piece in response.iter_content(2**20):
                file.write(piece)
            expected = response.headers.get("Content-Length")
            # What a server compresses on the way has another length at the end.
            if expected and "Content-Encoding" not in response.headers and file.tell() != int(expected):
                raise UserError(f"{url} did not arrive whole: {file.tell():,} of {int(expected):,} bytes.")

    @contextmanager
    def _request(self, url: str) -> Iterator:
        """Ask for a URL; the response's body arrives as it is read in the body. Raises UserError."""
        requests = _optional("requests")
        try:
            with requests.get(url, stream=True, timeout=TIMEOUT) as response:
                response.raise_for_status()
                yield response
        except requests.RequestException as error:
            raise UserError(f"Cannot get {url}: {error}.") from error


def _name(archive: str) -> str:
    return re.sub(r"\.(zip|tar\.gz)$", "", archive)


def _optional(module: str, package: str | None = None):
    """Import what only this file needs, or raise UserError with what to type."""
    try:
        return __import__(module)
    except ImportError:
        raise UserError(f"GetData needs {package or module}: pip install {package or module}") from None
