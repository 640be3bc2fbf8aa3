"""A model to start from: copy this file to `models/foo_model.py`, name the class FooModel, and type `--model foo`.

It learns a translation from pairs by regression alone, without a discriminator: min_G |G(A) - B|.
"""

from __future__ import annotations

import torch

from models import networks
from models.base_model import BaseModel


class TemplateModel(BaseModel):
    """The five methods that make a model: options, construction, input, output, one training step."""

    needs_pairs = True  # A's target is B: train.py warns if the dataset has no pairs

    @staticmethod
    def modify_commandline_options(parser, is_train=True):
        """Add options of this model, and change defaults of others."""
        parser.set_defaults(dataset_mode="aligned", norm="batch", no_dropout=True)
        if is_train:
            parser.add_argument("--lambda_regression", type=float, default=1.0, help="weight of the regression loss")
        return parser

    def __init__(self, opt):
        BaseModel.__init__(self, opt)  # first, always
        self.loss_names = ["G"]  # logged: self.loss_G
        self.visual_names = ["data_A", "data_B", "output"]  # shown: self.data_A, ...
        self.model_names = ["G"]  # saved: self.netG
        self.netG = networks.define_G(
            opt.input_nc, opt.output_nc, opt.ngf, opt.netG, opt.norm, not opt.no_dropout, opt.init_type, opt.init_gain
        )
        if self.isTrain:
            self.criterionLoss = torch.nn.L1Loss()
            self.optimizer = torch.optim.Adam(self.netG.parameters(), lr=opt.lr, betas=(opt.beta1, 0.999), fused=True)
            self.optimizers = [self.optimizer]

    def set_input(self, input):
        """Take a batch of the dataset."""
        AtoB = self.opt.direction == "AtoB"
        self.data_A = input["A" if AtoB else "B"].to(self.device)  # (N, input_nc, H, W)
        self.data_B = input["B" if AtoB else "A"].to(self.device)  # (N, output_nc, H, W)
        self.image_paths = input["A_paths" if AtoB else "B_paths"]

    def forward(self):
        """Translate; test.py calls this too."""
        self.output = self.netG(self.data_A)

    def backward(self):
        """Compute the losses and their gradients."""
        self.loss_G = self.criterionLoss(self.output, self.data_B) * self.opt.lambda_regression
        self.loss_G.backward()

    def optimize_parameters(self):
        """Make one training step; train.py calls this for every batch."""
        self.forward()
        with self.update(self.optimizer, self.netG):
            self.backward()
