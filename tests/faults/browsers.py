"""The pages in Firefox: the tests of firefox_pages.py, as a part of the campaign."""

from __future__ import annotations

from pathlib import Path

import pytest

TESTS = Path(__file__).with_name("firefox_pages.py")


class Counter:
    """Count the tests that pytest runs, and those that fail."""

    tests = failed = skipped = 0

    def pytest_runtest_logreport(self, report):
        self.tests += report.when == "call"
        self.failed += report.failed
        self.skipped += report.skipped


def campaign() -> list[tuple[str, int, int, str]]:
    """Run the tests; return the row of the table."""
    counter = Counter()
    pytest.main(["-q", "-p", "no:cacheprovider", str(TESTS)], plugins=[counter])
    remark = "there is no Firefox" if counter.skipped else ""
    return [("(nothing: the pages are used in Firefox)", counter.tests, counter.failed, remark)]
