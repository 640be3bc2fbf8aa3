"""Metrics of one pair, an image and its ground truth: (1, C, H, W) in [0, 255]. torchmetrics computes them."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn
from torch.nn import functional as F


def l1(fake: Tensor, real: Tensor) -> Tensor:
    """Return the mean absolute difference as a share of the range."""
    return F.l1_loss(fake, real) / 255


def psnr(fake: Tensor, real: Tensor) -> Tensor:
    """Return 10 log10(255^2 / mean squared difference), infinite for equal images."""
    from torchmetrics.functional.image import peak_signal_noise_ratio

    return peak_signal_noise_ratio(fake, real, data_range=255.0)


def ssim(fake: Tensor, real: Tensor) -> Tensor:
    """Return the structural similarity of Wang et al. 2004: Gaussian windows of 11 x 11, sigma 1.5, K1 0.01, K2 0.03.

    It is the mean over channels and over windows inside the image, as in the paper. Versions of torchmetrics differ
    in whether they count the border.
    """
    from torchmetrics.functional.image import structural_similarity_index_measure

    _, windows = structural_similarity_index_measure(fake, real, data_range=255.0, return_full_image=True)
    return windows[..., 5:-5, 5:-5].mean()


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
