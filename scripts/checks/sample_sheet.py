"""Images as the network gets them, in one picture: for scripts/doctor.py."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from scripts.checks.dataset import Examination, times
from util.errors import printable
from util.loggers.visuals import contact_sheet, to_pictures


def draw_sheet(opt, items: list[dict], examined: Examination, side: int = 192) -> Image.Image | None:
    """Lay items out in a grid: their images side by side, the network's input first, with files' names and sizes."""
    cells, heads = [], {}
    for item in items:
        keys = [k for k, v in item.items() if isinstance(v, torch.Tensor) and v.is_floating_point() and v.dim() == 3]
        if {"A", "B"} <= set(keys):
            keys = ["A", "B"] if opt.direction == "AtoB" else ["B", "A"]
        if not keys:
            return None
        heads.update({key: f"{key} {times(item[key].shape[:0:-1])}x{item[key].shape[0]}" for key in keys})
        picture = join([shrink(to_pictures(item[key])[0], side) for key in keys])
        paths = dict.fromkeys(str(item.get(f"{key}_paths", "")) for key in keys)
        names = " | ".join(label(examined, path) for path in paths if path)
        cells.append((names[: max(12, picture.shape[1] // 6)], picture))
    if not cells:
        return None
    roles = ["input", "target"] if examined.pairs else [""] * len(heads)
    title = " | ".join(f"{role} {head}".strip() for role, head in zip(roles, heads.values(), strict=False))
    columns = max(1, min(6, 1200 // max(picture.shape[1] for _, picture in cells)))
    grid = contact_sheet([cells[i : i + columns] for i in range(0, len(cells), columns)], side=1200)
    return with_title(grid, f"{title}    (--name {opt.name} --phase {opt.phase} --preprocess {opt.preprocess})")


def label(examined: Examination, path: str) -> str:
    """Name a file, and the size of its image as it is stored."""
    header = examined.headers.get(path)
    return printable(Path(path).name) + (f" {times(header[:2])}" if header else "")


def shrink(picture: np.ndarray, side: int) -> Image.Image:
    """Make a picture (H, W, 3) `side` pixels high, if it is higher."""
    image = Image.fromarray(picture)
    width = max(1, round(image.width * side / image.height))
    return image.resize((width, side), Image.Resampling.BOX) if image.height > side else image


def join(pictures: list[Image.Image]) -> np.ndarray:
    """Put pictures side by side, on white."""
    whole = Image.new("RGB", (sum(p.width + 2 for p in pictures) - 2, max(p.height for p in pictures)), "white")
    x = 0
    for picture in pictures:
        whole.paste(picture, (x, 0))
        x += picture.width + 2
    return np.asarray(whole)


def with_title(sheet: Image.Image, title: str) -> Image.Image:
    """Write a line above a sheet."""
    font, text = ImageFont.load_default(), title.encode("ascii", "replace").decode()
    whole = Image.new("RGB", (max(sheet.width, int(font.getlength(text)) + 12), sheet.height + 22), "white")
    whole.paste(sheet, (0, 22))
    ImageDraw.Draw(whole).text((6, 6), text, fill="black", font=font)
    return whole
