"""Tensors as 8-bit pictures, contact sheets, and file names of images."""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from util.util import tensor2im

LINE = 14  # pixels, a line of PIL's default font
NAME_BYTES = 180  # of a stem: file systems take 255 bytes, label and `.png` included


def to_pictures(visual: object) -> list[np.ndarray]:
    """Turn one visual of a model into one uint8 array (H, W, 3) per item of the batch.

    Takes a tensor (N, C, H, W) in [-1, 1], or an array (H, W, C), (H, W) or (N, H, W, C) in [0, 255].
    One channel becomes grey; two are shown side by side in grey; of more than three the first three are shown.
    """
    if isinstance(visual, torch.Tensor):
        return [three_channels(item) for item in to_bytes(visual).cpu().numpy()]
    array = tensor2im(np.asarray(visual))
    return [three_channels(item) for item in (array if array.ndim == 4 else array[None])]


def to_bytes(visual: torch.Tensor) -> torch.Tensor:
    """Turn (N, C, H, W) or (C, H, W) in [-1, 1] into uint8 (N, H, W, C), C at most 3, on its own device.

    Value for value what `tensor2im` computes: clamped and truncated.
    """
    items = visual.detach()
    items = items[None] if items.dim() == 3 else items
    items = items[:, :3].float()
    if items.device.type == "cpu":  # with PyTorch, threads would wait for each other at every operation
        values = items.numpy() + np.float32(1)
        values = np.clip(np.multiply(np.divide(values, 2, out=values), 255, out=values), 0, 255, out=values)
        return torch.from_numpy(np.ascontiguousarray(values.astype(np.uint8).transpose(0, 2, 3, 1)))
    items = (items + 1).div_(2).mul_(255).clamp_(0, 255)
    return items.to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def three_channels(image: np.ndarray) -> np.ndarray:
    """Make (H, W) or (H, W, C) of any C viewable: (H, W, 3), or (H, 2W, 3) for two channels."""
    image = image[:, :, None] if image.ndim == 2 else image
    channels = image.shape[2]
    if channels == 2:
        image = np.concatenate([image[:, :, :1], image[:, :, 1:]], axis=1)
    return np.ascontiguousarray(image[:, :, :3] if channels > 3 else np.broadcast_to(image, (*image.shape[:2], 3)))


def stretched(picture: np.ndarray, aspect_ratio: float) -> Image.Image:
    """Return the picture (H, W, 3); `aspect_ratio` r > 1 makes it taller, < 1 wider, as `save_image` does."""
    image = Image.fromarray(picture)
    height, width = image.height, image.width
    size = (width, int(height * aspect_ratio)) if aspect_ratio > 1 else (int(width / aspect_ratio), height)
    return image if size == image.size else image.resize(size, Image.Resampling.BICUBIC)


def contact_sheet(rows: list[list[tuple[str, np.ndarray]]], side: int = 512) -> Image.Image:
    """Lay labelled pictures out in rows; those longer than `side` pixels are shrunk."""
    gap = 6
    # PIL's built-in font lacks other characters and line breaks.
    cells = [[(re.sub(r"[^ -~]", "?", label), shrunk(picture, side)) for label, picture in row] for row in rows]
    columns = max(len(row) for row in cells)
    font = ImageFont.load_default()
    width = [
        max(max(row[c][1].width, int(font.getlength(row[c][0]))) for row in cells if c < len(row))
        for c in range(columns)
    ]
    height = [max(picture.height for _, picture in row) + LINE for row in cells]
    sheet = Image.new("RGB", (sum(width) + gap * (columns + 1), sum(height) + gap * (len(cells) + 1)), "white")
    draw = ImageDraw.Draw(sheet)
    for r, row in enumerate(cells):
        for c, (label, picture) in enumerate(row):
            x, y = gap + sum(width[:c]) + gap * c, gap + sum(height[:r]) + gap * r
            draw.text((x, y), label, fill="black", font=font)
            sheet.paste(picture, (x, y + LINE))
    return sheet


def shrunk(picture: np.ndarray, side: int) -> Image.Image:
    """Return the picture, shrunk if it is longer than `side` pixels."""
    image = Image.fromarray(picture)
    image.thumbnail((side, side), Image.Resampling.BOX)
    return image


def batch_sheet(batch: dict, limit: int = 8) -> Image.Image | None:
    """Draw the input of the network: a row per item, a column per image tensor, labelled by key and file name.

    None when the batch holds no images (float tensors (N, C, H, W)).
    """
    images = {k: v for k, v in batch.items() if isinstance(v, torch.Tensor) and v.is_floating_point() and v.dim() == 4}
    if not images:
        return None
    columns = {key: to_pictures(value[:limit]) for key, value in images.items()}
    paths = {key: [Path(str(path)).name for path in batch.get(f"{key}_paths", [])] for key in columns}
    paths = {key: [*names, *[""] * limit] for key, names in paths.items()}  # a user's batch may have none
    rows = [
        [(f"{key}: {paths[key][i]}"[:60], column[i]) for key, column in columns.items() if i < len(column)]
        for i in range(max(map(len, columns.values())))
    ]
    return contact_sheet(rows)


def file_label(label: str) -> str:
    """Replace characters of a label that file names can't hold."""
    return re.sub(r'[<>:"/\\|?*\0]', "_", str(label))


def clip(name: str) -> str:
    """Shorten a name so that a label and an extension still fit."""
    data = os.fsencode(name)
    return name if len(data) <= NAME_BYTES else data[:NAME_BYTES].decode("utf-8", "ignore")
