"""The command line: every option and default of the reference, precedence, prefixes, old names, refusals, files."""

from __future__ import annotations

import json
import math
import re

import pytest
from conftest import ROOT, refused, type_command

from data.transforms import PREPROCESS
from options.legacy import modernise
from options.parser import split_words
from options.test_options import TestOptions as TestingOptions
from options.train_options import TrainOptions
from util.checkpoint.run_folder import begin
from util.metrics.table import METRICS
from util.runtime.run_facts import run_facts, with_values

BASE = {
    "name": "experiment_name", "gpu_ids": "0", "checkpoints_dir": "./checkpoints", "input_nc": 3, "output_nc": 3,
    "ngf": 64, "ndf": 64, "netD": "basic", "netG": "resnet_9blocks", "n_layers_D": 3, "norm": "instance",
    "init_type": "normal", "init_gain": 0.02, "no_dropout": False, "dataset_mode": "unaligned", "direction": "AtoB",
    "serial_batches": False, "num_threads": 4, "batch_size": 1, "load_size": 286, "crop_size": 256,
    "max_dataset_size": math.inf, "preprocess": "resize_and_crop", "no_flip": False, "display_winsize": 256,
    "epoch": "latest", "load_iter": 0, "verbose": False, "suffix": "", "use_wandb": False,
    "wandb_project_name": "CycleGAN-and-pix2pix",
}  # fmt: skip
TRAIN = {
    "display_freq": 400, "display_ncols": 4, "display_id": 1, "display_server": "http://localhost",
    "display_env": "main", "display_port": 8097, "update_html_freq": 1000, "print_freq": 100, "no_html": False,
    "save_latest_freq": 5000, "save_epoch_freq": 5, "save_by_iter": False, "continue_train": False, "epoch_count": 1,
    "phase": "train", "n_epochs": 100, "n_epochs_decay": 100, "beta1": 0.5, "lr": 0.0002, "gan_mode": "lsgan",
    "pool_size": 50, "lr_policy": "linear", "lr_decay_iters": 50,
}  # fmt: skip
PIX2PIX = {"norm": "batch", "netG": "unet_256", "dataset_mode": "aligned"}
TRAIN_PIX2PIX = {**PIX2PIX, "pool_size": 0, "gan_mode": "vanilla", "lambda_L1": 100.0}
COLOUR = {"dataset_mode": "colorization", "input_nc": 1, "output_nc": 2}
TEST = {
    "results_dir": "./results/", "aspect_ratio": 1.0, "phase": "test", "eval": False, "num_test": 50,
    "load_size": 256, "num_threads": 0, "batch_size": 1, "serial_batches": True, "no_flip": True,
}  # fmt: skip


pytestmark = pytest.mark.usefixtures("away")


def train(line=""):
    """Parse the options of a run, and give it its folder, as its first step does."""
    opt = TrainOptions(f"--dataroot D {line}").parse()
    begin(opt)
    return opt


def parse_test(line=""):
    return TestingOptions(f"--dataroot D {line}").parse()


def raw(options, line):
    """Parse without setting values that follow from others."""
    return vars(options(f"--dataroot D {line}").gather_options())


# ---- names and defaults ----


@pytest.mark.parametrize(
    ("line", "changes"),
    [
        ("", {"no_dropout": True, "lambda_A": 10.0, "lambda_B": 10.0, "lambda_identity": 0.5}),
        ("--model pix2pix", TRAIN_PIX2PIX),
        ("--model colorization", {**TRAIN_PIX2PIX, **COLOUR}),
        ("--model template", {"dataset_mode": "aligned", "lambda_regression": 1.0}),
        ("--dataset_mode template", {"dataset_mode": "template", "max_dataset_size": 10, "new_dataset_option": 2.0}),
    ],
)
def test_training_has_the_reference_s_options_and_defaults(line, changes):
    expected = {**BASE, "model": line.split()[-1] if "--model" in line else "cycle_gan", **TRAIN, **changes}
    if "template" in line:  # the reference's template model ignores these two
        del expected["norm"], expected["no_dropout"]
    parsed = raw(TrainOptions, line)
    assert {name: parsed[name] for name in expected} == expected
    assert {name: type(parsed[name]) for name in expected} == {name: type(value) for name, value in expected.items()}


@pytest.mark.parametrize(
    ("line", "changes"),
    [
        ("", {"model": "test", "dataset_mode": "single", "model_suffix": ""}),
        ("--model cycle_gan", {"model": "cycle_gan", "no_dropout": True}),
        ("--model pix2pix", {"model": "pix2pix", **PIX2PIX}),
        ("--model colorization", {"model": "colorization", **PIX2PIX, **COLOUR}),
    ],
)
def test_testing_has_the_reference_s_options_and_defaults(line, changes):
    opt = vars(parse_test(line))
    expected = {**BASE, **TEST, **changes, "gpu_ids": []}
    assert {name: opt[name] for name in expected} == expected


def test_the_whole_count_of_options_stays_below_95():
    names = set()
    for model in ("pix2pix", "cycle_gan", "colorization", "template"):
        names |= set(raw(TrainOptions, f"--model {model}"))
    for model in ("test", "pix2pix"):
        names |= set(raw(TestingOptions, f"--model {model}"))
    assert names >= {*BASE, *TRAIN, *TEST}
    assert len(names) < 95


def test_the_command_line_wins_over_the_dataset_s_default_over_the_model_s():
    for line, norm, size in (("", "batch", 10), ("--norm instance --max_dataset_size inf", "instance", math.inf)):
        opt = train(f"--model pix2pix --dataset_mode template {line}")
        assert (opt.norm, opt.max_dataset_size) == (norm, size)


def test_a_line_is_split_as_a_shell_does_and_on_windows_keeps_backslashes():
    assert parse_test(r"--dataroot 'my photos' --results_dir a\ b").dataroot == "my photos"
    assert split_words(r"--name 'a b' c\ d", windows=False) == ["--name", "a b", "c d"]
    assert split_words(r'--dataroot "C:\my photos\new" D:\#x', windows=True) == [
        "--dataroot",
        r"C:\my photos\new",
        r"D:\#x",
    ]


def test_prefixes_mean_the_reference_s_options_first():
    opt = train("--batch 2 --mod pix2pix --lambda_L=7 --se --direc BtoA --n_epochs_d 3")
    assert (opt.batch_size, opt.model, opt.lambda_L1, opt.serial_batches) == (2, "pix2pix", 7.0, True)
    assert (opt.direction, opt.n_epochs_decay) == ("BtoA", 3)


def test_names_of_earlier_years_work():
    for old, new in (
        ("--batchSize 4 --nThreads 2", {"batch_size": 4, "num_threads": 2}),
        ("--which_model_netG unet_128 --which_model_netD pixel", {"netG": "unet_128", "netD": "pixel"}),
        ("--which_direction BtoA --which_epoch 7", {"direction": "BtoA", "epoch": "7"}),
        ("--loadSize=40 --fineSize 32 --resize_or_crop crop", {"load_size": 40, "crop_size": 32, "preprocess": "crop"}),
        ("--niter 3 --niter_decay 4", {"n_epochs": 3, "n_epochs_decay": 4}),
        ("--no_lsgan --lr_policy lambda", {"gan_mode": "vanilla", "lr_policy": "linear"}),
        ("--model pix2pix --lambda_A 50", {"lambda_L1": 50.0}),
        ("--model cycle_gan --lambda_A 50", {"lambda_A": 50.0}),
        ("--norm sync_batch", {"norm": "syncbatch"}),
        ("--norm=sync_instance --ntest 3", {"norm": "instance"}),
    ):
        opt = vars(train(old))
        assert {name: opt[name] for name in new} == new
    assert parse_test("--how_many 7 --ntest 3 --display_id -1").num_test == 7


def test_a_plug_in_s_option_is_not_taken_for_an_old_name():
    words = ["--niter", "3", "--no_lsgan"]
    assert modernise(words, {"niter", "no_lsgan", "n_epochs"}, set()) == words


# ---- help ----


def printed(capsys, options, line):
    """Return what a command line prints that ends with exit status 0."""
    with pytest.raises(SystemExit) as stop:
        options(line).parse()
    assert stop.value.code == 0
    return " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("options", [TrainOptions, TestingOptions])
def test_help_has_twenty_options_with_defaults_and_an_example_and_the_names_that_can_be_chosen(options, capsys):
    text = printed(capsys, options, "-h --model pix2pix")
    shown = set(re.findall(r" --(\w+) ", text.split("example:")[0]))
    assert 18 <= len(shown & raw(options, "").keys()) <= 24
    assert text.count("(default:") + text.count("(required)") >= len(shown) - 2
    assert "(default: unet_256)" in text
    example = re.search(r"example: python \w+.py (.*?) --model is one of", text)[1]
    options(example).parse(begin=False)
    assert ("pix2pix, template, test" in text) == (options is TestingOptions)
    assert "aligned, colorization" in text
    for name in (*PREPROCESS, *(METRICS if options is TrainOptions else ())):
        assert re.search(rf" {name} \w+ \w+", text.split("is one of:")[-1]), name


def test_all_options_of_the_chosen_model_and_dataset_are_listed_by_help_all(capsys):
    text = printed(capsys, TrainOptions, "--help_all --model pix2pix --dataset_mode template")
    for name in raw(TrainOptions, "--model pix2pix --dataset_mode template").keys() - {"isTrain"}:
        assert f" --{name} " in text, name
    assert "model pix2pix: --lambda_L1 " in text
    assert "(default: 2.0)" in text.split("dataset_mode template: ")[1]
    assert "--lambda_identity" not in text


# ---- refusals ----


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("--netG resnet_9block", "Did you mean 'resnet_9blocks'"),
        ("--netD baisc", "--netD baisc: allowed: basic, n_layers, pixel. Did you mean 'basic'"),
        ("--gan_mode wgan", "Did you mean 'wgangp'"),
        ("--direction AToB", "Did you mean 'AtoB'"),
        ("--n_e 3", "Did you mean --n_epochs or --n_epochs_decay?"),
        ("--frobnicate", "unknown option --frobnicate; --help lists"),
        ("--datarot D", "Did you mean --dataroot?"),
        ("--crop_szie 64", "Did you mean --crop_size?"),
        ("--n-epochs 3", "Did you mean --n_epochs?"),
        ("--epochs 3", "Did you mean --n_epochs?"),
        ("--nepoch 3", "Did you mean --n_epochs?"),
        ("\u2014model pix2pix", "(with one long dash, not two hyphens). Did you mean --model?"),
        ("\u2013model pix2pix", "(with one long dash, not two hyphens). Did you mean --model?"),
        ("-gpu_ids -1", "Did you mean --gpu_ids?"),
        ("--dataroot my photos --lr 1", "needs quotes: --dataroot 'my photos'"),
        ("--batch_size 4 5", "--batch_size takes one value: leave out 5"),
        ("--no_flip True", "--no_flip takes no value: leave out True"),
        ("--lambda_L1 5 --modle x", "an option of --model pix2pix. Unknown option --modle. Did you mean --model?"),
        ("--num_test 5", "unknown option --num_test: it is an option of test.py"),
        ("--model_suffix _A", "unknown option --model_suffix: it is an option of test.py"),
        ("--epoch_count 201", "To train longer, type the same command with --n_epochs 101"),
        ("--lr -1", "--lr -1.0: must be at least 0"),
        ("--display_port 0", "--display_port 0: must be at least 1 and at most 65535"),
        ("--lr_policy plateau", "add --val_freq 1"),
        ("--gpu_ids a", "--gpu_ids a: a GPU's number"),
        ("--gpu_ids 0,1", "torchrun --standalone --nproc_per_node 2 train.py --dataroot D"),
    ],
)
def test_a_message_names_the_option_and_a_value_that_works(line, says, capsys):
    error = refused(capsys, train, line)
    assert says in error
    assert line.split()[0] in error


# ---- files ----


def test_options_are_saved_as_text_in_the_reference_s_format_and_as_json(tmp_path):
    opt = train("--name x --suffix {model}_{netG} --ngf 8 --seed 3")
    assert opt.name == "x_cycle_gan_resnet_9blocks"
    folder = tmp_path / "checkpoints" / opt.name
    lines = (folder / "train_opt.txt").read_text().splitlines()
    assert lines[0] == "-" * 17 + " Options " + "-" * 15
    assert lines[-1] == "-" * 17 + " End " + "-" * 19
    assert f"{'ngf':>25}: {'8':<30}\t[default: 64]" in lines
    assert f"{'dataroot':>25}: {'D':<30}\t[default: None]" in lines
    assert f"{'gpu_ids':>25}: {'0':<30}" in lines
    names = [line.split(":")[0].strip() for line in lines[1:-1]]
    assert names == sorted(names)
    saved = json.loads((folder / "train_opt.json").read_text())
    expected = {"ngf": 8, "max_dataset_size": None, "seed": 3, "isTrain": True, "speed": "fp32"}
    assert {name: saved[name] for name in expected} == expected
    assert names == sorted(saved.keys() - {"facts"})


def test_opt_holds_options_and_what_plug_ins_read_and_the_facts_of_the_run_lie_beside_it():
    options = TrainOptions("--dataroot D --seed 5 --ngf 8 --no_flip")
    opt = options.parse()
    assert vars(opt) == vars(options.parse())
    assert vars(opt).keys() - options.parser.defaults().keys() == {"isTrain", "device"}
    assert (opt.isTrain, opt.gpu_ids) == (True, [])
    assert opt.device.type in ("cpu", "mps")
    copy = with_values(opt, ngf=16)
    assert (copy.ngf, opt.ngf) == (16, 8)
    for facts in (run_facts(opt), run_facts(copy)):
        assert facts.typed == {"dataroot", "seed", "ngf", "no_flip"}
        assert facts.words == ("--dataroot", "D", "--seed", "5", "--ngf", "8", "--no_flip")
        assert facts.differing == {"dataroot": ("D", None), "seed": (5, None), "ngf": (8, 64), "no_flip": (True, False)}
        assert facts.speed == "fp32"


def test_a_run_prints_the_options_that_differ_from_their_defaults_and_where_all_are(capsys):
    train("--name x --ngf 8 --seed 3 --no_flip --lr 0.0002")
    head, *lines = capsys.readouterr().out.splitlines()[-6:]
    assert head == "options that differ from their defaults, all in checkpoints/x/train_opt.txt:"
    found = [tuple(line.replace("[default:", ":").strip("]").split(":")) for line in lines]
    expected = (
        ("dataroot", "D", "none"),
        ("name", "x", "experiment_name"),
        ("ngf", "8", "64"),
        ("no_flip", "True", "off"),
    )
    assert [tuple(map(str.strip, line)) for line in found] == [*expected, ("seed", "3", "none")]


def test_gpu_0_without_a_gpu_is_the_cpu_and_says_so(capsys):
    train()
    assert "running on the CPU" in capsys.readouterr().out
    train("--gpu_ids -1")
    assert "running on the CPU" not in capsys.readouterr().out


# ---- what testing and resuming take from the training run ----


def test_testing_takes_architecture_and_preprocessing_from_training():
    train("--name x --model pix2pix --netG unet_128 --norm instance --ngf 8 --no_dropout --direction BtoA --input_nc 1 "
          "--load_size 40 --crop_size 32")  # fmt: skip
    expected = {"model": "pix2pix", "dataset_mode": "aligned", "netG": "unet_128", "norm": "instance", "ngf": 8}
    expected |= {"no_dropout": True, "direction": "BtoA", "input_nc": 1, "phase": "test", "batch_size": 1}
    expected |= {"preprocess": "resize_and_crop", "load_size": 32, "crop_size": 32}
    opt = vars(parse_test("--name x"))
    assert {name: opt[name] for name in expected} == expected
    expected |= {"model": "test", "dataset_mode": "single", "ngf": 16, "preprocess": "none"}
    opt = vars(parse_test("--name x --model test --ngf 16 --preprocess none"))
    assert {name: opt[name] for name in expected} == expected


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("--preprocess scale_width_and_crop --load_size 1024 --crop_size 360", ("scale_width", 1024, 360)),
        ("--preprocess crop --crop_size 64", ("none", 286, 64)),
        ("--preprocess none", ("none", 286, 256)),
        ("--preprocess resize --load_size 80 --crop_size 80", ("resize", 80, 80)),
    ],
)
def test_testing_sees_whole_images_after_training_on_crops(typed, expected):
    train(f"--name x {typed}")
    opt = parse_test("--name x")
    assert (opt.preprocess, opt.load_size, opt.crop_size) == expected


def test_testing_translates_whole_images_of_the_size_typed():
    assert parse_test("--num_test inf").num_test == math.inf
    assert parse_test("--crop_size 512").load_size == 512
    assert parse_test("--crop_size 512 --load_size 600").load_size == 600


def test_testing_prints_the_options_of_plug_ins_that_it_takes_from_training(capsys):
    train("--name x --model pix2pix --dataset_mode template --new_dataset_option 3")
    assert parse_test("--name x").new_dataset_option == 3
    assert "taken from the training run: new_dataset_option 3.0\n" in capsys.readouterr().out
    assert parse_test("--name x --new_dataset_option 4").new_dataset_option == 4
    train("--name y --model pix2pix --dataset_mode template")
    parse_test("--name y")
    assert "taken from" not in capsys.readouterr().out


def test_testing_on_the_training_split_keeps_the_training_s_options_file(tmp_path):
    train("--name x --ngf 8")
    folder = tmp_path / "checkpoints/x"
    before = (folder / "train_opt.txt").read_text()
    parse_test("--name x --phase train")
    assert (folder / "train_opt.txt").read_text() == before
    assert "phase: train" in (folder / "test_train_opt.txt").read_text()


def test_testing_finds_an_experiment_by_its_suffix():
    train("--name x --suffix {model}_{netG} --model pix2pix --netG unet_32 --ngf 4 --direction BtoA")
    opt = parse_test("--name x --suffix {model}_{netG} --model pix2pix --netG unet_32")
    assert (opt.name, opt.ngf, opt.direction) == ("x_pix2pix_unet_32", 4, "BtoA")


def test_a_resumed_run_keeps_its_options_and_the_command_line_wins():
    typed = "--which_direction BtoA --model pix2pix --lambda_A 50 --batchSize 2 --no_flip --max_dataset_size 9"
    first = vars(train(f"--name x {typed} --n_epochs 7 --load_iter 3"))
    again = vars(train("--name x --continue_train --lambda_L1 60"))
    assert {name for name in first if first[name] != again[name]} == {"lambda_L1", "continue_train", "load_iter"}
    assert train("--name x --continue_train --seed 4").seed == 4
    assert train("--name x").seed != first["seed"]


def test_a_start_that_fails_leaves_the_options_of_trained_networks_alone(tmp_path):
    train("--name x --ngf 8")
    (tmp_path / "checkpoints/x/latest_net_G_A.pth").touch()
    TrainOptions("--dataroot D --name x --ngf 16").parse()  # and then, say, no data
    assert parse_test("--name x").ngf == 8


# ---- imports ----


def test_parsing_imports_no_heavy_package_but_torch():
    code = "import sys; from options.train_options import TrainOptions; TrainOptions('--dataroot D').gather_options()"
    heavy = "'torchvision', 'torchmetrics', 'skimage', 'scipy', 'pandas', 'matplotlib'"
    done = type_command("-c", f"{code}; print(*({{{heavy}}} & {{*sys.modules}}))")
    assert (done.returncode, done.stdout) == (0, "\n"), done.stderr


@pytest.mark.parametrize(
    ("line", "status", "says"),
    [
        ("--help", 0, "--n_epochs"),
        ("--help_all --model pix2pix", 0, "--unconditional_D"),
        ("--dataroot D --n_epoch 3", 2, "Did you mean --n_epochs"),
        ("--dataroot D --model colorization --lambda_l1 3", 2, "Did you mean --lambda_L1?"),
        ("--dataroot D --name x --continue_train --lambda_L2 3", 2, "Did you mean --lambda_L1?"),
        ("--dataroot D --netG unet256", 2, "Did you mean 'unet_256'?"),
        ("--model pix2pxi", 1, "Did you mean 'pix2pix'?"),
    ],
)
def test_help_and_typos_are_answered_before_pytorch_is_imported(line, status, says, tmp_path):
    train("--name x --model pix2pix")
    done = type_command("-X", "importtime", ROOT / "train.py", *line.split(), cwd=tmp_path)
    imported, said = re.sub(r"(?m)^import time:.*\n", "", done.stderr), done.stderr
    assert (done.returncode, says in done.stdout + imported) == (status, True), imported
    assert not re.search(r"\| +(torch|numpy)$", said, re.MULTILINE)
    assert status == 0 or imported.count("\n") == 1
