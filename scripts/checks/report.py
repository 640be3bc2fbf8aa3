"""The doctor's report: one line for each finding."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from util.errors import UserError, printable


class Finding(NamedTuple):
    """One line of the report."""

    level: str  # ok, warn, or FAIL: the command cannot work
    subject: str
    text: str
    fix: str = ""  # what to type or do


class Report:
    """Print findings as they come, and count them."""

    def __init__(self):
        self.counts = Counter()

    def show(self, findings: Iterable[Finding]) -> None:
        """Print a line for each finding; further lines of a long one below it."""
        for finding in findings:
            self.counts[finding.level] += 1
            text = finding.text.rstrip(" .;:,\n") + (f": {finding.fix}" if finding.fix else "")
            first, *rest = [printable(line.strip()) for line in text.splitlines() if line.strip()]
            print(f"{finding.level:<4}  {finding.subject:<10}  {first}", *rest, sep="\n" + 18 * " ", flush=True)

    def conclude(self, command: str, seconds: float) -> int:
        """Print the counts and the command to type next; return the exit status."""
        ok, warned, failed = (self.counts[level] for level in ("ok", "warn", "FAIL"))
        print(f"\n{ok} ok, {warned} to look at, {failed} failed ({seconds:.0f} s).")
        print(f"{'When that is fixed' if failed else 'Next'}:\n  {printable(command)}")
        return 1 if failed else 0


def reason_of(error: Exception) -> str:
    """Return an error's text; an error of a plug-in's code also needs its type."""
    return str(error).rstrip(".") if isinstance(error, UserError) else f"{type(error).__name__}: {error}"


@contextlib.contextmanager
def quiet():
    """Collect the body's output and warnings instead of showing them."""
    output = io.StringIO()
    with warnings.catch_warnings(), contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        warnings.simplefilter("ignore")
        yield output
