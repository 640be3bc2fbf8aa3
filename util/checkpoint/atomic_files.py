"""Files that appear whole or not at all, and their checksums. Needs Python's standard library alone.

A writer that is killed leaves its temporary file behind; the next one in the folder removes it.
Two ways to write: `replacing` and `write_whole` for one file; for several files that belong together, `stage` each one
under a name beside its own (`.new`), then `publish` them in the order that commits them (util.checkpoint.checkpointer).
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from util.runtime.process_table import is_gone

# ---- one file ----

_tidy: set[Path] = set()  # folders without leftovers from before this process


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files that `replacing` left in a folder when its process was killed."""
    _tidy.add(folder)
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            written = re.match(r"\.(\d+)-\d+\.new(\.|$)", entry.name)
            with contextlib.suppress(OSError):
                if written and is_gone(int(written[1]), entry.stat().st_mtime):
                    Path(entry.path).unlink()


@contextlib.contextmanager
def replacing(path: Path, durable: bool = False) -> Iterator[Path]:
    """Yield a name to write to. The file replaces `path` when the body ends, and is removed if the body fails.

    Makes the folder if it is missing. `durable` syncs the file first; without it a power cut may leave an empty file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.parent not in _tidy:
        remove_leftovers(path.parent)
    new = path.with_name(f".{os.getpid()}-{threading.get_ident()}.new{path.suffix}")
    try:
        yield new
        if durable:
            _sync(new)
        new.replace(path)
    except OSError as error:
        if error.filename == str(new):
            error.filename, error.filename2 = str(path), None  # the name that the user knows
        raise
    finally:
        with contextlib.suppress(OSError):
            new.unlink(missing_ok=True)


def write_whole(path: Path, text: str, durable: bool = False) -> None:
    """Write a text file that appears whole or not at all; characters that UTF-8 lacks become question marks."""
    with replacing(path, durable) as new:
        new.write_text(text, encoding="utf-8", errors="replace", newline="\n")


def sha256(path: Path) -> str:
    """Return a file's SHA-256 in hexadecimal digits."""
    sha = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            sha.update(block)
    return sha.hexdigest()


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


# ---- several files ----


def staged(path: Path) -> Path:
    """Return the name under which the next content of `path` is written."""
    return path.with_name(path.name + ".new")


def stage(path: Path, write: Callable[[_HashingWriter], None]) -> str:
    """Have `write(file)` fill the staged file of `path`, sync it to the disk, and return its SHA-256."""
    staged(path).unlink(missing_ok=True)  # never overwritten: it may be a hard link to a committed file
    with staged(path).open("xb") as file:
        hashing = _HashingWriter(file)
        write(hashing)
        if hashing.error:
            raise hashing.error
        file.flush()
        os.fsync(file.fileno())
        if (size := os.fstat(file.fileno()).st_size) != hashing.size:
            raise OSError(errno.EIO, f"{hashing.size:,} bytes were written and the disk holds {size:,}")
    return hashing.sha.hexdigest()


def publish(path: Path) -> None:
    """Rename the staged file of `path` to its final name."""
    staged(path).replace(path)
    if staged(path).exists():  # both were hard links to one file, so renaming did nothing
        staged(path).unlink()


def discard_staged(paths: Iterable[Path]) -> None:
    """Remove staged files, as far as the system allows."""
    for path in paths:
        with contextlib.suppress(OSError):
            staged(path).unlink()


def sync_folder(folder: Path) -> None:
    """Make new names and renames in a folder durable, where the system can sync a folder."""
    if os.name == "posix":
        try:
            _sync(folder)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.EBADF, errno.ENOTSUP):  # the file system does not support it
                raise


def hash_of(write: Callable[[_HashingWriter], None]) -> str:
    """Return the SHA-256 of the file that `write(file)` would write."""
    hashing = _HashingWriter(None)
    write(hashing)
    return hashing.sha.hexdigest()


class _HashingWriter:
    """A file to write to that hashes what it is given, before the disk can change it.

    It keeps its error for later: raised inside torch.save, the error would come out as another one.
    """

    def __init__(self, file):
        self.file, self.sha, self.size, self.error = file, hashlib.sha256(), 0, None

    def write(self, data) -> int:
        self.sha.update(data)
        self.size += len(data)
        try:
            if self.file and not self.error:
                self.file.write(data)
        except OSError as error:
            self.error = error
        return len(data)

    def flush(self) -> None:
        pass
