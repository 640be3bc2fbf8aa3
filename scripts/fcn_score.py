"""Score photos made from label maps: how well does a network recover the labels (pix2pix, section 4)?

    python scripts/fcn_score.py results/cityscapes_pix2pix/test_latest --labels gtFine/val --segmenter my_network.py
    python scripts/fcn_score.py results/cityscapes_pix2pix/test_latest --labels gtFine/val \\
        --segmenter deeplabv3_resnet50 --weights deeplabv3_cityscapes.pth
    python scripts/fcn_score.py results/shapes/test_latest --config shapes.json --train_fcn datasets/shapes

Per-pixel accuracy, per-class accuracy and class IoU of the results and of the real photos, whose scores are the ceiling
of this network. docs/evaluation.md describes the protocol and the configuration.
"""

from __future__ import annotations

import argparse
import functools
import json
import math
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import util.runtime.threads  # noqa: F401 - before torch

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from data.aligned_dataset import AlignedDataset
from data.formats import pillow
from scripts.evaluation import segmentation, small_fcn
from scripts.evaluation.label_maps import find_results, match_label_maps, read_colours, read_labels
from scripts.evaluation.segmentation import SCORES, Protocol
from scripts.evaluation.segmenters import load_segmenter
from util.checkpoint.atomic_files import replacing, sha256, write_whole
from util.errors import UserError, explained_errors, list_names, printable
from util.runtime import seeds
from util.runtime.device import choose_algorithms, device_of
from util.runtime.signals import unbreakable_output

SOURCES = {"results": "results", "real": "real photos"}
TITLES = "per-pixel accuracy", "per-class accuracy", "class IoU"
CACHE = 2**30  # bytes of training pairs kept in memory, 20 per pixel


def parse(words: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("results", type=Path, help="a results folder of test.py, or its images/")
    add("--side", choices=("A", "B"), default="B", help="side of the photos: fake_B, real_B [%(default)s]")
    add("--labels", help="a folder of label maps, or real_A: the coloured ones of the results [those]")
    shipped = Path(__file__).resolve().parent / "eval_cityscapes/cityscapes.json"
    add("--config", type=Path, default=shipped, help="classes and protocol [scripts/eval_cityscapes/cityscapes.json]")
    which = parser.add_mutually_exclusive_group(required=True).add_argument
    which("--segmenter", help="a .pth of --train_fcn, a Python file with network(classes), or a torchvision network")
    which("--train_fcn", type=Path, metavar="DATAROOT", help="train a small network on DATAROOT's pairs of split train")
    add("--weights", type=Path, help="the state dict of the torchvision network")
    add("--direction", choices=("AtoB", "BtoA"), default="AtoB", help="of those pairs, labels to photos [%(default)s]")
    add("--train_steps", type=int, default=600, help="steps of that training, 4 images each [%(default)s]")
    add("--seed", type=int, default=0, help="of that training [%(default)s]")
    add("--gpu_ids", help="as for test.py; -1: the CPU [a GPU if there is one]")
    args = parser.parse_args(words)
    if args.train_steps < 1:
        parser.error(f"--train_steps {args.train_steps}: must be at least 1")
    args.labels = args.labels or f"real_{'B' if args.side == 'A' else 'A'}"
    return args


def main(words: list[str]) -> None:
    """Score the results, print the tables, and write the JSON file."""
    args = parse(words)
    protocol, device = Protocol(args.config), device_of(args.gpu_ids)
    choose_algorithms(sizes_repeat=False, deterministic=True)
    results = match_label_maps(find_results(args.results, args.side), args.labels, protocol)
    if args.train_fcn:
        read_labels(results[0], protocol)  # an unreadable label map should not cost minutes of training
        args.segmenter = str(train(args, protocol, device))
    segmenter = load_segmenter(args.segmenter, args.weights, len(protocol.names), device)
    matrices, pixels = count_pixels(results, protocol, segmenter)
    report = {
        "results": str(args.results),
        "images": len(results),
        "labels": args.labels,
        "config": {"name": protocol.name, "file": str(protocol.path), "sha256": sha256(protocol.path)},
        "segmenter": segmenter.facts,
        "pixels": pixels,
        "scores": {source: scores_of(counts, protocol) for source, counts in matrices.items()},
        "device": str(device),
    }
    file = args.results / "fcn_score.json"
    write_whole(file, json.dumps(report, indent=1) + "\n")
    print_report(report, protocol)
    print(printable(file))


# ---- scoring ----


def count_pixels(results: list, protocol: Protocol, segmenter) -> tuple[dict[str, np.ndarray], dict[str, int]]:
    """Segment results and real photos one by one, and compare them with the label maps.

    Returns the images' confusion matrices (N, K, K), rows the truth, for each of SOURCES; and numbers of pixels.
    """
    matrices: dict[str, list] = {source: [] for source in SOURCES}
    pixels, classes = {"all": 0, "ignored": 0, "far_from_every_colour": 0}, len(protocol.names)
    for result in tqdm(results, "scoring", disable=None, leave=False):
        labels, far = read_labels(result, protocol)
        size, scored = labels.shape[::-1], labels != protocol.ignore_label
        for source, path in (("results", result.fake), ("real", result.real)):
            predicted = segmenter(protocol.prepare(pillow.load(path), size), size).numpy()
            counts = np.bincount(labels[scored] * classes + predicted[scored], minlength=classes**2)
            matrices[source].append(counts.reshape(classes, classes))
        for kind, count in zip(pixels, (labels.size, (~scored).sum(), far), strict=True):
            pixels[kind] += int(count)
    if pixels["ignored"] == pixels["all"]:
        raise UserError(f"no pixel of the label maps has a class of {printable(protocol.path)}: nothing can be scored")
    return {source: np.stack(rows) for source, rows in matrices.items()}, pixels


def scores_of(matrices: np.ndarray, protocol: Protocol) -> dict:
    """Return the scores of images' confusion matrices (N, K, K): means with intervals, classes, and the matrix."""
    matrix = matrices.sum(0)
    values = segmentation.scores_by_class(matrix)
    columns = (*np.where(np.isnan(values), None, values).tolist(), matrix.sum(1).tolist())
    rows = zip(protocol.names, *columns, strict=True)
    classes = {name: {"accuracy": accuracy, "iou": iou, "pixels": pixels} for name, accuracy, iou, pixels in rows}
    return {**segmentation.scores_with_intervals(matrices), "classes": classes, "matrix": matrix.tolist()}


# ---- the small network of --train_fcn ----


def train(args: argparse.Namespace, protocol: Protocol, device: torch.device) -> Path:
    """Train a small network on the real pairs of the split `train`, save it, and return its file."""
    begin = time.monotonic()
    settings = dict.fromkeys(("load_size", "crop_size"), 0) | dict.fromkeys(("input_nc", "output_nc"), 3)
    settings |= {"preprocess": "none", "no_flip": True, "max_dataset_size": math.inf, "direction": args.direction}
    pairs = AlignedDataset(argparse.Namespace(dataroot=str(args.train_fcn), phase="train", **settings))
    size = tuple(protocol.synthesis_size or reversed(pairs[0]["A"].shape[-2:]))
    seeds.seed_all(args.seed, "fcn")
    net = small_fcn.SmallFCN(len(protocol.names), (size[1], size[0])).to(device)
    inside = tuple(net.size.flip(0).tolist())  # (width, height)
    drawn, photo = ("A", "B") if args.direction == "AtoB" else ("B", "A")

    @functools.lru_cache(maxsize=max(1, CACHE // (20 * math.prod(inside))))
    def item(index: int) -> tuple[torch.Tensor, torch.Tensor]:
        pair = pairs[index]
        images = {side: ((pair[side] + 1) * 127.5).round().to(torch.uint8) for side in "AB"}  # as in the file
        images = {side: Image.fromarray(image.permute(1, 2, 0).numpy()) for side, image in images.items()}
        labels, _ = read_colours(images[drawn], pair[f"{drawn}_paths"], protocol, "--direction, --config")
        image = images[photo].resize(size, Image.Resampling.BILINEAR).resize(inside, Image.Resampling.BILINEAR)
        return protocol.normalise(image)[0], torch.from_numpy(segmentation.resize_nearest(labels, inside)).long()

    steps = tqdm(range(args.train_steps), "training", disable=None, leave=False)
    losses = small_fcn.train_fcn(item, len(pairs), net, protocol.ignore_label, steps, args.seed)
    file = args.results / "fcn.pth"
    with replacing(file) as new:
        torch.save(net.cpu().state_dict(), new)
    first, last = (float(np.mean(part)) for part in (losses[:20], losses[-20:]))
    seconds, steps = time.monotonic() - begin, f"{len(pairs)} pairs in {args.train_steps} steps"
    print(f"trained on {steps}, loss {first:.3f} to {last:.3f}, {seconds:.0f} s: {printable(file)}", flush=True)
    return file


# ---- the report ----


def print_report(report: dict, protocol: Protocol) -> None:
    """Print the scores with their intervals, the classes, and remarks on ignored pixels and absent classes."""
    scores, pixels = report["scores"], report["pixels"]
    network = printable(report["segmenter"]["name"])
    print(f"{report['images']} images, {len(protocol.names)} classes ({protocol.name}), {network}\n")
    print(f"{'':16}" + "".join(f"{title:26}" for title in TITLES).rstrip())
    for source, title in SOURCES.items():
        cells = [f"{it['value']:.3f} ({it['low']:.3f} to {it['high']:.3f})" for it in map(scores[source].get, SCORES)]
        print(f"{title:16}" + "".join(f"{cell:26}" for cell in cells).rstrip())
    print(f"\n{'':16}{'share':>8}{'accuracy':>12}{'real':>8}{'IoU':>10}{'real':>8}")
    for name, own in scores["results"]["classes"].items():
        real, share = scores["real"]["classes"][name], own["pixels"] / (pixels["all"] - pixels["ignored"])
        values = (share, own["accuracy"], real["accuracy"], own["iou"], real["iou"])
        cells = ["-" if value is None else f"{value:.3f}" for value in values]
        print(f"{printable(name)[:15]:16}" + "{:>8}{:>12}{:>8}{:>10}{:>8}".format(*cells))
    print()
    if pixels["ignored"]:
        ignored, far = (f"{pixels[kind] / pixels['all']:.1%}" for kind in ("ignored", "far_from_every_colour"))
        print(f"{ignored} of the pixels are not scored; {far} have no class's colour within {protocol.tolerance}")
    absent = [name for name, it in scores["results"]["classes"].items() if not it["pixels"]]
    if absent:
        print(f"no label map has {list_names(absent, 3)}, so the means exclude it")


if __name__ == "__main__":
    unbreakable_output()
    with explained_errors():
        main(sys.argv[1:])
