"""All options of train.py and test.py, one row each; those of a model or a dataset are in its file.

Nothing here imports PyTorch, which takes seconds: options/first_look.py answers `--help` before that.
"""

from __future__ import annotations

import argparse
import math
import os

from options.parser import Parser, Table, size_or_inf
from util.metrics.table import METRICS


def add_common(parser: Parser) -> None:
    """Add the options of both programs (one row each, which makes this function long)."""
    add = parser.section("run")
    add("--dataroot", None, "folder of the images (docs/datasets.md)", required=True, resume=False)
    add("--name", "experiment_name", "name of the experiment and of its folders", resume=False)
    add("--checkpoints_dir", "./checkpoints", "folder of the experiments: networks, logs, pages", resume=False)
    add("--gpu_ids", "0", "GPU to use; -1: the CPU. Several GPUs: torchrun", resume=False)
    add("--seed", None, "seed of all random draws (default: drawn and printed)", type=int, new=True)
    add("--deterministic", False, "the same bits in every run on one GPU, slower", new=True)
    add("--suffix", "", "added to the name, e.g. {model}_{netG}_size{load_size}", resume=False)
    add("--verbose", False, "print the networks' structure", resume=False)

    add = parser.section("model")
    add("--model", "cycle_gan", "a file models/[model]_model.py")
    of_G, of_D = ({"network": network, "free_for": "model"} for network in "GD")
    add("--netG", "resnet_9blocks", "generator", values=Table("models.networks.GENERATORS"), **of_G)
    add("--netD", "basic", "discriminator (basic is 70x70)", values=Table("models.networks.DISCRIMINATORS"), **of_D)
    layers = "layers of netD n_layers; 1 2 3 5 see 16 34 70 286 pixels"
    add("--n_layers_D", 3, layers, at_least=1, at_most=12, **of_D)
    add("--ngf", 64, "width of the generator's first layer", at_least=1, at_most=65536, **of_G)
    add("--ndf", 64, "width of the discriminator's first layer", at_least=1, at_most=65536, **of_D)
    add("--input_nc", 3, "channels of A: 3 for colour, 1 for grey", at_least=1, network="G")
    add("--output_nc", 3, "channels of B: 3 for colour, 1 for grey", at_least=1, network="G")
    add("--norm", "instance", "normalisation", values=Table("models.networks.NORMS"), **of_G)
    add("--no_dropout", False, "no dropout in the generator", network="G")
    add("--init_type", "normal", "initialisation", values=Table("models.networks.INITS"), free_for="model")
    add("--init_gain", 0.02, "scale of normal, xavier and orthogonal", at_least=0)
    add("--epoch", "latest", "which checkpoint to load", resume=False)
    add("--load_iter", 0, "load the checkpoint iter_[load_iter] if above 0", resume=False)

    add = parser.section("data")
    add("--dataset_mode", "unaligned", "a file data/[dataset_mode]_dataset.py", test=True)
    add("--direction", "AtoB", "", values=("AtoB", "BtoA"), free_for="dataset", test=True)
    add("--batch_size", 1, "images per step (of each process under torchrun)", at_least=1)
    most = max(64, 4 * (os.cpu_count() or 1))
    add("--num_threads", 4, "processes that load images; 0: the main process", at_least=0, at_most=most)
    add("--serial_batches", False, "images in order, not shuffled")
    add(
        "--preprocess",
        "resize_and_crop",
        "resizing",
        values=Table("data.transforms.PREPROCESS"),
        free_for="dataset",
        test=True,
    )
    add("--load_size", 286, "resize images to this size", at_least=1, test=True)
    add("--crop_size", 256, "then crop them to this size", at_least=1, test=True)
    add("--no_flip", False, "no random left-right flips")
    side = {"nargs": "+", "metavar": "SIDE", "test": True, "new": True}
    add("--value_range", None, "values that become black and white: A=0,4095 B=dtype; A=p1,99: percentiles", **side)
    add("--labels", None, "sides that are label maps: A=20 classes, or A=colors.json", **side)
    volumes = "of volumes: K[,AXIS] neighbouring slices are channels; 1: single slices"
    add("--slices", "", volumes, metavar="K", test=True, new=True)
    stack = "folders F1,F2 with further channels of A, in images of the same names"
    add("--stack_A", "", stack, metavar="FOLDERS", test=True, new=True)
    add("--max_dataset_size", math.inf, "use this many images at most", type=size_or_inf)

    add = parser.section("speed", "docs/performance.md has the gain and the cost of each")
    add("--fast", False, "the fastest known choices for this model and machine, printed at the start", new=True)
    add("--precision", "fp32", "arithmetic within networks", values=Table("util.speed.precision.DTYPES"), new=True)

    add = parser.section("display")
    add("--display_winsize", 256, "width of images on the pages", at_least=1)
    add("--use_wandb", False, "log to Weights & Biases")
    add("--wandb_project_name", "CycleGAN-and-pix2pix", "its project")
    parser.group = None  # a plug-in may add more by argparse's own methods


def add_training(parser: Parser) -> None:
    """Add the options of train.py."""
    add = parser.section("training")
    add("--phase", "train", "sub-folder of the data")
    add("--n_epochs", 100, "epochs with the initial learning rate", at_least=0)
    add("--n_epochs_decay", 100, "epochs in which it falls to zero", at_least=0)
    auto = {"nargs": "?", "const": True, "type": str, "choices": ["auto"], "metavar": "auto"}
    add(
        "--continue_train",
        False,
        "resume at the last checkpoint; auto: or start if there is none",
        resume=False,
        **auto,
    )
    add("--epoch_count", 1, "number of the first epoch", at_least=1, resume=False)
    start = "start with the weights of another experiment, or of a .pth file"
    add("--init_from", "", start, resume=False, new=True)
    add("--gan_mode", "lsgan", "objective", values=Table("models.losses.GAN_MODES"), free_for="model")
    add("--pool_size", 50, "generated images kept for the discriminator", at_least=0)
    add("--grad_accum", 1, "batches whose gradients make one step of the optimizers", at_least=1, new=True)
    add("--ema", 0.0, "average the generators' weights, e.g. 0.999; 0: off", at_least=0, below=1, new=True)
    add("--lr", 0.0002, "initial learning rate of Adam", at_least=0)
    add("--beta1", 0.5, "momentum of Adam", at_least=0, below=1)
    add("--lr_policy", "linear", "learning rate", values=Table("models.schedulers.POLICIES"), free_for="model")
    add("--lr_decay_iters", 50, "for lr_policy step: divide by 10 each N epochs", at_least=1)

    add = parser.section("memory")
    add("--grad_checkpoint", False, "less memory for large images, slower steps", new=True)
    add("--cache", False, "keep decoded images in memory", new=True)

    add = parser.section("saving", "all counts are images, unless they say epochs")
    add("--save_latest_freq", 5000, "save the latest networks each N images")
    add("--save_epoch_freq", 5, "save the epoch's networks each N epochs", at_least=1)
    add("--save_by_iter", False, "name periodic checkpoints iter_N instead of latest")

    add = parser.section("validation", "measures on the split `val`, whose images training never sees")
    add("--val_freq", 0, "measure each N epochs; 0: never", at_least=0, new=True)
    best = "metric that decides which epoch is kept as `best`"
    add("--best_metric", None, best, values=METRICS, free_for="model", new=True)
    add("--early_stop", 0, "stop after N epochs without a new best; 0: off", at_least=0, new=True)

    add = parser.section("progress", "all counts are images")
    add("--print_freq", 100, "print and log the losses each N images")
    add("--display_freq", 400, "show images each N images")
    add("--update_html_freq", 1000, "add to the web page each N images")
    add("--no_html", False, "no web page")
    add("--use_tensorboard", False, "log to TensorBoard", new=True)
    add("--display_id", 1, "visdom window; -1: no visdom")
    add("--display_server", "http://localhost", "visdom server, used if it answers")
    add("--display_port", 8097, "visdom port", at_least=1, at_most=2**16 - 1)
    add("--display_env", "main", "visdom environment")
    add("--display_ncols", 4, "visdom images per row; 0: a window each")
    parser.group = None


def add_testing(parser: Parser) -> None:
    """Add the options of test.py, and change defaults of others."""
    add = parser.section("testing")
    add("--phase", "test", "sub-folder of the data, and part of the results' folder")
    add("--results_dir", "./results/", "folder of the results")
    add("--num_test", 50, "translate this many images at most; inf: all", type=size_or_inf)
    add("--eval", False, "batch norm with the statistics of training, no dropout")
    add("--ema", False, "use the averaged weights that training's --ema saved", new=True)
    add("--aspect_ratio", 1.0, "stretch results: > 1 taller, < 1 wider", at_least=0.01, at_most=100)
    others = "folders of other results, shown beside these"
    add("--compare", None, others, nargs="+", metavar="FOLDER", new=True)
    add("--display_id", -1, argparse.SUPPRESS)  # an option of test.py in 2018
    parser.group = None
    parser.set_defaults(model="test", load_size=parser.get_default("crop_size"))
