"""Options of training and testing alike, and how a command line becomes `opt`.

`opt` holds options, and `isTrain`, `device` and `gpu_ids` (a list), which plug-ins read; the facts of the run beside
them (words typed, resolved speed) are in `run_facts(opt)`.
"""

from __future__ import annotations

import os
import re
import shlex
import string
import sys
from pathlib import Path

import data
import models
from data import transforms
from models.architecture import Architecture, contradictions, explain_contradiction, summary
from options import rows
from options.help import add_help
from options.legacy import todays_options
from options.parser import Parser, Row, shown, split_words, without
from options.saved import choose_saved, options_text
from util.checkpoint.checkpointer import Checkpointer
from util.checkpoint.run_folder import experiment_folder, record, table_file
from util.checkpoint.sources import options_file, saved_options
from util.errors import UserError, printable, warn
from util.runtime import lock, processes, seeds, threads
from util.runtime.device import choose_device, read_gpu_ids
from util.runtime.run_facts import Options, run_facts, save_fact, saved_facts, set_facts
from util.speed import plan


class BaseOptions:
    """Options of the command line, or of `argv` in a notebook.

    Precedence: the command line, the networks' files, the saved options of the run, the dataset's defaults, the
    model's, this phase's.
    """

    isTrain = False
    begins = False  # whether a run follows, see parse
    forced: tuple[str, ...] = ()  # options that this phase sets itself, unless they are typed

    def __init__(self, argv: list[str] | str | None = None):
        self.argv = split_words(argv) if isinstance(argv, str) else argv

    def initialize(self, parser: Parser) -> Parser:
        """Add the options of both phases."""
        rows.add_common(parser)
        return parser

    # ---- parsing ----

    def parse(self, begin: bool = True):
        """Parse, check, print and save the options; return them.

        Without `begin` the options are neither printed nor saved, and no lock is taken.
        """
        self.begins = begin
        opt = self.gather_options()
        opt.isTrain = self.isTrain
        self.finish(opt)
        self.check(opt)
        for note in self.notes if processes.is_main() else ():
            print(note)
        if opt.seed is None:
            opt.seed = processes.from_main(seeds.draw_seed())  # one for all of torchrun's processes
        ids = self.read_gpu_ids(opt)
        if self.locks():
            lock.claim(experiment_folder(opt))
        device = choose_device(ids)
        speed, messages = plan.choose(opt, device, self.saved.get("speed") if self.isTrain else None)
        set_facts(opt, speed=speed, differing=self.differing(opt), locks=self.locks())
        set_facts(opt, table=options_text(opt, self.parser))
        messages += threads.keep(opt, self.saved) if self.isTrain else []
        if begin:
            self.print_options(opt)
        for line in messages if processes.is_main() else ():
            print(line)
        opt.device = device
        opt.gpu_ids = [device.index] if device.type == "cuda" else []
        return opt

    def locks(self) -> bool:
        """Whether this run keeps others out of its folder. A notebook, which gives argv, would do so for good."""
        return self.begins and self.isTrain and self.argv is None

    def gather_options(self) -> Options:
        """Parse the command line. Files are read here alone: their values become the defaults."""
        self.words = sys.argv[1:] if self.argv is None else self.argv
        self.notes: list[str] = []  # to be printed
        self.saved: dict = {}
        # 1. The options of the model and the dataset that the command line names.
        opt = self._make_parser().parse_leniently(self.words)
        name = self._full_name(opt)
        folder = Path(opt.checkpoints_dir) / name
        # 2. The options that the run was trained with, and the architecture of its networks' files.
        typed, self.words = self.words, self.words_of_start(opt, folder)
        if typed != self.words:
            opt = self.parser.parse_leniently(self.words)
        self.saved = self.read_saved(opt, folder)
        if self.saved:
            opt = self._make_parser().parse_leniently(self.words)
        self.architecture = self.read_networks(opt, Checkpointer(folder))
        self._take_architecture(opt)
        # 3. The command line.
        add_help(self.parser, self.isTrain)
        opt = self.parser.parse_args(self.parser.todays_words(self.words), Options())
        paired = data.find_dataset_using_name(opt.dataset_mode).is_paired()
        set_facts(opt, words=tuple(typed), typed=self.parser.typed(self.words), paired=paired)
        save_fact(opt, "paired", paired)
        # A run saved by an earlier version keeps reading images as they are stored, without EXIF's orientation.
        save_fact(opt, "exif_orientation", saved_facts(self.saved).get("exif_orientation", not self.saved))
        if sides := saved_facts(self.saved).get("sides"):  # types and ranges of values
            save_fact(opt, "sides", sides)
        opt.name = name
        return opt

    def _make_parser(self) -> Parser:
        """Make the parser of all options; `self.saved` gives defaults."""
        self.parser = parser = self.initialize(Parser())
        self.usual = {}  # the defaults without saved options
        if self.saved:
            parser.set_defaults(model=self.saved["model"])
        for option, setter_of in (("model", models.get_option_setter), ("dataset_mode", data.get_option_setter)):
            self.parser = parser = parser.add_chosen(option, self.words, self.isTrain, setter_of)
            self.usual = {**parser.defaults(), **self.usual}
            if self.saved:
                names = {name for name in parser.defaults() if self.takes(parser.rows.get(name))}
                parser.set_defaults(**self.defaults_from_saved(choose_saved(self.saved, names, parser)))
        return parser

    def _full_name(self, opt) -> str:
        """Return the experiment's name with its suffix filled in."""
        if not opt.name:
            self.parser.error("--name is empty: it names the experiment's folder")
        try:
            if any(re.search(r"{|\d{3}", spec or "") for _, _, spec, _ in string.Formatter().parse(opt.suffix)):
                raise ValueError("a width of more than 99")
            return f"{opt.name}_{opt.suffix.format(**vars(opt))}" if opt.suffix else opt.name
        except (KeyError, ValueError, IndexError, AttributeError) as error:
            self.parser.error(f"--suffix {opt.suffix}: {{braces}} must hold the names of options; the error is {error}")

    # ---- hooks of the phases ----

    def words_of_start(self, opt, folder: Path) -> list[str]:
        """Return the command line, or the one that it stands for in this experiment's folder."""
        return self.words

    def takes(self, row: Row | None) -> bool:
        """Whether this phase takes a saved option. A plug-in's option has no row and is taken."""
        raise NotImplementedError

    def defaults_from_saved(self, saved: dict) -> dict:
        """Adapt the saved options that this phase takes."""
        return saved

    def read_saved(self, opt, folder: Path) -> dict:
        """Return the options that a run was trained with; empty where this phase does not use them."""
        saved, file = saved_options(folder), options_file(folder)
        if not saved and file.exists():
            other = " or not of train.py" * (file.suffix == ".txt")
            warn(f"{file} is damaged{other} and not used: type the options of the training run")
        return todays_options(saved)

    def read_networks(self, opt, checkpoints: Checkpointer) -> Architecture:
        """Return the architecture of the networks to load, as far as their files show it."""
        return Architecture()

    def finish(self, opt) -> None:
        """Set values that follow from others."""

    # ---- architecture ----

    def _take_architecture(self, opt) -> None:
        """Make defaults of the values that the networks' files show, and note where these win over saved ones."""
        found, files = self.architecture.options, self.architecture.files
        saved = {name: self.saved[name] for name in found if name in self.saved}
        for name in contradictions(saved, {name: found[name] for name in saved}):
            self.notes.append(f"{files[name]} wins over the saved options: {name} is {found[name]}, not {saved[name]}")
        defaults = self.parser.defaults()
        wrong = contradictions(defaults, {name: value for name, value in found.items() if name in defaults})
        self.parser.set_defaults(**{name: found[name] for name in wrong})

    # ---- checking ----

    def check(self, opt) -> None:
        """End with a message if a value can't work; it names one that can."""
        typed, found = run_facts(opt).typed, self.architecture.options
        used = (("model", opt.model in models.BUILT_IN), ("dataset", opt.dataset_mode in data.BUILT_IN))
        plugins = {kind for kind, built_in in used if not built_in}
        self.parser.check(opt, typed, plugins)
        if "dataset" not in plugins:
            try:
                transforms.check(opt.preprocess, opt.load_size, opt.crop_size)
            except UserError as error:
                self.parser.error(str(error))
        if opt.dataset_mode == "single" and opt.model != "test" and opt.model in models.BUILT_IN:
            right = "--dataset_mode aligned for pairs, or unaligned" if self.isTrain else "--model test"
            self.parser.error(f"--dataset_mode single has no images B, which --model {opt.model} needs: type {right}")
        wrong = [name for name in contradictions(vars(opt), found) if name in typed]
        if wrong:
            texts = [explain_contradiction(name, getattr(opt, name), self.architecture) for name in wrong]
            self.parser.error("\n".join(texts))
        if "netG" in found and not self.saved:
            self.notes.append(summary(opt, self.architecture))

    def read_gpu_ids(self, opt) -> list[int]:
        """Read --gpu_ids; print that the run uses the CPU where a GPU was asked for."""
        try:
            ids = read_gpu_ids(opt.gpu_ids)
        except UserError as error:
            self.parser.error(str(error))
        if len(ids) > 1 and self.isTrain and "LOCAL_RANK" not in os.environ:
            words = shlex.join(without(self.words, "--gpu_ids"))
            self.parser.error(
                f"--gpu_ids {opt.gpu_ids}: each GPU needs its own process, with its own batch of --batch_size. Type\n"
                f"  CUDA_VISIBLE_DEVICES={opt.gpu_ids} torchrun --standalone --nproc_per_node {len(ids)} train.py "
                + words
            )
        if ids and choose_device(ids).type == "cpu" and processes.is_main():
            print("no CUDA GPU here: running on the CPU (--gpu_ids -1 asks for that)")
        return ids

    # ---- printing and saving ----

    def differing(self, opt) -> dict[str, tuple]:
        """Return the options that differ from their defaults, except forced ones: name -> (value, default)."""
        forced = {*self.forced} - run_facts(opt).typed
        values = {name: (getattr(opt, name), usual) for name, usual in sorted(self.usual.items()) if name not in forced}
        return {name: both for name, both in values.items() if both[0] != both[1]}

    def print_options(self, opt) -> None:
        """Print the options that differ from their defaults; save all of them in the experiment's folder."""
        if not processes.is_main():
            return
        saves = self.isTrain or experiment_folder(opt).is_dir()  # loading the networks of a missing one raises an error
        print(f"options that differ from their defaults{f', all in {printable(table_file(opt))}' if saves else ''}:")
        for name, (value, usual) in run_facts(opt).differing.items():
            print(f"{name:>25}: {printable(value):<30}\t[default: {shown(usual)}]")
        if saves and not self.isTrain:  # a training run writes them when it begins
            record(opt)
