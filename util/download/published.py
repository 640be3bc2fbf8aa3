"""The papers' datasets and networks: `python -m util.download.published KIND NAME` fetches one.

The scripts datasets/download_*.sh and scripts/download_*.sh call it. Environment variables: BASE_URL, another server
with the same files; STALL_SECONDS and MOST_MEGABYTES, the limits of a transfer.
"""

from __future__ import annotations

import os
import signal
import sys
import zipfile
from functools import partial
from pathlib import Path

from util.download.archive import unpack
from util.download.transfer import ContentError, DownloadError, fetch
from util.runtime.file_kinds import HEAD, kind_of

SERVER = "http://efrosgans.eecs.berkeley.edu/"
CYCLEGAN_DATASETS = """apple2orange summer2winter_yosemite horse2zebra monet2photo cezanne2photo ukiyoe2photo
    vangogh2photo maps cityscapes facades iphone2dslr_flower ae_photos mini mini_pix2pix mini_colorization"""
CYCLEGAN_MODELS = """apple2orange orange2apple summer2winter_yosemite winter2summer_yosemite horse2zebra zebra2horse
    monet2photo style_monet style_cezanne style_ukiyoe style_vangogh sat2map map2sat cityscapes_photo2label
    cityscapes_label2photo facades_photo2label facades_label2photo iphone2dslr_flower"""
KINDS = {  # the folder on the server, the suffix of the files there, and their names
    "cyclegan_dataset": ("cyclegan/datasets", ".zip", CYCLEGAN_DATASETS),
    "pix2pix_dataset": ("pix2pix/datasets", ".tar.gz", "night2day edges2handbags edges2shoes facades maps cityscapes"),
    "cyclegan_model": ("cyclegan/pretrained_models", ".pth", CYCLEGAN_MODELS),
    "pix2pix_model": ("pix2pix/models-pytorch", ".pth", "edges2shoes sat2map map2sat facades_label2photo day2night"),
    "fcn8s": ("pix2pix_extra", ".caffemodel", "fcn-8s-cityscapes"),
}
CITYSCAPES = """Cityscapes' licence does not let others distribute it.
1. Register at https://www.cityscapes-dataset.com and download gtFine_trainvaltest.zip and
   leftImg8bit_trainvaltest.zip; unpack both.
2. python datasets/prepare_cityscapes_dataset.py --gtFine_dir ./gtFine --leftImg8bit_dir ./leftImg8bit \\
     --output_dir ./datasets/cityscapes
That makes the pairs (train, test) for pix2pix and the two domains (trainA, trainB, testA, testB) for CycleGAN."""


def main(kind: str, *words: str) -> None:
    """Fetch one published file into its folder, and print the command to type next."""
    name = choose(kind, words)
    if name == "cityscapes":
        print(CITYSCAPES)
        sys.exit(1)
    folder, suffix, _ = KINDS[kind]
    url = os.environ.get("BASE_URL", SERVER + folder).rstrip("/") + f"/{name}{suffix}"
    paper, _, thing = kind.partition("_")
    if thing == "dataset":
        fetch_dataset(paper, url, name)
    elif thing == "model":
        fetch_network(paper, url, name)
    elif not is_there(file := Path("scripts/eval_cityscapes/caffemodel", name + suffix)):
        fetch(url, file.with_name(f"{file.name}.part"), partial(put_weights, file=file, first=b"\x0a\x12"))


def choose(kind: str, words: tuple[str, ...]) -> str:
    """Return the one word if it is a name of this kind; else list the names and exit."""
    names = KINDS[kind][2].split()
    if kind == "fcn8s" and not words:
        return names[0]
    if len(words) == 1 and words[0] in names:
        return words[0]
    wrong = "which one?" if not words else f"no file is called {words[0]!r}" if len(words) == 1 else "one at a time"
    folder = "datasets" if kind.endswith("dataset") else "scripts"
    print(f"error: {wrong}\nusage: bash {folder}/download_{kind}.sh NAME\nNAME is one of:", file=sys.stderr)
    sys.exit("\n".join(f"  {name}" for name in names))


def fetch_dataset(paper: str, url: str, name: str) -> None:
    """Fetch a dataset. The two of one name share a folder: pix2pix's has `train`, CycleGAN's has `trainA`."""
    split, model = {"cyclegan": ("trainA", "cycle_gan"), "pix2pix": ("train", "pix2pix")}[paper]
    folder = Path("datasets", name)
    if not is_there(folder / split if name in ("facades", "maps") else folder):
        fetch(url, Path("datasets", f"{url.rpartition('/')[2]}.part"), partial(unpack, folder=folder))
        print(f"{folder} holds: {' '.join(sorted(os.listdir(folder)))}")  # noqa: PTH208
    direction = " --direction BtoA" if (paper, name) == ("pix2pix", "facades") else ""  # labels to photos
    if not name.startswith(("mini_", "ae_photos")):
        print(f"next: python train.py --dataroot ./{folder} --name {name}_{paper} --model {model}{direction}")


def fetch_network(paper: str, url: str, name: str) -> None:
    """Fetch a generator. Both papers publish some under one name, so origin.txt beside the file names the paper."""
    file = Path("checkpoints", f"{name}_pretrained", "latest_net_G.pth")
    origin = file.with_name("origin.txt")
    if file.exists() and origin.exists() and (other := origin.read_text().split()[0]) != paper:
        raise DownloadError(f"{file} is another network ({other}); move its folder away first")
    if not is_there(file):
        fetch(url, Path("checkpoints", f"{paper}_{name}.pth.part"), partial(put_weights, file=file, first=b"\x80"))
        origin.write_text(f"{paper}\n{url}\n")
    data = "FOLDER_OF_IMAGES" if paper == "cyclegan" else "FOLDER_OF_PAIRS --model pix2pix"
    direction = " --direction BtoA" if (paper, name[:7]) in (("pix2pix", "facades"), ("pix2pix", "map2sat")) else ""
    print(f"next: python test.py --dataroot {data}{direction} --name {name}_pretrained")


def put_weights(part: Path, file: Path, first: bytes) -> None:
    """Rename `part` to `file`; ContentError unless its first byte is one of `first`, or it is a zip that is whole.

    PyTorch's checkpoints are zips since version 1.6.
    """
    with part.open("rb") as opened:
        head = opened.read(HEAD)
    try:
        whole = head[:1] in first or zipfile.ZipFile(part).testzip() is None
        sound = whole and kind_of(head) != "a web page"
    except Exception:  # zipfile raises many types on broken data
        sound = False
    if not head or not sound:
        raise ContentError("it is no network, or broken")
    file.parent.mkdir(parents=True, exist_ok=True)
    part.rename(file)


def is_there(path: Path) -> bool:
    """Return whether a file, a folder or a link is there, and print that it is kept."""
    if found := os.path.lexists(path):
        print(f"{path} is there already; it was left as it is (to fetch it again, move it away first)")
    return found


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # an exception, so that half-unpacked files are removed
    try:
        main(*sys.argv[1:])
    except (DownloadError, OSError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
