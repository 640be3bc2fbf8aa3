"""The command line: every option and default of the reference, precedence, prefixes, old names, refusals, files."""

from __future__ import annotations

import json
import math

import pytest

from options.legacy import modernise
from options.test_options import TestOptions as TestingOptions
from options.train_options import TrainOptions

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


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def train(line):
    return TrainOptions(f"--dataroot D {line}").parse()


def parse_test(line):
    return TestingOptions(f"--dataroot D {line}").parse()


def raw(options, line):
    """Parse without the phases' later settling of values."""
    return vars(options(f"--dataroot D {line}").gather_options())


@pytest.mark.parametrize(
    ("line", "changes"),
    [
        ("", {"no_dropout": True, "lambda_A": 10.0, "lambda_B": 10.0, "lambda_identity": 0.5}),
        ("--model pix2pix", TRAIN_PIX2PIX),
        ("--model colorization", {**TRAIN_PIX2PIX, **COLOUR}),
        ("--model template", {"dataset_mode": "aligned", "lambda_regression": 1.0}),
        ("--dataset_mode template", {"max_dataset_size": 10, "new_dataset_option": 2.0}),
    ],
)
def test_training_has_the_reference_s_options_and_defaults(line, changes):
    expected = {**BASE, "model": "cycle_gan", **TRAIN, **changes}
    if "template" in line:  # the reference's template model ignores these two
        del expected["norm"], expected["no_dropout"]
        if "dataset_mode" in line:
            del expected["dataset_mode"]
    elif not line:
        assert expected["dataset_mode"] == "unaligned"
    parsed = raw(TrainOptions, line)
    if "--model" in line:
        expected["model"] = line.split()[-1]
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
    expected = {**BASE, **TEST, **changes}
    del expected["gpu_ids"]  # a list by then
    assert {name: opt[name] for name in expected} == expected


def test_the_whole_count_of_options_stays_below_95():
    names = set()
    for model in ("pix2pix", "cycle_gan", "colorization", "template"):
        names |= set(raw(TrainOptions, f"--model {model}"))
    for model in ("test", "pix2pix"):
        names |= set(raw(TestingOptions, f"--model {model}"))
    assert names >= {*BASE, *TRAIN, *TEST}
    assert len(names) < 95


def test_what_is_typed_wins_over_the_data_set_s_default_over_the_model_s():
    assert train("--model pix2pix").norm == "batch"
    assert train("--model pix2pix --norm instance").norm == "instance"
    assert train("--model pix2pix --dataset_mode template").max_dataset_size == 10
    assert train("--model pix2pix --dataset_mode template --max_dataset_size inf").max_dataset_size == math.inf


def test_prefixes_mean_the_reference_s_options():
    opt = train("--batch 2 --mod pix2pix --lambda_L=7 --se --direc BtoA --n_epochs_d 3 --sav 9".replace("--sav 9", ""))
    assert (opt.batch_size, opt.model, opt.lambda_L1, opt.serial_batches) == (2, "pix2pix", 7.0, True)
    assert (opt.direction, opt.n_epochs_decay) == ("BtoA", 3)


def test_an_ambiguous_prefix_and_an_unknown_option_exit_with_2(capsys):
    for line in ("--n_e 3", "--lambda 3", "--frobnicate"):
        with pytest.raises(SystemExit) as stop:
            train(line)
        assert stop.value.code == 2
        assert line.split()[0] in capsys.readouterr().err


@pytest.mark.parametrize(
    ("old", "new"),
    [
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
    ],
)
def test_names_of_earlier_years_work(old, new):
    opt = vars(train(old))
    assert {name: opt[name] for name in new} == new


def test_old_names_of_testing_work_and_are_hidden_from_help(capsys):
    assert parse_test("--how_many 7 --ntest 3 --display_id -1").num_test == 7
    with pytest.raises(SystemExit) as stop:
        parse_test("--help")
    assert stop.value.code == 0
    assert "how_many" not in capsys.readouterr().out


def test_an_option_of_a_plugin_is_not_taken_for_an_old_name():
    assert modernise(["--niter", "3", "--no_lsgan"], {"niter", "no_lsgan", "n_epochs"}, set()) == [
        "--niter",
        "3",
        "--no_lsgan",
    ]


def test_help_lists_the_chosen_model_s_and_data_set_s_options(capsys):
    with pytest.raises(SystemExit) as stop:
        TrainOptions("-h --model pix2pix --dataset_mode template").parse()
    text = capsys.readouterr().out
    assert stop.value.code == 0
    for title, option in (("model pix2pix:", "--lambda_L1"), ("dataset_mode template:", "--new_dataset_option")):
        assert option in text.split(title)[1].split("\n\n")[0]
    assert "--lambda_identity" not in text


@pytest.mark.parametrize(
    ("line", "hint"),
    [
        ("--netG resnet_9block", "resnet_9blocks"),
        ("--netD baisc", "basic"),
        ("--norm bach", "batch"),
        ("--init_type norml", "normal"),
        ("--gan_mode wgan", "wgangp"),
        ("--direction AToB", "AtoB"),
        ("--preprocess resize_and_crp", "resize_and_crop"),
        ("--lr_policy liner", "linear"),
    ],
)
def test_a_bad_value_is_refused_with_the_allowed_ones(line, hint, capsys):
    with pytest.raises(SystemExit) as stop:
        train(line)
    error = capsys.readouterr().err
    assert stop.value.code == 2
    assert f"{line.split()[0]} {line.split()[1]}" in error
    assert f"Did you mean '{hint}'" in error


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("--epoch_count 201", "python train.py --dataroot D --n_epochs 101 --epoch_count 201"),
        ("--suffix {modl}", "--suffix {modl}"),
        ("--suffix {", "--suffix {"),
        ("--gpu_ids a", "--gpu_ids a: a GPU's number"),
        ("--save_epoch_freq 0", "at least 1"),
        ("--max_dataset_size -3", "--max_dataset_size"),
        ("--max_dataset_size 0", "--max_dataset_size"),
        ("--lr -1", "--lr -1.0: must be at least 0"),
        ("--beta1 2", "--beta1 2.0"),
        ("--pool_size -1", "--pool_size -1"),
        ("--n_epochs_decay -5", "--n_epochs_decay -5"),
        ("--lr_policy plateau", "add --val_freq 1"),
        ("--batch_size 0", "--batch_size 0"),
        ("--gpu_ids 0,1", "torchrun --nproc_per_node 2 train.py --dataroot D"),
        ("--max_dataset_size many", "--max_dataset_size"),
    ],
)
def test_what_could_not_work_is_refused_at_once(line, says, capsys):
    with pytest.raises(SystemExit) as stop:
        train(line)
    assert stop.value.code == 2
    assert says in capsys.readouterr().err


@pytest.mark.parametrize("line", ["--num_test 0", "--num_test -1", "--aspect_ratio 0", "--aspect_ratio -1"])
def test_what_could_not_work_in_testing_is_refused_too(line, capsys):
    with pytest.raises(SystemExit) as stop:
        parse_test(line)
    assert stop.value.code == 2
    assert line.split()[0] in capsys.readouterr().err


def test_all_images_can_be_asked_for():
    assert parse_test("--num_test inf").num_test == math.inf


def test_options_are_saved_as_text_in_the_reference_s_format_and_as_json(tmp_path):
    opt = train("--name x --suffix {model}_{netG} --ngf 8 --seed 3")
    assert opt.name == "x_cycle_gan_resnet_9blocks"
    lines = (tmp_path / "checkpoints" / opt.name / "train_opt.txt").read_text().splitlines()
    assert lines[0] == "-" * 17 + " Options " + "-" * 15
    assert lines[-1] == "-" * 17 + " End " + "-" * 19
    assert f"{'ngf':>25}: {'8':<30}\t[default: 64]" in lines
    assert f"{'ndf':>25}: {'64':<30}" in lines
    assert f"{'dataroot':>25}: {'D':<30}\t[default: None]" in lines
    assert f"{'gpu_ids':>25}: {'0':<30}" in lines
    names = [line.split(":")[0].strip() for line in lines[1:-1]]
    assert names == sorted(names)
    saved = json.loads((tmp_path / "checkpoints" / opt.name / "train_opt.json").read_text())
    assert (saved["ngf"], saved["max_dataset_size"], saved["seed"], saved["isTrain"]) == (8, None, 3, True)


def test_parsing_twice_gives_the_same_and_sets_what_models_need():
    options = TrainOptions("--dataroot D --seed 5")
    first, second = options.parse(), options.parse()
    assert vars(first) == vars(second)
    assert first.gpu_ids == []
    assert first.device.type in ("cpu", "mps")


def test_gpu_0_without_a_gpu_is_the_cpu_and_says_so(capsys):
    train("")
    assert "running on the CPU" in capsys.readouterr().out
    train("--gpu_ids -1")
    assert "running on the CPU" not in capsys.readouterr().out


def test_testing_takes_architecture_and_preprocessing_from_training():
    train("--name x --model pix2pix --netG unet_128 --norm instance --ngf 8 --no_dropout --direction BtoA --input_nc 1 "
          "--load_size 40 --crop_size 32")  # fmt: skip
    opt = parse_test("--name x")
    assert (opt.model, opt.dataset_mode, opt.netG, opt.norm, opt.ngf) == (
        "pix2pix",
        "aligned",
        "unet_128",
        "instance",
        8,
    )
    assert (opt.no_dropout, opt.direction, opt.input_nc, opt.phase) == (True, "BtoA", 1, "test")
    assert (opt.preprocess, opt.load_size, opt.crop_size) == ("resize_and_crop", 32, 32)
    opt = parse_test("--name x --model test --ngf 16 --preprocess none")
    assert (opt.model, opt.dataset_mode, opt.netG, opt.ngf, opt.preprocess) == (
        "test",
        "single",
        "unet_128",
        16,
        "none",
    )


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


def test_a_crop_size_alone_moves_the_load_size_of_testing():
    assert parse_test("--crop_size 512").load_size == 512
    assert parse_test("--crop_size 512 --load_size 600").load_size == 600


def test_testing_on_the_training_split_keeps_the_training_s_options_file(tmp_path):
    train("--name x --ngf 8")
    before = (tmp_path / "checkpoints/x/train_opt.txt").read_text()
    parse_test("--name x --phase train")
    assert (tmp_path / "checkpoints/x/train_opt.txt").read_text() == before
    assert "phase: train" in (tmp_path / "checkpoints/x/test_train_opt.txt").read_text()


def test_testing_finds_an_experiment_by_its_suffix():
    train("--name x --suffix {model}_{netG} --model pix2pix --netG unet_32 --ngf 4 --direction BtoA")
    opt = parse_test("--name x --suffix {model}_{netG} --model pix2pix --netG unet_32")
    assert (opt.name, opt.ngf, opt.direction) == ("x_pix2pix_unet_32", 4, "BtoA")


def test_a_continued_run_keeps_its_options_and_what_is_typed_wins():
    typed = "--which_direction BtoA --model pix2pix --lambda_A 50 --batchSize 2 --no_flip --max_dataset_size 9"
    first = vars(train(f"--name x {typed} --n_epochs 7 --load_iter 3"))
    again = vars(train("--name x --continue_train --lambda_L1 60"))
    changed = {name for name in first if first[name] != again[name]}
    assert changed == {"lambda_L1", "continue_train", "load_iter"}


def test_a_start_that_fails_leaves_the_options_of_trained_networks_alone(tmp_path):
    train("--name x --ngf 8")
    (tmp_path / "checkpoints/x/latest_net_G_A.pth").touch()
    train("--name x --ngf 16")  # and then, say, no data
    assert parse_test("--name x").ngf == 8


@pytest.mark.parametrize("text", ['{"model": "pix2pix"}', "[1, 2]", "{", ""])
def test_a_damaged_options_file_does_not_stop_testing(tmp_path, text):
    (tmp_path / "checkpoints/x").mkdir(parents=True)
    (tmp_path / "checkpoints/x/train_opt.json").write_text(text)
    assert parse_test("--name x --model pix2pix").netG == "unet_256"


def test_a_continued_run_keeps_its_seed_unless_one_is_typed():
    seed = train("--name x").seed
    assert train("--name x --continue_train").seed == seed
    assert train("--name x --continue_train --seed 4").seed == 4
    assert train("--name x").seed != seed
