"""Unpack a dataset's archive, zip or tar.gz: plain files inside one folder, all of them or none."""

from __future__ import annotations

import errno
import gzip
import os
import re
import shutil
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from util.download.transfer import ContentError
from util.runtime.file_kinds import HEAD, kind_of

# The exceptions of zipfile and tarfile on broken data.
BROKEN = (zipfile.BadZipFile, tarfile.TarError, zlib.error, struct.error, EOFError, ValueError, RuntimeError)
BROKEN += (OverflowError, LookupError)
# OSErrors without a number are gzip's; these numbers mean names that clash or are too long, or a wrong offset in a zip.
BROKEN_ERRNO = (None, errno.EINVAL, errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG)
# Images hardly compress, so an archive that grows a hundredfold is a bomb; the slack is for small ones.
MOST_GROWTH, SLACK = 100, 2**20
PIECE = 2**16  # bytes read at a time; no header of a file is larger
SPLITS = re.compile(r"(train|test|val)[AB]?")


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a .zip or .tar.gz as `folder`. A folder that exists gets the top entries that it lacks.

    A single folder at the archive's top stands for `folder` itself. The files appear by a rename when all are there.
    Raises ContentError for an archive that is broken, unsafe or absurdly large; OSError (disk full).
    """
    folder = Path(os.path.abspath(folder))  # noqa: PTH100 (links in the path are kept)
    work = folder.with_name(f".{folder.name}.unpacking")
    shutil.rmtree(work, ignore_errors=True)  # left by a run that was killed
    try:
        work.mkdir(parents=True)
        _write(_files(archive), work, MOST_GROWTH * archive.stat().st_size + SLACK)
        _move(work, folder)
    except (OSError, *BROKEN) as error:
        if getattr(error, "errno", None) not in BROKEN_ERRNO:
            raise
        raise ContentError(f"{archive.name} is broken: {error}") from error
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _files(archive: Path) -> Iterator[tuple[str, IO[bytes] | None]]:
    """Yield each file's name and data. A link has the data of its target, a device or a pipe has None."""
    with archive.open("rb") as file:
        kind = kind_of(file.read(HEAD))
    if kind == "a zip archive":
        with zipfile.ZipFile(archive) as box:
            yield from ((info.filename, box.open(info)) for info in box.infolist() if not info.is_dir())
    elif kind == "a gzip archive":
        with gzip.open(archive) as stream, tarfile.open(fileobj=_InPieces(stream), mode="r:") as box:
            yield from ((info.name, box.extractfile(info)) for info in box if not info.isdir())
            while stream.read(PIECE):  # to the end, where the checksum is
                pass
    else:
        raise ContentError(f"{archive.name} is neither a zip nor a tar.gz archive")


class _InPieces:
    """A stream that cannot be read in one large piece, as the header of a hostile tar may ask for."""

    def __init__(self, stream: IO[bytes]):
        self.stream, self.tell, self.seek = stream, stream.tell, stream.seek

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= PIECE:
            raise ContentError(f"a header of {size:,} bytes: no archive of images has that")
        return self.stream.read(size)


def _write(files: Iterator[tuple[str, IO[bytes] | None]], work: Path, most: int) -> None:
    """Write plain files of at most `most` bytes in all; modes, links and special files of the archive are ignored."""
    size = 0
    for name, data in files:
        path = Path(os.path.abspath(work / name))  # noqa: PTH100
        if not path.is_relative_to(work) or data is None:
            raise ContentError(f"{name!r} leads out of the folder or is a special file")
        path.parent.mkdir(parents=True, exist_ok=True)
        with data, path.open("xb") as file:
            while piece := data.read(PIECE):
                size += file.write(piece)
                if size > most:
                    raise ContentError(f"it would unpack to more than {most:,} bytes: no archive of images does that")
    if not size:
        raise ContentError("the archive is empty")


def _move(work: Path, folder: Path) -> None:
    """Put the dataset in place: the folder of its name among the unpacked files, or the only folder, or all files."""
    shutil.rmtree(work / "__MACOSX", ignore_errors=True)
    tops = [entry for entry in work.iterdir() if not entry.name.startswith(".")]
    only = len(tops) == 1 and tops[0].is_dir() and not SPLITS.fullmatch(tops[0].name)
    source = work / folder.name if (work / folder.name).is_dir() else tops[0] if only else work
    if not folder.exists():
        source.rename(folder)
    else:
        for entry in source.iterdir():
            if not (folder / entry.name).exists():
                entry.rename(folder / entry.name)
