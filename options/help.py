"""`--help` with the options that most people use, and `--help_all` with all of them."""

from __future__ import annotations

import argparse
import sys

from options.parser import ROOT, Parser, Table
from util.metrics.table import METRICS
from util.runtime.plugins import PACKAGES, TEST_ONLY, available

EXAMPLES = {
    True: "python train.py --dataroot ./datasets/facades --name facades_pix2pix --model pix2pix --direction BtoA",
    False: "python test.py --dataroot ./datasets/facades --name facades_pix2pix --num_test inf",
}
COMMON = "dataroot name model dataset_mode direction netG batch_size preprocess load_size crop_size gpu_ids num_threads"
TRAINING = "n_epochs n_epochs_decay lr continue_train init_from val_freq best_metric save_epoch_freq seed fast"
TESTING = "phase epoch num_test results_dir checkpoints_dir eval ema compare fast"


def add_help(parser: Parser, is_train: bool) -> None:
    """Add `--help` and `--help_all`; they print and exit once the parser meets them."""

    class Help(argparse.Action):
        def __call__(self, parser, opt, values, option_string=None):
            print((all_options if option_string == "--help_all" else usual_options)(parser, is_train), end="")
            parser.exit()

    texts = {"-h -help --help": "show the usual options", "--help_all": "show all options"}
    for flags, text in texts.items():
        parser.add_argument(*flags.split(), action=Help, nargs=0, default=argparse.SUPPRESS, help=text)


def usual_options(parser: Parser, is_train: bool) -> str:
    """Return the text of `--help`."""
    usual = f"{COMMON} {TRAINING if is_train else TESTING}"
    formatter = parser.formatter_class(prog=parser.prog)
    formatter.add_usage(parser.usage, parser._actions, ())
    formatter.start_section("usual options")
    formatter.add_arguments([parser._option_string_actions[f"--{name}"] for name in usual.split()])
    formatter.end_section()
    more = "All options, with those of the chosen model and dataset: --help_all. docs/options.md explains them.\n"
    return f"{formatter.format_help()}\nexample:\n  {EXAMPLES[is_train]}\n\n{values(is_train)}\n{more}"


def all_options(parser: Parser, is_train: bool) -> str:
    """Return the text of `--help_all`."""
    return f"{parser.format_help()}\n{values(is_train)}"


def values(is_train: bool) -> str:
    """List the models and datasets, and explain the values of --preprocess and --best_metric."""
    text = ""
    for package, (kind, flag) in PACKAGES.items():
        folders = getattr(sys.modules.get(package), "__path__", [str(ROOT / package)])
        known = [name for name in available(folders, kind) if not (is_train and name in TEST_ONLY)]
        text += f"{flag} is one of: {', '.join(known)}\n"
    tables = {"--preprocess": Table("data.transforms.PREPROCESS").read()}
    if is_train:
        tables["--best_metric"] = {name: metric.description() for name, metric in METRICS.items()}
    for option, table in tables.items():
        text += f"\n{option}:\n" + "".join(f"  {name:<21} {about}\n" for name, about in table.items())
    return text
