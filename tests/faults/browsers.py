"""The pages of a real run in Firefox, without complaints, and the results page in Chromium at many sizes.

Firefox speaks WebDriver BiDi itself, so that no geckodriver is needed.
"""

from __future__ import annotations

import importlib.util
import itertools
import json
import re
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from browser import Visitor
from conftest import ROOT, make_aligned
from faults.driver import Row
from terminal import TINY, copy_tree, type_well

PROGRAMS = ("firefox-esr", "firefox")  # Debian's, and others'
QUIET = {"browser.shell.checkDefaultBrowser": False, "datareporting.policy.dataSubmissionEnabled": False}
LOADED = "[...document.images].every((one) => one.hidden || one.naturalWidth)"
# Pages, keys to press there, and what must hold then.
PAGES = (
    ("results/one/test_latest/index.html", "", f"document.querySelectorAll('figure').length >= 6 && {LOADED}"),
    ("results/one/test_latest/index.html", "2", "document.querySelector('.frame .handle')"),
    ("results/one/test_latest/index.html", "++1", "view.mode === 'side' && view.zoom === 4"),
    ("checkpoints/one/web/index.html", "", f"document.querySelectorAll('#plot path').length >= 4 && {LOADED}"),
    ("checkpoints/one/web/index.html", ",", "document.querySelectorAll('#fixed img').length > 0"),
    ("checkpoints/index.html", "", "document.querySelectorAll('tbody tr').length === 2"),
    ("study.html", "", "document.getElementById('begin').checkVisibility()"),
)


class Firefox:
    """A headless browser with one page."""

    def __init__(self, home: Path):
        import websocket

        lines = [f"user_pref({json.dumps(name)}, {json.dumps(value)});\n" for name, value in QUIET.items()]
        (home / "user.js").write_text("".join(lines))
        program = next(filter(None, map(shutil.which, PROGRAMS)))
        words = [program, "--headless", "--no-remote", "--profile", str(home), "--remote-debugging-port", "0"]
        log = home / "stderr.txt"
        with log.open("w") as file:
            self.process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=file)
        self.calls, self.complaints = 0, []
        end = time.monotonic() + 60
        while not (found := re.search(r"BiDi listening on (ws://\S+)", log.read_text())):
            if self.process.poll() is not None or time.monotonic() > end:
                self.process.kill()
                raise RuntimeError(f"Firefox does not start: {log.read_text()}")
            time.sleep(0.05)
        self.socket = websocket.create_connection(f"{found[1]}/session", timeout=60, suppress_origin=True)
        self.call("session.new", capabilities={})
        self.page = self.call("browsingContext.getTree")["contexts"][0]["context"]
        self.call("session.subscribe", events=["log.entryAdded"])

    def call(self, method: str, **params) -> dict:
        """Send a command; return its result. Messages of the console go to `complaints`."""
        self.calls += 1
        self.socket.send(json.dumps({"id": self.calls, "method": method, "params": params}))
        while True:
            message = json.loads(self.socket.recv())
            if message.get("method") == "log.entryAdded":
                self.complaints.append(f"{message['params']['level']}: {message['params']['text']}")
            if message.get("id") == self.calls:
                if message["type"] != "success":
                    raise RuntimeError(str(message))
                return message["result"]

    def holds(self, condition: str, seconds: float = 20) -> bool:
        """Wait until an expression of JavaScript holds."""
        end = time.monotonic() + seconds
        where = {"target": {"context": self.page}, "awaitPromise": True}
        while not self.call("script.evaluate", expression=f"Boolean({condition})", **where)["result"].get("value"):
            if time.monotonic() > end:
                return False
            time.sleep(0.02)
        return True

    def violations(self, path: Path, keys: str, condition: str) -> list[str]:
        """Open a page as wide as a phone, press keys, and name what is wrong."""
        viewport = {"width": 390, "height": 844}
        self.call("browsingContext.setViewport", context=self.page, viewport=viewport)
        self.call("browsingContext.navigate", context=self.page, url=path.as_uri(), wait="complete")
        wrong = []
        if not self.holds("document.documentElement.scrollWidth <= 390"):
            wrong.append("wider than a phone")
        for key in keys:
            steps = [{"type": way, "value": key} for way in ("keyDown", "keyUp")]
            self.call("input.performActions", context=self.page, actions=[{"type": "key", "id": "k", "actions": steps}])
        if not self.holds(condition):
            wrong.append(f"never holds: {condition}")
        wrong += self.complaints
        self.complaints.clear()
        return wrong


def make_pages(tree: Path) -> None:
    """Train twice, translate and score once, and make the index and the page that asks people."""
    make_aligned(tree / "pairs", ("train", "val", "test"), count=6)
    for name in ("one", "other"):
        words = f"--dataroot pairs --name {name} --model pix2pix --netG unet_32 {TINY} --val_freq 1"
        type_well(f"train.py {words} --n_epochs 2 --n_epochs_decay 1 --print_freq 1 --display_freq 3", tree)
    type_well("test.py --dataroot pairs --name one --num_test inf --gpu_ids -1", tree)
    type_well(f"{ROOT}/scripts/evaluate.py results/one/test_latest --metrics psnr,l1 --gpu_ids -1", tree)
    type_well(f"{ROOT}/scripts/pages.py", tree)
    study = "--practice 1 --trials 2 --seconds 0.3 --out study.html"
    type_well(f"{ROOT}/scripts/real_or_fake.py make results/one/test_latest {study}", tree)


def campaign() -> list[Row]:
    """Open the pages; return the rows of the table."""
    return in_firefox() + in_chromium()


def in_chromium() -> list[Row]:
    """Lay out pages of results with 1 to 6 images in a row at many sizes, zooms and modes."""
    if not shutil.which("chromedriver"):
        return [("(nothing: the layout of rows): skipped, needs Chromium", 0, 0, "")]
    from page_geometry import faults_at, make_page

    wrong, points = [], 0
    for page in itertools.product((1, 2, 3, 6), (1, 3, 40), (64, 256, 512), (64, 256, 512)):
        with tempfile.TemporaryDirectory() as folder:
            visitor = Visitor().open(make_page(Path(folder), *page), "", "seen.size > 0")
            for size in itertools.product((320, 360, 500, 701, 960, 1100, 1280, 1366, 1920, 2560), (360, 740, 1080)):
                points += 1
                if found := faults_at(visitor, size, 1, [0.5, 1, 2], ["side", "slider", "diff"]):
                    wrong.append((page, size, found))
    return [("(nothing: the layout of rows)", points, len(wrong), "; ".join(map(str, wrong[:5])))]


def in_firefox() -> list[Row]:
    """Open the pages of a run."""
    if not any(map(shutil.which, PROGRAMS)) or not importlib.util.find_spec("websocket"):
        return [("(nothing: the pages in Firefox): skipped, needs Firefox and websocket-client", 0, 0, "")]
    with tempfile.TemporaryDirectory(prefix="browsers") as folder:
        home = Path(folder) / "profile"
        home.mkdir()
        tree = copy_tree(Path(folder) / "tree")
        make_pages(tree)
        firefox = Firefox(home)
        try:
            wrong = [(page, *firefox.violations(tree / page, keys, state)) for page, keys, state in PAGES]
        finally:
            firefox.process.kill()
            firefox.process.wait()
    wrong = [words for words in wrong if len(words) > 1]
    return [("(nothing: the pages in Firefox)", len(PAGES), len(wrong), "; ".join(map(str, wrong)))]
