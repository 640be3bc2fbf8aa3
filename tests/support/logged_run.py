"""Options, images and requests for tests of the loggers."""

from __future__ import annotations

import argparse
import json
import urllib.request

import torch


def logger_options(folder, **changes) -> argparse.Namespace:
    """Return the options of a training run without a web page and without dashboards."""
    values = {"checkpoints_dir": str(folder), "name": "exp", "isTrain": True, "no_html": True, "display_id": -1}
    values |= {"display_server": "http://127.0.0.1", "display_port": 1, "display_env": "main", "display_ncols": 4}
    values |= {"use_wandb": False, "wandb_project_name": "project", "gpu_ids": [], "max_dataset_size": float("inf")}
    return argparse.Namespace(**values | changes)


def progress(epoch=1, epoch_iter=0, total_iters=0) -> argparse.Namespace:
    """Return a point of a run."""
    return argparse.Namespace(epoch=epoch, epoch_iter=epoch_iter, total_iters=total_iters)


def image(value, height=8, width=8, count=1) -> torch.Tensor:
    """Return images (count, 3, height, width) of one value."""
    return torch.full((count, 3, height, width), float(value))


def optimizer(lr) -> argparse.Namespace:
    """Return the part of an optimizer that the loggers read (making a real one imports torch._dynamo, for seconds)."""
    return argparse.Namespace(param_groups=[{"lr": lr}])


def ask(port, endpoint, **body):
    """Return the JSON that a server on this machine answers."""
    kind = {"Content-Type": "application/json"}
    request = urllib.request.Request(f"http://127.0.0.1:{port}/{endpoint}", json.dumps(body).encode(), kind)
    with urllib.request.urlopen(request, timeout=5) as reply:
        return json.loads(reply.read())
