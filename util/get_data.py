"""Fetch a published dataset from Python: `GetData("cyclegan").get("./datasets", "maps")`."""

from __future__ import annotations

import os
import re
from functools import partial
from pathlib import Path

from util.download.archive import unpack
from util.download.published import KINDS, SERVER
from util.download.transfer import FAILURES, DownloadError, fetch, open_url
from util.errors import UserError, did_you_mean

LINK = re.compile(r"""<a\s[^>]*href=["']?(?:[^"'\s>]*/)?([\w-][\w.-]*)(\.(?:zip|tar\.gz))["'\s>]""", re.IGNORECASE)


class GetData:
    """The datasets of one paper: technique "cyclegan" (trainA, trainB, ...) or "pix2pix" (side-by-side pairs).

    The environment variable BASE_URL names another server, with a page that links to the archives.
    """

    def __init__(self, technique: str = "cyclegan", verbose: bool = True):
        known = ("cyclegan", "pix2pix")
        if technique.lower() not in known:
            raise UserError(
                f"technique {technique!r} is not one of {', '.join(known)}.{did_you_mean(technique, known)}"
            )
        folder = KINDS[f"{technique.lower()}_dataset"][0]
        self.url = os.environ.get("BASE_URL", SERVER + folder).rstrip("/") + "/"
        self.verbose = verbose

    def get(self, save_path: str | os.PathLike, dataset: str | None = None) -> str:
        """Fetch and unpack a dataset into a folder of `save_path`, and return that folder's absolute path.

        dataset: its name, such as "maps" or "maps.zip"; None lists the archives of the server and asks for a number.
        A folder that exists is kept as it is. Raises UserError: no such dataset, no connection, a broken archive.
        """
        root = Path(save_path).absolute()
        name = re.sub(r"\.(zip|tar\.gz)$", "", dataset or "")
        say = print if self.verbose else lambda text: None
        if not name or not (root / name).is_dir():
            archives = self._archives()
            name = self._ask(archives) if dataset is None else name
            if name not in archives:
                known = ", ".join(archives) or "nothing"
                raise UserError(f"{self.url} has no dataset {name!r}; it has {known}.{did_you_mean(name, archives)}")
        folder = root / name
        if folder.is_dir():
            say(f"warning: {folder} exists already; nothing was fetched")
            return str(folder)
        file = name + archives[name]
        try:
            fetch(self.url + file, root / f"{file}.part", partial(unpack, folder=folder), say)
        except DownloadError as error:
            raise UserError(str(error)) from error
        return str(folder)

    def _archives(self) -> dict[str, str]:
        """Return the names of the archives to which the server's page links, and their suffixes."""
        try:
            with open_url(self.url) as response:
                return dict(sorted(set(LINK.findall(response.read(10**6).decode("utf-8", "replace")))))
        except FAILURES as error:
            raise UserError(f"cannot get {self.url}: {error}") from error

    def _ask(self, archives: dict[str, str]) -> str:
        names = list(archives)
        for number, name in enumerate(names):
            print(f"({number}): {name}{archives[name]}")
        while True:
            try:
                answer = input("Number of the dataset to fetch: ").strip()
            except EOFError:
                raise UserError("No number was given. Name the dataset instead: get(save_path, 'maps').") from None
            if answer.isdecimal() and int(answer) < len(names):
                return names[int(answer)]
            print(f"{answer!r} is not a number from 0 to {len(names) - 1}")
