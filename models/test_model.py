"""One direction alone: translate images with a generator of any model."""

from __future__ import annotations

from models import networks
from models.base_model import BaseModel
from util.errors import UserError


class TestModel(BaseModel):
    """Load `{epoch}_net_G{model_suffix}.pth`; the suffix is `_A` or `_B` for a network of CycleGAN.

    Without `--model_suffix` the options choose it by `--direction` where there is no `{epoch}_net_G.pth`.
    """

    __test__ = False  # not a test, whatever pytest makes of the name

    @staticmethod
    def modify_commandline_options(parser, is_train=True):
        if is_train:
            raise UserError("--model test only translates; train with --model pix2pix or cycle_gan, or type test.py")
        parser.set_defaults(dataset_mode="single")
        suffix = "load [epoch]_net_G[model_suffix].pth; if not typed, --direction takes a CycleGAN's _A or _B"
        parser.option("--model_suffix", "", suffix)
        return parser

    def __init__(self, opt):
        BaseModel.__init__(self, opt)
        self.visual_names = ["real", "fake"]
        self.model_names = ["G" + opt.model_suffix]
        self.netG = networks.define_G(
            opt.input_nc, opt.output_nc, opt.ngf, opt.netG, opt.norm, not opt.no_dropout, opt.init_type, opt.init_gain
        )
        setattr(self, "netG" + opt.model_suffix, self.netG)  # the name under which it is loaded

    def set_input(self, input):
        self.real = input["A"].to(self.device, non_blocking=True)
        self.image_paths = input["A_paths"]

    def forward(self):
        self.fake = self.netG(self.real)

    def optimize_parameters(self):
        """Nothing is trained here."""
