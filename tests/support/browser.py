"""A headless Chromium for tests of pages: Debian's, driven through Selenium, with a temporary profile."""

from __future__ import annotations

import atexit
import functools
import importlib.util
import json
import shutil
import tempfile
import time
from pathlib import Path

import pytest

FLAGS = (
    "--headless=new --no-sandbox --disable-gpu --disable-dev-shm-usage --disable-background-networking "
    "--disable-component-update --disable-sync --no-first-run"
).split()


@functools.cache
def _driver():
    """Start the browser that all tests of this process share."""
    if not (shutil.which("chromium") and shutil.which("chromedriver") and importlib.util.find_spec("selenium")):
        pytest.skip("no browser: apt install chromium chromium-driver; pip install selenium")
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    home = tempfile.mkdtemp(prefix="browser")
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    for flag in (*FLAGS, f"--user-data-dir={home}/profile"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
    atexit.register(lambda: (driver.quit(), shutil.rmtree(home, ignore_errors=True)))
    driver.set_script_timeout(60)
    return driver


class Visitor:
    """A person at the shared browser, who opens a page of a given size, in CSS pixels. Skips the test without one."""

    def __init__(self, width: int = 1280, height: int = 900, dark: bool = False):
        self.driver = _driver()
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})

    def open(self, folder: Path, hash: str = "", ready: str = "true") -> Visitor:
        """Open a page, or `folder`/index.html, and wait until the expression `ready` holds."""
        page = Path(folder) if Path(folder).is_file() else Path(folder) / "index.html"
        self.driver.get("about:blank")
        self.complaints(), self.requests()  # those of other pages
        self.driver.get(f"{page.as_uri()}{hash}")
        self.until(ready)
        return self

    def js(self, expression: str, *values):
        """Return the value of an expression; `arguments` are `values`."""
        return self.driver.execute_script(f"return {expression}", *values)

    def run(self, statements: str, *values) -> None:
        """Run statements; `arguments` are `values`."""
        self.driver.execute_script(statements, *values)

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
        """Return what the console has said since the last call; a page may lack metrics.js."""
        said = [entry["message"] for entry in self.driver.get_log("browser")]
        return [line for line in said if "metrics.js" not in line or "ERR_FILE_NOT_FOUND" not in line]

    def requests(self) -> list[str]:
        """Return the addresses that the pages have asked for since the last call."""
        messages = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        return [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
