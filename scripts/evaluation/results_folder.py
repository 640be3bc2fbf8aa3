"""The images of a results folder: the rows of the last run of test.py, as its page records them in data.js."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote

from scripts.evaluation.page import Picture, Row
from util.errors import UserError, list_names, printable
from util.pages.data_file import PageData

LABEL = re.compile(r"(.*)_((?:fake|real)(?:_[A-Za-z0-9]+)?(?:_rgb)?)\.png", re.DOTALL)


class ResultsFolder(NamedTuple):
    """The results that a folder holds."""

    images: Path  # the folder of the images
    rows: list[Row]  # in the order of the test set; by name where no page records them
    paired: bool | None  # see BaseDataset.is_paired; None without a page

    def labels(self) -> list[str]:
        """Return the labels that the rows have."""
        return sorted({label for row in self.rows for label in row.pictures}, reverse=True)


def read_results(folder: Path) -> ResultsFolder:
    """Return the rows of the last run of test.py, and print how many other files the folder has.

    A folder without data.js was written by another program: all its files are rows. Raise UserError for a damaged
    data.js, and for files that are missing.
    """
    web = folder.parent if folder.name == "images" else folder
    images = web / "images" if (web / "images").is_dir() else folder
    if not (web / "data.js").is_file():
        return ResultsFolder(images, rows_of(images), None)
    rows, paired = recorded(web, images)
    files = {path for row in rows for path in row.pictures.values()}
    if missing := sorted(path.name for path in files if not path.is_file()):
        raise UserError(f"{printable(images)} lacks {list_names(missing, 5)} of the last run of test.py: run it again")
    others = sum(path not in files for row in rows_of(images) for path in row.pictures.values())
    if others:
        text = f"{others:,} files of earlier runs of test.py are left out; the last run has {len(files):,}"
        print(f"{printable(images)}: {text}")
    return ResultsFolder(images, rows, paired)


def recorded(web: Path, images: Path) -> tuple[list[Row], bool | None]:
    """Read data.js: the rows, and whether their images are pairs."""
    rows, paired, files, done = [], None, {}, False
    try:
        for call, values in PageData(web).read():
            if call == "about":
                paired = values[0].get("paired")
            elif call == "layout":
                labels = [(label, file) for label, file, *_ in values[0]["images"] if LABEL.fullmatch(f"_{label}.png")]
                files = {label: unquote(file, errors="surrogateescape") for label, file in labels}
            elif call == "row":
                name = unquote(values[1], errors="surrogateescape")
                rows.append(Row(name, {label: images / f"{name}_{file}.png" for label, file in files.items()}))
            done = done or call == "done"
        if any(path.parent != images for row in rows for path in row.pictures.values()):
            raise ValueError("a file elsewhere")
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        raise UserError(f"{printable(web / 'data.js')} is damaged: run test.py again") from error
    if not done:
        print(f"{printable(web)}: the last run of test.py has not ended; it has written {len(rows):,} rows")
    return rows, paired if isinstance(paired, bool) else None


def rows_of(folder: Path) -> list[Row]:
    """List a folder's files NAME_fake_X.png and NAME_real_X.png by NAME."""
    rows: dict[str, dict[str, Picture]] = {}
    for entry in os.scandir(folder) if folder.is_dir() else ():
        found = LABEL.fullmatch(entry.name)
        if found and not entry.name.startswith(".") and entry.is_file():
            rows.setdefault(found[1], {})[found[2]] = folder / entry.name
    return [Row(name, rows[name]) for name in sorted(rows)]
