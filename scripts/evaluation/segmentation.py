"""The protocol of a segmentation score: classes, label maps, input of the network; and scores of a confusion matrix."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from util.errors import UserError, did_you_mean, printable
from util.metrics.intervals import GROUPS, jackknife

KINDS = ("ids", "trainIds", "colours")  # the contents of a label map
REQUIRED = ("name", "classes")  # fields of a configuration
DEFAULTS = {  # of its other fields
    "about": "",
    "ignored": [],
    "ignore_label": 255,
    "tolerance": 30,
    "label_files": {},
    "photo_endings": [],
    "synthesis_size": None,
    "network_size": None,
    "mean": [0, 0, 0],
    "std": [1, 1, 1],
}
UNKNOWN = -2  # an id that no class has
IDS = 2**16  # a label map has 8 or 16 bits


class Protocol:
    """How images are segmented and scored, read from a configuration file (docs/evaluation.md).

    Each field is an attribute; `names` are the classes' names by trainId. Sizes are (width, height) or None.
    """

    def __init__(self, path: Path | str):
        """Read a JSON file. Raises UserError naming the field that is invalid."""
        self.path = Path(path)
        try:
            self._take(json.loads(self.path.read_text(encoding="utf-8")))
        except KeyError as error:
            raise UserError(f"{printable(path)}: the field {error} is missing") from error
        except (TypeError, ValueError, AttributeError, IndexError) as error:
            raise UserError(f"{printable(path)} is no valid configuration: {error}") from error

    def _take(self, given: dict) -> None:
        """Set the fields and the tables of ids and colours; raises ValueError."""
        fields = [*REQUIRED, *DEFAULTS]
        for field in given:
            _require(field in fields, f"there is no field {field!r}.{did_you_mean(field, fields)}")
        vars(self).update({**DEFAULTS, **{field: given[field] for field in [*REQUIRED, *given]}})
        kinds = self.label_files.values()
        _require(set(kinds) <= set(KINDS), f"label_files: the kinds are {', '.join(KINDS)}, not {', '.join(kinds)}")
        for size in filter(None, (self.synthesis_size, self.network_size)):
            _require(len(size) == 2 and min(size) > 0, f"a size has to be [width, height] or null, not {size}")
        _require(len(self.mean) == len(self.std) == 3 and min(self.std) > 0, "mean and std have to be three numbers")
        self.classes = sorted(self.classes, key=lambda it: it["trainId"])
        self.names = [str(it["name"]) for it in self.classes]
        train_ids = [it["trainId"] for it in self.classes]
        valid = len(train_ids) > 1 and train_ids == list(range(len(train_ids)))
        _require(valid, f"trainIds have to be 0, 1, 2 ..., each once, of two classes or more; they are {train_ids}")
        _require(self.ignore_label not in train_ids, f"ignore_label {self.ignore_label} is a class's trainId")
        every = [(it, it.get("trainId", self.ignore_label)) for it in [*self.classes, *self.ignored]]
        by_id = [(number, target) for it, target in every for number in it.get("ids", [])]
        _require(len(dict(by_id)) == len(by_id), "an id occurs twice")
        self._tables = {}
        for kind, entries in (("ids", by_id), ("trainIds", zip(train_ids, train_ids, strict=True))):
            table = self._tables[kind] = np.full(IDS, UNKNOWN)
            table[self.ignore_label] = self.ignore_label
            for number, target in entries:
                table[number] = target
        colours = [[*it["colour"], target] for it, target in every if "colour" in it]  # of equal ones the first is used
        colours = np.array(colours).reshape(-1, 4)
        self._colours, self._by_colour = colours[:, :3].astype(np.float32), colours[:, 3]

    # ---- label maps ----

    def from_ids(self, ids: np.ndarray, kind: str = "ids") -> np.ndarray:
        """Turn a label map of "ids" or "trainIds" (H, W) into trainIds and ignore_label, int64.

        Raises UserError for a number that no class has.
        """
        labels = self._tables[kind][np.clip(ids, 0, IDS - 1)]
        unknown = np.unique(ids[labels == UNKNOWN])
        if len(unknown):
            raise UserError(f"it has {kind} that {printable(self.path)} lacks: {', '.join(map(str, unknown[:5]))}")
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

    def prepare(self, photo: Image.Image, size: tuple[int, int]) -> torch.Tensor:
        """Return the network's input (1, 3, H, W) for a photo that is scored at `size` (width, height).

        The photo is resized to `synthesis_size`, then to `network_size` or `size`, both bilinearly in 8 bits.
        """
        for to in (self.synthesis_size, self.network_size or size):
            if to:
                photo = photo.resize(tuple(to), Image.Resampling.BILINEAR)
        return self.normalise(photo)

    def normalise(self, photo: Image.Image) -> torch.Tensor:
        """Turn a photo into (1, 3, H, W) in [0, 1], and from there into the network's mean and std."""
        x = torch.from_numpy(np.array(photo)).permute(2, 0, 1)[None].float() / 255
        mean, std = (torch.tensor(values, dtype=torch.float32)[:, None, None] for values in (self.mean, self.std))
        return (x - mean) / std


def _require(valid: bool, text: str) -> None:
    if not valid:
        raise ValueError(text)


def resize_nearest(labels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize a label map (H, W) to `size` (width, height)."""
    return np.array(Image.fromarray(labels.astype(np.int32)).resize(size, Image.Resampling.NEAREST))


# ---- scores ----

SCORES = ("per_pixel_accuracy", "per_class_accuracy", "class_iou")


def scores_by_class(matrix: np.ndarray) -> np.ndarray:
    """Return each class's accuracy and IoU (2, K) from a confusion matrix (K, K), rows the truth.

    Both are nan for a class without true pixels.
    """
    hits, true, predicted = np.diagonal(matrix), matrix.sum(1), matrix.sum(0)
    counted = np.where(true > 0, true, np.nan)
    return np.stack([hits / counted, hits / (counted + predicted - hits)])


def mean_scores(matrix: np.ndarray) -> np.ndarray:
    """Return SCORES (3,): the fraction of pixels hit, and the means over classes of accuracy and of IoU.

    With n_ij pixels of class i predicted as j, t_i = sum_j n_ij (Long et al. 2015, section 5): sum_i n_ii / sum_i t_i,
    mean_i n_ii / t_i, mean_i n_ii / (t_i + sum_j n_ji - n_ii). Both means are over the classes in the truth.
    """
    classes = max((matrix.sum(1) > 0).sum(), 1)
    return np.array([np.trace(matrix) / max(matrix.sum(), 1), *np.nansum(scores_by_class(matrix), axis=1) / classes])


def scores_with_intervals(matrices: np.ndarray) -> dict[str, dict[str, float]]:
    """Return each of SCORES for images' matrices (N, K, K), with the ends of its 95 % interval by jackknife."""
    total, groups = matrices.sum(0), min(GROUPS, len(matrices))
    rest = [mean_scores(total - matrices[k::groups].sum(0)) for k in range(groups)]  # all images but those of a group
    half = jackknife(rest) if groups > 1 else np.zeros(3)
    values = mean_scores(total)
    rows = np.stack([values, np.maximum(values - half, 0), np.minimum(values + half, 1)], axis=1).tolist()
    return {name: dict(zip(("value", "low", "high"), row, strict=True)) for name, row in zip(SCORES, rows, strict=True)}
