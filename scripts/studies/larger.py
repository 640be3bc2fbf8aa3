"""Does a network do for images larger than those it was trained on? Trained on crops, run on 2 and 4 times their side.

The pix2pix paper's section 4.4 and figure 8: generator and discriminator are convolutional, and a network trained on
256 x 256 pixels translates 512 x 512. Test images are cut into pieces of the training's size, of twice that and so on,
each is translated at once, and the pieces are put together again: all rows measure the same pixels, at the same scale.
It takes the paper's maps, of 600 pixels: trained on crops of 256, run on 512. Larger test images go further. --quick
trains on 64 pixels of the Earth's tiles and runs on 128 and 256: about 4 minutes on two cores.

    python scripts/studies/larger.py --quick
    bash datasets/download_pix2pix_dataset.sh maps && python scripts/studies/larger.py
    python scripts/studies/larger.py --dataroot ./datasets/own    (test images of 1024 pixels: run on 512 and 1024)
"""

import itertools
import shutil
from pathlib import Path

from study import Study, main


def conduct(lab) -> None:
    """Train on crops, translate pieces of each size, put them together, measure."""
    from lab import sheet
    from report import report

    from scripts.evaluation.targets import find_pairs

    pieces = cut(lab)
    for seed in lab.args.seeds:
        for arm in lab.args.arms:
            name = lab.train(arm, seed)
            for side, data in pieces.items():
                images = lab.translate(name, f"pieces of {side}", "--preprocess none", data)
                whole = join(images, lab.out / "whole" / f"{name}_{side}")
                row = f"pieces of {side}{' (as in training)' * (side == lab.args.size)}"
                lab.note(*lab.sides(), row, seed, lab.measure(find_pairs(whole)), (whole, "B"))
        report(lab, sheet(lab))


def cut(lab) -> dict[int, Path]:
    """Cut the test pairs into pieces of the training's side, twice that and so on: side -> a data set of pieces.

    What is cut is, of each image, as much as holds whole pieces of the largest side, from the upper left corner.
    """
    from lab import domain
    from PIL import Image

    from util.errors import UserError

    smallest = lab.args.size
    shortest = min(min(image.size) for _, image in domain(lab.data, "test", "A", lab.halves))
    if shortest < 2 * smallest:
        text = f"{lab.data}: test images of {shortest} pixels are less than twice as large as training's {smallest}"
        raise UserError(f"{text}: --size {shortest // 2}")
    sides = [side for side in (smallest << k for k in range(8)) if side <= shortest]
    shutil.rmtree(lab.out / "pieces", ignore_errors=True)
    for side in sides:
        folder = lab.out / "pieces" / str(side) / "test"
        folder.mkdir(parents=True)
        pairs = zip(*(domain(lab.data, "test", which, lab.halves) for which in "AB"), strict=True)
        for (name, image_A), (_, image_B) in pairs:
            width, height = (length // sides[-1] * sides[-1] for length in image_A.size)
            for y, x in itertools.product(range(0, height, side), range(0, width, side)):
                pair = Image.new("RGB", (2 * side, side))
                for i, image in enumerate((image_A, image_B)):
                    pair.paste(image.crop((x, y, x + side, y + side)), (i * side, 0))
                pair.save(folder / f"{name}__{y}_{x}.png")
    return {side: lab.out / "pieces" / str(side) for side in sides}


def join(images: Path, whole: Path) -> Path:
    """Put the results' pieces together to whole images in the folder `whole`, and return it."""
    import re

    from PIL import Image

    shutil.rmtree(whole, ignore_errors=True)
    whole.mkdir(parents=True)
    pieces: dict[str, list[tuple[int, int, Path]]] = {}
    for path in images.glob("*.png"):
        stem, y, x, label = re.fullmatch(r"(.*)__(\d+)_(\d+)_(.*)\.png", path.name).groups()
        pieces.setdefault(f"{stem}_{label}.png", []).append((int(x), int(y), path))
    for name, own in pieces.items():
        side = Image.open(own[0][2]).width
        image = Image.new("RGB", (max(x for x, _, _ in own) + side, max(y for _, y, _ in own) + side))
        for x, y, path in own:
            image.paste(Image.open(path), (x, y))
        image.save(whole / name)
    return whole


STUDY = Study(
    name="larger",
    about=__doc__,
    model="pix2pix",
    arms={"L1+cGAN": "--preprocess crop"},
    conduct=conduct,
    tile=(256, 256),
    data="maps",
    size=(256, 64),
    settings=("", "--n_epochs 5 --n_epochs_decay 5"),
)

if __name__ == "__main__":
    main(STUDY)
