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
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))


def parse(words: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("results", type=Path, help="a results folder of test.py, or its images/")
    add("--side", choices=("A", "B"), default="B", help="side of the photos: fake_B, real_B [%(default)s]")
    add("--labels", help="a folder of label maps, or real_A: the coloured ones of the results [those]")
    shipped = ROOT / "scripts/eval_cityscapes/cityscapes.json"
    add("--config", type=Path, default=shipped, help="classes and protocol [scripts/eval_cityscapes/cityscapes.json]")
    add("--segmenter", help="a .pth of --train_fcn, a Python file with network(classes), or a torchvision network")
    add("--weights", type=Path, help="the state dict of the torchvision network")
    add("--train_fcn", type=Path, metavar="DATAROOT", help="train a small network on DATAROOT's pairs of split train")
    add("--direction", choices=("AtoB", "BtoA"), default="AtoB", help="of those pairs, labels to photos [%(default)s]")
    add("--train_steps", type=int, default=600, help="steps of that training, 4 images each [%(default)s]")
    add("--save", type=Path, help="file of that network, for --segmenter [RESULTS/fcn.pth]")
    add("--seed", type=int, default=0, help="of that training [%(default)s]")
    add("--gpu_ids", help="as for test.py; -1: the CPU [a GPU if there is one]")
    add("--json", type=Path, help="file of all scores [RESULTS/fcn_score.json]")
    args = parser.parse_args(words)
    if bool(args.segmenter) == bool(args.train_fcn):
        parser.error("one of --segmenter FILE_OR_NAME and --train_fcn DATAROOT is needed")
    if args.weights and args.train_fcn:
        parser.error("--weights go with --segmenter NAME")
    if args.train_steps < 1:
        parser.error(f"--train_steps {args.train_steps}: must be at least 1")
    args.save = args.save or args.results / "fcn.pth"
    if args.save.suffix != ".pth":
        parser.error(f"--save {args.save}: the file's name must end in .pth")
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
    from scripts.evaluation import segmentation, small_fcn
    from scripts.evaluation.label_maps import find_results, match_label_maps, read_colours, read_labels
    from scripts.evaluation.segmentation import SCORES, Protocol
    from scripts.evaluation.segmenters import load_segmenter
    from util.checkpoint.atomic_files import sha256, write_whole
    from util.errors import UserError, explained_errors, list_names, need, printable
    from util.runtime import seeds
    from util.runtime.device import choose_algorithms, device_of
    from util.runtime.signals import unbreakable_output
except (ImportError, RuntimeError) as error:  # a torchvision made for another torch raises RuntimeError
    sys.exit(f"error: {error}: Python 3.10 or newer is needed, and the packages that scripts/install_deps.sh installs")

SOURCES = {"results": "results", "real": "real photos"}
TITLES = "per-pixel accuracy", "per-class accuracy", "class IoU"
CACHE = 2**30  # bytes of training pairs kept in memory


def main(words: list[str]) -> None:
    """Score the results, print the tables, and write the JSON file."""
    args = parse(words)
    protocol, device = Protocol(args.config), device_of(args.gpu_ids)
    choose_algorithms(sizes_repeat=False, deterministic=True)
    results, numbered = match_label_maps(find_results(args.results, args.side), args.labels, protocol)
    if args.train_fcn:
        read_labels(results[0], protocol)  # an unreadable label map should not cost minutes of training
        args.segmenter = str(train(args, protocol, device))
    segmenter = load_segmenter(args.segmenter, args.weights, len(protocol.names), device)
    counts = count_pixels(results, protocol, segmenter)
    report = make_report(args, protocol, segmenter, counts)
    if numbered and not counts.checked:
        report["notes"].append(
            f"the label maps of {printable(args.labels)} were taken in order, the first as 0: the results have no "
            "coloured label maps to check that"
        )
    write_whole(args.json, json.dumps(report, indent=1) + "\n")
    print_report(report, protocol)
    print(printable(args.json))


# ---- scoring ----


class Counts(NamedTuple):
    """Pixels by true and predicted class."""

    matrices: dict[str, np.ndarray]  # for each of SOURCES: (K, K), rows are the truth
    tallies: dict[str, np.ndarray]  # for each image: (N, 3, K)
    pixels: int
    ignored: int
    far: int  # of the ignored
    checked: int  # label maps that agree with the results' coloured ones


def count_pixels(results: list, protocol: Protocol, segmenter) -> Counts:
    """Segment results and real photos one by one, and compare them with the label maps."""
    classification = need("torchmetrics.classification", "torchmetrics", "scripts/fcn_score.py")
    make = functools.partial(classification.MulticlassConfusionMatrix, len(protocol.names), protocol.ignore_label)
    metrics = {source: make(validate_args=False) for source in SOURCES}  # read_labels validates
    tallies: dict[str, list] = {source: [] for source in SOURCES}
    pixels = ignored = far = checked = 0
    for result in tqdm(results, "scoring", disable=None, leave=False):
        labels = read_labels(result, protocol)
        target, size = torch.from_numpy(labels.array), labels.array.shape[::-1]
        for source, path in (("results", result.fake), ("real", result.real)):
            predicted = segmenter(protocol.prepare(pillow.load(path), size), size)
            tallies[source].append(segmentation.tally(add_image(metrics[source], predicted, target)))
        pixels, far, checked = pixels + target.numel(), far + labels.far, checked + (labels.agreement is not None)
        ignored += int((target == protocol.ignore_label).sum())
    if ignored == pixels:
        raise UserError(f"no pixel of the label maps has a class of {printable(protocol.path)}: nothing can be scored")
    matrices = {source: metric.compute().numpy() for source, metric in metrics.items()}
    tallies = {source: np.stack(rows) for source, rows in tallies.items()}
    return Counts(matrices, tallies, pixels, ignored, far, checked)


def add_image(metric, predicted: torch.Tensor, target: torch.Tensor) -> np.ndarray:
    """Add an image's classes (H, W) to a confusion matrix; return the image's matrix (K, K).

    With use_deterministic_algorithms torchmetrics would build a table of all pixels by all K^2 cells: gigabytes. Its
    default adds integers on the CPU, which is exact too.
    """
    torch.use_deterministic_algorithms(False)
    try:
        return metric(predicted[None], target[None]).numpy()
    finally:
        torch.use_deterministic_algorithms(True)


# ---- the small network of --train_fcn ----


def train(args: argparse.Namespace, protocol: Protocol, device: torch.device) -> Path:
    """Train a small network on the real pairs of the split `train`, save it, and return its file."""
    begin = time.monotonic()
    opt = argparse.Namespace(
        dataroot=str(args.train_fcn), phase="train", direction=args.direction, preprocess="none", load_size=0
    )
    opt.crop_size, opt.no_flip, opt.max_dataset_size, opt.input_nc, opt.output_nc = 0, True, math.inf, 3, 3
    pairs = AlignedDataset(opt)
    size = tuple(protocol.synthesis_size or reversed(pairs[0]["A"].shape[-2:]))
    seeds.seed_all(args.seed, "fcn")
    net = small_fcn.SmallFCN(len(protocol.names), (size[1], size[0])).to(device)
    height, width = net.size.tolist()
    inside = width, height
    drawn, photo = ("A", "B") if args.direction == "AtoB" else ("B", "A")

    @functools.lru_cache(maxsize=max(1, CACHE // (7 * inside[0] * inside[1])))
    def stored(index: int) -> tuple[torch.Tensor, torch.Tensor]:
        item = pairs[index]
        images = {side: Image.fromarray(to_bytes(item[side])) for side in "AB"}
        labels, _ = read_colours(images[drawn], item[f"{drawn}_paths"], protocol, "--direction, --config")
        image = images[photo].resize(size, Image.Resampling.BILINEAR).resize(inside, Image.Resampling.BILINEAR)
        labels = segmentation.resize_nearest(labels, inside).astype(np.int32)
        return torch.from_numpy(np.array(image)).permute(2, 0, 1), torch.from_numpy(labels)

    def item(index: int) -> tuple[torch.Tensor, torch.Tensor]:
        image, labels = stored(index)
        return protocol.normalise(image[None])[0], labels.long()

    bar = functools.partial(tqdm, desc="training", disable=None, leave=False)
    losses = small_fcn.train_fcn(item, len(pairs), net, protocol.ignore_label, bar(range(args.train_steps)), args.seed)
    net.save(args.save)
    first, last = (float(np.mean(part)) for part in (losses[:20], losses[-20:]))
    seconds, steps = time.monotonic() - begin, f"{len(pairs)} pairs in {args.train_steps} steps"
    print(f"trained on {steps}, loss {first:.3f} to {last:.3f}, {seconds:.0f} s: {printable(args.save)}", flush=True)
    return args.save


def to_bytes(image: torch.Tensor) -> np.ndarray:
    """Turn (3, H, W) in [-1, 1] back into the 8-bit (H, W, 3) of its file."""
    return ((image + 1) * 127.5).round().to(torch.uint8).permute(1, 2, 0).numpy()


# ---- the report ----


def make_report(args: argparse.Namespace, protocol: Protocol, segmenter, counts: Counts) -> dict:
    """Return the content of the JSON file."""
    scores = {}
    for source, tallies in counts.tallies.items():
        total = tallies.sum(0)
        accuracy, iou = segmentation.scores_by_class(total)
        named = zip(SCORES, segmentation.scores_with_intervals(tallies), strict=True)
        scores[source] = {name: score._asdict() for name, score in named}
        scores[source]["class_iou_with_absent"] = segmentation.mean_iou_with_absent(total)
        scores[source]["classes"] = {
            name: {"accuracy": number(accuracy[k]), "iou": number(iou[k]), "pixels": int(total[1, k])}
            for k, name in enumerate(protocol.names)
        }
        scores[source]["matrix"] = counts.matrices[source].tolist()
    needs = torch, torchvision, np, sys.modules["torchmetrics"], sys.modules["PIL"]
    return {
        "results": str(args.results),
        "images": len(counts.tallies["results"]),
        "labels": args.labels,
        "config": {"name": protocol.name, "file": str(protocol.path), "sha256": sha256(protocol.path)},
        "segmenter": segmenter.facts,
        "pixels": {"all": counts.pixels, "ignored": counts.ignored, "far_from_every_colour": counts.far},
        "label_maps_checked": counts.checked,
        "scores": scores,
        "notes": notes(protocol, counts, scores),
        "device": str(segmenter.device),
        "versions": {module.__name__: module.__version__ for module in needs},
    }


def notes(protocol: Protocol, counts: Counts, scores: dict) -> list[str]:
    """Return remarks on ignored pixels and absent classes."""
    remarks = []
    if counts.ignored:
        text = f"{counts.ignored / counts.pixels:.1%} of the pixels are not scored"
        far = f", {counts.far / counts.pixels:.1%} because no class's colour is within {protocol.tolerance}"
        remarks.append(text + far * bool(counts.far))
    absent = [name for name, it in scores["results"]["classes"].items() if not it["pixels"]]
    if absent:
        values = ", ".join(f"{SOURCES[source]} {it['class_iou_with_absent']:.3f}" for source, it in scores.items())
        text = f"no label map has {list_names(absent, 3)}, so the means exclude it"
        remarks.append(f"{text}; if predicted absent classes count as 0, class IoU is: {values}")
    return remarks


def number(value: float) -> float | None:
    """Return a number for JSON, which has no nan."""
    return None if math.isnan(value) else float(value)


def print_report(report: dict, protocol: Protocol) -> None:
    """Print the scores with their intervals, the classes, and the remarks."""
    scores = report["scores"]
    network = printable(report["segmenter"]["name"])
    print(f"{report['images']} images, {len(protocol.names)} classes ({protocol.name}), {network}\n")
    print(f"{'':16}" + "".join(f"{title:26}" for title in TITLES).rstrip())
    for source, title in SOURCES.items():
        cells = [f"{it['value']:.3f} ({it['low']:.3f} to {it['high']:.3f})" for it in map(scores[source].get, SCORES)]
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
