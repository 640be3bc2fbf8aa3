"""Translate a test set with a trained model, and write the results as images and as a page.

    python test.py --dataroot ./datasets/facades --name facades_pix2pix
    python test.py --dataroot ./photos --name horse2zebra_pretrained

Results go to {results_dir}/{name}/{phase}_{epoch}/. docs/options.md describes every option.
"""

from pathlib import Path

from data import create_dataset
from models import create_model
from options.test_options import TestOptions
from util import runtime
from util.dashboards import start_wandb
from util.html import HTML
from util.interrupts import unbreakable_output
from util.util import explained_errors
from util.visualizer import save_images


def translate(opt):
    """Translate up to `num_test` images one by one; the page is complete after each."""
    dataset = create_dataset(opt)
    model = create_model(opt)
    model.setup(opt)
    if opt.eval:
        model.eval()

    folder = f"{opt.phase}_{opt.epoch}" + (f"_iter{opt.load_iter}" if opt.load_iter > 0 else "")
    web_dir = Path(opt.results_dir) / opt.name / folder
    if opt.use_wandb:
        start_wandb(opt)
    webpage = HTML(web_dir, f"Experiment = {opt.name}, Phase = {opt.phase}, Epoch = {opt.epoch}")
    count = min(opt.num_test, len(dataset))
    print(f"translating {count} of {len(dataset)} images" + (" (--num_test)" if count < len(dataset) else ""))

    for i, batch in enumerate(dataset):
        if i >= count:
            break
        runtime.seed_all(opt.seed, "test", i)  # dropout, which stays on without --eval
        model.set_input(batch)
        model.test()
        if i % 5 == 0:
            print(f"processing ({i:04d})-th image... {model.get_image_paths()}")
        save_images(
            webpage,
            model.get_current_visuals(),
            model.get_image_paths(),
            aspect_ratio=opt.aspect_ratio,
            width=opt.display_winsize,
            use_wandb=opt.use_wandb,
        )
        webpage.save()
    print(f"{count} of {len(dataset)} images: {web_dir / 'index.html'}")


if __name__ == "__main__":
    unbreakable_output()
    with explained_errors():
        translate(TestOptions().parse())
