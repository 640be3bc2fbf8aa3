"""The results of one label, fake_X, with their scores, baselines and rankings."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import torch

from scripts.evaluation.inputs import truth
from scripts.evaluation.page import Ranking, Row, Section, read
from scripts.evaluation.targets import MeanImage
from util.errors import UserError, printable
from util.metrics.evaluation import Evaluation
from util.metrics.table import METRICS

OTHER = {"B": "A", "A": "B"}
INPUT, MEAN = "the input itself", "the mean training target"  # baselines


def as_batch(image: np.ndarray) -> torch.Tensor:
    """Return a picture (H, W, 3) as a batch of one, (1, 3, H, W)."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)[None]


class Output:
    """Results of one label, fake_X, with their scores, baselines and rankings."""

    def __init__(self, label: str, paired: bool, names: list[str], mean_B: MeanImage | None, **settings):
        self.label, self.real, self.paired, self.mean_B = label, truth(label), paired, mean_B
        self.source = f"real_{OTHER.get(label.removeprefix('fake_'), 'A')}"
        self.evaluation = Evaluation(names, **settings)
        of_pairs = [name for name in names if METRICS[name].paired] if paired else []
        self.rankings = {name: Ranking(name) for name in of_pairs}
        self.baselines = {INPUT: Evaluation(of_pairs, **settings)} if of_pairs else {}
        if mean_B and of_pairs and label != "fake_A":
            self.baselines[MEAN] = Evaluation(of_pairs, **settings)
        self.seen: set[bytes] = set()  # hashes of real images of unpaired rows

    def add(self, row: Row) -> dict[str, float]:
        """Add a row; return the values of its pair."""
        if self.paired:
            return self._add_pair(row) if self.label in row.pictures else {}
        adds = {self.label: (self.source, self.evaluation.add_fake), self.real: (self.real, self.evaluation.add_real)}
        for label, (key, add) in adds.items():
            if label in row.pictures and not self._repeated(row, key):
                add(as_batch(read(row.pictures[label])))
        return {}

    def _repeated(self, row: Row, label: str) -> bool:
        """Whether a real image occurred before: test.py cycles through the smaller domain."""
        if label not in row.pictures or len(row.pictures) == 1:
            return False
        key = hashlib.blake2b(label.encode() + read(row.pictures[label]).tobytes(), digest_size=16).digest()
        known = key in self.seen
        self.seen.add(key)
        return known

    def _add_pair(self, row: Row) -> dict[str, float]:
        fake, real = (read(row.pictures[label]) for label in (self.label, self.real))
        if fake.shape != real.shape:
            raise UserError(wrong_size(row, self.label, fake, real))
        values = {name: own[0] for name, own in self.evaluation.add(as_batch(fake), as_batch(real)).items()}
        for name, value in values.items():
            self.rankings[name].add(value, row)
        if INPUT in self.baselines:
            source = read(row.pictures[self.source]) if self.source in row.pictures else None
            if source is None or source.shape != real.shape:
                del self.baselines[INPUT]  # a baseline covers all images
            else:
                self.baselines[INPUT].add(as_batch(source), as_batch(real))
        if MEAN in self.baselines:
            mean = self.mean_B.at((real.shape[1], real.shape[0]))
            self.baselines[MEAN].add(as_batch(mean), as_batch(real))
        return values

    def section(self) -> Section:
        """Compute the scores."""
        scores = self.evaluation.compute()
        notes = [f"{name}: not measured; {why}" for name, why in self.evaluation.missing.items()]
        baselines = {name: baseline.compute() for name, baseline in self.baselines.items()}
        rankings = {name: ranking for name, ranking in self.rankings.items() if name in scores}
        labels, title = (self.source, self.label, self.real), f"{self.label} against {self.real}"
        return Section(title, scores, baselines, notes + self.evaluation.notes, rankings, labels)


def wrong_size(row: Row, label: str, fake: np.ndarray, real: np.ndarray) -> str:
    """Name an image that differs in size from its ground truth."""
    picture = row.pictures[label]
    name = printable(picture if isinstance(picture, Path) else row.name)
    text = f"{name} is {fake.shape[1]} x {fake.shape[0]}, the ground truth {real.shape[1]} x {real.shape[0]}"
    pairs = "; are these A | B pairs? Name a folder of B alone"
    return text + pairs * (real.shape[1] == 2 * fake.shape[1])
