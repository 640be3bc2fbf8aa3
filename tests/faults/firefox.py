"""A headless Firefox for tests of pages, driven by WebDriver BiDi, which it speaks itself: no geckodriver."""

from __future__ import annotations

import base64
import importlib.util
import json
import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest

PROGRAMS = ("firefox-esr", "firefox")  # Debian's, and others'
QUIET = {"browser.shell.checkDefaultBrowser": False, "datareporting.policy.dataSubmissionEnabled": False}


def find(selector: str) -> str:
    """Return JavaScript for the first element of a CSS selector."""
    return f"document.querySelector({json.dumps(selector)})"


class Firefox:
    """A browser with one page: `with Firefox(home, 1280, 800) as browser`. Skips the test where there is none."""

    def __init__(self, home: Path, width: int, height: int):
        program = next(filter(None, map(shutil.which, PROGRAMS)), None)
        if not program:
            pytest.skip("Firefox not found: apt install firefox-esr")
        if not importlib.util.find_spec("websocket"):
            pytest.skip("websocket-client is not installed: pip install websocket-client")
        import websocket

        home.mkdir(parents=True, exist_ok=True)
        lines = [f"user_pref({json.dumps(name)}, {json.dumps(value)});\n" for name, value in QUIET.items()]
        (home / "user.js").write_text("".join(lines))
        words = [program, "--headless", "--no-remote", "--profile", str(home), "--remote-debugging-port", "0"]
        with (home / "stderr.txt").open("w") as file:
            self.process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=file)
        self.calls, self.complaints = 0, []
        try:
            address = self._address(home / "stderr.txt")
            self.socket = websocket.create_connection(f"{address}/session", timeout=60, suppress_origin=True)
            self.call("session.new", capabilities={})
            self.page = self.call("browsingContext.getTree")["contexts"][0]["context"]
            self.call("session.subscribe", events=["log.entryAdded"])
            self.resize(width, height)
        except BaseException:
            self.process.kill()
            raise

    def _address(self, log: Path) -> str:
        end = time.monotonic() + 60
        while not (found := re.search(r"BiDi listening on (ws://\S+)", log.read_text())):
            assert self.process.poll() is None, log.read_text()
            assert time.monotonic() < end, log.read_text()
            time.sleep(0.05)
        return found[1]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        try:
            self.call("browser.close")
            self.process.wait(20)
        finally:
            self.process.kill()

    def call(self, method: str, **params) -> dict:
        """Send a command; return its result. Messages of the console go to `complaints`."""
        self.calls += 1
        self.socket.send(json.dumps({"id": self.calls, "method": method, "params": params}))
        while True:
            message = json.loads(self.socket.recv())
            if message.get("method") == "log.entryAdded":
                self.complaints.append(f"{message['params']['level']}: {message['params']['text']}")
            if message.get("id") == self.calls:
                assert message["type"] == "success", message
                return message["result"]

    def open(self, path: Path, state: str = "") -> None:
        """Open a file."""
        self.call("browsingContext.navigate", context=self.page, url=path.as_uri() + state, wait="complete")

    def js(self, expression: str):
        """Return what an expression comes to, as JSON has it."""
        where = {"target": {"context": self.page}, "awaitPromise": True}
        found = self.call("script.evaluate", expression=f"JSON.stringify({expression})", **where)
        assert found["type"] == "success", found
        return json.loads(found["result"].get("value", "null"))

    def until(self, condition: str, seconds: float = 20) -> None:
        """Wait until an expression holds."""
        end = time.monotonic() + seconds
        while not self.js(f"Boolean({condition})"):
            assert time.monotonic() < end, (condition, self.js("document.body.innerText"))
            time.sleep(0.02)

    def click(self, selector: str) -> None:
        """Click an element where a mouse would."""
        seen = f"((one) => (one.scrollIntoView({{block: 'nearest'}}), one.getBoundingClientRect()))({find(selector)})"
        x, y = self.js(f"((box) => [box.x + box.width / 2, box.y + box.height / 2])({seen})")
        self.mouse((int(x), int(y)))

    def enter(self, name: str, value: str, event: str = "input") -> None:
        """Give a control, by its id, a value."""
        act = f"one.value = {json.dumps(value)}, one.dispatchEvent(new Event({json.dumps(event)}))"
        self.js(f"((one) => ({act}))({find('#' + name)})")

    def mouse(self, *places: tuple[int, int]) -> None:
        """Press at the first place, move over the others, and let go."""
        steps = [{"type": "pointerMove", "x": x, "y": y} for x, y in places]
        steps = [steps[0], {"type": "pointerDown", "button": 0}, *steps[1:], {"type": "pointerUp", "button": 0}]
        self.call("input.performActions", context=self.page, actions=[{"type": "pointer", "id": "m", "actions": steps}])

    def press(self, *keys: str) -> None:
        """Press keys, one after the other."""
        steps = [{"type": way, "value": key} for key in keys for way in ("keyDown", "keyUp")]
        self.call("input.performActions", context=self.page, actions=[{"type": "key", "id": "k", "actions": steps}])

    def resize(self, width: int, height: int) -> None:
        """Make the page so large, in CSS pixels."""
        self.call("browsingContext.setViewport", context=self.page, viewport={"width": width, "height": height})

    def screenshot(self, path: Path) -> None:
        """Write what is seen."""
        path.write_bytes(base64.b64decode(self.call("browsingContext.captureScreenshot", context=self.page)["data"]))
