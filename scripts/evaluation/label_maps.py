"""The label maps of results, for scripts/fcn_score.py: matching by name or number, and reading."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from data.formats import pillow
from data.image_folder import make_dataset
from scripts.evaluation.segmentation import Protocol, resize_nearest
from scripts.evaluation.targets import find_pairs
from util.errors import UserError, list_names, printable

AGREE = 0.8  # fraction of pixels in which two label maps of one street agree; two streets agree in about half


class LabelledResult(NamedTuple):
    """A result, its real photo, and its label map."""

    name: str
    fake: Path
    real: Path
    drawn: Path  # the input from which the photo was made: usually a coloured label map
    label_map: Path | None = None
    kind: str | None = None  # "ids", "trainIds", "colours"; None: ids if the file has one channel, else colours


def find_results(folder: Path, side: str) -> list[LabelledResult]:
    """List the results of a folder, by name."""
    results = []
    for fake, real in find_pairs(folder, side):
        name = fake.name.removesuffix(f"_fake_{side}.png")
        results.append(LabelledResult(name, fake, real, fake.with_name(f"{name}_real_{'AB'.replace(side, '')}.png")))
    return results


def match_label_maps(results: list[LabelledResult], labels: str, protocol: Protocol) -> list[LabelledResult]:
    """Give each result its label map: `labels` is real_A or real_B, or a folder in which names are matched.

    If no name matches and all names are numbers, they count the sorted label maps of a split, as
    datasets/prepare_cityscapes_dataset.py does.
    """
    if labels in ("real_A", "real_B"):
        keys = [it.name for it in results]
        files = [it.fake.with_name(f"{it.name}_{labels}.png") for it in results]
        maps = {key: (file, "colours") for key, file in zip(keys, files, strict=True) if file.exists()}
    else:
        maps = index_maps(Path(labels), protocol)
        photo = "|".join(map(re.escape, protocol.photo_endings))
        keys = [re.sub(f"({photo})$", "", it.name) for it in results]
        numbers = [re.fullmatch(r"(\d+)(_[AB])?", it.name) for it in results]
        if all(numbers) and maps.keys().isdisjoint(keys):
            keys = in_order(maps, [int(number[1]) for number in numbers], labels)
    missing = [key for key in keys if key not in maps]
    if missing:
        endings = " or ".join(["NAME.png", *(f"NAME{ending}.png" for ending in protocol.label_files)])
        raise UserError(
            f"{len(missing)} of {len(results)} results have no label map in {printable(labels)}: "
            f"{list_names(missing, 5)}. In the folder of --labels, accepted names are {endings}."
        )
    return [it._replace(label_map=maps[key][0], kind=maps[key][1]) for it, key in zip(results, keys, strict=True)]


def index_maps(folder: Path, protocol: Protocol) -> dict[str, tuple[Path, str | None]]:
    """Map names to (path, kind) of a folder's label maps; the kind listed first wins."""
    endings, found = [*protocol.label_files, ""], {}
    for path in map(Path, make_dataset(folder)):
        rank = next(i for i, ending in enumerate(endings) if path.stem.endswith(ending))
        key = path.stem.removesuffix(endings[rank])
        best, other = found.get(key, (len(endings), None))
        if best == rank:
            raise UserError(f"{printable(other)} and {printable(path)} are two label maps of one name")
        if rank < best:
            found[key] = rank, path
    return {key: (path, protocol.label_files.get(endings[rank])) for key, (rank, path) in found.items()}


def in_order(maps: dict[str, tuple[Path, str | None]], numbers: list[int], folder: str) -> list[str]:
    """Return the names of the label maps with these places in the sorted list of those that have a kind."""
    order = sorted((key for key in maps if maps[key][1]), key=lambda key: str(maps[key][0]))
    if max(numbers) >= len(order):
        text = f"results are numbered up to {max(numbers)}, and {printable(folder)} has {len(order)} label maps"
        raise UserError(f"{text}: name the folder of one split, such as gtFine/val, or one with label maps NAME.png")
    return [order[number] for number in numbers]


# ---- reading ----


def read_labels(result: LabelledResult, protocol: Protocol) -> tuple[np.ndarray, int]:
    """Return a result's label map as trainIds (H, W), and the number of pixels without a near colour."""
    ids, far = None if result.kind == "colours" else read_ids(result.label_map), 0
    if ids is not None:
        try:
            labels = protocol.from_ids(ids, result.kind or "ids")
        except UserError as error:
            raise UserError(f"{printable(result.label_map)}: {error}") from error
    elif result.kind in ("ids", "trainIds"):
        raise UserError(f"{printable(result.label_map)} has several channels: {result.kind} need one")
    else:
        image = pillow.load(result.label_map)
        labels, far = read_colours(image, result.label_map, protocol, "--config, --labels, --side")
    if result.label_map != result.drawn and result.drawn.exists():
        check_scene(labels, result, protocol)
    return labels, int(np.sum(far))


def read_ids(path: Path) -> np.ndarray | None:
    """Read a label map of one channel (H, W); None for an image of several."""
    with pillow.explained(path):
        image = pillow.decode(path).image
    return np.asarray(image).astype(np.int64) if len(image.getbands()) == 1 and image.mode != "F" else None


def read_colours(image: Image.Image, path: Path | str, protocol: Protocol, options: str) -> tuple:
    """Read a coloured label map as Protocol.from_colours does; UserError if most pixels match no class."""
    labels, far = protocol.from_colours(np.asarray(image))
    if far.mean() > 0.5:
        raise UserError(
            f"{printable(path)} is not a label map of {printable(protocol.path)}: {far.mean():.0%} of its pixels are "
            f"further than {protocol.tolerance} from every colour there. Check {options}"
        )
    return labels, far


def check_scene(labels: np.ndarray, result: LabelledResult, protocol: Protocol) -> None:
    """Raise UserError if a label map and the coloured one that the photo was made from show different scenes."""
    drawn, far = protocol.from_colours(np.asarray(pillow.load(result.drawn)))
    labels = resize_nearest(labels, drawn.shape[::-1])
    both = (labels != protocol.ignore_label) & (drawn != protocol.ignore_label)
    share = (labels == drawn)[both].mean() if both.any() else 1
    if far.mean() <= 0.5 and share < AGREE:
        raise UserError(
            f"{printable(result.label_map)} is not the label map of {printable(result.name)}: it agrees with "
            f"{printable(result.drawn)} in only {share:.0%} of the pixels. Names must match, or be the numbers that "
            "datasets/prepare_cityscapes_dataset.py gives to the label maps of that folder"
        )
