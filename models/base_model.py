"""The contract of every model: five methods, four lists, one optimiser-step helper.

The file is long because all that a model may call or override stands in one place.
"""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections import OrderedDict
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import torch
import torch.distributed as dist

from models import architecture, layers, networks
from util.checkpoint import training_state
from util.checkpoint.checkpointer import Checkpointer, load_weights, prefix_of, read, unwrap
from util.checkpoint.ema import Average, load_averages
from util.checkpoint.sources import sources
from util.errors import UserError
from util.monitor.non_finite import Health
from util.runtime import processes
from util.runtime.device import choose_algorithms, choose_device
from util.runtime.step_part import StepPart
from util.speed import cuda_graphs, plan


class BaseModel(ABC):
    """A subclass calls `BaseModel.__init__(self, opt)` first and then fills four lists:

    - model_names: network X is the attribute `netX` and the file `{prefix}_net_X.pth`
    - optimizers: one for each group of networks that is updated together
    - loss_names: loss X is the attribute `loss_X`, a scalar tensor or a number
    - visual_names: image X is the attribute `X`, (N, C, H, W) in [-1, 1]

    and defines set_input, forward and optimize_parameters, and modify_commandline_options for options of its own.
    """

    metric = 0  # what lr_policy plateau watches; a model that has one sets it

    def __init__(self, opt):
        self.opt = opt
        self.isTrain = opt.isTrain
        self.gpu_ids = getattr(opt, "gpu_ids", [])
        self.device = getattr(opt, "device", None) or choose_device(self.gpu_ids)
        self.save_dir = Path(opt.checkpoints_dir) / opt.name
        if self.device.type == "cuda":
            torch.cuda.set_device(self.device)  # where streams and recordings are made
        choose_algorithms(plan.sizes_repeat(opt), getattr(opt, "deterministic", False))
        self.loss_names: list[str] = []
        self.model_names: list[str] = []
        self.visual_names: list[str] = []
        self.optimizers: list[torch.optim.Optimizer] = []
        self.schedulers: list = []
        self.image_paths: list[str] = []
        self.progress = training_state.Progress(epoch=getattr(opt, "epoch_count", 1))
        self.step_part = StepPart()  # what the current batch is of an optimizer step
        self.averages: dict[str, Average] = {}  # of the generators' weights (--ema)
        self.best_so_far: training_state.Best | None = None  # epoch, by what util.monitor.validation measures
        self.scale: plan.Scale | None = None  # of gradients within networks, in float16
        self.health = Health(self)
        self.checkpoints = Checkpointer(self.save_dir)

    @staticmethod
    def modify_commandline_options(parser, is_train):
        """Add the model's own options and change defaults; return the parser."""
        return parser

    @abstractmethod
    def set_input(self, input):
        """Take a batch from the data set: tensors to self.device, paths to self.image_paths."""

    @abstractmethod
    def forward(self):
        """Compute the outputs of the generators."""

    @abstractmethod
    def optimize_parameters(self):
        """Make one training step."""

    # ---- setting up ----

    def setup(self, opt):
        """Load what is to be loaded, move the networks to their device, make the schedulers, print the networks."""
        prefix = prefix_of(opt)
        resume = self.isTrain and opt.continue_train
        if resume:
            if processes.is_main():
                self.checkpoints.complete_earlier()
            processes.from_main(None)  # the others read after that
        if resume or not self.isTrain:
            self.load_networks(prefix)
        elif getattr(opt, "init_from", ""):
            self.load_from(opt.init_from, prefix)
        self.scale = plan.make_scale(opt, self.device)
        for name, net in self.networks().items():
            net = net.to(self.device)
            layers.recompute_stages(net, self.isTrain and getattr(opt, "grad_checkpoint", False))
            plan.accelerate(net, opt, self.device, self.scale, ours="capturable" in vars(type(self)))
            if self.isTrain and getattr(opt, "ema", 0) and name.startswith("G"):
                self.averages[name] = Average(net, opt.ema)
            net = processes.distribute(net, lambda: self.step_part.share) if self.isTrain else net
            setattr(self, "net" + name, net)
        if self.isTrain:
            for optimizer in self.optimizers:
                self.watch(optimizer)
            state = training_state.restore(self, prefix) if resume else {}
            self.schedulers = [networks.get_scheduler(optimizer, opt) for optimizer in self.optimizers]
            training_state.restore_plateaus(self.schedulers, state.get("plateaus", []))
            if resume and self.averages:
                load_averages(self.averages, self.checkpoints, prefix)
            if plan.has(opt, "capture"):
                cuda_graphs.install(self)
        self.print_networks(opt.verbose)

    def watch(self, optimizer):
        """Check what `optimizer` applies, whoever calls its step, and average the generators that it trains."""
        averaged = [name for name in self.averages if trains(optimizer, self.networks()[name])]

        def complete(*_):
            if not self.step_part.last:
                raise UserError(
                    f"--grad_accum: {type(self).__name__} steps its optimizers after every batch; let it compute "
                    "gradients within `with self.update(optimizer, net):`, which steps when the batches are complete"
                )

        def average(*_):
            for name in averaged:
                self.averages[name].update(unwrap(self.networks()[name]))

        optimizer.register_step_pre_hook(complete)
        self.health.watch(optimizer, self.scale)
        if averaged:
            optimizer.register_step_post_hook(average)

    def networks(self) -> dict[str, torch.nn.Module]:
        """Return the networks of model_names by name."""
        return {name: getattr(self, "net" + name) for name in self.model_names if isinstance(name, str)}

    def print_networks(self, verbose=False):
        """Print the number of parameters of each network, and its structure if asked."""
        print("---------- Networks ----------")
        for name, net in self.networks().items():
            if verbose:
                print(net)
            count = sum(p.numel() for p in net.parameters())
            print(f"[Network {name}] Total number of parameters : {count / 1e6:.3f} M")
        print("------------------------------")

    # ---- one step ----

    def begin_batch(self, step_part: StepPart):
        """Set what the next batch is of an optimizer step; without this call each batch is a whole step."""
        self.step_part = step_part

    @contextmanager
    def update(self, optimizer, *nets):
        """One optimizer step on `nets`; every other network is frozen while the body runs backward.

        With `--grad_accum K` the gradients of K batches are summed up, and the K-th makes the step, with their mean.
        """
        frozen = [p for net in self.networks().values() if net not in nets for p in net.parameters() if p.requires_grad]
        for p in frozen:
            p.requires_grad_(False)
        try:
            if self.step_part.first:
                optimizer.zero_grad(set_to_none=True)
            else:
                scale_gradients(optimizer, self.step_part.rescale)
            yield
            if self.step_part.last:
                scale_gradients(optimizer, self.step_part.weight)
                optimizer.step()
            else:
                self.health.note_images(optimizer)
        finally:
            for p in frozen:
                p.requires_grad_(True)

    def gradient_penalty(self, netD, real, fake):
        """Return wgangp's penalty on D's gradient between real and fake images, 0 for other objectives."""
        weight = getattr(self.opt, "lambda_gp", 0.0)
        if self.opt.gan_mode != "wgangp" or weight <= 0:
            return 0.0
        # Under DDP the network itself: the wrapper does not allow to differentiate a gradient.
        return networks.cal_gradient_penalty(unwrap(netD), real, fake.detach(), self.device, "mixed", 1.0, weight)[0]

    def set_requires_grad(self, nets, requires_grad=False):
        """Freeze or unfreeze one network or a list of them."""
        for net in nets if isinstance(nets, list) else [nets]:
            if net is not None:
                net.requires_grad_(requires_grad)

    def update_learning_rate(self):
        """Step the schedulers, at the end of an epoch."""
        if not self.schedulers:
            return
        plateau = self.opt.lr_policy == "plateau"
        if plateau and "metric" not in vars(self) and type(self).metric is BaseModel.metric:
            raise UserError(
                f"--lr_policy plateau waits for a metric to stop falling, and {type(self).__name__} never sets "
                "self.metric; choose linear, step or cosine"
            )
        old = self.optimizers[0].param_groups[0]["lr"]
        # One metric for all processes: rates that differ would drive their copies of the weights apart.
        metric = [processes.from_main(float(self.metric))] if plateau else []
        with warnings.catch_warnings():
            # A run that was stopped after an epoch's last step resumes with this, before any optimizer step of its own.
            warnings.filterwarnings("ignore", "Detected call of `lr_scheduler.step")
            for scheduler in self.schedulers:
                scheduler.step(*metric)
        print(f"learning rate {old:.7f} -> {self.optimizers[0].param_groups[0]['lr']:.7f}")

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
        """Compute the outputs and what is shown of them, without gradients."""
        with torch.no_grad():
            self.forward()
            self.compute_visuals()

    def compute_visuals(self):  # noqa: B027 - a hook
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
        if not losses:
            return OrderedDict()
        values = torch.stack([loss.to(self.device, torch.float32) for loss in losses])
        if dist.is_initialized():
            dist.all_reduce(values.mul_(self.step_part.share / processes.world_size()))
        self.health.check()
        return OrderedDict(zip(names, values.tolist(), strict=True))

    # ---- saving and loading ----

    def save_networks(self, prefix):
        """Save the networks as `{prefix}_net_X.pth`, and the training state beside them (every process calls this).

        Raises SaveError, in the main process, if that fails; what was saved before is whole.
        """
        self.health.check()
        state = training_state.collect(self)
        if processes.is_main():
            averages = {f"{name}_ema": average.module for name, average in self.averages.items()}
            self.checkpoints.save(str(prefix), {**self.networks(), **averages}, state)

    def load_networks(self, prefix):
        """Load the networks from `{prefix}_net_X.pth`, with `--ema` in testing the averaged ones."""
        ema = not self.isTrain and getattr(self.opt, "ema", False)
        nets = {name + "_ema" * (ema and name.startswith("G")): net for name, net in self.networks().items()}
        self.checkpoints.load_networks(str(prefix), nets, self.explain_misfit)

    def explain_misfit(self, name, net, state):
        """Say which flags would make network `name` such that a file's state dict fits, or return None."""
        backwards = name.startswith("G_B") and "G_A" in self.model_names  # CycleGAN's, from output_nc to input_nc
        return architecture.explain_misfit(net, state, backwards)

    def load_from(self, where, prefix):
        """Begin with weights of another experiment or of a file; a network that has none there starts afresh."""
        files = sources(where, prefix, list(self.networks()), self.opt.direction)
        for name, net in self.networks().items():
            if name in files:
                print(f"network {name} begins with {files[name]}")
                load_weights(net, read(files[name]), files[name], partial(self.explain_misfit, name))
            else:
                print(f"network {name} begins afresh: {where} has none")


def trains(optimizer, net) -> bool:
    """Whether an optimizer changes a network's weights."""
    trained = {id(p) for group in optimizer.param_groups for p in group["params"]}
    return any(id(p) in trained for p in net.parameters())


def scale_gradients(optimizer, factor: float):
    """Multiply the gradients that an optimizer would apply; 1 costs nothing."""
    gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
    if factor != 1 and gradients:
        torch._foreach_mul_(gradients, factor)
