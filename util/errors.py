"""Errors and warnings that a user reads, and the words they are made of."""

from __future__ import annotations

import contextlib
import difflib
import errno
import importlib
import os
import sys
from collections.abc import Iterable

import torch

# Of a write, which names no file.
DISK_ERRORS = {getattr(errno, name) for name in ("ENOSPC", "EDQUOT", "EFBIG", "EROFS", "EIO") if hasattr(errno, name)}


class UserError(Exception):
    """A mistake that its user can mend: shown as one message, without a traceback, with a non-zero exit status."""


class DataError(UserError):
    """An image or a loader of images failed; the networks are as they were after the last step."""


@contextlib.contextmanager
def explained_errors():
    """Turn what a user can mend into one message on stderr and exit status 1, and Ctrl-C into status 130."""
    if hasattr(sys.stdout, "reconfigure"):  # names of files need not be text that the terminal can show
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        yield
    except UserError as error:
        sys.exit(f"error: {error}")
    except OSError as error:
        if error.filename is None:
            if error.errno not in DISK_ERRORS:
                raise
            sys.exit(f"error: {error.strerror}: what was written before is as it was")
        sys.exit(f"error: {error.filename}: {error.strerror}")
    except (RuntimeError, MemoryError) as error:
        if not _out_of_memory(error):
            raise
        sys.exit(f"error: {OUT_OF_MEMORY}\n  ({str(error).splitlines()[0] if str(error) else 'MemoryError'})")
    except KeyboardInterrupt:
        print("stopped by Ctrl-C", file=sys.stderr)
        sys.exit(130)


OUT_OF_MEMORY = """out of memory. What helps, in this order:
  --batch_size 1, with --grad_accum N where a step is to have N times as many images
  --grad_checkpoint, slower steps with the same result; --precision bf16, where the device has it
  a smaller --crop_size (and --load_size): half the side takes a quarter of the memory; the network still translates
    images of any size
  a smaller network: --netG resnet_6blocks or unet_256, --ngf 32, --ndf 32
  no --cache and fewer --num_threads, if it is the computer's own memory that is short
python scripts/doctor.py with the same arguments says what is needed; --continue_train goes on from the last save."""


def _out_of_memory(error: Exception) -> bool:
    """Tell a device's or the computer's lack of memory from other errors; not all of them have a type."""
    texts = ("can't allocate memory", "out of memory", "not enough memory")
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or any(text in str(error) for text in texts)


def warn(message: str) -> None:
    """Tell the user, on stderr, of something that does not stop the run; under torchrun the main process alone does."""
    if os.environ.get("RANK", "0") == "0":
        print(f"warning: {message}", file=sys.stderr)


def printable(text: object) -> str:
    """Make a name fit for a line of a message: control characters, and bytes that are no UTF-8, are escaped."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in str(text))


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return ` Did you mean 'x'?` for the nearest of `known`, or nothing."""
    near = difflib.get_close_matches(word, list(known), n=1)
    return f" Did you mean {near[0]!r}?" if near else ""


def need(module: str, package: str, what: str):
    """Import a package that not all need; where it is missing, raise UserError with the command that installs it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise UserError(f"{what} needs the package {package} ({error}). Install it: pip install {package}") from None


def format_bytes(count: float) -> str:
    """Write a number of bytes for people: `228 MB`."""
    for unit, one in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= one:
            return f"{count / one:.1f} {unit}" if count < 10 * one else f"{count / one:.0f} {unit}"
    return f"{count:.0f} bytes"


def list_names(names, most: int = 2) -> str:
    """List the first few names: `a.png, b.png and 7 more`."""
    names = [printable(name) for name in names]
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
