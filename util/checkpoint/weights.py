"""Weights into and out of networks, whoever saved them, and messages for weights that do not fit."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn as nn

from util.checkpoint.safe_reader import printable_name
from util.errors import UserError, warn


def unwrap(net: nn.Module) -> nn.Module:
    """Return the network inside DistributedDataParallel, DataParallel or torch.compile."""
    while True:
        inner = getattr(net, "_orig_mod", None) or (net.module if "Parallel" in type(net).__name__ else None)
        if inner is None:
            return net
        net = inner


def cpu_state_dict(net: nn.Module) -> dict[str, torch.Tensor]:
    """Return the state dict of a network, without wrappers, on the CPU."""
    state = unwrap(net).state_dict()
    for key, value in state.items():
        if isinstance(value, torch.Tensor):  # a plug-in's network may hold other values
            state[key] = value.detach().cpu().contiguous()  # whatever the layout on the device
    return state


def without_wrappers(state: dict, own=()) -> dict:
    """Return a state dict without the prefixes of DataParallel and torch.compile, until it has some of `own` keys."""
    for _ in range(4):  # wrappers may be nested; a file may have keys that are nothing but prefixes
        prefix = next((p for p in ("module.", "_orig_mod.") if all(key.startswith(p) for key in state)), None)
        if not state or prefix is None or not state.keys().isdisjoint(own):
            break
        state = {key.removeprefix(prefix): value for key, value in state.items()}
    return state


def load_weights(net: nn.Module, state: dict, path: Path | str, explain=None) -> None:
    """Load a state dict of any age into a network, without `module.` prefixes and old instance norms' statistics.

    Raises UserError when the architecture differs, with the reason that `explain(net, state)` returns, if any.
    """
    values = list(state.values()) if isinstance(state, dict) else []
    named = bool(values) and all(isinstance(key, str) for key in state)
    if not named or any(isinstance(v, dict) for v in values) or not any(isinstance(v, torch.Tensor) for v in values):
        raise UserError(f"{path} holds no state dict (names with tensors){_describe_content(state)}")
    given, state = state, without_wrappers(state, own=net.state_dict())
    state = dict(state)  # without _metadata: its versions would let torch skip the counters of norms
    for name, module in net.named_modules():
        if type(module).__name__.startswith("InstanceNorm"):  # written before PyTorch 0.4
            for stat in ("running_mean", "running_var"):
                if getattr(module, stat, None) is None:
                    state.pop(f"{name}.{stat}", None)
            state.pop(f"{name}.num_batches_tracked", None)
    try:
        net.load_state_dict(state)
    except RuntimeError as error:
        reason = explain and explain(net, given)
        text = f"{path} does not fit: {reason}" if reason else _explain_mismatch(net, state, path)
        raise UserError(text) from error
    for key, value in state.items():
        if isinstance(value, torch.Tensor) and value.is_floating_point() and not value.float().isfinite().all():
            warn(f"{path}: {key} has values that are not finite: training had diverged; take an earlier checkpoint")
            break


def _describe_content(state) -> str:
    """Say what a file holds instead of a state dict, and how to extract one that is inside."""
    if not isinstance(state, dict) or not state:
        return f"; it holds {'nothing' if state == {} else f'a {type(state).__name__}'}"
    nets = [key for key, value in state.items() if isinstance(value, dict) and isinstance(key, str)]
    nets = [key for key in nets if any(isinstance(value, torch.Tensor) for value in state[key].values())]
    keys = f"{', '.join(map(printable_name, list(state)[:5]))}{', ...' * (len(state) > 5)}"
    if not nets:
        return f"; it holds {keys}"
    inner = printable_name(nets[0])
    return f"; it holds {keys}. torch.save(torch.load(THIS, map_location='cpu')[{inner!r}], FILE) extracts it"


def _explain_mismatch(net: nn.Module, state: dict, path: Path | str) -> str:
    mine = {key: tuple(getattr(value, "shape", ())) for key, value in net.state_dict().items()}
    theirs = {key: tuple(getattr(value, "shape", ())) for key, value in state.items()}
    lines = [f"{path} is of another architecture than the network that loads it:"]
    shapes = [f"{k}: {theirs[k]} in the file, {mine[k]} here" for k in mine if k in theirs and mine[k] != theirs[k]]
    for title, found in (
        ("of another shape", shapes),
        ("only in the file", [printable_name(key) for key in theirs if key not in mine]),
        ("only here", [key for key in mine if key not in theirs]),
    ):
        if found:
            more = f" and {len(found) - 3} more" if len(found) > 3 else ""
            lines.append(f"  {title}: {'; '.join(found[:3])}{more}")
    return "\n".join(lines)
