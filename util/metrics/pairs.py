"""Metrics of one pair, an image and its ground truth: (1, C, H, W) in [0, 255]."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

C1, C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2  # of SSIM
SCALES = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # exponents of MS-SSIM
BELL = [math.exp(-(distance**2) / (2 * 1.5**2)) for distance in range(6)]  # half a window of SSIM
HALF = [value / (2 * sum(BELL) - BELL[0]) for value in BELL]


def l1(fake: Tensor, real: Tensor) -> Tensor:
    """Return the mean absolute difference as a share of the range."""
    return F.l1_loss(fake, real) / 255


def psnr(fake: Tensor, real: Tensor) -> Tensor:
    """Return 10 log10(255^2 / mean squared difference), infinite for equal images."""
    from torchmetrics.functional.image import peak_signal_noise_ratio

    return peak_signal_noise_ratio(fake, real, data_range=255.0)


def ssim(fake: Tensor, real: Tensor) -> Tensor:
    """Return the structural similarity of Wang et al. 2004: Gaussian windows of 11 x 11, sigma 1.5, K1 0.01, K2 0.03.

    It is the mean over images, channels and windows inside the image, as in the paper.
    """
    luminance, contrast = similarity(fake, real)
    return (luminance * contrast).mean()


def ms_ssim(fake: Tensor, real: Tensor) -> Tensor:
    """Return the structural similarity of five scales (Wang et al. 2003); negative contrasts count as 0.

    As torchmetrics does, the last scale also counts windows over the border, where the image is mirrored.
    """
    product = torch.ones_like(fake[:, 0, 0, 0])  # (N,)
    for weight in SCALES[:-1]:
        _, contrast = similarity(fake, real)
        product = product * contrast.mean(dim=(1, 2, 3)).relu() ** weight
        fake, real = F.avg_pool2d(fake, 2), F.avg_pool2d(real, 2)
    luminance, contrast = similarity(*(F.pad(images, (5, 5, 5, 5), mode="reflect") for images in (fake, real)))
    return (product * (luminance * contrast).mean(dim=(1, 2, 3)).relu() ** SCALES[-1]).mean()


def similarity(fake: Tensor, real: Tensor) -> tuple[Tensor, Tensor]:
    """Return the luminance term and the contrast-structure term of each window, (N, C, H - 10, W - 10)."""
    moments = torch.stack([fake, real, fake * real, fake * fake + real * real])  # (4, N, C, H, W)
    x, y, xy, squares = blurred(blurred(moments, -1), -2)
    product, sum_of_squares = x * y, x * x + y * y
    luminance = (2 * product + C1) / (sum_of_squares + C1)
    return luminance, (2 * (xy - product) + C2) / (squares - sum_of_squares + C2)


def blurred(images: Tensor, dim: int) -> Tensor:
    """Return weighted means of 11 neighbours along a dimension. A sum of shifted views is the fastest way on a CPU."""
    size = images.shape[dim] - 2 * (len(HALF) - 1)
    total = HALF[0] * images.narrow(dim, len(HALF) - 1, size)
    for distance, weight in enumerate(HALF[1:], 1):
        for start in (len(HALF) - 1 - distance, len(HALF) - 1 + distance):
            total.add_(images.narrow(dim, start, size), alpha=weight)
    return total


def lpips(metric: nn.Module, fake: Tensor, real: Tensor) -> float:
    """Return the perceptual distance of Zhang et al. 2018 (version 0.1, AlexNet)."""
    metric.reset()
    metric.update(fake / 127.5 - 1, real / 127.5 - 1)
    return float(metric.compute())


PIXELS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"l1": l1, "psnr": psnr, "ssim": ssim, "ms_ssim": ms_ssim}
