"""The protocol of a segmentation score: classes, label maps, input of the network; and scores of a confusion matrix."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image

from util.errors import UserError, did_you_mean, printable
from util.metrics.intervals import GROUPS, jackknife

KINDS = ("ids", "trainIds", "colours")  # the contents of a label map
FIELDS = {  # of a configuration, with their defaults
    "name": None,
    "about": "",
    "classes": None,
    "ignored": [],
    "ignore_label": 255,
    "tolerance": 30,
    "label_files": {},
    "photo_endings": [],
    "synthesis_size": None,
    "score_size": None,
    "network_size": None,
    "channels": "RGB",
    "white": 1,
    "mean": [0, 0, 0],
    "std": [1, 1, 1],
}
UNKNOWN = -2  # an id that no class has
IDS = 2**16  # a label map has 8 or 16 bits


class Protocol:
    """How images are segmented and scored, read from a configuration file (docs/evaluation.md).

    Each of FIELDS is an attribute; `names` are the classes' names by trainId. Sizes are (width, height) or None.
    """

    def __init__(self, path: Path | str):
        """Read a JSON file. Raises UserError naming the field that is invalid."""
        self.path = Path(path)
        try:
            given = json.loads(self.path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise UserError(f"{printable(path)} is not a JSON file: {error}") from error
        try:
            self._take(given)
        except KeyError as error:
            raise UserError(f"{printable(path)}: a class lacks {error}") from error
        except (TypeError, ValueError, AttributeError) as error:  # a value of the wrong type
            raise UserError(f"{printable(path)}: {error}") from error

    def _take(self, given: dict) -> None:
        """Set the fields and check them; raises ValueError."""
        _require(isinstance(given, dict), "it has to be an object {...} with the fields " + ", ".join(FIELDS))
        for field in given:
            _require(field in FIELDS, f"there is no field {field!r}.{did_you_mean(field, FIELDS)}")
        for field, default in FIELDS.items():
            _require(
                default is not None or field in given or field.endswith("_size"), f"the field {field!r} is missing"
            )
            setattr(self, field, given.get(field, default))
        for field in ("synthesis_size", "score_size", "network_size"):
            size = getattr(self, field)
            valid = size is None or (len(size) == 2 and all(isinstance(n, int) and n > 0 for n in size))
            _require(valid, f"{field} has to be [width, height] in pixels or null, not {size}")
        _require(self.channels in ("RGB", "BGR"), f"channels {self.channels!r}: RGB or BGR")
        _require(self.white in (1, 255), f"white {self.white!r}: 1 or 255, the value of white before mean and std")
        for field in ("mean", "std"):
            valid = len(getattr(self, field)) == 3 and (field == "mean" or all(value > 0 for value in self.std))
            _require(valid, f"{field} has to be three numbers, one per channel, not {getattr(self, field)}")
        for ending, kind in self.label_files.items():
            _require(kind in KINDS, f"label_files: {ending!r} is {kind!r}; the kinds are {', '.join(KINDS)}")
        self._take_classes()

    def _take_classes(self) -> None:
        """Make the tables of ids and of colours."""
        self.classes = sorted(self.classes, key=lambda it: it["trainId"])
        self.names = [str(it["name"]) for it in self.classes]
        train_ids = [it["trainId"] for it in self.classes]
        valid = len(train_ids) > 1 and train_ids == list(range(len(train_ids)))
        _require(valid, f"trainIds have to be 0, 1, 2 ..., each once, of two classes or more; they are {train_ids}")
        _require(self.ignore_label not in train_ids, f"ignore_label {self.ignore_label} is a class's trainId")
        self._by_id = np.full(IDS, UNKNOWN, np.int64)
        if 0 <= self.ignore_label < IDS:
            self._by_id[self.ignore_label] = self.ignore_label
        seen, colours = {}, []
        for it in [*self.classes, *self.ignored]:  # if two classes share a colour, the first is used
            target, name = it.get("trainId", self.ignore_label), str(it["name"])
            for number in it.get("ids", []):
                _require(0 <= number < IDS, f"class {name!r}: id {number} is not in 0 to {IDS - 1}")
                _require(number not in seen, f"id {number} is both {seen.get(number)!r} and {name!r}")
                seen[number], self._by_id[number] = name, target
            if "colour" in it:
                valid = len(it["colour"]) == 3 and all(0 <= value <= 255 for value in it["colour"])
                _require(valid, f"class {name!r}: the colour has to be [red, green, blue] of 0 to 255")
                colours.append([*it["colour"], target])
        table = np.array(colours).reshape(-1, 4)
        self._colours, self._by_colour = table[:, :3].astype(np.float32), table[:, 3]

    # ---- label maps ----

    def from_ids(self, ids: np.ndarray, kind: str = "ids") -> np.ndarray:
        """Turn a label map of "ids" or "trainIds" (H, W) into trainIds and ignore_label, int64.

        Raises UserError for a number that no class has.
        """
        if kind == "ids":
            labels = self._by_id[np.clip(ids, 0, IDS - 1)]
            unknown = labels == UNKNOWN
        else:
            labels = ids.astype(np.int64)
            unknown = (labels != self.ignore_label) & ((labels < 0) | (labels >= len(self.names)))
        if unknown.any():
            values = ", ".join(map(str, np.unique(ids[unknown])[:5]))
            raise UserError(f"it has {kind} that {printable(self.path)} lacks: {values}")
        return labels

    def from_colours(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Turn a coloured label map, uint8 (H, W, 3), into trainIds and ignore_label by the nearest colour, int64.

        Also returns the pixels without a colour within `tolerance` (Euclidean, in 8-bit RGB), which are ignored.
        """
        if not len(self._colours):
            raise UserError(f"{printable(self.path)} has no colours: label maps have to hold ids")
        pixels, labels, far = image.reshape(-1, 3), [], []
        for chunk in np.array_split(pixels, max(1, len(pixels) // 2**16)):  # in pieces, to save memory
            x = chunk.astype(np.float32)  # |x - c|^2; whole numbers below 2^24 are exact
            distance = (x**2).sum(1, keepdims=True) - 2 * x @ self._colours.T + (self._colours**2).sum(1)
            far.append(distance.min(1) > self.tolerance**2)
            labels.append(np.where(far[-1], self.ignore_label, self._by_colour[distance.argmin(1)]))
        return np.concatenate(labels).reshape(image.shape[:2]), np.concatenate(far).reshape(image.shape[:2])

    # ---- images ----

    def prepare(self, photo: Image.Image, size: tuple[int, int]) -> torch.Tensor:
        """Return the network's input (1, 3, H, W) for a photo that is scored at `size` (width, height).

        The photo is resized to `synthesis_size`, then to `network_size` or `size`, both bilinearly in 8 bits.
        """
        for to in (self.synthesis_size, self.network_size or size):
            if to and photo.size != tuple(to):
                photo = photo.resize(tuple(to), Image.Resampling.BILINEAR)
        return self.normalise(torch.from_numpy(np.array(photo, np.uint8)).permute(2, 0, 1)[None])

    def normalise(self, photos: torch.Tensor) -> torch.Tensor:
        """Turn photos, uint8 (N, 3, H, W) in RGB, into the network's order of channels, range, mean and std."""
        x = photos.float() * (self.white / 255)
        x = x.flip(1) if self.channels == "BGR" else x
        mean, std = (x.new_tensor(values)[:, None, None] for values in (self.mean, self.std))
        return (x - mean) / std


def _require(valid: bool, text: str) -> None:
    if not valid:
        raise ValueError(text)


def resize_nearest(labels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize a label map (H, W) to `size` (width, height): each pixel takes the one under its centre."""
    rows, columns = (
        (2 * np.arange(to) + 1) * old // (2 * to) for old, to in zip(labels.shape, reversed(size), strict=True)
    )
    return labels[rows[:, None], columns]


# ---- scores ----


class Score(NamedTuple):
    """A score and its 95 % interval, by jackknife over ten groups of images."""

    value: float
    low: float
    high: float


SCORES = ("per_pixel_accuracy", "per_class_accuracy", "class_iou")


def tally(matrix: np.ndarray) -> np.ndarray:
    """Sum confusion matrices (..., K, K), rows the truth: the pixels hit, true and predicted, (..., 3, K)."""
    return np.stack([np.diagonal(matrix, axis1=-2, axis2=-1), matrix.sum(-1), matrix.sum(-2)], axis=-2)


def scores_by_class(tallies: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return each class's accuracy and IoU, (..., K) from tallies (..., 3, K); nan for a class without true pixels."""
    hits, true, predicted = np.moveaxis(tallies, -2, 0)
    counted = np.where(true > 0, true, np.nan)
    return hits / counted, hits / (counted + predicted - hits)


def mean_scores(tallies: np.ndarray) -> np.ndarray:
    """Return SCORES (..., 3): the fraction of pixels hit, and the means over classes of accuracy and of IoU.

    With n_ij pixels of class i predicted as j, t_i = sum_j n_ij (Long et al. 2015, section 5): sum_i n_ii / sum_i t_i,
    mean_i n_ii / t_i, mean_i n_ii / (t_i + sum_j n_ji - n_ii). Both means are over the classes in the truth.
    """
    true = tallies[..., 1, :]
    count = np.maximum((true > 0).sum(-1), 1)
    pixels = tallies[..., 0, :].sum(-1) / np.maximum(true.sum(-1), 1)
    return np.stack([pixels, *(np.nansum(values, axis=-1) / count for values in scores_by_class(tallies))], axis=-1)


def mean_iou_with_absent(tallies: np.ndarray) -> float:
    """Return the mean IoU over all classes that are true or predicted, as FCN's own scoring counts."""
    hits, true, predicted = tallies
    union = true + predicted - hits
    return float((hits[union > 0] / union[union > 0]).mean())


def scores_with_intervals(tallies: np.ndarray) -> list[Score]:
    """Return SCORES of images' tallies (N, 3, K); a single image has no interval."""
    total, groups = tallies.sum(0), min(GROUPS, len(tallies))
    rest = [total - tallies[k::groups].sum(0) for k in range(groups)]  # all images but those of a group
    half = jackknife([mean_scores(part) for part in rest]) if groups > 1 else np.zeros(3)
    return [
        Score(v, max(0.0, v - h), min(1.0, v + h))
        for v, h in zip(mean_scores(total).tolist(), half.tolist(), strict=True)
    ]
