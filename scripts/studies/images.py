"""Images of datasets and of results' folders."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from data.formats import pillow
from data.image_folder import is_image_file
from scripts.evaluation.targets import half


def input_of(real: Path, side: str) -> Path:
    """Return the input of the result whose ground truth is `real`."""
    return real.with_name(real.name.replace(f"_real_{side}.png", f"_real_{other(side)}.png"))


def other(side: str) -> str:
    return "B" if side == "A" else "A"


def files(folder: Path) -> list[Path]:
    """List the images of a folder; empty if there is none."""
    return sorted(path for path in folder.rglob("*") if is_image_file(path.name))


def domain(data: Path, phase: str, side: str, halves: bool) -> Iterator[tuple[str, Image.Image]]:
    """Yield a domain's images with their names: `halves` of files that hold pairs side by side, or whole files."""
    for path in files(data / (phase if halves else f"{phase}{side}")):
        image = pillow.load(path)
        yield path.stem, half(image, side) if halves else image
