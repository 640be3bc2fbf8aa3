"""The lines of a report, and code run without its output: for scripts/doctor.py."""

from __future__ import annotations

import contextlib
import io
import warnings
from typing import NamedTuple


class Finding(NamedTuple):
    """One line of a report."""

    level: str  # ok, warn, or FAIL: it could not work
    subject: str
    text: str
    cure: str = ""  # what to type or to do


@contextlib.contextmanager
def quiet():
    """Collect what the body prints and warns of, rather than showing it."""
    said = io.StringIO()
    with warnings.catch_warnings(), contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        warnings.simplefilter("ignore")
        yield said
