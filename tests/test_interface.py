"""Every name that plug-ins and scripts import is in its module, with the parameters of both generations."""

from __future__ import annotations

import ast
import importlib
import inspect
from pathlib import Path

import pytest
from conftest import make_aligned, make_unaligned

from data import create_dataset
from models import create_model
from options.test_options import TestOptions
from options.train_options import TrainOptions
from util.html import HTML
from util.visualizer import Visualizer

# Functions, classes and methods by module. `...` stands for any default.
SIGNATURES = {
    "models.networks": """
        Identity()
        get_norm_layer(norm_type)
        get_scheduler(optimizer, opt)
        init_weights(net, init_type, init_gain)
        init_net(net, init_type, init_gain, gpu_ids=...)
        define_G(input_nc, output_nc, ngf, netG, norm='batch', use_dropout=False, init_type='normal', init_gain=0.02,
            gpu_ids=...)
        define_D(input_nc, ndf, netD, n_layers_D=3, norm='batch', init_type='normal', init_gain=0.02, gpu_ids=...)
        GANLoss(gan_mode, target_real_label=1.0, target_fake_label=0.0)
        GANLoss.get_target_tensor(self, prediction, target_is_real)
        cal_gradient_penalty(netD, real_data, fake_data, device, type='mixed', constant=1.0, lambda_gp=10.0)
        ResnetGenerator(input_nc, output_nc, ngf=64, norm_layer=..., use_dropout=False, n_blocks=6,
            padding_type='reflect')
        ResnetBlock(dim, padding_type, norm_layer, use_dropout, use_bias)
        UnetGenerator(input_nc, output_nc, num_downs, ngf=64, norm_layer=..., use_dropout=False)
        UnetSkipConnectionBlock(outer_nc, inner_nc, input_nc=None, submodule=None, outermost=False, innermost=False,
            norm_layer=..., use_dropout=False)
        NLayerDiscriminator(input_nc, ndf=64, n_layers=3, norm_layer=...)
        PixelDiscriminator(input_nc, ndf=64, norm_layer=...)""",
    "models": """
        find_model_using_name(model_name)
        get_option_setter(model_name)
        create_model(opt)""",
    "models.base_model": """
        BaseModel(opt)
        BaseModel.modify_commandline_options(parser, is_train)
        BaseModel.set_input(self, input)
        BaseModel.forward(self)
        BaseModel.optimize_parameters(self)
        BaseModel.setup(self, opt)
        BaseModel.eval(self)
        BaseModel.test(self)
        BaseModel.compute_visuals(self)
        BaseModel.get_image_paths(self)
        BaseModel.update_learning_rate(self)
        BaseModel.get_current_visuals(self)
        BaseModel.get_current_losses(self)
        BaseModel.save_networks(self, prefix)
        BaseModel.load_networks(self, prefix)
        BaseModel.print_networks(self, verbose)
        BaseModel.set_requires_grad(self, nets, requires_grad=False)""",
    "models.pix2pix_model": """
        Pix2PixModel(opt)
        Pix2PixModel.backward_D(self)
        Pix2PixModel.backward_G(self)""",
    "models.cycle_gan_model": """
        CycleGANModel(opt)
        CycleGANModel.backward_D_basic(self, netD, real, fake)
        CycleGANModel.backward_D_A(self)
        CycleGANModel.backward_D_B(self)
        CycleGANModel.backward_G(self)""",
    "data": """
        find_dataset_using_name(dataset_name)
        get_option_setter(dataset_name)
        create_dataset(opt)
        CustomDatasetDataLoader(opt)
        CustomDatasetDataLoader.load_data(self)
        CustomDatasetDataLoader.set_epoch(self, epoch)""",
    "data.base_dataset": """
        BaseDataset(opt)
        BaseDataset.modify_commandline_options(parser, is_train)
        get_params(opt, size)
        get_transform(opt, params=None, grayscale=False, method=..., convert=True)""",
    "data.image_folder": """
        is_image_file(filename)
        make_dataset(dir, max_dataset_size)
        default_loader(path)
        ImageFolder(root, transform=None, return_paths=False, loader=...)""",
    "util.util": """
        tensor2im(input_image, imtype=...)
        diagnose_network(net, name='network')
        save_image(image_numpy, image_path, aspect_ratio=1.0)
        print_numpy(x, val=True, shp=False)
        mkdirs(paths)
        mkdir(path)
        init_ddp()
        cleanup_ddp()""",
    "util.html": """
        HTML(web_dir, title, refresh=0)
        HTML.get_image_dir(self)
        HTML.add_header(self, text)
        HTML.add_images(self, ims, txts, links, width=400)
        HTML.save(self)""",
    "util.image_pool": """
        ImagePool(pool_size)
        ImagePool.query(self, images)""",
    "util.visualizer": """
        save_images(webpage, visuals, image_path, aspect_ratio=1.0, width=256, use_wandb=False)
        Visualizer(opt)
        Visualizer.reset(self)
        Visualizer.display_current_results(self, visuals, epoch, total_iters, save_result=False)
        Visualizer.plot_current_losses(self, total_iters, losses)
        Visualizer.print_current_losses(self, epoch, iters, losses, t_comp, t_data)
        Visualizer.create_visdom_connections(self)
        Visualizer.set_dataset_size(self, n)""",
    "util.get_data": """
        GetData(technique='cyclegan', verbose=True)
        GetData.get(self, save_path, dataset=None)""",
}
POSITIONAL_ONLY = ("Visualizer.set_dataset_size",)  # its parameter has another name here


def rows():
    for module, text in SIGNATURES.items():
        for line in text.replace("\n            ", " ").split("\n"):
            if line.strip():
                yield module, line.strip()


@pytest.mark.parametrize(("module", "signature"), list(rows()))
def test_a_name_is_importable_with_its_parameters_in_order(module, signature):
    name, _, parameters = signature.partition("(")
    found = importlib.import_module(module)
    for part in name.split("."):
        found = getattr(found, part)
    wanted = ast.parse(f"def f({parameters}: pass").body[0].args
    mine = list(inspect.signature(found).parameters.values())[: len(wanted.args)]
    if name not in (*POSITIONAL_ONLY, "Identity"):
        assert [parameter.name for parameter in mine] == [argument.arg for argument in wanted.args]
    for parameter, default in zip(reversed(mine), map(ast.literal_eval, reversed(wanted.defaults)), strict=False):
        assert parameter.default == default or (default is ... and parameter.default is not parameter.empty)
    inspect.signature(found).bind(*wanted.args)  # all of them by position, and no other is required


NET = "--netG unet_32 --ngf 2 --ndf 2"
# The attributes that plug-ins use, by the options of the model or the dataset.
MODELS = {
    f"--dataroot pairs --model pix2pix {NET}": "opt isTrain gpu_ids device save_dir loss_names model_names "
    "visual_names optimizers image_paths metric schedulers netG netD criterionGAN criterionL1 optimizer_G optimizer_D",
    f"--dataroot domains --model cycle_gan {NET}": "netG_A netG_B netD_A netD_B fake_A_pool fake_B_pool criterionGAN "
    "criterionCycle criterionIdt optimizer_G optimizer_D",
}
DATASETS = {
    "--dataroot pairs --dataset_mode aligned": "opt root dir_AB AB_paths input_nc output_nc",
    "--dataroot domains --dataset_mode unaligned": "dir_A dir_B A_paths B_paths A_size B_size transform_A transform_B",
    "--dataroot pairs/train --dataset_mode single": "A_paths transform",
    "--dataroot pairs --dataset_mode colorization --model colorization": "dir AB_paths transform",
    "--dataroot pairs --dataset_mode template --model template": "image_paths transform",
}


def parsed(words):
    options = TestOptions if "single" in words else TrainOptions
    return options(f"{words} --name x --checkpoints_dir runs --gpu_ids -1 --num_threads 0 --display_id -1").parse()


def missing(made, names):
    return [name for name in names.split() if not hasattr(made, name)]


def test_models_datasets_page_and_visualizer_have_the_attributes_that_plug_ins_use(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_aligned(tmp_path / "pairs", count=1)
    make_unaligned(tmp_path / "domains", count_A=1, count_B=1)
    for words, names in MODELS.items():
        model = create_model(opt := parsed(words))
        model.setup(opt)
        assert missing(model, names) == []
        assert Path(model.save_dir) == Path("runs/x")
    for words, names in DATASETS.items():
        loader = create_dataset(parsed(words))
        assert missing(loader, "opt dataset dataloader sampler") == missing(loader.dataset, names) == []
        assert loader.load_data() is loader
    assert missing(HTML("web", "title"), "title web_dir img_dir doc t") == []
    made = Visualizer(parsed("--dataroot pairs"))
    made.close()
    names = (
        "opt use_html win_size name saved use_wandb current_epoch web_dir img_dir log_name display_id port ncols vis"
    )
    assert missing(made, names) == []
