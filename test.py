"""Translate a test set with a trained model, and write the results as images and as a page.

    python test.py --dataroot ./datasets/facades --name facades_pix2pix
    python test.py --dataroot ./photos --name horse2zebra_pretrained

Results go to {results_dir}/{name}/{phase}_{epoch}/. docs/options.md describes every option.
"""

import time
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import options.first_look  # noqa: F401 - before torch: its threads, --help, mistyped options

from data import create_dataset
from data.outputs import Outputs
from models import create_model
from options.test_options import TestOptions, find_pairs_in, loading_processes
from util.errors import explained_errors, warn
from util.loggers.console import TranslationLines
from util.loggers.wandb import start_wandb
from util.pages.results_page import begin_page, runs_to_compare
from util.pages.results_writer import Results
from util.runtime import seeds
from util.runtime.run_facts import with_values
from util.runtime.signals import unbreakable_output
from util.speed.batching import batch_size, in_batches


class Translation(NamedTuple):
    """The size and speed of a run of test.py."""

    images: int
    seconds: float  # from the first image's loading until the last picture is on disk
    busy: float  # the share of them in which the device ran the network


def translate(opt) -> Translation:
    """Translate up to `num_test` images; others are loaded and written while the network runs."""
    folder = f"{opt.phase}_{opt.epoch}" + (f"_iter{opt.load_iter}" if opt.load_iter > 0 else "")
    web_dir = Path(opt.results_dir) / opt.name / folder
    about = runs_to_compare(web_dir, opt.compare or ())
    one_by_one = with_values(opt, batch_size=1, num_threads=loading_processes(opt))
    dataset = create_dataset(one_by_one)
    if advice := find_pairs_in(opt, getattr(dataset.dataset, "A_paths", [])):
        warn(advice)
    outputs = Outputs(web_dir / "values", one_by_one, dataset.dataset)
    model = create_model(opt)
    model.setup(opt)
    if opt.eval:
        model.eval()

    if opt.use_wandb:
        start_wandb(opt)
    count = min(opt.num_test, len(dataset))
    print(f"translating {count} of {len(dataset)} images" + (" (--num_test)" if count < len(dataset) else ""))
    webpage = begin_page(opt, web_dir, about, count, len(dataset))
    size = batch_size(model, opt.batch_size)

    start = time.perf_counter()
    writer = Results(webpage, model.device, opt.aspect_ratio, opt.display_winsize, opt.use_wandb)
    with writer as results, TranslationLines(count) as lines:
        for first, batch in in_batches(islice(dataset, count), size):
            seeds.seed_all(opt.seed, "test", first)  # dropout, which stays on without --eval
            model.set_input(batch)
            with results.running():
                model.test()
            paths = model.get_image_paths()
            lines.show(first, paths, several=size > 1)
            visuals = model.get_current_visuals()
            outputs.write(visuals, batch, names=results.add(outputs.viewable(visuals), paths))
    webpage.done()
    seconds = time.perf_counter() - start
    done = Translation(count, seconds, results.busy / seconds)
    speed = f"{count / seconds:.1f} images/s; the network ran {done.busy:.0%} of the time"
    print(f"{count} of {len(dataset)} images in {seconds:.1f} s ({speed}): {web_dir / 'index.html'}")
    return done


if __name__ == "__main__":
    unbreakable_output()
    with explained_errors():
        translate(TestOptions().parse())
