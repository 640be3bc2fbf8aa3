"""Unpack a data set's archive: plain files inside one folder, all of them or none.

`python -m util.download.archive ARCHIVE FOLDER` exits with status 3 if the archive is at fault, 1 if the machine is.
It needs Python's standard library alone, since data sets are fetched before anything is installed.
"""

from __future__ import annotations

import argparse
import errno
import gzip
import os
import re
import shutil
import signal
import stat
import struct
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

# What zipfile and tarfile raise on broken data, which is all kinds of things.
BROKEN = (zipfile.BadZipFile, tarfile.TarError, gzip.BadGzipFile, zlib.error, struct.error, EOFError, ValueError)
BROKEN += (RuntimeError, OverflowError, LookupError)
# Pictures hardly compress, so an archive that grows a hundredfold is a bomb; the slack is for small ones.
MOST_GROWTH, SLACK = 100, 2**20
MOST_FILES = 500_000  # the largest data set has 140,000, and each takes a kilobyte of memory
PIECE = 2**16  # bytes read at a time; no header of a file is larger
SPLITS = re.compile(r"(train|test|val)[AB]?")


class ArchiveError(Exception):
    """An archive that is broken, empty or not safe to unpack."""


@dataclass
class Member:
    """A file of an archive: its path's parts, its size in bytes, and either its data or the file it links to."""

    parts: tuple[str, ...]
    size: int = 0
    open: Callable[[], IO[bytes]] | None = None
    link: tuple[str, ...] | None = None


def unpack(archive: str | os.PathLike, folder: str | os.PathLike) -> None:
    """Unpack a .zip or .tar.gz as `folder`, or into it what it lacks; nothing that exists is overwritten.

    A single folder at the archive's top stands for `folder` itself. Links become copies. The data appear by a rename
    when all are there. Raises ArchiveError, before anything is written wherever that can be known; OSError (disk full).
    """
    archive, folder = Path(archive), Path(os.path.abspath(folder))  # noqa: PTH100 (links in the path are kept)
    work = folder.with_name(f".{folder.name}.unpacking")
    shutil.rmtree(work, ignore_errors=True)  # left by a run that was killed
    try:
        with _open(archive) as members:
            _check(members, archive.stat().st_size, _existing(folder.parent))
            work.mkdir(parents=True)
            _write(members, work)
        _put(_top(work, folder.name), folder)
    except BROKEN as error:
        raise ArchiveError(f"{archive.name} is broken: {error}") from error
    except OSError as error:
        if error.errno == errno.EINVAL:  # zipfile seeks wherever a broken directory points
            raise ArchiveError(f"{archive.name} is broken: {error}") from error
        raise
    finally:
        shutil.rmtree(work, ignore_errors=True)


# ---- listing ----


@contextmanager
def _open(archive: Path) -> Iterator[list[Member]]:
    """List an archive's files; they can be read while the body runs."""
    with archive.open("rb") as file:
        magic = file.read(4)
    if magic[:2] == b"PK":
        with zipfile.ZipFile(archive) as box:
            yield [member for info in box.infolist() if (member := _zip_member(box, info))]
    elif magic[:2] == b"\x1f\x8b":
        packed = archive.stat().st_size
        with gzip.open(archive) as stream, tarfile.open(fileobj=_Bounded(stream, packed), mode="r:") as box:
            members = []
            for count, info in enumerate(box):
                if count > MOST_FILES:
                    raise ArchiveError(f"more than {MOST_FILES:,} files: no data set has so many")
                if member := _tar_member(box, info):
                    members.append(member)
            while box.fileobj.read(PIECE):  # up to gzip's own checksum, which stands at the end
                pass
            yield members
    else:
        raise ArchiveError(f"{archive.name} is neither a zip nor a tar.gz archive")


class _Bounded:
    """What gzip unpacks, so long as it is neither a bomb nor asked for in a piece that would fill the memory."""

    def __init__(self, stream: IO[bytes], packed: int):
        self.stream, self.most = stream, MOST_GROWTH * packed + SLACK
        self.tell = stream.tell

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= PIECE:
            raise ArchiveError(f"a header of {size:,} bytes: no archive of pictures has that")
        return self._within(self.stream.read(size), self.stream.tell())

    def seek(self, place: int) -> int:
        self._within(None, place)
        return self.stream.seek(place)

    def _within(self, result, place: int):
        if place > self.most:
            raise ArchiveError(f"it would unpack to more than {self.most:,} bytes: no archive of pictures does that")
        return result


def _zip_member(box: zipfile.ZipFile, info: zipfile.ZipInfo) -> Member | None:
    name = info.orig_filename  # info.filename hides what follows a zero byte
    parts = _parts(name)
    kind = stat.S_IFMT(info.external_attr >> 16)
    if info.flag_bits & 1:
        raise ArchiveError(f"{name!r} is encrypted")
    if not parts or parts[0] == "__MACOSX" or (info.is_dir() and kind in (0, stat.S_IFDIR)):
        return None
    if kind == stat.S_IFLNK:
        if info.file_size > 4096:
            raise ArchiveError(f"{name!r} is a link of {info.file_size} bytes")
        return Member(parts, link=_target(parts[:-1], os.fsdecode(box.read(info))))
    if kind not in (0, stat.S_IFREG):
        raise ArchiveError(f"{name!r} is neither a file nor a folder")
    return Member(parts, info.file_size, lambda: box.open(info))


def _tar_member(box: tarfile.TarFile, info: tarfile.TarInfo) -> Member | None:
    parts = _parts(info.name)
    if info.isdir() or not parts:
        return None
    if info.issym() or info.islnk():
        return Member(parts, link=_target(parts[:-1] if info.issym() else (), info.linkname))
    if not info.isreg() or info.issparse():
        raise ArchiveError(f"{info.name!r} is neither a plain file nor a folder")
    return Member(parts, info.size, lambda: box.extractfile(info))


def _parts(name: str) -> tuple[str, ...]:
    """Split a path at its slashes; raise ArchiveError if it could lead out of the folder or is no path anywhere."""
    parts = tuple(part for part in name.split("/") if part not in ("", "."))
    if name.startswith("/") or re.match("[A-Za-z]:", name) or "\\" in name or ".." in parts:
        raise ArchiveError(f"{name!r} leads out of the folder")
    if any(ord(letter) < 32 or ord(letter) == 127 for letter in name):
        raise ArchiveError(f"{name!r} has control characters in its name")
    if len(os.fsencode(name)) > 1000 or any(len(os.fsencode(part)) > 240 for part in parts):
        raise ArchiveError(f"{name[:40]!r}... is too long a name")
    return parts


def _target(folder: tuple[str, ...], link: str) -> tuple[str, ...]:
    """Follow a link's text from `folder`; raise ArchiveError if it leads out of the archive."""
    path = list(folder)
    for step in link.split("/"):
        if (step == ".." and not path) or link.startswith("/"):
            raise ArchiveError(f"a link to {link!r} leads out of the folder")
        if step == "..":
            path.pop()
        elif step not in ("", "."):
            path.append(step)
    return tuple(path)


# ---- checking and writing ----


def _check(members: list[Member], packed: int, disk: Path) -> None:
    """Raise ArchiveError if files clash, links lead to no file or the sizes are absurd; OSError if space is short."""
    files = {member.parts: member for member in members}
    folders = {member.parts[:depth] for member in members for depth in range(1, len(member.parts))}
    if not any(member.size for member in members):
        raise ArchiveError("the archive is empty")
    if len(files) < len(members) or files.keys() & folders:
        raise ArchiveError("the archive holds two files of the same name")
    size = 0
    for member in members:
        source = files.get(member.link) if member.link else member
        if source is None or source.open is None:
            raise ArchiveError(f"{'/'.join(member.parts)!r} is a link to no file of the archive")
        size += source.size
    if size > MOST_GROWTH * packed + SLACK:
        raise ArchiveError(f"{packed:,} bytes would unpack to {size:,}: no archive of pictures does that")
    free = shutil.disk_usage(disk).free
    if size > free:
        raise OSError(f"the data need {size / 1e9:.1f} GB, but {disk} has {free / 1e9:.1f} GB left")


def _write(members: list[Member], work: Path) -> None:
    for member in members:
        if member.open:
            path = work.joinpath(*member.parts)
            path.parent.mkdir(parents=True, exist_ok=True)
            with member.open() as source, path.open("xb") as target:
                shutil.copyfileobj(source, target, PIECE)
            if path.stat().st_size != member.size:
                raise ArchiveError(f"{'/'.join(member.parts)!r} is cut short")
    for member in members:
        if member.link:
            path = work.joinpath(*member.parts)
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(work.joinpath(*member.link), path)


def _top(work: Path, name: str) -> Path:
    """Find the data set's own folder in what was unpacked: `name`, or the only thing there, or all of it."""
    if (work / name).is_dir():
        return work / name
    entries = [entry for entry in work.iterdir() if not entry.name.startswith(".")]
    if len(entries) == 1 and entries[0].is_dir() and not SPLITS.fullmatch(entries[0].name):
        return entries[0]
    return work


def _put(source: Path, folder: Path) -> None:
    if not folder.exists():
        source.rename(folder)
        return
    for entry in sorted(source.iterdir()):
        if not (folder / entry.name).exists():
            entry.rename(folder / entry.name)


def _existing(path: Path) -> Path:
    while not path.exists():
        path = path.parent
    return path


def main() -> int:
    parser = argparse.ArgumentParser(description="Unpack a .zip or .tar.gz archive of a data set as one folder.")
    parser.add_argument("archive", help="the file")
    parser.add_argument("folder", help="the data set's folder; what is there already is kept")
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that a stopped run cleans up, too
    try:
        unpack(args.archive, args.folder)
    except ArchiveError as error:
        print(f"error: {error}", file=sys.stderr)
        return 3
    except OSError as error:
        print(f"error: cannot unpack {args.archive}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
