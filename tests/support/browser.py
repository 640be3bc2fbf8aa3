"""A headless Chromium for tests of pages: Debian's, driven through Selenium, with a profile of its own."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

FLAGS = (
    "--headless=new --no-sandbox --disable-gpu --disable-dev-shm-usage --disable-background-networking "
    "--disable-component-update --disable-sync --no-first-run --hide-scrollbars"
).split()


def missing() -> str:
    """Say what a browser's test lacks here, and how to get it; nothing if it lacks nothing."""
    programs = [name for name in ("chromium", "chromedriver") if not shutil.which(name)]
    if programs:
        return f"{' and '.join(programs)} not found: apt install chromium chromium-driver"
    return "" if importlib.util.find_spec("selenium") else "selenium is not installed: pip install selenium"


@contextlib.contextmanager
def open_browser(home: Path, width: int = 1280, height: int = 800, dark: bool = False) -> Iterator:
    """Start a browser, a selenium.webdriver.Chrome; it downloads into `home`/downloads. Skips the test without one.

    `width` and `height` are those of the page, in CSS pixels; phones are narrower than windows may be.
    """
    if missing():
        pytest.skip(missing())
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    for flag in (*FLAGS, f"--user-data-dir={home / 'profile'}"):
        options.add_argument(flag)
    options.add_experimental_option("prefs", {"download.default_directory": str(home / "downloads")})
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
    try:
        driver.set_script_timeout(60)
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
        yield driver
    finally:
        driver.quit()


def requests(driver) -> list[str]:
    """Return the addresses that the pages have asked for since the last call."""
    messages = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
    return [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]


def complaints(driver) -> list[str]:
    """Return what the browser's console has said since the last call."""
    return [entry["message"] for entry in driver.get_log("browser")]
