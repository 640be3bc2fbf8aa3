"""pix2pix: image-to-image translation with conditional adversarial networks (Isola et al. 2017), from paired images."""

from __future__ import annotations

import torch

from models import networks, shared_passes
from models.base_model import BaseModel
from util.speed import cuda_graphs


class Pix2PixModel(BaseModel):
    """G* = arg min_G max_D  lambda_GAN * L_cGAN(G, D) + lambda_L1 * L_L1(G)   (section 3.1, equation 4).

    D sees the input beside the image that it judges. The noise z of the paper is dropout within G.
    """

    captured_inputs = ("real_A", "real_B")

    needs_pairs = True

    @staticmethod
    def modify_commandline_options(parser, is_train=True):
        parser.set_defaults(norm="batch", netG="unet_256", dataset_mode="aligned")
        if is_train:
            parser.set_defaults(pool_size=0, gan_mode="vanilla")
            add = parser.option
            add("--lambda_L1", 100.0, "weight of the L1 loss; 0: GAN alone")
            add("--lambda_GAN", 1.0, "weight of the GAN loss; 0: L1 alone (D still trains)", new=True)
            add("--lambda_gp", 10.0, "gradient penalty's weight in wgangp", new=True)
            add("--unconditional_D", False, "D sees the image without the input (the paper's 'GAN')", new=True)
        return parser

    def __init__(self, opt):
        BaseModel.__init__(self, opt)
        self.loss_names = ["G_GAN", "G_L1", "D_real", "D_fake"]
        self.visual_names = ["real_A", "fake_B", "real_B"]
        self.model_names = ["G", "D"] if self.isTrain else ["G"]
        self.netG = networks.define_G(
            opt.input_nc, opt.output_nc, opt.ngf, opt.netG, opt.norm, not opt.no_dropout, opt.init_type, opt.init_gain
        )
        if self.isTrain:
            # A subclass written for the reference may have its own options without these.
            self.lambda_GAN = getattr(opt, "lambda_GAN", 1.0)
            self.conditional = not getattr(opt, "unconditional_D", False)
            input_nc = opt.output_nc + (opt.input_nc if self.conditional else 0)
            self.netD = networks.define_D(
                input_nc, opt.ndf, opt.netD, opt.n_layers_D, opt.norm, opt.init_type, opt.init_gain
            )
            self.criterionGAN = networks.GANLoss(opt.gan_mode).to(self.device)
            self.criterionL1 = torch.nn.L1Loss()
            self.optimizer_G = torch.optim.Adam(self.netG.parameters(), lr=opt.lr, betas=(opt.beta1, 0.999), fused=True)
            self.optimizer_D = torch.optim.Adam(self.netD.parameters(), lr=opt.lr, betas=(opt.beta1, 0.999), fused=True)
            self.optimizers = [self.optimizer_G, self.optimizer_D]

    def set_input(self, input):
        A, B = ("A", "B") if self.opt.direction == "AtoB" else ("B", "A")
        self.real_A = input[A].to(self.device, non_blocking=True)
        self.real_B = input[B].to(self.device, non_blocking=True)
        self.image_paths = input[A + "_paths"]

    def forward(self):
        self.fake_B = self.netG(self.real_A)  # G(A)

    def seen_by_D(self, image_B):
        """Return what D judges: the pair (A, image_B), or image_B alone."""
        return torch.cat([self.real_A, image_B], 1) if self.conditional else image_B

    def backward_D(self):
        """Half the sum of the losses on fake and real pairs; the half slows D down (section 3.3)."""
        fake, real = self.seen_by_D(self.fake_B.detach()), self.seen_by_D(self.real_B)
        pred_fake, pred_real = shared_passes.run(self.netD, fake, real)
        self.loss_D_fake = self.criterionGAN(pred_fake, False)
        self.loss_D_real = self.criterionGAN(pred_real, True)
        self.loss_D = (self.loss_D_fake + self.loss_D_real + self.gradient_penalty(self.netD, real, fake)) * 0.5
        self.loss_D.backward()

    def backward_G(self):
        """G is to fool D and to stay near B in L1."""
        self.loss_G_GAN = self.criterionGAN(self.netD(self.seen_by_D(self.fake_B)), True) * self.lambda_GAN
        self.loss_G_L1 = self.criterionL1(self.fake_B, self.real_B) * self.opt.lambda_L1  # |G(A) - B|
        self.loss_G = self.loss_G_GAN + self.loss_G_L1
        self.loss_G.backward()

    @cuda_graphs.captured
    def optimize_parameters(self):
        self.forward()
        with self.update(self.optimizer_D, self.netD):
            self.backward_D()
        with self.update(self.optimizer_G, self.netG):
            self.backward_G()
