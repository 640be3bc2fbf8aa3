"""PNG with 16 bits for each channel, which Pillow reduces to 8 bits in colour. Files of 8 bits are Pillow's."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

from data.formats.info import MOST_BYTES, Box, Info
from util.checkpoint.atomic_files import replacing
from util.errors import UserError, need, printable

SIGNATURE = b"\x89PNG\r\n\x1a\n"
CHANNELS = {0: 1, 2: 3, 4: 2, 6: 4}  # by colour type: grey, colour, each with alpha


def is_deep(path: str | Path) -> bool:
    """Whether a file is a PNG of 16 bits."""
    with Path(path).open("rb") as file:
        head = file.read(26)
    return head.startswith(SIGNATURE) and len(head) == 26 and head[24] == 16 and head[25] in CHANNELS


def inspect(path: str) -> Info:
    """Describe a PNG of 16 bits."""
    with Path(path).open("rb") as file:
        width, height, _, kind = struct.unpack(">IIBB", file.read(26)[16:])
    channels = CHANNELS[kind]
    if not 0 < width * height * channels * 2 <= MOST_BYTES:
        raise UserError(f"its header says {width}x{height} pixels, which are too many to read at once.")
    return Info(path, "png", 1, height, width, channels, np.dtype(np.uint16), alpha=channels in (2, 4))


def read(info: Info, index: int = 0, box: Box | None = None) -> np.ndarray:
    """Read the image or a piece of it, (H, W, C)."""
    import torch  # slow to import, and not needed by scripts that read photos
    from torchvision.io import ImageReadMode, decode_png

    box = info.box(box)
    try:
        data = torch.frombuffer(bytearray(Path(info.path).read_bytes()), dtype=torch.uint8)
        pixels = decode_png(data, ImageReadMode.UNCHANGED)  # (C, H, W)
    except RuntimeError as error:
        raise UserError(f"it is damaged, or ends early: {str(error).splitlines()[0].rstrip('.')}.") from error
    return np.ascontiguousarray(pixels.permute(1, 2, 0).numpy()[box.top : box.bottom, box.left : box.right])


def write(path: str | Path, slices: Iterable[np.ndarray], info: Info) -> None:
    """Write one image (1, H, W, C) of 8 or 16 bits; colour of 16 bits needs imagecodecs."""
    (pixels,) = slices
    pixels = np.ascontiguousarray(pixels, info.dtype)
    with replacing(Path(path)) as new:
        if info.channels == 1 or info.dtype == np.uint8:
            Image.fromarray(pixels[..., 0] if info.channels == 1 else pixels).save(new, format="PNG")
        else:
            new.write_bytes(need("imagecodecs", "imagecodecs", printable(path)).png_encode(pixels))
