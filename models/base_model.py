"""The interface of every model: five methods, four lists, and one context manager for an optimizer step."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import OrderedDict
from contextlib import contextmanager
from pathlib import Path

import torch

from models import gradients, layers, losses, schedulers
from models.model_files import ModelFiles
from util.checkpoint import ema
from util.checkpoint.checkpointer import Checkpointer
from util.checkpoint.progress import Best, Progress
from util.checkpoint.weights import unwrap
from util.monitor.non_finite import NonFiniteGuard
from util.runtime import processes
from util.runtime.device import choose_algorithms, choose_device
from util.runtime.step_part import StepPart
from util.speed import cuda_graphs, plan
from util.speed.acceleration import GradientScale, accelerate


class BaseModel(ModelFiles, ABC):
    """A subclass defines set_input, forward, optimize_parameters, and modify_commandline_options for its own options.

    Its constructor calls `BaseModel.__init__(self, opt)` first and then fills four lists:
    - model_names: network X is the attribute `netX` and the file `{prefix}_net_X.pth`
    - optimizers: one for each group of networks that is updated together
    - loss_names: loss X is the attribute `loss_X`, a scalar tensor or a number
    - visual_names: image X is the attribute `X`, (N, C, H, W) in [-1, 1]
    """

    needs_pairs = False  # whether training compares an output with the B of the same item
    metric = 0  # lr_policy plateau waits for this to stop falling; a model that has a metric sets it
    step_part = StepPart()  # what the current batch is of an optimizer step
    captured_step = None  # or a util.speed.cuda_graphs.CapturedStep

    def __init__(self, opt):
        self.opt = opt
        self.isTrain = opt.isTrain
        self.gpu_ids = getattr(opt, "gpu_ids", [])
        self.device = getattr(opt, "device", None) or choose_device(self.gpu_ids)
        self.save_dir = Path(opt.checkpoints_dir) / opt.name
        if self.device.type == "cuda":
            torch.cuda.set_device(self.device)  # where streams and recordings are made
        choose_algorithms(plan.sizes_repeat(opt), getattr(opt, "deterministic", False))
        self.model_names, self.optimizers, self.loss_names, self.visual_names = [], [], [], []
        self.schedulers, self.image_paths = [], []
        self.progress = Progress(epoch=getattr(opt, "epoch_count", 1))
        self.averages: dict[str, ema.AveragedNetwork] = {}  # of the generators (--ema)
        self.best_so_far: Best | None = None  # set by util.monitor.validation
        self.scale: GradientScale | None = None  # for float16
        self.guard = NonFiniteGuard(self)
        self.checkpoints = Checkpointer(self.save_dir)

    @staticmethod
    def modify_commandline_options(parser, is_train):
        """Add the model's own options and change defaults; return the parser."""
        return parser

    @abstractmethod
    def set_input(self, input):
        """Take a batch from the dataset: tensors to self.device, paths to self.image_paths."""

    @abstractmethod
    def forward(self):
        """Compute the outputs of the generators."""

    @abstractmethod
    def optimize_parameters(self):
        """Make one training step."""

    # ---- setting up ----

    def setup(self, opt):
        """Make the new model ready for training or testing."""
        self._load_initial_weights()
        self._prepare_networks()
        if self.isTrain:
            self._watch_optimizers()
            self._restore_training_state()
            self.captured_step = cuda_graphs.make_captured_step(self) if plan.speed_of(opt).captured else None
        self.print_networks(opt.verbose)

    def _prepare_networks(self):
        """Move the networks to the device, make them fast, average them (--ema) and distribute them (torchrun)."""
        opt, speed = self.opt, plan.speed_of(self.opt)
        self.scale = GradientScale(self.device) if self.isTrain and speed.dtype == torch.float16 else None
        if "captured_inputs" not in vars(type(self)):
            speed = speed._replace(compiled=False)  # a foreign step may differentiate twice, which compiling forbids
        for name, net in self.networks().items():
            layers.recompute_stages(net.to(self.device), self.isTrain and getattr(opt, "grad_checkpoint", False))
            accelerate(net, self.device, speed, self.scale)
            if self.isTrain and getattr(opt, "ema", 0) and name.startswith("G"):
                self.averages[name] = ema.AveragedNetwork(net, opt.ema)
            net = processes.distribute(net, self) if self.isTrain else net
            setattr(self, "net" + name, net)

    def _watch_optimizers(self):
        """Check every optimizer's steps, including those that a subclass makes itself, and average after them."""
        for optimizer in self.optimizers:
            optimizer.register_step_pre_hook(lambda *_: gradients.require_last(self.step_part, type(self).__name__))
            self.guard.watch(optimizer, self.scale)
            ema.update_after_steps(self.averages, self.networks(), optimizer)

    def networks(self) -> dict[str, torch.nn.Module]:
        """Return the networks of model_names by name."""
        return {name: getattr(self, "net" + name) for name in self.model_names if isinstance(name, str)}

    def print_networks(self, verbose=False):
        """Print the number of parameters of each network, and its structure if asked."""
        print("---------- Networks ----------")
        for name, net in self.networks().items():
            if verbose:
                print(net)
            count = sum(p.numel() for p in net.parameters()) / 1e6
            print(f"[Network {name}] Total number of parameters : {count:.3f} M")
        print("------------------------------")

    # ---- one step ----

    def begin_batch(self, step_part: StepPart):
        """Set what the next batch is of an optimizer step; without this call each batch is a whole step."""
        self.step_part = step_part

    @contextmanager
    def update(self, optimizer, *nets):
        """One optimizer step on `nets`; every other network is frozen while the body runs backward.

        With `--grad_accum K` the gradients of K batches are summed, and the K-th makes the step with their mean.
        """
        with gradients.frozen(net for net in self.networks().values() if net not in nets):
            if self.step_part.first:
                optimizer.zero_grad(set_to_none=True)
            else:
                gradients.scale_gradients(optimizer, self.step_part.rescale)
            yield
            if self.step_part.last:
                gradients.scale_gradients(optimizer, self.step_part.weight)
                optimizer.step()
            else:
                self.guard.note_images(optimizer)

    def gradient_penalty(self, netD, real, fake):
        """Return wgangp's penalty on D's gradient between real and fake images, 0 for other objectives."""
        weight = getattr(self.opt, "lambda_gp", 0.0) if self.opt.gan_mode == "wgangp" else 0.0
        netD = unwrap(netD)  # DDP's wrapper does not allow differentiating a gradient
        return losses.cal_gradient_penalty(netD, real, fake.detach(), self.device, lambda_gp=weight)[0]

    def set_requires_grad(self, nets, requires_grad=False):
        """Freeze or unfreeze one network or a list of them."""
        for net in filter(None, nets if isinstance(nets, list) else [nets]):
            net.requires_grad_(requires_grad)

    def update_learning_rate(self):
        """Step the schedulers, at the end of an epoch."""
        has_metric = "metric" in vars(self) or type(self).metric is not BaseModel.metric
        plateau = self.opt.lr_policy == "plateau" and has_metric
        schedulers.step_all(self.schedulers, processes.from_main(float(self.metric)) if plateau else None)

    # ---- using and showing ----

    def eval(self):
        """Put the networks into evaluation mode: batch norm's running statistics, no dropout."""
        for net in self.networks().values():
            net.eval()

    def train(self):
        """Put the networks into training mode."""
        for net in self.networks().values():
            net.train()

    def test(self):
        """Compute the outputs and the images to show, without gradients."""
        with torch.no_grad():
            self.forward()
            self.compute_visuals()

    def compute_visuals(self):
        """Compute further images to show; a hook."""

    def get_image_paths(self):
        """Return the paths of the images of this batch."""
        return self.image_paths

    def get_current_visuals(self):
        """Return the images to show, by name."""
        return OrderedDict((name, getattr(self, name)) for name in self.visual_names if isinstance(name, str))

    def get_current_losses(self):
        """Return the losses by name, as floats, averaged over torchrun's processes. Waits for the device."""
        names = [name for name in self.loss_names if isinstance(name, str)]
        losses = [torch.as_tensor(getattr(self, "loss_" + name)).detach().reshape(()) for name in names]
        losses = [loss.to(self.device, torch.float32) for loss in losses]
        values = processes.average(torch.stack(losses), self.step_part.share) if losses else torch.empty(0)
        self.guard.check()
        return OrderedDict(zip(names, values.tolist(), strict=True))
