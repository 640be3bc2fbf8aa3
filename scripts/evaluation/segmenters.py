"""Networks that segment: those of a file, those of torchvision, and a small one that is trained here."""

from __future__ import annotations

import math
import warnings
import zipfile
from collections.abc import Callable, Collection
from pathlib import Path

import torch
import torch.nn as nn
import torch.nn.functional as F

from util.checkpoint import safe_reader
from util.checkpoint.atomic_files import replacing, sha256
from util.checkpoint.weights import load_weights
from util.errors import UserError, did_you_mean, printable, printable_name

FILES = "a TorchScript file (.pt), a torch.export file (.pt2), or with --weights FILE a name of torchvision's"


class Segmenter:
    """A network whose classes are the `classes` of a configuration; it takes one image at a time.

    So nothing depends on which images share a batch: not the statistics of a careless norm, and not the last bits.
    """

    def __init__(self, net: Callable, about: dict, classes: int, device: torch.device):
        self.net, self.about, self.classes, self.device = net, about, classes, device

    @torch.no_grad()
    def __call__(self, x: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
        """Return the classes (h, w), int64 on the CPU, of an image (1, 3, H, W); `size` is (w, h).

        The network's logits (1, K, H', W') are resized to `size` bilinearly. UserError where it gives anything else.
        """
        name = printable(self.about["name"])
        try:
            with torch.jit.optimized_execution(False):  # which computes otherwise from the third image on
                logits = self.net(x.to(self.device))
        except Exception as error:  # of a network that is not ours
            text = next(iter(str(error).strip().splitlines()), type(error).__name__)
            raise UserError(f"{name} fails on an image of {x.shape[-1]}x{x.shape[-2]} pixels: {text}") from error
        logits = logits.get("out") if isinstance(logits, dict) else logits
        logits = logits[0] if isinstance(logits, (tuple, list)) and logits else logits
        if not (isinstance(logits, torch.Tensor) and logits.dim() == 4 and logits.is_floating_point()):
            got = f"{tuple(logits.shape)}" if isinstance(logits, torch.Tensor) else f"a {type(logits).__name__}"
            raise UserError(f"{name} gives {got}; needed are logits (1, classes, height, width), or a dict with 'out'")
        if logits.shape[1] != self.classes:
            raise UserError(f"{name} gives {logits.shape[1]} classes, the configuration has {self.classes}")
        logits = F.interpolate(logits.float(), size=(size[1], size[0]), mode="bilinear", align_corners=False)
        if logits.isnan().any():
            raise UserError(f"{name} gives values that are not numbers (nan)")
        return logits[0].argmax(0).cpu()


def load(name: str, weights: Path | None, classes: int, device: torch.device) -> Segmenter:
    """Load FILES. A TorchScript or torch.export file is a program: loading and using it runs what is in it.

    Raises UserError for what is no such file, for weights that do not fit, and for a name that torchvision lacks.
    """
    path = Path(name)
    if path.is_file():
        if weights:
            raise UserError(f"--weights {weights}: {printable(path)} has its weights; they go with a name only")
        kind, net = _load_file(path, device)
        return Segmenter(net, {"name": name, "kind": kind, "sha256": sha256(path)}, classes, device)
    if path.suffix or len(path.parts) > 1:
        raise UserError(f"--segmenter {printable(name)}: there is no such file. It is {FILES}")
    net = _from_torchvision(name, weights, classes)
    about = {"name": name, "kind": "torchvision", "weights": str(weights), "sha256": sha256(weights)}
    return Segmenter(net.to(device).eval(), about, classes, device)


def _load_file(path: Path, device: torch.device) -> tuple[str, Callable]:
    """Return what a file is, by its contents, and the network in it."""
    names = zipfile.ZipFile(path).namelist() if zipfile.is_zipfile(path) else []
    if any(name.endswith("constants.pkl") for name in names):
        kind, read = "TorchScript", _read_script
    elif any(name.endswith(".json") for name in names):
        kind, read = "torch.export", _read_export
    elif any(name.endswith("data.pkl") for name in names):
        text = "it holds weights alone. Name their network: --segmenter fcn_resnet50 --weights"
        raise UserError(f"{printable(path)} is no network: {text} {printable(path)}")
    else:
        raise UserError(f"{printable(path)} is no network. Needed is {FILES}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # both kinds are said to be deprecated, or new
            return kind, read(path, device)
    except Exception as error:  # a damaged file raises nearly anything
        text = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise UserError(f"{printable(path)} can't be loaded as a {kind} file: {text}") from error


def _read_script(path: Path, device: torch.device) -> Callable:
    return torch.jit.load(path, map_location=device).eval()


def _read_export(path: Path, device: torch.device) -> Callable:
    """Read an exported program, which is in the mode, train or eval, in which it was exported."""
    program = torch.export.load(path)
    if device.type != "cpu":
        from torch.export.passes import move_to_device_pass

        program = move_to_device_pass(program, device)
    return program.module()


def _from_torchvision(name: str, weights: Path | None, classes: int) -> nn.Module:
    """Make a segmentation network of torchvision's and fill it from a file of weights, which have to fit exactly."""
    from torchvision import models

    known = models.list_models(module=models.segmentation)
    if name not in known:
        text = f"it is neither a file nor a segmentation network of torchvision's: {', '.join(known)}."
        raise UserError(f"--segmenter {printable(name)}: {text}{did_you_mean(name, known)}")
    if not weights:
        raise UserError(f"--segmenter {name} needs --weights FILE, its state dict for {classes} classes")
    state = safe_reader.read(weights)
    auxiliary = isinstance(state, dict) and any("aux_classifier." in str(key) for key in state)
    extra = {"aux_loss": auxiliary} if not name.startswith("lraspp") else {}
    net = models.get_model(name, weights=None, weights_backbone=None, num_classes=classes, **extra)
    text = f"they are not the weights of {name} with {classes} classes"
    load_weights(net, state, weights, explain=lambda net, given: f"{text}{_differences(net, given)}")
    return net


def _differences(net: nn.Module, given: dict) -> str:
    """Say where a state dict first differs from a network's."""
    own = {key: tuple(value.shape) for key, value in net.state_dict().items()}
    for key, shape in own.items():
        theirs = tuple(getattr(given.get(key), "shape", ()))
        if key in given and theirs != shape:
            return f": {key} is {theirs} in the file, {shape} here"
    lonely = sorted(own.keys() ^ given.keys())
    return f": {printable_name(lonely[0])} is {'missing' if lonely[0] in own else 'too much'}" if lonely else ""


# ---- a small network of our own ----


class SmallFCN(nn.Module):
    """A fully convolutional network with skips (Long et al. 2015): at four scales, each scale's scores are added up.

    Takes images (N, 3, H, W) of any size, works at `size` (height, width), rounded up to multiples of 8, and gives
    logits (N, classes, *size).
    """

    def __init__(self, classes: int, size: tuple[int, int], width: int = 16):
        super().__init__()
        self.size = tuple(8 * math.ceil(side / 8) for side in size)
        widths = [width * 2**i for i in range(4)]
        self.stages = nn.ModuleList(_stage(before, w) for before, w in zip([3, *widths], widths, strict=False))
        self.scores = nn.ModuleList(nn.Conv2d(w, classes, 1) for w in widths)

    def forward(self, x):
        return self.segment(F.interpolate(x, size=self.size, mode="bilinear", antialias=True))

    def segment(self, x):
        """Return logits of the size of x, whose sides are multiples of 8: training takes crops."""
        scores = []
        for stage, score in zip(self.stages, self.scores, strict=True):
            x = stage(x)  # (N, 16 * 2^i, H / 2^i, W / 2^i)
            scores.append(score(x))
        total = scores.pop()
        while scores:
            total = scores.pop() + _doubled(total)
        return total  # (N, classes, H, W)


def _doubled(x: torch.Tensor) -> torch.Tensor:
    """Make four pixels of each; unlike interpolate, with gradients that are the same in every run on a GPU."""
    n, c, h, w = x.shape
    return x[:, :, :, None, :, None].expand(n, c, h, 2, w, 2).reshape(n, c, 2 * h, 2 * w)


def _stage(channels: int, width: int) -> nn.Sequential:
    """Two convolutions; the first halves the size, but for the first stage's."""
    layers = []
    for before, stride in ((channels, 1 if channels == 3 else 2), (width, 1)):
        layers += [nn.Conv2d(before, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
    return nn.Sequential(*layers)


def train_fcn(
    item: Callable[[int], tuple[torch.Tensor, torch.Tensor]],
    count: int,
    net: SmallFCN,
    ignore_label: int,
    steps: Collection[int],
    seed: int = 0,
    batch_size: int = 4,
    lr: float = 0.005,
) -> list[float]:
    """Train on `item(0)` to `item(count - 1)`, (x (3, H, W), labels (H, W)) of net.size; return the steps' losses.

    Each batch has crops of half the side, flipped at random; the learning rate falls to zero (power 0.9). What is drawn
    is a function of the seed; the caller seeds the network's initial weights. `steps`: a range, or a bar around it.
    """
    device = next(net.parameters()).device
    optimizer = torch.optim.Adam(net.parameters(), lr)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: (1 - step / len(steps)) ** 0.9)
    draw, order, losses = torch.Generator().manual_seed(seed), [], []
    net.train()
    for _ in steps:
        while len(order) < batch_size:
            order += torch.randperm(count, generator=draw).tolist()
        batch = [_cut(*item(order.pop(0)), draw) for _ in range(batch_size)]
        x, labels = (torch.stack(part).to(device) for part in zip(*batch, strict=True))
        logits = net.segment(x).permute(0, 2, 3, 1).flatten(0, 2)  # one row a pixel: in this form CUDA repeats itself
        # Summed, as a batch may have no pixel with a label.
        loss = F.cross_entropy(logits, labels.flatten(), ignore_index=ignore_label, reduction="sum")
        loss = loss / (labels != ignore_label).sum().clamp(min=1)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()
        losses.append(loss.detach())
    net.eval()
    return torch.stack(losses).tolist()


def _cut(x: torch.Tensor, labels: torch.Tensor, draw: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Crop half of each side, but 32 pixels at least and a multiple of 8, and flip, at random and alike."""
    for dim in (-2, -1):
        side = min(x.shape[dim], max(32, 8 * math.ceil(x.shape[dim] / 16)))
        start = int(torch.randint(x.shape[dim] - side + 1, (), generator=draw))
        x, labels = x.narrow(dim, start, side), labels.narrow(dim, start, side)
    if torch.rand((), generator=draw) < 0.5:
        x, labels = x.flip(-1), labels.flip(-1)
    return x, labels


def save(net: nn.Module, path: Path) -> None:
    """Write a network in eval mode as a torch.export file, for images of any size; it appears whole or not at all."""
    net = net.cpu().eval()
    size = torch.export.Dim("height", min=2), torch.export.Dim("width", min=2)
    x = torch.zeros(2, 3, 24, 40)
    dynamic = ({0: torch.export.Dim("batch"), 2: size[0], 3: size[1]},)
    with replacing(path) as new, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.export.save(torch.export.export(net, (x,), dynamic_shapes=dynamic), new)
