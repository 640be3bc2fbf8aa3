# ruff: noqa
# fmt: off
"""A testing loop of one's own, as for the reference since August 2025; kept in its author's style."""
from pathlib import Path
from options.test_options import TestOptions
from data import create_dataset
from models import create_model
from util.visualizer import save_images
from util import html, util

if __name__ == "__main__":
    opt = TestOptions().parse()
    opt.device = util.init_ddp()
    opt.num_threads = 0
    opt.batch_size = 1
    opt.serial_batches = True
    opt.no_flip = True
    dataset = create_dataset(opt)
    model = create_model(opt)
    model.setup(opt)
    web_dir = Path(opt.results_dir) / opt.name / f"{opt.phase}_{opt.epoch}"
    webpage = html.HTML(web_dir, f"Experiment = {opt.name}")
    if opt.eval:
        model.eval()
    for i, data in enumerate(dataset):
        if i >= opt.num_test:
            break
        model.set_input(data)
        model.test()
        save_images(webpage, model.get_current_visuals(), model.get_image_paths(), aspect_ratio=opt.aspect_ratio, width=opt.display_winsize)
    webpage.save()
