"""Does a network work on images larger than its training images? Trained on crops, run on 2 and 4 times their side.

The pix2pix paper's section 4.4 and figure 8: generator and discriminator are convolutional, and a network trained on
256 x 256 pixels translates 512 x 512. Test images are cut into tiles of the training's side, of twice that and so on.
Each tile is translated separately, and the tiles are joined again: all rows measure the same pixels, at the same scale.
The study trains on crops of 256 pixels of the paper's maps (600 pixels) and runs on 512. Larger test images allow
larger tiles. --quick trains on 64 pixels of the Earth's tiles and runs on 128 and 256: about 4 minutes on two cores.

    python scripts/studies/larger.py --quick
    bash datasets/download_pix2pix_dataset.sh maps && python scripts/studies/larger.py
    python scripts/studies/larger.py --dataroot ./datasets/own    (test images of 1024 pixels: run on 512 and 1024)
"""

import itertools
import re
import shutil
from pathlib import Path

from study import Study, main


def compare_sizes(runner) -> None:
    """Train on crops, translate tiles of each size, join them, measure."""
    from report import report
    from runner import sheet_cells

    from scripts.evaluation.targets import find_pairs

    tiles = cut(runner)
    for seed in runner.args.seeds:
        for arm in runner.args.arms:
            name = runner.train(arm, seed)
            for side, data in tiles.items():
                images = runner.translate(name, f"pieces of {side}", "--preprocess none", data)
                whole = join(images, runner.out / "whole" / f"{name}_{side}")
                row = f"pieces of {side}{' (as in training)' * (side == runner.args.size)}"
                runner.add(*runner.sides(), row, seed, runner.measure(find_pairs(whole)), (whole, "B"))
        report(runner, sheet_cells(runner))


def cut(runner) -> dict[int, Path]:
    """Cut the test pairs into tiles of the training's side, twice that and so on: side -> a dataset of tiles.

    Each image is cropped, from its upper left corner, to a multiple of the largest side.
    """
    from images import domain
    from PIL import Image

    from util.errors import UserError

    smallest = runner.args.size
    shortest = min(min(image.size) for _, image in domain(runner.data, "test", "A", runner.halves))
    if shortest < 2 * smallest:
        text = f"{runner.data}: test images of {shortest} pixels are less than twice as large as training's {smallest}"
        raise UserError(f"{text}: --size {shortest // 2}")
    sides = [side for side in (smallest << k for k in range(8)) if side <= shortest]
    shutil.rmtree(runner.out / "pieces", ignore_errors=True)
    for side in sides:
        folder = runner.out / "pieces" / str(side) / "test"
        folder.mkdir(parents=True)
        pairs = zip(*(domain(runner.data, "test", which, runner.halves) for which in "AB"), strict=True)
        for (name, image_A), (_, image_B) in pairs:
            width, height = (length // sides[-1] * sides[-1] for length in image_A.size)
            for y, x in itertools.product(range(0, height, side), range(0, width, side)):
                pair = Image.new("RGB", (2 * side, side))
                for i, image in enumerate((image_A, image_B)):
                    pair.paste(image.crop((x, y, x + side, y + side)), (i * side, 0))
                pair.save(folder / f"{name}__{y}_{x}.png")
    return {side: runner.out / "pieces" / str(side) for side in sides}


def join(images: Path, whole: Path) -> Path:
    """Join the results' tiles into whole images in the folder `whole`, and return it."""
    from PIL import Image

    shutil.rmtree(whole, ignore_errors=True)
    whole.mkdir(parents=True)
    tiles: dict[str, list[tuple[int, int, Path]]] = {}
    for path in images.glob("*.png"):
        stem, y, x, label = re.fullmatch(r"(.*)__(\d+)_(\d+)_(.*)\.png", path.name).groups()
        tiles.setdefault(f"{stem}_{label}.png", []).append((int(x), int(y), path))
    for name, parts in tiles.items():
        side = Image.open(parts[0][2]).width
        image = Image.new("RGB", (max(x for x, _, _ in parts) + side, max(y for _, y, _ in parts) + side))
        for x, y, path in parts:
            image.paste(Image.open(path), (x, y))
        image.save(whole / name)
    return whole


STUDY = Study(
    name="larger",
    about=__doc__,
    model="pix2pix",
    arms={"L1+cGAN": "--preprocess crop"},
    procedure=compare_sizes,
    tile=(256, 256),
    data="maps",
    size=(256, 64),
    settings=("", "--n_epochs 5 --n_epochs_decay 5"),
)

if __name__ == "__main__":
    main(STUDY)
