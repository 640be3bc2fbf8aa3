"""Score photos that were made from label maps: how well does a network find the labels again (pix2pix, section 4)?

    python scripts/fcn_score.py results/cityscapes_pix2pix/test_latest --labels gtFine/val --segmenter fcn.pt
    python scripts/fcn_score.py results/cityscapes_pix2pix/test_latest --labels gtFine/val \\
        --segmenter deeplabv3_resnet50 --weights deeplabv3_cityscapes.pth
    python scripts/fcn_score.py results/shapes/test_latest --config shapes.json --train_fcn datasets/shapes

Per-pixel accuracy, per-class accuracy and class IoU of the results, and of the real photos beside them: more than that
can't be had from this network. docs/evaluation.md has the protocol, and what a configuration says.
"""

from __future__ import annotations

import argparse
import functools
import json
import math
import sys
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))


def parse(words: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("results", type=Path, help="a results folder of test.py, or its images/")
    add("--side", choices=("A", "B"), default="B", help="where the photos are: fake_B, real_B [%(default)s]")
    add("--labels", help="a folder of label maps, or real_A: the coloured ones of the results [those]")
    shipped = ROOT / "scripts/eval_cityscapes/cityscapes.json"
    add("--config", type=Path, default=shipped, help="classes and protocol [scripts/eval_cityscapes/cityscapes.json]")
    add("--segmenter", help="a TorchScript or torch.export file that you trust, or torchvision's name of a network")
    add("--weights", type=Path, help="the state dict of a network of torchvision's")
    add("--train_fcn", type=Path, metavar="DATAROOT", help="train a small network on DATAROOT's pairs of split train")
    add("--direction", choices=("AtoB", "BtoA"), default="AtoB", help="of those pairs, labels to photos [%(default)s]")
    add("--train_steps", type=int, default=600, help="steps of that training, 4 images each [%(default)s]")
    add("--save", type=Path, help="where that network goes, for --segmenter [RESULTS/fcn.pt2]")
    add("--bootstrap", type=int, default=1000, help="draws behind the intervals; 0: none [%(default)s]")
    add("--seed", type=int, default=0, help="of those draws, and of the training [%(default)s]")
    add("--gpu_ids", help="as for test.py; -1: the CPU [a GPU if there is one]")
    add("--json", type=Path, help="where all figures go [RESULTS/fcn_score.json]")
    args = parser.parse_args(words)
    if bool(args.segmenter) == bool(args.train_fcn):
        parser.error("one of --segmenter FILE_OR_NAME and --train_fcn DATAROOT is needed")
    if args.weights and args.train_fcn:
        parser.error("--weights go with --segmenter NAME")
    if args.train_steps < 1 or args.bootstrap < 0:
        parser.error("--train_steps has to be 1 or more, --bootstrap 0 or more")
    args.save = args.save or args.results / "fcn.pt2"
    if args.save.suffix != ".pt2":
        parser.error(f"--save {args.save}: the file's name has to end in .pt2")
    args.json = args.json or args.results / "fcn_score.json"
    args.labels = args.labels or f"real_{'B' if args.side == 'A' else 'A'}"
    return args


if __name__ == "__main__" and {"-h", "--help"} & set(sys.argv):  # before imports that take seconds
    parse(sys.argv[1:])

try:
    import numpy as np
    import torch
    import torchvision
    from PIL import Image
    from tqdm import tqdm

    from data.aligned_dataset import AlignedDataset
    from data.formats import pillow
    from scripts.evaluation import segmenters
    from scripts.evaluation.label_maps import Shot, find_shots, find_truths, read_colours, read_truth
    from scripts.evaluation.segmentation import (
        FIGURES,
        Protocol,
        bootstrap,
        by_class,
        mean_iou_of_all,
        resize_nearest,
        tally,
    )
    from util.checkpoint.atomic_files import sha256, write_whole
    from util.errors import UserError, explained_errors, list_names, need, printable
    from util.runtime import seeds
    from util.runtime.device import choose_algorithms, device_of
    from util.runtime.signals import unbreakable_output
except (ImportError, RuntimeError) as error:  # a torchvision made for another torch raises RuntimeError
    sys.exit(f"error: {error}: Python 3.10 or newer is needed, and what scripts/install_deps.sh installs")

WHO = {"results": "results", "real": "real photos"}
TITLES = "per-pixel accuracy", "per-class accuracy", "class IoU"
CACHE = 2**30  # bytes of training pairs that are kept


def main(words: list[str]) -> None:
    """Score the results, print the tables, and write the JSON file."""
    args = parse(words)
    protocol, device = Protocol(args.config), device_of(args.gpu_ids)
    choose_algorithms(sizes_repeat=False, deterministic=True)
    shots, numbered = find_truths(find_shots(args.results, args.side), args.labels, protocol)
    if args.train_fcn:
        read_truth(shots[0], protocol)  # rather than find out after minutes that it can't be
        args.segmenter = str(train(args, protocol, device))
    segmenter = segmenters.load(args.segmenter, args.weights, len(protocol.names), device)
    scored = score(shots, protocol, segmenter)
    report = make_report(args, protocol, segmenter, scored)
    if numbered and not scored.checked:
        note = f"the label maps of {printable(args.labels)} were taken in their order, 0 being the first: the results "
        report["notes"].append(f"{note}have no coloured label maps with which that could be checked")
    write_whole(args.json, json.dumps(report, indent=1) + "\n")
    print_report(report, protocol)
    print(printable(args.json))


# ---- scoring ----


class Scored(NamedTuple):
    """What was counted."""

    matrices: dict[str, np.ndarray]  # of "results" and "real": (K, K), rows are the truth
    tallies: dict[str, np.ndarray]  # the same for each image: (N, 3, K)
    pixels: int
    ignored: int
    far: int  # of the ignored
    checked: int  # label maps that agree with the results' coloured ones


def score(shots: list[Shot], protocol: Protocol, segmenter) -> Scored:
    """Segment results and real photos, one by one, and count against the truth."""
    classification = need("torchmetrics.classification", "torchmetrics", "scripts/fcn_score.py")
    make = functools.partial(classification.MulticlassConfusionMatrix, len(protocol.names), protocol.ignore_label)
    metrics = {who: make(validate_args=False) for who in WHO}  # labels are checked as they are read
    tallies: dict[str, list] = {who: [] for who in WHO}
    pixels = ignored = far = checked = 0
    for shot in tqdm(shots, "scoring", disable=None, leave=False):
        truth = read_truth(shot, protocol)
        target, size = torch.from_numpy(truth.labels), truth.labels.shape[::-1]
        for who, path in (("results", shot.fake), ("real", shot.real)):
            predicted = segmenter(protocol.prepare(pillow.load(path), size), size)
            tallies[who].append(tally(count(metrics[who], predicted, target)))
        pixels, far, checked = pixels + target.numel(), far + truth.far, checked + (truth.agreement is not None)
        ignored += int((target == protocol.ignore_label).sum())
    if ignored == pixels:
        raise UserError(f"no pixel of the label maps has a class of {printable(protocol.path)}: nothing can be scored")
    matrices = {who: metric.compute().numpy() for who, metric in metrics.items()}
    return Scored(matrices, {who: np.stack(rows) for who, rows in tallies.items()}, pixels, ignored, far, checked)


def count(metric, predicted: torch.Tensor, target: torch.Tensor) -> np.ndarray:
    """Add an image's classes (H, W) to a confusion matrix; return its own (K, K).

    torchmetrics would obey use_deterministic_algorithms by a table of all pixels by all K^2 cells: gigabytes. Its usual
    way adds whole numbers on the CPU, which is as exact.
    """
    torch.use_deterministic_algorithms(False)
    try:
        return metric(predicted[None], target[None]).numpy()
    finally:
        torch.use_deterministic_algorithms(True)


# ---- a small network of one's own ----


def train(args: argparse.Namespace, protocol: Protocol, device: torch.device) -> Path:
    """Train a small network on the real pairs of the split train, save it, and return its file."""
    begin = time.monotonic()
    opt = argparse.Namespace(
        dataroot=str(args.train_fcn), phase="train", direction=args.direction, preprocess="none", load_size=0
    )
    opt.crop_size, opt.no_flip, opt.max_dataset_size, opt.input_nc, opt.output_nc = 0, True, math.inf, 3, 3
    pairs = AlignedDataset(opt)
    size = tuple(protocol.synthesis_size or reversed(pairs[0]["A"].shape[-2:]))
    seeds.seed_all(args.seed, "fcn")
    net = segmenters.SmallFCN(len(protocol.names), (size[1], size[0])).to(device)
    inside = (net.size[1], net.size[0])
    drawn, photo = ("A", "B") if args.direction == "AtoB" else ("B", "A")

    @functools.lru_cache(maxsize=max(1, CACHE // (7 * inside[0] * inside[1])))
    def stored(index: int) -> tuple[torch.Tensor, torch.Tensor]:
        item = pairs[index]
        images = {side: Image.fromarray(to_bytes(item[side])) for side in "AB"}
        labels, _ = read_colours(images[drawn], item[f"{drawn}_paths"], protocol, "--direction, --config")
        image = images[photo].resize(size, Image.Resampling.BILINEAR).resize(inside, Image.Resampling.BILINEAR)
        labels = resize_nearest(labels, inside).astype(np.int32)
        return torch.from_numpy(np.array(image)).permute(2, 0, 1), torch.from_numpy(labels)

    def item(index: int) -> tuple[torch.Tensor, torch.Tensor]:
        image, labels = stored(index)
        return protocol.normalise(image[None])[0], labels.long()

    bar = functools.partial(tqdm, desc="training", disable=None, leave=False)
    losses = segmenters.train_fcn(item, len(pairs), net, protocol.ignore_label, bar(range(args.train_steps)), args.seed)
    args.save.parent.mkdir(parents=True, exist_ok=True)
    segmenters.save(net, args.save)
    first, last = (float(np.mean(part)) for part in (losses[:20], losses[-20:]))
    seconds, steps = time.monotonic() - begin, f"{len(pairs)} pairs in {args.train_steps} steps"
    print(f"trained on {steps}, loss {first:.3f} to {last:.3f}, {seconds:.0f} s: {printable(args.save)}", flush=True)
    return args.save


def to_bytes(image: torch.Tensor) -> np.ndarray:
    """Turn (3, H, W) in [-1, 1] into the 8-bit (H, W, 3) that it was read from."""
    return ((image + 1) * 127.5).round().to(torch.uint8).permute(1, 2, 0).numpy()


# ---- the report ----


def make_report(args: argparse.Namespace, protocol: Protocol, segmenter, scored: Scored) -> dict:
    """Gather all that a reader of the JSON file may ask for."""
    scores = {}
    for who, tallies in scored.tallies.items():
        total = tallies.sum(0)
        accuracy, iou = by_class(total)
        figures = zip(FIGURES, bootstrap(tallies, args.bootstrap, args.seed), strict=True)
        scores[who] = {name: figure._asdict() for name, figure in figures}
        scores[who]["class_iou_with_absent"] = mean_iou_of_all(total)
        scores[who]["classes"] = {
            name: {"accuracy": number(accuracy[k]), "iou": number(iou[k]), "pixels": int(total[1, k])}
            for k, name in enumerate(protocol.names)
        }
        scores[who]["matrix"] = scored.matrices[who].tolist()
    needs = torch, torchvision, np, sys.modules["torchmetrics"], sys.modules["PIL"]
    return {
        "results": str(args.results),
        "images": len(scored.tallies["results"]),
        "labels": args.labels,
        "config": {"name": protocol.name, "file": str(protocol.path), "sha256": sha256(protocol.path)},
        "segmenter": segmenter.about,
        "pixels": {"all": scored.pixels, "ignored": scored.ignored, "far_from_every_colour": scored.far},
        "label_maps_checked": scored.checked,
        "bootstrap": {"draws": args.bootstrap, "seed": args.seed},
        "scores": scores,
        "notes": notes(protocol, scored, scores),
        "device": str(segmenter.device),
        "versions": {module.__name__: module.__version__ for module in needs},
    }


def notes(protocol: Protocol, scored: Scored, scores: dict) -> list[str]:
    """Say what is to be known about the figures."""
    said = []
    if scored.ignored:
        text = f"{scored.ignored / scored.pixels:.1%} of the pixels are not scored"
        away = f", {scored.far / scored.pixels:.1%} being further than {protocol.tolerance} from every class's colour"
        said.append(text + away * bool(scored.far))
    absent = [name for name, it in scores["results"]["classes"].items() if not it["pixels"]]
    if absent:
        values = ", ".join(f"{WHO[who]} {it['class_iou_with_absent']:.3f}" for who, it in scores.items())
        text = f"no truth has {list_names(absent, 3)}: in none of the means"
        said.append(f"{text}; with those that are predicted all the same as 0, class IoU is: {values}")
    return said


def number(value: float) -> float | None:
    """Return a number for JSON, which has no nan."""
    return None if math.isnan(value) else float(value)


def print_report(report: dict, protocol: Protocol) -> None:
    """Print the figures with their intervals, those of the classes, and the notes."""
    scores = report["scores"]
    network = printable(report["segmenter"]["name"])
    print(f"{report['images']} images, {len(protocol.names)} classes ({protocol.name}), {network}\n")
    print(f"{'':16}" + "".join(f"{title:26}" for title in TITLES).rstrip())
    for who, title in WHO.items():
        cells = [f"{it['value']:.3f} ({it['low']:.3f} to {it['high']:.3f})" for it in map(scores[who].get, FIGURES)]
        print(f"{title:16}" + "".join(f"{cell:26}" for cell in cells).rstrip())
    print(f"\n{'':16}{'share':>8}{'accuracy':>12}{'real':>8}{'IoU':>10}{'real':>8}")
    labelled = report["pixels"]["all"] - report["pixels"]["ignored"]
    for name, own in scores["results"]["classes"].items():
        real = scores["real"]["classes"][name]
        values = (own["pixels"] / labelled, own["accuracy"], real["accuracy"], own["iou"], real["iou"])
        cells = ["-" if value is None else f"{value:.3f}" for value in values]
        print(
            f"{printable(name)[:15]:16}" + "".join(f"{c:>{w}}" for c, w in zip(cells, (8, 12, 8, 10, 8), strict=True))
        )
    print("\n" + "\n".join(report["notes"]) if report["notes"] else "")


if __name__ == "__main__":
    unbreakable_output()
    with explained_errors():
        main(sys.argv[1:])
