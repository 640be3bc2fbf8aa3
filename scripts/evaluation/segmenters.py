"""Segmentation networks for scripts/fcn_score.py: a Python file's, torchvision's, or the small FCN trained there."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from scripts.evaluation.small_fcn import SmallFCN
from util.checkpoint import safe_reader
from util.checkpoint.atomic_files import sha256
from util.checkpoint.weights import load_weights
from util.errors import UserError, did_you_mean, printable


class Segmenter:
    """A network with `classes` classes. It takes one image at a time, so no score depends on a batch."""

    def __init__(self, net: nn.Module, facts: dict, classes: int, device: torch.device):
        self.net, self.facts, self.classes, self.device = net.to(device).eval(), facts, classes, device

    @torch.no_grad()
    def __call__(self, x: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
        """Return the classes (h, w), int64 on the CPU, of an image (1, 3, H, W); `size` is (w, h).

        Logits (1, K, H', W'), alone or as "out" of a dict, are resized to `size` bilinearly. Raises UserError for
        anything else.
        """
        logits = self.net(x.to(self.device))
        logits = logits.get("out") if isinstance(logits, dict) else logits
        shape = tuple(getattr(logits, "shape", ()))
        if len(shape) != 4 or shape[1] != self.classes or logits.isnan().any():
            raise UserError(
                f"{printable(self.facts['name'])} gives {shape or type(logits).__name__}; needed are logits, "
                f"(1, {self.classes}, height, width) without nan, or a dict with 'out'"
            )
        logits = F.interpolate(logits.float(), size=(size[1], size[0]), mode="bilinear", align_corners=False)
        return logits[0].argmax(0).cpu()


def load_segmenter(name: str, weights: Path | None, classes: int, device: torch.device) -> Segmenter:
    """Load a network with its weights, which must fit exactly. A Python file is a program: loading it runs it.

    Raises UserError for a file of another kind, for weights that do not fit, and for an unknown name.
    """
    path = Path(name)
    if path.suffix == ".pth" and path.is_file():
        net, weights = SmallFCN.from_state(safe_reader.read(path), classes, path), path
    elif path.suffix == ".py" and path.is_file():
        spec = importlib.util.spec_from_file_location("segmenter", path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        if not hasattr(module, "network"):
            raise UserError(f"{printable(path)} has no function network(classes), which returns the network")
        net = module.network(classes)
    elif path.suffix or len(path.parts) > 1:
        problem = "is of another kind" if path.is_file() else "does not exist"
        kinds = "a .pth that --train_fcn saved, a Python file with network(classes), or a torchvision network's name"
        raise UserError(f"--segmenter {printable(name)} {problem}. It takes {kinds}")
    else:
        net = _from_torchvision(name, weights, classes)
    facts = {"name": name, "weights": str(weights), "sha256": sha256(weights) if weights else sha256(path)}
    return Segmenter(net, facts, classes, device)


def _from_torchvision(name: str, weights: Path | None, classes: int) -> nn.Module:
    """Make a segmentation network of torchvision and fill it from a state dict."""
    from torchvision import models

    known = models.list_models(module=models.segmentation)
    if name not in known:
        text = f"it is neither a file nor a segmentation network of torchvision: {', '.join(known)}."
        raise UserError(f"--segmenter {printable(name)}: {text}{did_you_mean(name, known)}")
    if not weights:
        raise UserError(f"--segmenter {name} needs --weights FILE, its state dict for {classes} classes")
    state = safe_reader.read(weights)
    auxiliary = isinstance(state, dict) and any("aux_classifier." in str(key) for key in state)
    extra = {"aux_loss": auxiliary} if not name.startswith("lraspp") else {}
    net = models.get_model(name, weights=None, weights_backbone=None, num_classes=classes, **extra)
    load_weights(net, state, weights, explain=lambda *_: f"they are not of {name} with {classes} classes")
    return net
