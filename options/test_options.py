"""Options of translating a test set."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from options.base_options import BaseOptions


class TestOptions(BaseOptions):
    """Options of test.py. What training saved gives the defaults, so that `--name` is enough for an experiment."""

    __test__ = False  # not a test, whatever pytest makes of the name
    saved: dict = {}

    def initialize(self, parser):
        parser = super().initialize(parser)
        g = parser.add_argument_group("testing")
        g.add_argument(
            "--phase", type=str, default="test", help="sub-folder of the data, and part of the results' folder"
        )
        g.add_argument("--results_dir", type=str, default="./results/", help="results go here")
        g.add_argument("--num_test", type=int, default=50, help="translate this many images at most")
        g.add_argument("--eval", action="store_true", help="batch norm by training's statistics, no dropout")
        g.add_argument("--aspect_ratio", type=float, default=1.0, help="stretch results: > 1 taller, < 1 wider")
        g.add_argument("--display_id", type=int, default=-1, help=argparse.SUPPRESS)  # 2018's test.py took it
        parser.set_defaults(model="test", load_size=parser.get_default("crop_size"))
        return parser

    def before_plugins(self, parser):
        folder = Path(self._look(parser, "checkpoints_dir")) / self._look(parser, "name")
        try:
            self.saved = json.loads((folder / "train_opt.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):  # none: networks of the reference project, or a download
            self.saved = {}
        if self.saved:
            parser.set_defaults(model=self.saved.get("model"))

    def after_plugin(self, parser):
        """Take architecture, direction, preprocessing and plug-ins' own options from training."""
        saved = self.saved
        if not saved:
            return
        names = {"netG", "netD", "n_layers_D", "ngf", "ndf", "input_nc", "output_nc", "norm", "no_dropout", "direction"}
        names |= {action.dest for action in parser._actions} - self.own_names
        names |= {"crop_size", "load_size", "preprocess"}
        if self._look(parser, "model") == saved["model"]:
            names.add("dataset_mode")
        parser.set_defaults(**{name: saved[name] for name in names if saved.get(name) is not None})
        whole = {"scale_width_and_crop": "scale_width", "crop": "none"}  # without the random crop
        parser.set_defaults(preprocess=whole.get(saved["preprocess"], saved["preprocess"]))
        if "resize" in saved["preprocess"]:
            parser.set_defaults(load_size=saved["crop_size"])

    def finish(self, opt):
        """Translate images one by one, in order, as they are."""
        if "crop_size" in opt.given and "load_size" not in opt.given and "resize" in opt.preprocess:
            opt.load_size = opt.crop_size
        if opt.seed is None:
            opt.seed = 0
        opt.num_threads, opt.batch_size, opt.serial_batches, opt.no_flip, opt.display_id = 0, 1, True, True, -1
