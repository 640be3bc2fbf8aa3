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


def match_label_maps(
    results: list[LabelledResult], labels: str, protocol: Protocol
) -> tuple[list[LabelledResult], bool]:
    """Give each result its label map: `labels` is real_A or real_B, or a folder in which names are matched.

    If no name matches and all names are numbers, they count the sorted label maps of a split, as
    datasets/prepare_cityscapes_dataset.py does; also return whether that is so.
    """
    if labels in ("real_A", "real_B"):
        results = [
            it._replace(label_map=it.fake.with_name(f"{it.name}_{labels}.png"), kind="colours") for it in results
        ]
        missing, where, numbered = (
            [it.label_map.name for it in results if not it.label_map.exists()],
            results[0].fake.parent,
            False,
        )
    else:
        maps = index_maps(Path(labels), protocol)
        keys = [remove_ending(it.name, protocol.photo_endings) for it in results]
        numbers = [re.fullmatch(r"(\d+)(_[AB])?", it.name) for it in results]
        numbered = all(numbers) and maps.keys().isdisjoint(keys)
        if numbered:
            keys = in_order(maps, [int(number[1]) for number in numbers], labels)
        missing, where = [key for key in keys if key not in maps], labels
        results = [it._replace(**maps.get(key, {})) for it, key in zip(results, keys, strict=True)]
    if missing:
        endings = " or ".join(["NAME.png", *(f"NAME{ending}.png" for ending in protocol.label_files)])
        known = f" Accepted names are {endings}." if where is labels else " --labels FOLDER names other label maps."
        text = f"{len(missing)} of {len(results)} results have no label map in {printable(where)}"
        raise UserError(f"{text}: {list_names(missing, 5)}.{known}")
    return results, numbered


def index_maps(folder: Path, protocol: Protocol) -> dict[str, dict]:
    """Map names to {"label_map": path, "kind": kind} for a folder's label maps; the kind listed first wins."""
    found: dict[str, list] = {}
    for path in map(Path, make_dataset(folder)):
        endings = [ending for ending in protocol.label_files if path.stem.endswith(ending)]
        rank = list(protocol.label_files).index(endings[0]) if endings else len(protocol.label_files)
        kind = protocol.label_files[endings[0]] if endings else None
        found.setdefault(remove_ending(path.stem, endings), []).append((rank, str(path), kind))
    maps = {}
    for key, files in found.items():
        files.sort(key=lambda it: it[:2])
        if len(files) > 1 and files[0][0] == files[1][0]:
            raise UserError(f"{printable(files[0][1])} and {printable(files[1][1])} are two label maps of one name")
        maps[key] = {"label_map": Path(files[0][1]), "kind": files[0][2]}
    return maps


def remove_ending(name: str, endings: list[str]) -> str:
    """Return a name without the first of `endings` that it has."""
    return next((name.removesuffix(ending) for ending in endings if name.endswith(ending)), name)


def in_order(maps: dict[str, dict], numbers: list[int], folder: str) -> list[str]:
    """Return the names of the label maps with these places in the sorted list of those that have a kind."""
    order = sorted((key for key in maps if maps[key]["kind"]), key=lambda key: str(maps[key]["label_map"]))
    if max(numbers) >= len(order):
        text = f"results are numbered up to {max(numbers)}, and {printable(folder)} has {len(order)} label maps"
        raise UserError(f"{text}: name the folder of one split, such as gtFine/val, or one with label maps NAME.png")
    return [order[number] for number in numbers]


# ---- reading ----


class Labels(NamedTuple):
    """A label map as it is scored."""

    array: np.ndarray  # trainIds (H, W)
    far: int  # pixels without a near colour
    agreement: float | None  # with the coloured label map of the results


def read_labels(result: LabelledResult, protocol: Protocol) -> Labels:
    """Read a result's label map at the size at which it is scored."""
    ids = None if result.kind == "colours" else read_ids(result.label_map)
    far = np.zeros(1)
    if ids is not None:
        try:
            labels = protocol.from_ids(ids, result.kind or "ids")
        except UserError as error:
            raise UserError(f"{printable(result.label_map)}: {error}") from error
    elif result.kind in ("ids", "trainIds"):
        raise UserError(f"{printable(result.label_map)} has several channels: {result.kind} need one")
    else:
        labels, far = read_colours(
            pillow.load(result.label_map), result.label_map, protocol, "--config, --labels, --side"
        )
    if protocol.score_size:
        labels = resize_nearest(labels, protocol.score_size)
        far = resize_nearest(far, protocol.score_size) if far.ndim == 2 else far
    return Labels(labels, int(far.sum()), agreement(labels, result, protocol))


def read_ids(path: Path) -> np.ndarray | None:
    """Read a label map of one channel (H, W); None for an image of several."""
    try:
        with Image.open(path, formats=pillow.FORMATS) as image:
            return np.asarray(image).astype(np.int64) if len(image.getbands()) == 1 and image.mode != "F" else None
    except Exception as error:  # decoders raise nearly anything on a broken file
        raise UserError(f"cannot read {printable(path)}: {error}") from error


def read_colours(image: Image.Image, path: Path | str, protocol: Protocol, options: str) -> tuple:
    """Read a coloured label map as Protocol.from_colours does; UserError if most pixels match no class."""
    labels, far = protocol.from_colours(np.asarray(image))
    if far.mean() > 0.5:
        raise UserError(
            f"{printable(path)} is not a label map of {printable(protocol.path)}: {far.mean():.0%} of its pixels are "
            f"further than {protocol.tolerance} from every colour there. Check {options}"
        )
    return labels, far


def agreement(labels: np.ndarray, result: LabelledResult, protocol: Protocol) -> float | None:
    """Return the fraction of pixels in which a label map agrees with the coloured one that the photo was made from.

    None if there is no such file. Raises UserError if the two show different scenes.
    """
    if result.label_map == result.drawn or not result.drawn.exists():
        return None
    drawn, far = protocol.from_colours(np.asarray(pillow.load(result.drawn)))
    labels = resize_nearest(labels, drawn.shape[::-1])
    both = (labels != protocol.ignore_label) & (drawn != protocol.ignore_label)
    if far.mean() > 0.5 or not both.any():
        return None
    share = float((labels == drawn)[both].mean())
    if share < AGREE:
        raise UserError(
            f"{printable(result.label_map)} is not the label map of {printable(result.name)}: it agrees with "
            f"{printable(result.drawn)} in only {share:.0%} of the pixels. Names must match, or be the numbers that "
            "datasets/prepare_cityscapes_dataset.py gives to the label maps of that folder"
        )
    return share
