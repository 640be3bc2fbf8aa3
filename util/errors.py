"""Errors and warnings for users, and helpers that format them."""

from __future__ import annotations

import contextlib
import difflib
import errno
import importlib
import os
import sys
from collections.abc import Iterable

# Errors of a write, which name no file.
DISK_ERRORS = {getattr(errno, name) for name in ("ENOSPC", "EDQUOT", "EFBIG", "EROFS", "EIO") if hasattr(errno, name)}


class UserError(Exception):
    """A mistake that the user can fix: printed as one message without a traceback, with exit status 1."""


class Finished(UserError):
    """Nothing is left to do, as a command expects that is repeated until it ends: one line, with exit status 0."""


class DataError(UserError):
    """An image or a loader of images failed; the networks are as they were after the last step."""


@contextlib.contextmanager
def explained_errors():
    """Turn errors that a user can fix into one message on stderr and exit status 1, and Ctrl-C into status 130."""
    if hasattr(sys.stdout, "reconfigure"):  # a file's name need not be text that the terminal can show
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        yield
    except Finished as end:
        print(end)
    except UserError as error:
        sys.exit(f"error: {error}")
    except OSError as error:
        if error.filename is None:
            if error.errno not in DISK_ERRORS:
                raise
            sys.exit(f"error: {error.strerror}: the files written before are intact")
        sys.exit(f"error: {error.filename}: {error.strerror}")
    except (RuntimeError, MemoryError) as error:
        if not _out_of_memory(error):
            raise
        sys.exit(f"error: {OUT_OF_MEMORY}\n  ({str(error).splitlines()[0] if str(error) else 'MemoryError'})")
    except KeyboardInterrupt:
        print("stopped by Ctrl-C", file=sys.stderr)
        sys.exit(130)


OUT_OF_MEMORY = """out of memory. Try, in this order:
  --batch_size 1, with --grad_accum N for steps of N times as many images
  --grad_checkpoint, slower steps with the same result; --precision bf16, if the device supports it
  a smaller --crop_size (and --load_size): half the side takes a quarter of the memory; the network still translates
    images of any size
  a smaller network: --netG resnet_6blocks or unet_256, --ngf 32, --ndf 32
  no --cache and fewer --num_threads, if the computer's memory is short, not the GPU's
python scripts/doctor.py with the same arguments estimates the need; --continue_train resumes from the last save."""


def _out_of_memory(error: Exception) -> bool:
    """Whether an error means that a device or the computer lacks memory; not all of them have a type."""
    texts = ("can't allocate memory", "out of memory", "not enough memory")
    named = type(error).__name__ == "OutOfMemoryError"  # PyTorch's, which is not imported here: see first_look.py
    return named or isinstance(error, MemoryError) or any(text in str(error) for text in texts)


def warn(message: str) -> None:
    """Print a warning to stderr; under torchrun only the main process prints."""
    if os.environ.get("RANK", "0") == "0":
        print(f"warning: {message}", file=sys.stderr)


def printable(text: object) -> str:
    """Escape control characters, and bytes that are no UTF-8, in a name for a message."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in str(text))


def printable_name(name: object) -> str:
    """Return a name from a file, escaped and shortened so that it can't fill or steer a terminal."""
    return printable(name if len(str(name)) <= 80 else f"{str(name)[:60]}...")


def table_entry(table: dict, name: str, option: str):
    """Return the entry of a table that an option names. Raises UserError with the allowed names."""
    if name not in table:
        raise UserError(f"--{option} {name} is unknown; allowed: {', '.join(table)}.{did_you_mean(name, table)}")
    return table[name]


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return ` Did you mean 'x'?` for the nearest of `known`, or nothing."""
    near = near_names(word, known, 1)
    return f" Did you mean {near[0]!r}?" if near else ""


def near_names(word: str, known: Iterable[str], most: int) -> list[str]:
    """Return the names of `known` that resemble `word` in any case, the nearest first."""
    lower = {name.lower(): name for name in known}
    return [lower[name] for name in difflib.get_close_matches(word.lower(), lower, n=most)]


def need(module: str, package: str, what: str):
    """Import an optional package; if it is missing, raise UserError with the command that installs it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise UserError(f"{what} needs the package {package} ({error}). Install it: pip install {package}") from None


def format_bytes(count: float) -> str:
    """Format a number of bytes: `228 MB`."""
    for unit, one in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= one:
            return f"{count / one:.1f} {unit}" if count < 10 * one else f"{count / one:.0f} {unit}"
    return f"{count:.0f} bytes"


def list_names(names, most: int = 2) -> str:
    """List the first few names: `a.png, b.png and 7 more`."""
    names = [printable(name) for name in names]
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
