"""A checkpoint knows what it is: by its saved options, or by the keys and shapes of a bare file of any age."""

from __future__ import annotations

import json

import pytest
import torch
from conftest import refused
from state_dicts import with_old_statistics
from terminal import equal

from models import create_model, networks
from models.architecture import explain_misfit, infer_D, infer_G
from options.test_options import TestOptions as TestingOptions
from options.train_options import TrainOptions
from util.checkpoint.weights import load_weights
from util.errors import UserError


def generator(netG="resnet_6blocks", norm="instance", channels=(3, 3), ngf=4, dropout=False, device="meta"):
    """Make a generator, by default without memory for its weights."""
    with torch.device(device):
        make = networks.GENERATORS[netG]
        return make(*channels, ngf=ngf, norm_layer=networks.get_norm_layer(norm), use_dropout=dropout)


def discriminator(netD="basic", norm="instance", channels=3, ndf=4, layers=3):
    """Make a discriminator without memory for its weights."""
    with torch.device("meta"):
        return networks.DISCRIMINATORS[netD](channels, ndf, layers, networks.get_norm_layer(norm))


def asked(netG, norm, channels, ngf, dropout):
    """Return what infer_G should find: a U-Net does not show its dropout, nor `syncbatch` that it is not `batch`."""
    found = {"netG": netG, "norm": norm.removeprefix("sync"), "ngf": ngf}
    found |= {"input_nc": channels[0], "output_nc": channels[1]}
    return found if "resnet" not in netG else {**found, "no_dropout": not dropout}


# ---- what keys and shapes tell ----


@pytest.mark.parametrize("norm", networks.NORMS)
@pytest.mark.parametrize("netG", networks.GENERATORS)
def test_a_generator_is_known_by_its_state_dict(netG, norm):
    random_state = torch.get_rng_state()
    for channels, ngf, dropout in (((1, 3), 4, False), ((3, 2), 8, True)):
        state = generator(netG, norm, channels, ngf, dropout).state_dict()
        assert infer_G(state) == asked(netG, norm, channels, ngf, dropout)
        assert infer_D(state) is None
    assert torch.equal(torch.get_rng_state(), random_state)


@pytest.mark.parametrize("norm", networks.NORMS)
def test_a_discriminator_is_known_by_its_state_dict(norm):
    for netD, layers in [("pixel", 3), *(("n_layers", n) for n in (1, 2, 4, 5)), ("basic", 3)]:
        state = discriminator(netD, norm, 6, 8, layers).state_dict()
        expected = {"netD": netD, "norm": norm.removeprefix("sync"), "input_nc": 6, "ndf": 8}
        assert infer_D(state) == expected | ({} if netD == "pixel" else {"n_layers_D": layers})
        assert infer_G(state) is None
    assert infer_D(discriminator("n_layers").state_dict())["netD"] == "basic"


def aged(net):
    """Yield a state dict as other years and wrappers wrote it."""
    old = {key: value for key, value in with_old_statistics(net).items() if not key.endswith("num_batches_tracked")}
    yield old  # before PyTorch 0.4
    yield {f"module.{key}": value for key, value in old.items()}
    for prefix in ("_orig_mod.", "module._orig_mod.", "_orig_mod.module."):
        yield {prefix + key: value for key, value in net.state_dict().items()}


@pytest.mark.parametrize(("netG", "norm"), [("resnet_6blocks", "instance"), ("unet_32", "batch")])
def test_files_of_any_age_are_known_and_load(netG, norm):
    torch.manual_seed(1)
    net = generator(netG, norm, (1, 2), 2, dropout=True, device="cpu")
    for state in aged(net):
        assert infer_G(state) == asked(netG, norm, (1, 2), 2, True)
        other = generator(netG, norm, (1, 2), 2, dropout=True, device="cpu")
        load_weights(other, state, "x.pth")
        assert all(torch.equal(value, other.state_dict()[key]) for key, value in net.state_dict().items())


def test_a_network_that_has_a_part_called_module_keeps_its_keys():
    net = torch.nn.ModuleDict({"module": torch.nn.Linear(2, 2)})
    load_weights(net, net.state_dict(), "x.pth")
    load_weights(net, {f"module.{key}": value for key, value in net.state_dict().items()}, "x.pth")


def test_one_missing_added_or_misshapen_entry_makes_a_network_foreign():
    for net, infer in (
        (generator("unet_32", "batch"), infer_G),
        (generator("resnet_6blocks", "none", dropout=True), infer_G),
        (discriminator("n_layers", "batch", layers=2), infer_D),
        (discriminator("pixel", "instance"), infer_D),
    ):
        state = {key: value for key, value in net.state_dict().items() if value.dim()}
        assert infer(state)
        for key, value in list(state.items())[::7]:
            assert infer({k: v for k, v in state.items() if k != key}) is None
            wider = torch.empty(value.shape[0] + 1, *value.shape[1:], device="meta")
            assert infer({**state, key: wider}) is None
        assert infer({**state, "model.99.weight": torch.empty(3)}) is None


@pytest.mark.parametrize("state", [
    None, "unet_256", {1: torch.ones(1)}, {"model.1.weight": None, "model.17.bias": torch.ones(3)},
    {"net.0.weight": torch.ones(0, 0, 1, 1)}, {"module." * 3000: torch.ones(1)},
    {"model.1.weight": torch.nn.parameter.UninitializedParameter()},
    {"model.1.weight": torch.ones(1, 1, 1, 1).expand(2**40, 3, 7, 7), "model.17.bias": torch.ones(3)},
])  # fmt: skip
def test_other_contents_are_no_network(state):
    assert infer_G(state) is None
    assert infer_D(state) is None
    if not isinstance(state, dict) or 1 in state:
        with pytest.raises(UserError, match="holds no state dict"):
            load_weights(torch.nn.Linear(1, 1), state, "x.pth")


def test_a_network_that_does_not_fit_names_the_options_that_would():
    for here, there, says in (
        ({"norm": "batch"}, {"norm": "instance"}, "it was trained with --norm instance: type that"),
        ({"netG": "unet_32"}, {"netG": "encdec_128", "ngf": 8}, "--netG encdec_128 --ngf 8"),
        ({}, {"dropout": True}, "it was trained with dropout (no --no_dropout): type that"),
        ({"dropout": True}, {"ngf": 2}, "--ngf 2 --no_dropout"),
    ):
        assert says in explain_misfit(generator(**here), generator(**there).state_dict())
    backwards = explain_misfit(generator(), generator(channels=(1, 2)).state_dict(), backwards=True)
    assert "--input_nc 2 --output_nc 1" in backwards
    net = discriminator("n_layers", layers=2)
    for there, says in (
        ({"ndf": 8}, "--netD basic --ndf 8 --n_layers_D 3: type that"),
        ({"channels": 6}, "6 channels"),
    ):
        assert says in explain_misfit(net, discriminator(**there).state_dict())
    assert explain_misfit(net, generator().state_dict()) == "it holds a generator"
    assert explain_misfit(net, {"weight": torch.ones(1)}) is None


# ---- bare files: --name is enough ----


def put(folder, **nets):
    """Save networks as `latest_net_X.pth` into an experiment's folder, as a download lies there."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, net in nets.items():
        torch.save(net.state_dict(), folder / f"latest_net_{name}.pth")
    return folder


def parse_test(line):
    return TestingOptions(f"--dataroot D --gpu_ids -1 {line}").parse()


def parse_train(line):
    return TrainOptions(f"--dataroot D --gpu_ids -1 {line}").parse()


@pytest.mark.parametrize(
    ("netG", "norm", "dropout"),
    [("resnet_6blocks", "instance", False), ("resnet_6blocks", "batch", True), ("unet_128", "none", True)],
)
def test_a_bare_file_loads_by_its_name_alone(away, capsys, netG, norm, dropout):
    net = generator(netG, norm, (1, 3), 2, dropout, device="cpu")
    put(away / "checkpoints/bare", G=net)
    opt = parse_test("--name bare")
    assert (opt.model, opt.no_dropout) == ("test", not dropout)
    model = create_model(opt)
    model.setup(opt)
    assert equal(model.netG.state_dict(), net.state_dict())
    said = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("inferred"))
    assert f"checkpoints/bare/latest_net_G.pth: --netG {netG} --norm {norm}" in said
    assert said.endswith("(which keys do not show)" if netG == "unet_128" else "dropout" if dropout else "no dropout")
    if netG == "unet_128":
        assert parse_test("--name bare --no_dropout").no_dropout


def test_a_bare_file_of_pix2pix_and_bare_files_of_cyclegan_are_known_too(away):
    put(away / "checkpoints/p2p", G=generator("encdec_128", "none", (1, 2), 2, device="cpu"))
    opt = parse_test("--name p2p --model pix2pix")
    assert (opt.netG, opt.norm, opt.ngf, opt.input_nc, opt.output_nc) == ("encdec_128", "none", 2, 1, 2)
    assert (opt.no_dropout, opt.dataset_mode) == (False, "aligned")
    two = {"norm": "batch", "ngf": 2, "dropout": True, "device": "cpu"}
    put(away / "checkpoints/cyc", G_A=generator(channels=(1, 3), **two), G_B=generator(channels=(3, 1), **two))
    opt = parse_test("--name cyc --model cycle_gan")
    assert (opt.netG, opt.norm, opt.input_nc, opt.output_nc) == ("resnet_6blocks", "batch", 1, 3)
    assert opt.no_dropout is False  # CycleGANs of 2017 may have it
    create_model(opt).setup(opt)


# ---- one side of a CycleGAN ----


@pytest.mark.parametrize("trained", ["AtoB", "BtoA", None])
def test_direction_takes_one_side_of_a_cyclegan(away, capsys, trained):
    two = {"norm": "none", "ngf": 2, "device": "cpu"}  # from the training's input domain, and back
    folder = put(away / "checkpoints/x", G_A=generator(channels=(1, 3), **two), G_B=generator(channels=(3, 1), **two))
    if trained:
        saved = {"model": "cycle_gan", "direction": trained, "input_nc": 1, "output_nc": 3, "ngf": 2, "norm": "none"}
        text = json.dumps({**saved, "netG": "resnet_6blocks", "no_dropout": True})
        (folder / "train_opt.json").write_text(text)
    for typed in ("AtoB", "BtoA", None):
        opt = parse_test("--name x --model test" + f" --direction {typed}" * bool(typed))
        forwards = typed in (trained or "AtoB", None)
        assert opt.model_suffix == ("_A" if forwards else "_B")
        assert (opt.input_nc, opt.output_nc) == ((1, 3) if forwards else (3, 1))
        assert opt.dataset_mode == "single"
        create_model(opt).setup(opt)
        out = capsys.readouterr().out
        assert f"--direction {opt.direction} takes checkpoints/x/latest_net_G{opt.model_suffix}.pth\n" in out
        assert "wins over" not in out
    opt = parse_test("--name x --model test --model_suffix _B --direction " + (trained or "AtoB"))
    assert (opt.model_suffix, opt.input_nc, opt.output_nc) == ("_B", 3, 1)
    put(folder, G=generator(device="cpu"))
    assert parse_test("--name x --model test").model_suffix == ""


def test_a_side_that_is_not_there_names_the_direction_that_is(away, capsys):
    put(away / "checkpoints/x", G_B=generator(device="cpu"))
    error = refused(capsys, parse_test, "--name x")
    assert "--direction AtoB takes checkpoints/x/latest_net_G_A.pth, which does not exist" in error
    assert "--direction BtoA takes G_B" in error
    assert parse_test("--name x --direction BtoA").model_suffix == "_B"


def test_networks_of_another_model_are_named_with_the_model_to_type(away):
    put(away / "checkpoints/c", G_A=generator(device="cpu"), G_B=generator(device="cpu"))
    put(away / "checkpoints/p", G=generator(device="cpu"))
    for line, says in (
        ("--name c --model pix2pix", "They are a CycleGAN's: type --model cycle_gan, or --model test for one"),
        ("--name p --model cycle_gan", "That is no CycleGAN's: type --model test, or --model pix2pix"),
        ("--name p --model pix2pix --ema", "leave --ema out"),
    ):
        opt = parse_test(f"{line} --ngf 4 --netG resnet_6blocks")
        with pytest.raises(UserError, match=says):
            create_model(opt).setup(opt)


def test_the_side_s_channels_are_swapped_even_where_the_file_tells_nothing(away):
    folder = put(away / "checkpoints/x", G_A=torch.nn.Linear(1, 1), G_B=torch.nn.Linear(1, 1))
    saved = {"model": "cycle_gan", "input_nc": 1, "output_nc": 3}
    (folder / "train_opt.json").write_text(json.dumps(saved))
    opt = parse_test("--name x --model test --direction BtoA")
    assert (opt.model_suffix, opt.input_nc, opt.output_nc) == ("_B", 3, 1)


# ---- flags that do not fit ----

UNET = {"netG": "unet_32", "norm": "batch", "ngf": 4, "channels": (1, 3), "device": "cpu"}


@pytest.mark.parametrize("saved", [True, False])
def test_an_option_that_contradicts_the_file_is_refused_with_the_value_that_fits(away, capsys, saved):
    path = put(away / "checkpoints/x", G=generator(**UNET)).relative_to(away) / "latest_net_G.pth"
    if saved:  # by someone who changed it
        edited = {"model": "pix2pix", "netG": "unet_64", "norm": "instance", "ngf": 64, "input_nc": 3, "output_nc": 1}
        (path.parent / "train_opt.json").write_text(json.dumps(edited))
    for name, typed, right in (("netG", "unet_64", "unet_32"), ("norm", "instance", "batch"), ("output_nc", 1, 3)):
        expected = f"error: --{name} {typed} does not fit {path}, which was trained with --{name} {right}: leave "
        expected += f"--{name} out, or type --{name} {right}\n"
        for model in ("pix2pix", "test"):
            assert refused(capsys, parse_test, f"--name x --model {model} --{name} {typed}").endswith(expected)
    opt = parse_test("--name x --model pix2pix --ngf 4")
    assert (opt.netG, opt.norm, opt.ngf, opt.input_nc, opt.output_nc) == ("unet_32", "batch", 4, 1, 3)
    assert (f"{path} wins over the saved options" in capsys.readouterr().out) == saved
    both = refused(capsys, parse_test, "--name x --model pix2pix --ngf 64 --norm none")
    assert both.count(" does not fit ") == 2


def test_flags_of_equal_networks_fit(away, capsys):
    put(away / "checkpoints/x", G=generator(**UNET), D=discriminator("basic", "batch", 4).to_empty(device="cpu"))
    assert parse_test("--name x --model pix2pix --norm syncbatch").norm == "syncbatch"
    go_on = "--name x --model pix2pix --continue_train --epoch_count 2"
    opt = parse_train(f"{go_on} --netD n_layers --n_layers_D 3 --ndf 4")
    assert (opt.netD, opt.n_layers_D, opt.ndf, opt.unconditional_D) == ("n_layers", 3, 4, False)
    assert parse_train(f"{go_on} --netD basic --n_layers_D 5").netG == "unet_32"
    for typed, right in (
        ("--netD pixel", "--netD basic: leave --netD out"),
        ("--netD n_layers --n_layers_D 2", "--netD basic: leave --netD out"),
        ("--ndf 64", "--ndf 4: leave --ndf out"),
        ("--unconditional_D", "leave --unconditional_D out"),
    ):
        error = refused(capsys, parse_train, f"{go_on} {typed}")
        assert "does not fit checkpoints/x/latest_net_D.pth, which was trained with" in error
        assert right in error


def test_the_discriminator_of_a_bare_checkpoint_is_known_when_training_goes_on(away):
    D, G = discriminator("n_layers", "none", 3, 8, 2), generator("unet_64", "none")
    put(away / "checkpoints/x", D=D.to_empty(device="cpu"), G=G.to_empty(device="cpu"))
    opt = parse_train("--name x --model pix2pix --continue_train --epoch_count 2")
    assert (opt.netD, opt.n_layers_D, opt.ndf, opt.unconditional_D, opt.norm) == ("n_layers", 2, 8, True, "none")
    put(away / "checkpoints/y", D_A=D, D_B=D, G_A=G, G_B=G)
    opt = parse_train("--name y --continue_train --epoch_count 2")
    assert (opt.model, opt.netG, opt.netD, opt.ndf) == ("cycle_gan", "unet_64", "n_layers", 8)


def test_dropout_that_does_not_fit_is_refused(away, capsys):
    put(away / "checkpoints/x", G=generator(dropout=True, device="cpu"))
    assert parse_test("--name x").no_dropout is False
    assert "which was trained without it: leave --no_dr" in refused(capsys, parse_test, "--name x --no_dropout")


def test_a_generator_that_a_plugin_adds_with_the_keys_of_ours_stays_what_it_is(away, monkeypatch, capsys):
    make = networks.GENERATORS["resnet_6blocks"]
    monkeypatch.setitem(networks.GENERATORS, "padded", lambda *a, **kw: make(*a, **kw, padding_type="replicate"))
    folder = put(away / "checkpoints/x", G=networks.define_G(3, 3, 4, "padded", "batch"))
    (folder / "train_opt.json").write_text(json.dumps({"model": "pix2pix", "netG": "padded", "norm": "batch"}))
    opt = parse_test("--name x")
    assert (opt.netG, opt.ngf) == ("padded", 4)
    assert parse_test("--name x --netG padded").netG == "padded"
    assert "--netG unet_32 does not fit" in refused(capsys, parse_test, "--name x --netG unet_32")


# ---- --init_from ----


def test_a_training_begins_with_the_architecture_of_its_source(away, capsys):
    nets = {"G": generator(**UNET), "D": discriminator("pixel", "batch", 3, 8).to_empty(device="cpu")}
    put(away / "checkpoints/old", **nets)
    opt = parse_train("--name new --model pix2pix --init_from old")
    assert (opt.netG, opt.norm, opt.ngf, opt.input_nc, opt.output_nc) == ("unet_32", "batch", 4, 1, 3)
    assert (opt.netD, opt.ndf, opt.unconditional_D, opt.no_dropout) == ("pixel", 8, True, False)
    assert opt.init_from == "checkpoints/old"
    assert "inferred from checkpoints/old/latest_net_G.pth: --netG unet_32" in capsys.readouterr().out
    opt = parse_train("--name new --model cycle_gan --init_from checkpoints/old/latest_net_G.pth")
    assert (opt.netG, opt.ngf, opt.netD, opt.ndf) == ("unet_32", 4, "basic", 64)
    saved = {"model": "pix2pix", "no_dropout": True, "n_epochs": 7, "direction": "BtoA"}
    (away / "checkpoints/old/train_opt.json").write_text(json.dumps(saved))
    opt = parse_train("--name new --model pix2pix --init_from ./checkpoints/old --epoch latest")
    assert (opt.no_dropout, opt.n_epochs, opt.direction) == (True, 100, "AtoB")
    for typed in ("--ngf 8", "--netD basic"):
        error = refused(capsys, parse_train, f"--name new --model pix2pix --init_from old {typed}")
        assert f"{typed} does not fit checkpoints/old/latest_net_{'G' if 'ngf' in typed else 'D'}.pth" in error


def test_a_source_that_is_not_there_is_refused_with_what_is(away, capsys):
    put(away / "checkpoints/horse2zebra", G_A=torch.nn.Linear(1, 1))
    for line, says in (
        ("--init_from horse2zebr", "Did you mean 'horse2zebra'? Experiments: horse2zebra"),
        ("--init_from checkpoints/horse2zebra/latest_net_G.pth", "Did you mean 'latest_net_G_A.pth'?"),
        ("--init_from horse2zebra --epoch 5", "holds latest_net_G_A.pth"),
        ("--init_from horse2zebra --continue_train", "leave one out"),
        ("--init_from nowhere/x.pth", "--init_from nowhere/x.pth: there is no such file"),
    ):
        assert says in refused(capsys, parse_train, f"--name new {line}")


def test_a_file_that_does_not_fit_is_explained_when_it_loads(away):
    put(away / "checkpoints/x", G=generator(**UNET))
    opt = parse_test("--name x --model pix2pix")
    opt.ngf, opt.norm = 8, "instance"  # as a plug-in's network may be
    model = create_model(opt)
    with pytest.raises(UserError, match="does not fit: it was trained with --norm batch --ngf 4: type that"):
        model.setup(opt)


# ---- networks of other projects ----

CUT = ["model.1.weight", "model.4.weight", "model.7.filt", "model.11.filt", "model.12.conv_block.1.weight"]
HD = ["model.1.weight", "model.4.weight", "model.13.weight", *(f"model.{n}.conv_block.1.weight" for n in range(16, 25))]
FOREIGN = {
    "a generator or discriminator of CUT": CUT,
    "the patch network F of CUT": ["mlp_0.0.weight", "mlp_0.0.bias"],
    "a generator of pix2pixHD with 4 downsamplings and 9 blocks": HD,
    "a generator of pix2pixHD with a local enhancer": ["model.1.weight", "model1_1.1.weight", "model1_2.0.weight"],
    "a discriminator of pix2pixHD": ["scale0_layer0.0.weight", "scale1_layer4.0.bias"],
    "a generator of SPADE": ["fc.weight", "head_0.conv_0.weight_orig", "up_0.norm_0.mlp_shared.0.weight"],
    "a residual generator with 2 downsamplings and 4 blocks": [
        "model.1.weight",
        *(f"model.{n}.conv_block.1.weight" for n in range(10, 14)),
    ],
    "": ["layer1.0.conv1.weight", "layer1.0.downsample.0.weight", "fc.bias"],  # a classifier
}


@pytest.mark.parametrize("name", FOREIGN)
def test_networks_of_other_projects_are_refused_by_name_without_advice(away, name):
    folder = away / "checkpoints/x"
    folder.mkdir(parents=True)
    torch.save({f"module.{key}": torch.ones(2, 3, 3, 3) for key in FOREIGN[name]}, folder / "latest_net_G.pth")
    for model in ("test", "pix2pix"):
        opt = parse_test(f"--name x --model {model} --ngf 4")
        with pytest.raises(UserError) as error:
            create_model(opt).setup(opt)
        text = str(error.value)
        if name:
            assert text.startswith(f"checkpoints/x/latest_net_G.pth does not fit: this is {name}")
            assert text.endswith("; no --netG and no --netD makes such a network")
        else:
            assert "is of another architecture than the network that loads it:\n  only in the file: " in text
        assert "trained with" not in text
