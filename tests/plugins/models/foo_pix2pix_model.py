# ruff: noqa
# fmt: off
"""A subclass of pix2pix with smoothed labels and a total variation; kept in its author's style."""
import torch
from .pix2pix_model import Pix2PixModel


class FooPix2PixModel(Pix2PixModel):
    @staticmethod
    def modify_commandline_options(parser, is_train=True):
        parser = Pix2PixModel.modify_commandline_options(parser, is_train)
        if is_train:
            parser.add_argument('--lambda_tv', type=float, default=10.0, help='weight of the total variation')
        return parser

    def __init__(self, opt):
        super(FooPix2PixModel, self).__init__(opt)
        self.loss_names = self.loss_names + ['G_TV']

    def backward_D(self):
        fake_AB = torch.cat((self.real_A, self.fake_B), 1)
        pred_fake = self.netD(fake_AB.detach())
        self.loss_D_fake = self.criterionGAN(pred_fake, False)
        real_AB = torch.cat((self.real_A, self.real_B), 1)
        pred_real = self.netD(real_AB)
        self.loss_D_real = self.criterionGAN(pred_real, True)
        self.loss_D = (self.loss_D_fake + self.loss_D_real) * 0.5
        self.loss_D.backward()

    def backward_G(self):
        fake_AB = torch.cat((self.real_A, self.fake_B), 1)
        pred_fake = self.netD(fake_AB)
        self.loss_G_GAN = self.criterionGAN(pred_fake, True)
        self.loss_G_L1 = self.criterionL1(self.fake_B, self.real_B) * self.opt.lambda_L1
        dx = self.fake_B[:, :, :, 1:] - self.fake_B[:, :, :, :-1]
        self.loss_G_TV = dx.abs().mean() * self.opt.lambda_tv
        self.loss_G = self.loss_G_GAN + self.loss_G_L1 + self.loss_G_TV
        self.loss_G.backward()
