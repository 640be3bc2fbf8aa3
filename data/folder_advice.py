"""The words to type when a data folder has no images where the dataset looks for them."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from data.base_dataset import BaseDataset
from data.image_folder import DataNotFound, is_image_file
from util.errors import UserError, near_names, printable
from util.runtime.plugins import find_class
from util.runtime.run_facts import run_facts
from util.runtime.search import Search

BY_FOLDER = ("aligned", "colorization", "template")  # datasets that read the folder <phase>
INPUTS = "a before input inputs source src low noisy label labels sketch x".split()
TARGETS = "b after output outputs target targets truth gt high clean photo photos y".split()
LAYOUTS = "docs/datasets.md has the layouts of data folders"


def open_dataset(opt) -> BaseDataset:
    """Create the dataset that `opt.dataset_mode` names; an error that it finds no images also says what to type."""
    try:
        return find_class("data", opt.dataset_mode, BaseDataset)(opt)
    except DataNotFound as error:
        raise UserError(f"{error} {Advice(opt).text()}".strip()) from error


def quoted(*paths: Path | str) -> str:
    """Write paths as a shell takes them, but for control characters, which are escaped."""
    return printable(shlex.join(map(str, paths)))


class Advice:
    """Looks around a data folder for the images that were meant."""

    def __init__(self, opt):
        self.opt, self.mode, self.phase = opt, opt.dataset_mode, opt.phase
        self.root, self.search = Path(opt.dataroot), Search(500, 0.5)  # `NoImages` has used the other half
        self.is_train, self.typed = getattr(opt, "isTrain", True), run_facts(opt).typed

    def text(self) -> str:
        """Return a sentence with words to type that work; empty if none are known."""
        if self.root.is_file():
            return self.about_file()
        if self.root.is_dir():
            words = next(self.words(self.root), "")
            return f"Type {words}" if words else self.about_two_folders() or LAYOUTS
        there = next(folder for folder in self.root.parents if folder.is_dir())
        missing, *rest = self.root.parts[len(there.parts) :] if there != Path() else self.root.parts
        for name in near_names(missing, [folder.name for folder in self.search.folders(there)], 3):
            near = there / name
            words = next(self.words(near.joinpath(*rest) if near.joinpath(*rest).is_dir() else near), "")
            if words:
                return f"Did you mean {words}?"
        return ""

    def about_file(self) -> str:
        """Return how to translate the image that --dataroot names instead of a folder."""
        folder = self.root.with_suffix("")
        while folder.exists():
            folder = folder.with_name(f"{folder.name}_images")
        if self.is_train or not is_image_file(self.root.name):
            return f"--dataroot is the folder that holds train/, or trainA/ and trainB/; {LAYOUTS}"
        inner, model = (folder / self.phase, "") if self.mode == "colorization" else (folder, self.alone())
        return (
            f"Type mkdir -p {quoted(inner)} && cp {quoted(self.root, inner)}, then --dataroot {quoted(folder)}{model}"
        )

    def words(self, root: Path) -> Iterator[str]:
        """Yield options that find images in or near `root`; those nearest to the typed ones come first."""
        mode, phase, here = self.mode, self.phase, f"--dataroot {quoted(root)}"
        if self.fits(mode, root, phase):
            yield here
        if root.name in (phase, f"{phase}A", f"{phase}B") and self.fits(mode, root.parent, phase):
            yield f"--dataroot {quoted(root.parent)}"
        for other in () if self.is_train else ("val", "train"):
            if other != phase and self.fits(mode, root, other):
                yield f"{here} --phase {other}"
        if mode == "unaligned" and self.fits("aligned", root, phase):
            by_model = self.is_train and "dataset_mode" not in self.typed
            yield f"{here} {'--model pix2pix' if by_model else '--dataset_mode aligned'}"
        if mode == "aligned" and self.is_train and self.fits("unaligned", root, phase):
            yield f"{here} --model cycle_gan" + " --dataset_mode unaligned" * ("dataset_mode" in self.typed)
        yield from () if self.is_train else self.single_words(root)
        images = self.images(root)
        if mode in BY_FOLDER and images and (mode != "aligned" or is_wide(images[0])):
            yield f"--dataroot {quoted(root.parent)} --phase {quoted(root.name)}"
        for inner in self.search.folders(root):
            if self.fits(mode, inner, phase):
                yield f"--dataroot {quoted(inner)}"

    def single_words(self, root: Path) -> Iterator[str]:
        """Yield options that translate the images of one folder by one generator."""
        if self.opt.model not in ("pix2pix", "cycle_gan"):
            return
        for folder in (root / f"{self.phase}A", root / f"{self.phase}B", root):
            side = folder.name[-1] if folder != root or folder.name[:-1] == self.phase else ""
            if self.images(folder) and (self.opt.model == "cycle_gan" or side in ("", self.opt.direction[0])):
                yield f"--dataroot {quoted(folder)}{self.alone(side)}"

    def alone(self, side: str = "") -> str:
        """Return the options that translate single images, of domain A or B if that is known."""
        words = " --model test" * (self.opt.model != "test")
        words += " --dataset_mode single" * ("dataset_mode" in self.typed and self.mode != "single")
        side = side or self.opt.direction[0]
        return words + f" --direction {'AtoB' if side == 'A' else 'BtoA'}" * (self.opt.model == "cycle_gan")

    def about_two_folders(self) -> str:
        """Return how to use two folders of images with other names than A and B, such as before/ and after/."""
        folders = [folder for folder in self.search.folders(self.root) if self.images(folder)]
        if len(folders) != 2 or self.mode not in ("aligned", "unaligned"):
            return ""
        A, B = reversed(folders) if folders[0].name.lower() in TARGETS or folders[1].name.lower() in INPUTS else folders
        if self.same_names(A, B) and (self.mode == "aligned" or not self.typed & {"model", "dataset_mode"}):
            new = self.root.parent / f"{self.root.resolve().name}_AB"
            command = f"python datasets/combine_A_and_B.py --fold_A {quoted(A)} --fold_B {quoted(B)}"
            model = " --model pix2pix" * (self.mode == "unaligned")
            command = f"{command} --fold_AB {quoted(new / self.phase)}, then --dataroot {quoted(new)}{model}"
            return f"{quoted(A.name)} and {quoted(B.name)} hold images of equal names. For pairs type {command}"
        links = [
            quoted("ln", "-s", folder.name, self.root / (self.phase + side)) for folder, side in ((A, "A"), (B, "B"))
        ]
        roles = f"{quoted(A.name)} is A and {quoted(B.name)} is B"
        return f"If {roles}, type {' && '.join(links)}, then the same command again"

    def fits(self, mode: str, root: Path, phase: str) -> bool:
        """Whether a dataset finds images in a data folder."""
        if mode == "single":
            return self.has(root)
        A, B = root / f"{phase}A", root / f"{phase}B"
        if mode != "unaligned" and self.has(root / phase):
            return True
        return (
            mode not in BY_FOLDER[1:] and self.has(A) and self.has(B) and (mode != "aligned" or self.same_names(A, B))
        )

    def has(self, folder: Path) -> bool:
        """Whether a folder or one below it has images."""
        return self.search.count(folder, is_image_file, 1) > 0

    def images(self, folder: Path) -> list[Path]:
        """Return the images in a folder itself."""
        return [entry for entry in self.search.entries(folder) if is_image_file(entry.name) and entry.is_file()]

    def same_names(self, A: Path, B: Path) -> bool:
        """Whether two folders have files of equal names, but for the extension."""
        return bool({path.stem for path in self.images(A)} & {path.stem for path in self.images(B)})


def is_wide(path: Path) -> bool:
    """Whether an image may be two images side by side."""
    try:
        with Image.open(path) as image:
            return image.width >= 1.2 * image.height
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return False
