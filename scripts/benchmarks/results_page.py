"""Measure the results page with many rows: what it takes to write, and to open, scroll, filter and sort in Chromium.

    python scripts/benchmarks/results_page.py --rows 10000

Prints a table. The page and its images are made in a temporary folder, on the disk that TMPDIR names.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))
sys.path.insert(0, str(ROOT))
import numpy as np  # noqa: E402
from browser import open_browser  # noqa: E402
from PIL import Image  # noqa: E402

from util.pages.data_file import as_line  # noqa: E402
from util.pages.results_page import ResultsPage, Row  # noqa: E402
from util.pages.results_writer import write_picture  # noqa: E402

LABELS = ("real_A", "fake_B", "real_B")
FRAMES = """
const [to, steps, done] = arguments, times = [];
let last = performance.now(), step = 0;
function frame(now) {
  times.push(now - last);
  last = now;
  if (++step > steps) return done(times.slice(1));
  scrollTo(0, (to * step) / steps);
  requestAnimationFrame(frame);
}
requestAnimationFrame(frame);
"""  # milliseconds between frames while the page scrolls


def main(words: list[str]) -> None:
    """Measure as the command line asks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000, help="rows of the page [%(default)s]")
    parser.add_argument("--side", type=int, default=256, help="pixels of an image's side [%(default)s]")
    args = parser.parse_args(words)
    with tempfile.TemporaryDirectory() as folder:
        figures = encoding(Path(folder) / "one", args.side)
        figures |= {"a line of data.js, written": write(Path(folder) / "many", args.rows, args.side)}
        with open_browser(Path(folder), 1280, 900) as driver:
            figures |= look(driver, Path(folder) / "many", args.rows)
    for name, value in figures.items():
        print(f"| {name} | {value} |")


def pictures(side: int) -> dict[str, np.ndarray]:
    """Make images of mild noise, which compress about as photos do."""
    rng = np.random.default_rng(0)
    small = [Image.fromarray(rng.integers(0, 256, (side // 4, side // 4, 3), dtype=np.uint8)) for _ in LABELS]
    return {label: np.asarray(image.resize((side, side))) for label, image in zip(LABELS, small, strict=True)}


def encoding(folder: Path, side: int, times: int = 100) -> dict[str, str]:
    """Time what the threads of test.py do for a row, in seconds of a processor."""
    page, row = (
        ResultsPage(folder, "t"),
        Row("a", {label: f"a_{label}.png" for label in LABELS}, pictures(side), "a.png"),
    )
    acts = {
        "three PNGs of a row": lambda: [write_picture(folder, row, label) for label in LABELS],
        "its thumbnails": lambda: page.write_thumbs(row),
    }
    found = {}
    for name, act in acts.items():
        begin = time.process_time()
        for _ in range(times):
            act()
        found[f"{name}, CPU time"] = f"{(time.process_time() - begin) / times * 1000:.1f} ms"
    return found


def write(folder: Path, rows: int, side: int) -> str:
    """Write a page whose images are links to a few files, and metrics of all rows; time the lines of data.js."""
    page, shown = ResultsPage(folder, f"{rows} rows"), pictures(side)
    values, spent = {}, 0.0
    for i in range(rows):
        if i % 50_000 == 0:  # a file takes no more than 65,000 links
            for label in LABELS:
                (folder / f"{label}.png").unlink(missing_ok=True)
                Image.fromarray(shown[label]).save(folder / f"{label}.png", compress_level=2)
            (folder / "thumbs/strip.jpg").unlink(missing_ok=True)
            page.write_thumbs(Row("strip", {}, shown))
        name = f"folder{i % 20:02d}_{i:06d}"
        for label in LABELS:
            os.link(folder / f"{label}.png", folder / "images" / f"{name}_{label}.png")
        if (folder / "thumbs/strip.jpg").exists():
            os.link(folder / "thumbs/strip.jpg", folder / "thumbs" / f"{name}.jpg")
        values[name] = {"psnr": 15 + 10 * abs(np.sin(i)), "l1": 0.1}
        begin = time.perf_counter()
        page.add_row(Row(name, {}, shown, f"folder{i % 20:02d}/{i:06d}.png"))
        page.save()
        spent += time.perf_counter() - begin
    page.done()
    known = {"order": ["psnr", "l1"], "lower": {"psnr": False, "l1": True}, "values": values}
    (folder / "metrics.js").write_text(as_line("metrics", known), encoding="utf-8")
    return f"{spent / rows * 1000:.2f} ms"


def look(driver, folder: Path, rows: int) -> dict[str, str]:
    """Open, scroll, filter and sort; the median of three each."""
    shown = "return document.querySelectorAll('article').length"

    def opened() -> float:
        driver.get("about:blank")
        begin = time.perf_counter()
        driver.get((folder / "index.html").as_uri())
        while not driver.execute_script(shown):
            time.sleep(0.005)
        return time.perf_counter() - begin

    def timed(script: str) -> float:
        whole = (
            f"const begin = performance.now(); {script}; document.body.offsetHeight; return performance.now() - begin"
        )
        return driver.execute_script(whole) / 1000

    def median(act) -> str:
        return f"{statistics.median(act() for _ in range(3)) * 1000:.0f} ms"

    found = {f"{rows:,} rows, opened": median(opened)}
    height = driver.execute_script("return document.documentElement.scrollHeight")
    frames = driver.execute_async_script(FRAMES, height, 200)
    found["rows in the document then"] = str(driver.execute_script(shown))
    found["a frame while scrolling to the end, median and 95 %"] = (
        f"{statistics.median(frames):.0f} ms, {sorted(frames)[int(len(frames) * 0.95)]:.0f} ms"
    )
    found["filtered by a name"] = median(lambda: timed("change({q: ''}); change({q: 'folder07'})"))
    found["sorted by a metric"] = median(lambda: timed("change({q: '', sort: ''}); change({sort: 'psnr'})"))
    found["memory of the page's script"] = (
        f"{driver.execute_script('return performance.memory.usedJSHeapSize') / 1e6:.0f} MB"
    )
    return found


if __name__ == "__main__":
    main(sys.argv[1:])
