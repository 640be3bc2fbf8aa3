"""Which label map belongs to which result, for scripts/fcn_score.py; and reading it."""

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

AGREE = 0.8  # of the pixels of two label maps of one street; two streets have about half of them in common


class Shot(NamedTuple):
    """One result and what belongs to it."""

    name: str
    fake: Path
    real: Path
    drawn: Path  # the picture from which the photo was made; a coloured label map, it is to be hoped
    truth: Path | None = None
    kind: str | None = None  # "ids", "trainIds", "colours"; None: ids if the file has one channel, else colours


def find_shots(results: Path, side: str) -> list[Shot]:
    """List the results of a folder, by name."""
    shots = []
    for fake, real in find_pairs(results, side):
        name = fake.name.removesuffix(f"_fake_{side}.png")
        shots.append(Shot(name, fake, real, fake.with_name(f"{name}_real_{'AB'.replace(side, '')}.png")))
    return shots


def find_truths(shots: list[Shot], labels: str, protocol: Protocol) -> tuple[list[Shot], bool]:
    """Give each shot its label map: `labels` is real_A or real_B, or a folder, in which they are matched by name.

    If no name matches and all are numbers, they are taken for those that datasets/prepare_cityscapes_dataset.py gives,
    which counts the sorted label maps of a split; also return whether that is so.
    """
    if labels in ("real_A", "real_B"):
        shots = [it._replace(truth=it.fake.with_name(f"{it.name}_{labels}.png"), kind="colours") for it in shots]
        missing, there, numbered = [it.truth.name for it in shots if not it.truth.exists()], shots[0].fake.parent, False
    else:
        maps = index_maps(Path(labels), protocol)
        keys = [remove_ending(it.name, protocol.photo_endings) for it in shots]
        numbers = [re.fullmatch(r"(\d+)(_[AB])?", it.name) for it in shots]
        numbered = all(numbers) and maps.keys().isdisjoint(keys)
        if numbered:
            keys = in_order(maps, [int(number[1]) for number in numbers], labels)
        missing, there = [key for key in keys if key not in maps], labels
        shots = [it._replace(**maps.get(key, {})) for it, key in zip(shots, keys, strict=True)]
    if missing:
        endings = " or ".join(["NAME.png", *(f"NAME{ending}.png" for ending in protocol.label_files)])
        known = f" It is looked for as {endings}." if there is labels else " --labels FOLDER names other label maps."
        text = (
            f"{len(missing)} of {len(shots)} results have no label map in {printable(there)}: {list_names(missing, 5)}."
        )
        raise UserError(text + known)
    return shots, numbered


def index_maps(folder: Path, protocol: Protocol) -> dict[str, dict]:
    """Map the names of a folder's label maps to {"truth": path, "kind": kind}; of several kinds to the first listed."""
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
            raise UserError(f"{printable(files[0][1])} and {printable(files[1][1])} are label maps of one name")
        maps[key] = {"truth": Path(files[0][1]), "kind": files[0][2]}
    return maps


def remove_ending(name: str, endings: list[str]) -> str:
    """Return a name without the first of `endings` that it has."""
    return next((name.removesuffix(ending) for ending in endings if name.endswith(ending)), name)


def in_order(maps: dict[str, dict], numbers: list[int], folder: str) -> list[str]:
    """Return the names of the label maps with these places in the sorted list of those that have a kind."""
    order = sorted((key for key in maps if maps[key]["kind"]), key=lambda key: str(maps[key]["truth"]))
    if max(numbers) >= len(order):
        text = f"results are numbered up to {max(numbers)}, and {printable(folder)} has {len(order)} label maps"
        raise UserError(f"{text}: name the folder of one split, such as gtFine/val, or one with label maps NAME.png")
    return [order[number] for number in numbers]


# ---- reading ----


class Truth(NamedTuple):
    """A label map, and its pixels that are like no colour."""

    labels: np.ndarray  # (H, W)
    far: int
    agreement: float | None  # with the coloured label map of the results


def read_truth(shot: Shot, protocol: Protocol) -> Truth:
    """Read a shot's label map, at the size at which it is scored."""
    ids = None if shot.kind == "colours" else read_ids(shot.truth)
    far = np.zeros(1)
    if ids is not None:
        try:
            labels = protocol.from_ids(ids, shot.kind or "ids")
        except UserError as error:
            raise UserError(f"{printable(shot.truth)}: {error}") from error
    elif shot.kind in ("ids", "trainIds"):
        raise UserError(f"{printable(shot.truth)} has several channels: {shot.kind} stand in one")
    else:
        labels, far = read_colours(pillow.load(shot.truth), shot.truth, protocol, "--config, --labels, --side")
    if protocol.score_size:
        labels = resize_nearest(labels, protocol.score_size)
        far = resize_nearest(far, protocol.score_size) if far.ndim == 2 else far
    return Truth(labels, int(far.sum()), agreement(labels, shot, protocol))


def read_ids(path: Path) -> np.ndarray | None:
    """Read a label map of one channel (H, W); None for an image of several."""
    try:
        with Image.open(path, formats=pillow.FORMATS) as image:
            return np.asarray(image).astype(np.int64) if len(image.getbands()) == 1 and image.mode != "F" else None
    except Exception as error:  # on a broken file decoders raise nearly anything
        raise UserError(f"cannot read {printable(path)}: {error}") from error


def read_colours(image: Image.Image, path: Path | str, protocol: Protocol, options: str) -> tuple:
    """Read a coloured label map as Protocol.from_colours does; UserError where most pixels have no class's colour."""
    labels, far = protocol.from_colours(np.asarray(image))
    if far.mean() > 0.5:
        raise UserError(
            f"{printable(path)} is no label map of {printable(protocol.path)}: {far.mean():.0%} of its pixels are "
            f"further than {protocol.tolerance} from every colour there. Look at {options}"
        )
    return labels, far


def agreement(labels: np.ndarray, shot: Shot, protocol: Protocol) -> float | None:
    """Compare a label map with the coloured one from which the photo was made, if that is one and another file.

    Raises UserError if they are of two different scenes.
    """
    if shot.truth == shot.drawn or not shot.drawn.exists():
        return None
    drawn, far = protocol.from_colours(np.asarray(pillow.load(shot.drawn)))
    labels = resize_nearest(labels, drawn.shape[::-1])
    both = (labels != protocol.ignore_label) & (drawn != protocol.ignore_label)
    if far.mean() > 0.5 or not both.any():
        return None
    share = float((labels == drawn)[both].mean())
    if share < AGREE:
        raise UserError(
            f"{printable(shot.truth)} is not the label map of {printable(shot.name)}: it agrees with "
            f"{printable(shot.drawn)} in {share:.0%} of the pixels only. Names have to match, or numbers have to be "
            "those that datasets/prepare_cityscapes_dataset.py gives to the label maps of that folder"
        )
    return share
