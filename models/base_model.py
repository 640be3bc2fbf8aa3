"""The contract of every model: five methods, four lists, one optimiser-step helper."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections import OrderedDict
from contextlib import contextmanager
from pathlib import Path

import torch
import torch.distributed as dist

from models import networks
from util import runtime, training_state
from util.checkpoint import Checkpointer, unwrap
from util.util import UserError


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
        self.device = getattr(opt, "device", None) or runtime.choose_device(self.gpu_ids)
        self.save_dir = Path(opt.checkpoints_dir) / opt.name
        # Trying out algorithms pays when sizes repeat.
        torch.backends.cudnn.benchmark = opt.preprocess not in ("scale_width", "none")
        self.loss_names: list[str] = []
        self.model_names: list[str] = []
        self.visual_names: list[str] = []
        self.optimizers: list[torch.optim.Optimizer] = []
        self.schedulers: list = []
        self.image_paths: list[str] = []
        self.progress = training_state.Progress(epoch=getattr(opt, "epoch_count", 1))
        self.share = 1.0  # this process's images in the batch, over an equal share; not 1 in a short last batch
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
        prefix = f"iter_{opt.load_iter}" if int(opt.load_iter) > 0 else str(opt.epoch)
        resume = self.isTrain and opt.continue_train
        if resume or not self.isTrain:
            self.load_networks(prefix)
        for name, net in self.networks().items():
            net = net.to(self.device)
            setattr(self, "net" + name, runtime.distribute(net, lambda: self.share) if self.isTrain else net)
        state = training_state.restore(self, prefix) if resume else {}
        if self.isTrain:
            self.schedulers = [networks.get_scheduler(optimizer, opt) for optimizer in self.optimizers]
            training_state.restore_plateaus(self.schedulers, state.get("plateaus", []))
        self.print_networks(opt.verbose)

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

    @contextmanager
    def update(self, optimizer, *nets):
        """One optimizer step on `nets`; every other network is frozen while the body runs backward."""
        frozen = [p for net in self.networks().values() if net not in nets for p in net.parameters() if p.requires_grad]
        for p in frozen:
            p.requires_grad_(False)
        try:
            optimizer.zero_grad(set_to_none=True)
            yield
            optimizer.step()
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
        metric = [runtime.from_main(float(self.metric))] if plateau else []
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
            dist.all_reduce(values.mul_(self.share / runtime.world_size()))
        return OrderedDict(zip(names, values.tolist(), strict=True))

    # ---- saving and loading ----

    def save_networks(self, prefix):
        """Save the networks as `{prefix}_net_X.pth`, and the training state beside them (every process calls this)."""
        state = training_state.collect(self)
        if runtime.is_main():
            self.checkpoints.save(str(prefix), self.networks(), state)

    def load_networks(self, prefix):
        """Load the networks from `{prefix}_net_X.pth`."""
        self.checkpoints.load_networks(str(prefix), self.networks())
