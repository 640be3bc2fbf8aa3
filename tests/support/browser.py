"""A headless Chromium for tests of pages: Debian's, driven through Selenium, with a temporary profile."""

from __future__ import annotations

import atexit
import contextlib
import functools
import importlib.util
import json
import shutil
import tempfile
import time
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
        resize(driver, width, height, dark)
        yield driver
    finally:
        driver.quit()


def resize(driver, width: int, height: int, dark: bool = False) -> None:
    """Set the size of the page, in CSS pixels, and its colours; below 500 pixels it is that of a phone."""
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})


def requests(driver) -> list[str]:
    """Return the addresses that the pages have asked for since the last call."""
    messages = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
    return [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]


def complaints(driver) -> list[str]:
    """Return what the browser's console has said since the last call."""
    return [entry["message"] for entry in driver.get_log("browser")]


@functools.cache
def _driver():
    """Start the browser that all tests of this process share."""
    home = Path(tempfile.mkdtemp(prefix="browser"))
    stack = contextlib.ExitStack()
    atexit.register(lambda: (stack.close(), shutil.rmtree(home, ignore_errors=True)))
    return stack.enter_context(open_browser(home))


class Visitor:
    """A person at the shared browser, who opens a page of a given size."""

    def __init__(self, width: int = 1280, height: int = 900, dark: bool = False):
        self.driver = _driver()
        resize(self.driver, width, height, dark)

    def open(self, folder: Path, hash: str = "", ready: str = "true") -> Visitor:
        """Open `folder`/index.html, and wait until the expression `ready` holds."""
        self.driver.get("about:blank")
        complaints(self.driver), requests(self.driver)  # those of other pages
        self.driver.get(f"{(Path(folder) / 'index.html').as_uri()}{hash}")
        self.until(ready)
        return self

    def js(self, expression: str, *values):
        """Return the value of an expression; `arguments` are `values`."""
        return self.driver.execute_script(f"return {expression}", *values)

    def until(self, expression: str, wanted=True, seconds: float = 20) -> None:
        """Wait until an expression has a value."""
        end = time.monotonic() + seconds
        while (found := self.js(expression)) != wanted:
            assert time.monotonic() < end, f"{expression} is {found!r}, not {wanted!r}"
            time.sleep(0.05)

    def press(self, *keys: str) -> None:
        """Press keys one after the other."""
        from selenium.webdriver import ActionChains

        for key in keys:
            ActionChains(self.driver).send_keys(key).perform()

    def find(self, selector: str):
        """Return the first element of a CSS selector."""
        return self.driver.find_element("css selector", selector)

    def all(self, selector: str, code: str) -> list:
        """Evaluate an expression of each element, `one`."""
        return self.js(f"[...document.querySelectorAll(arguments[0])].map((one) => {code})", selector)

    def fits(self) -> bool:
        """Whether the page is no wider than the window, and no text is smaller than 12 pixels."""
        sizes = "[...document.querySelectorAll('body *')].filter((one) => one.offsetParent && one.innerText)"
        smallest = f"Math.min(...{sizes}.map((one) => parseFloat(getComputedStyle(one).fontSize)))"
        return self.js(f"document.documentElement.scrollWidth <= innerWidth && {smallest} >= 12")

    def complaints(self) -> list[str]:
        """Return what the console has said about this page; a page may lack metrics.js."""
        said = complaints(self.driver)
        return [line for line in said if "metrics.js" not in line or "ERR_FILE_NOT_FOUND" not in line]
