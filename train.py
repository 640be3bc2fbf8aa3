"""Train an image-to-image translation model; under torchrun on several GPUs.

python train.py --dataroot ./datasets/facades --name facades_pix2pix --model pix2pix --direction BtoA
python train.py --dataroot ./datasets/maps --name maps_cyclegan --model cycle_gan
python train.py --dataroot ./datasets/maps --name maps_cyclegan --continue_train    # resumes; docs/options.md
"""

import time
from contextlib import closing

import options.first_look  # noqa: F401 - before torch: its threads, --help, mistyped options

from data import create_dataset
from models import create_model
from options.train_options import TrainOptions, in_validation, require_epochs
from util.checkpoint.saver import Saver
from util.errors import explained_errors
from util.monitor.disk_forecast import check_disk
from util.monitor.validation import Validation
from util.runtime import processes, seeds
from util.runtime.signals import Interrupts, unbreakable_output
from util.visualizer import Visualizer


def train(opt):
    """Train until the last epoch; all counts of images are over all processes."""
    dataset = create_dataset(opt)
    print(f"The number of training images = {len(dataset)}")
    model = create_model(opt)
    model.setup(opt)  # also loads networks and training state to resume
    progress, last_epoch = model.progress, opt.n_epochs + opt.n_epochs_decay
    require_epochs(progress.epoch, opt)
    validate = Validation(opt, model, create_dataset(in_validation(opt), shared=False) if opt.val_freq else None)
    check_disk(opt, model, len(dataset))
    with closing(Visualizer(opt, model)) as visualizer, Interrupts() as signals, Saver(model, visualizer.flush) as save:
        for epoch in range(progress.epoch, last_epoch + 1):
            start = time.time()
            train_epoch(opt, dataset, model, visualizer, save, signals)
            validate(epoch, visualizer)
            model.update_learning_rate()
            progress.next_epoch()
            last = epoch == last_epoch or validate.over
            if validate.improved:
                save("best")
            if epoch % opt.save_epoch_freq == 0 or last:
                visualizer.say(f"saving the model at the end of epoch {epoch}, iters {progress.total_iters}")
                save(epoch)
                save("latest")  # after it: a run killed between the two trains this epoch again, and saves both
            visualizer.say(f"End of epoch {epoch} / {last_epoch} \t Time Taken: {time.time() - start:.0f} sec")
            if last:
                visualizer.finish(model.best_so_far)
                break
            signals.leave_if_requested(save)


def train_epoch(opt, dataset, model, visualizer, save, signals):
    """Train on the rest of an epoch; show, print and save at the frequencies of the options."""
    progress = model.progress
    visualizer.reset()
    dataset.set_epoch(progress.epoch, start=progress.epoch_iter)
    for batch in visualizer.track(dataset, progress):
        part = dataset.step_part  # the whole of an optimizer step, or with --grad_accum one of its batches
        model.begin_batch(part)
        progress.advance(opt.batch_size * processes.world_size(), begins=part.first)
        seeds.seed_all(opt.seed, "step", processes.rank(), progress.total_iters)
        model.set_input(batch)
        model.optimize_parameters()
        if not part.last:
            continue
        visualizer.report_step(model)
        if progress.passed(opt.save_latest_freq):
            visualizer.say(f"saving the latest model (epoch {progress.epoch}, total_iters {progress.total_iters})")
            save(f"iter_{progress.total_iters}" if opt.save_by_iter else "latest")
        signals.leave_if_requested(save)


if __name__ == "__main__":
    unbreakable_output()
    with explained_errors(), processes.processes():
        train(TrainOptions().parse())
