"""Pages of results with any number and size of images, and a search for parts of rows that cover each other."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from browser import Visitor

from util.pages.results_page import ResultsPage, Row

LABELS = ("real_A", "fake_B", "rec_A", "real_B", "fake_A", "rec_B")
MODES = ("side", "slider")
METRICS = ["l1", "psnr", "ssim", "ms_ssim"]
FAULTS = """((zooms, modes) => {
  const faults = new Set(), root = document.documentElement;
  const covers = (a, b) => a.left < b.right - 1 && b.left < a.right - 1 && a.top < b.bottom - 1 && b.top < a.bottom - 1;
  const check = (zoom) => {
    const rows = [...document.querySelectorAll("article")], boxes = rows.map((one) => one.getBoundingClientRect());
    if (!rows.length) faults.add("no rows");
    if (root.scrollWidth > root.clientWidth) faults.add("scrolls sideways");
    rows.forEach((row, k) => {
      const parts = [...row.querySelectorAll("header, figure")].filter((one) => one.offsetHeight);
      const places = parts.map((one) => one.getBoundingClientRect());
      const end = Math.min(boxes[k].bottom, boxes[k + 1]?.top ?? Infinity);
      parts.forEach(({ tagName }, i) => {
        const box = places[i];
        if (box.bottom > end + 1) faults.add(`${tagName} reaches into the next row`);
        if (box.right > root.clientWidth + 1) faults.add(`${tagName} is cut off`);
        if (tagName === "FIGURE" && box.width < 40 * zoom) faults.add(`${tagName} of ${box.width} pixels`);
        if (places.some((other) => other !== box && covers(box, other))) faults.add(`${tagName} covers another part`);
      });
    });
  };
  if (!zooms.length) check(1); // as it is
  for (const zoom of zooms) for (const mode of modes) for (const part of [0, .5, 1]) {
    document.body.style.zoom = zoom;
    view.set({ mode });
    scrollTo(0, part * document.body.scrollHeight);
    draw();
    check(zoom);
  }
  return [...faults];
})(arguments[0], arguments[1])"""


def make_page(folder: Path, count: int, rows: int, width: int, height: int) -> Path:
    """Write a page with rows and scores, whose images are missing: geometry needs none."""
    page = ResultsPage(folder, "Results", {"paired": True})
    pictures = {label: np.zeros((height, width, 3), np.uint8) for label in LABELS[:count]}
    names = [f"a/long/name/of/a/folder/and/of/an/image/{i}" for i in range(rows)]
    for name in names:
        page.add_row(Row(name.replace("/", "_"), {}, pictures, f"{name}.png"))
    page.save()
    page.done()
    values = {name.replace("/", "_"): dict.fromkeys(METRICS, 0.12345) for name in names}
    value = {"order": METRICS, "lower": {}, "values": values}
    (folder / "metrics.js").write_text(f"metrics({json.dumps(value)});\n")
    return folder


def faults_at(visitor: Visitor, size: tuple[int, int], factor: float = 1, zooms=(1,), modes=MODES) -> list[str]:
    """Resize the open page, zoom, scroll, change its mode, and return all faults; `factor`: pixels of a CSS pixel."""
    metrics = {"width": size[0], "height": size[1], "deviceScaleFactor": factor, "mobile": size[0] < 500}
    visitor.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    return visitor.js(FAULTS, zooms, modes)
