"""The choice of precision, layout, compilation and captured steps for a run, and the reasons that the run prints.

The objective stays the same. docs/performance.md says what each ingredient gains and costs.
"""

from __future__ import annotations

import importlib.util
from typing import NamedTuple

import torch

from util.runtime import processes
from util.runtime.run_facts import run_facts
from util.speed.precision import DTYPES, best_precision, why_not_fp16, why_slow


class Speed(NamedTuple):
    """The ingredients of a run; words name them, such as `bf16 channels_last compile capture cuda`."""

    dtype: torch.dtype = torch.float32  # inside the networks
    channels_last: bool = False
    compiled: bool = False
    captured: bool = False  # training steps, as CUDA graphs


def speed_of(opt) -> Speed:
    """Return the ingredients of a run; options that were not parsed have their precision alone."""
    precision = getattr(opt, "precision", "fp32")
    words = (run_facts(opt).speed or (precision if precision in DTYPES else "fp32")).split()
    return Speed(DTYPES[words[0]], "channels_last" in words, "compile" in words, "capture" in words)


def choose(opt, device: torch.device, saved: object = None) -> tuple[str, list[str]]:
    """Return the words of a run (precision, ingredients, device), and the lines to print about them.

    A resumed run keeps its `saved` words, as long as it has the same kind of device and its options allow them.
    """
    if opt.precision not in DTYPES:  # a plug-in's own option of that name
        return "fp32", []
    typed = run_facts(opt).typed
    if opt.fast is not True:
        return opt.precision, why_slow(opt.precision, device)
    before = saved.split() if isinstance(saved, str) else []
    if before[-1:] != [device.type] or {"fast", "precision"} & typed or ("fp16" in before and why_not_fp16(opt)):
        before = []
    precision, reason = best_precision(opt, device)
    if before or "precision" in typed:
        precision, reason = (before[0], "as before") if before else (opt.precision, "as typed")
    obstacles = {"compile": why_not_compile(opt, device), "capture": why_not_capture(opt, device)}
    layout = why_not_channels_last(opt, device, precision, not obstacles["compile"])
    words, told = [precision], [f"{precision} within the networks ({reason})"]
    for word, text in INGREDIENTS.items():
        obstacle = {"channels_last": layout, **obstacles}[word]
        if before and word not in before:
            obstacle = obstacle or "as before"
        words += [] if obstacle else [word]
        if device.type == "cuda" or not obstacle:
            told.append(f"no {text.split(',')[0]} ({obstacle})" if obstacle else text)
    told.append("images are bytes until they are on the device")
    return " ".join([*words, device.type]), [f"--fast: {'; '.join(told)}", *why_slow(precision, device)]


INGREDIENTS = {
    "channels_last": "channels_last",
    "compile": "compiled networks, for which the first steps take a minute or more",
    "capture": "captured steps",
}


# ---- obstacles: why an ingredient is impossible or would not pay; empty if it pays ----


def why_not_channels_last(opt, device: torch.device, precision: str, compiled: bool) -> str:
    """Say why networks would not be faster in that memory layout."""
    resnet = opt.netG.startswith("resnet")
    if precision == "fp32":
        return "float32 does not gain by it"
    if device.type == "cuda":
        return "without compiling, reflected borders are rearranged twice" if resnet and not compiled else ""
    return "" if device.type == "cpu" and resnet else "U-Nets lose by it here"


def sizes_repeat(opt) -> bool:
    """Whether all images that the networks get have one size."""
    return opt.preprocess not in ("scale_width", "none")


def why_not_compile(opt, device: torch.device) -> str:
    """Say why the networks are not compiled."""
    if device.type != "cuda":
        return "not measured to pay without a CUDA GPU"
    return _first(
        ("it takes longer than most test sets do", not opt.isTrain),
        (f"sizes vary with --preprocess {opt.preprocess}", not sizes_repeat(opt)),
        ("--grad_checkpoint", opt.isTrain and opt.grad_checkpoint),
        ("--gan_mode wgangp differentiates twice", opt.isTrain and opt.gan_mode == "wgangp"),
        ("needs a GPU of compute capability 7", torch.cuda.get_device_capability(device)[0] < 7),
        ("needs the package triton", importlib.util.find_spec("triton") is None),
    )


def why_not_capture(opt, device: torch.device) -> str:
    """Say why training steps are not captured as a CUDA graph, as far as options tell."""
    if device.type != "cuda":
        return "needs a CUDA GPU"
    if not opt.isTrain:
        return "only training has steps"
    return _first(
        (f"sizes vary with --preprocess {opt.preprocess}", not sizes_repeat(opt)),
        ("several processes", processes.world_size() > 1),
        ("--grad_accum", opt.grad_accum > 1),
        ("--grad_checkpoint", opt.grad_checkpoint),
        ("--gan_mode wgangp", opt.gan_mode == "wgangp"),
        ("--deterministic", opt.deterministic),
    )


def _first(*obstacles: tuple[str, bool]) -> str:
    """Return the first obstacle that is there."""
    return next((text for text, there in obstacles if there), "")
