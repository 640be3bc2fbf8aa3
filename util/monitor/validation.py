"""Scores on the split `val` during training, the best epoch, and early stopping."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch

from util.checkpoint.progress import Best
from util.checkpoint.run_folder import finished
from util.errors import UserError
from util.loggers.base import Pictures
from util.loggers.visuals import to_bytes, to_pictures
from util.metrics.evaluation import Evaluation
from util.metrics.table import METRICS
from util.runtime import processes, seeds
from util.runtime.run_facts import run_facts
from util.speed.batching import in_batches

PAIRED, UNPAIRED = ("l1", "psnr", "ssim"), ("fd_lite0", "kid_lite0")  # measured in addition to --best_metric
SAMPLES = 4  # images shown


def watched_metric(opt) -> str:
    """Return the metric that decides which epoch is the best, empty if no option needs one."""
    asked = opt.early_stop or opt.lr_policy == "plateau"
    return opt.best_metric or (("psnr" if run_facts(opt).paired else "kid_lite0") if asked else "")


class Validation:
    """Scores the model every `--val_freq` epochs, keeps the best epoch in `model.best_so_far`, decides when to stop.

    Networks run as in test.py without --eval, image by image, and their statistics are restored: validation does not
    change training. Under torchrun every process scores all images, so that all of them decide the same.
    """

    def __init__(self, opt, model, dataset: Iterable | None):
        """Prepare; `dataset`, None without `--val_freq`, yields batches of one image.

        Raises UserError where a metric lacks a package or weights, or where training has stopped early before.
        """
        self.opt, self.model, self.dataset = opt, model, dataset
        self.metric = watched_metric(opt)
        self.improved = False  # whether the last epoch is the best so far
        self.over = False  # whether to stop now (--early_stop)
        if dataset is None:
            return
        usual = PAIRED if run_facts(opt).paired else UNPAIRED
        if run_facts(opt).paired is None and self.metric:  # it may be all that is possible
            usual = ()
        self.names = [*usual, *({self.metric} - {"", *usual})]
        self.of_pairs = any(METRICS[name].paired for name in self.names if name in METRICS)
        Evaluation(self.names, model.device)  # a missing package or file fails before training
        if model.best_so_far and model.best_so_far.metric != self.metric:
            model.best_so_far = None
        if stop := self._stop(model.progress.epoch - 1):
            text = f"this run has stopped early: {stop}. To train longer, type a greater number than --early_stop "
            raise finished(opt, f"{text}{opt.early_stop}, or 0")

    def __call__(self, epoch: int, visualizer) -> None:
        """Score the model if `epoch`, just trained, is due; show the scores, and update the best epoch."""
        self.improved = False
        last = self.opt.n_epochs + self.opt.n_epochs_decay
        if self.dataset is None or not (epoch % self.opt.val_freq == 0 or epoch == last):
            return
        values, samples = self.measure()
        visualizer.display_validation(epoch, self.model.progress.total_iters, values, samples)
        if not self.metric:
            return
        value = values.get(self.metric, math.nan)
        if math.isnan(value):
            raise UserError(f"{self.metric} has no value on the split `val`: its images are too small, or too few")
        self.model.metric = as_loss(self.metric, value)
        best = self.model.best_so_far
        if best is None or (value < best.value if METRICS[self.metric].lower else value > best.value):
            self.model.best_so_far, self.improved = Best(self.metric, value, epoch), True
            visualizer.say(f"epoch {epoch} is the best so far by {self.metric}: {value:.4g}")
        if stop := self._stop(epoch):
            self.over = True
            visualizer.say(f"stopping early: {stop} (--early_stop {self.opt.early_stop})")

    def _stop(self, epoch: int) -> str:
        """Return why training should end with `epoch`, empty if it should continue."""
        best = self.model.best_so_far
        waited = epoch - best.epoch if best else 0
        if not 0 < self.opt.early_stop <= waited:
            return ""
        return f"the best {best.metric}, {best.value:.4g}, was reached in epoch {best.epoch}, {waited} epochs ago"

    def measure(self) -> tuple[dict[str, float], Pictures]:
        """Translate all images; return their scores, and pictures of some images.

        Several outputs (CycleGAN's fake_A and fake_B) have separate scores, `psnr_A`; `psnr` is their mean.
        """
        evaluations: dict[str, Evaluation] = {}
        samples: dict[str, list] = {}
        seen: dict[str, set] = {}
        wanted = {k * len(self.dataset) // SAMPLES for k in range(SAMPLES)}
        with keep_statistics(self.model):
            for number, batch in in_batches(self.dataset, 1):
                seeds.seed_all(self.opt.seed, "validation", number)  # dropout: the same draws in every epoch
                self.model.set_input(batch)
                self.model.test()
                visuals = self.model.get_current_visuals()
                for name, fake, real in outputs(visuals):
                    if name not in evaluations:
                        evaluations[name] = Evaluation(self.names, self.model.device)
                    pair = as_images(fake), as_images(real)
                    if self.of_pairs:
                        evaluations[name].add(*pair)
                    else:
                        add_once(evaluations[name], pair, seen.setdefault(name, set()))
                if number in wanted:
                    for label, visual in visuals.items():
                        samples.setdefault(label, []).extend(to_pictures(visual))
        if not evaluations:
            raise UserError(
                f"--val_freq: model {self.opt.model} shows no pair fake_X and real_X (visual_names), so there is "
                "nothing to score"
            )
        return processes.from_main(mean_scores(evaluations)), samples


def outputs(visuals: dict) -> Iterator[tuple[str, torch.Tensor, torch.Tensor]]:
    """Yield (X, fake_X, real_X) from a model's visuals."""
    for label, fake in visuals.items():
        name = label.removeprefix("fake_")
        if name != label and f"real_{name}" in visuals:
            yield name, fake, visuals[f"real_{name}"]


def add_once(evaluation: Evaluation, pair: tuple[torch.Tensor, torch.Tensor], seen: set) -> None:
    """Add a result and an image of the other domain to their sets once; the smaller domain repeats its images."""
    for side, (add, images) in enumerate(zip((evaluation.add_fake, evaluation.add_real), pair, strict=True)):
        key = side, hashlib.blake2b(images.cpu().numpy().tobytes(), digest_size=16).digest()
        if key not in seen:
            seen.add(key)
            add(images)


def as_images(visual) -> torch.Tensor:
    """Return a visual as bytes (N, C, H, W), as test.py would write it."""
    if not isinstance(visual, torch.Tensor):  # an array (H, W, C) that the model computed
        return torch.stack([torch.from_numpy(picture) for picture in to_pictures(visual)]).movedim(-1, 1)
    images = to_bytes(visual).movedim(-1, 1).contiguous()
    return images if images.shape[1] != 2 else images.flatten(1, 2)[:, None]  # two channels, as one grey picture


def mean_scores(evaluations: dict[str, Evaluation]) -> dict[str, float]:
    """Return the scores of each output, and their means."""
    scores = {name: evaluation.compute(intervals=False) for name, evaluation in evaluations.items()}
    values = {}
    for metric in next(iter(scores.values())) if scores else ():
        if not all(metric in score for score in scores.values()):  # too small, or too few
            continue
        each = {f"{metric}_{name}": score[metric].value for name, score in scores.items()}
        values[metric] = math.fsum(each.values()) / len(each)
        values |= each if len(each) > 1 else {}
    return values


def as_loss(metric: str, value: float) -> float:
    """Turn a score into a positive number that falls; lr_policy plateau expects it to fall by 1%."""
    if metric == "psnr":
        return 10 ** (-value / 20)  # the root mean square error
    return max(value, 0.0) if METRICS[metric].lower else 1 - value


@contextmanager
def keep_statistics(model):
    """Restore the running statistics of norms after the body, which runs in training mode."""
    buffers = [buffer for net in model.networks().values() for buffer in net.buffers()]
    kept = [buffer.clone() for buffer in buffers]
    try:
        yield
    finally:
        for buffer, value in zip(buffers, kept, strict=True):
            buffer.copy_(value)
