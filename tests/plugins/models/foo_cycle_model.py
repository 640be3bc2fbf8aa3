# ruff: noqa
# fmt: off
"""A subclass of CycleGAN that counts what is called and weights D's losses; kept in its author's style."""
from .cycle_gan_model import CycleGANModel


class FooCycleModel(CycleGANModel):
    @staticmethod
    def modify_commandline_options(parser, is_train=True):
        parser = CycleGANModel.modify_commandline_options(parser, is_train)
        if is_train:
            parser.add_argument('--weight_D', type=float, default=0.5, help='weight of both halves of the loss of D')
        return parser

    def __init__(self, opt):
        CycleGANModel.__init__(self, opt)
        if self.isTrain:
            self.loss_names += ['calls_D', 'calls_D_A', 'calls_D_B', 'calls_G']
            self.loss_calls_D = self.loss_calls_D_A = self.loss_calls_D_B = self.loss_calls_G = 0

    def backward_D_basic(self, netD, real, fake):
        self.loss_calls_D += 1
        pred_real = netD(real)
        loss_D_real = self.criterionGAN(pred_real, True)
        pred_fake = netD(fake.detach())
        loss_D_fake = self.criterionGAN(pred_fake, False)
        loss_D = (loss_D_real + loss_D_fake) * self.opt.weight_D
        loss_D.backward()
        return loss_D

    def backward_D_A(self):
        self.loss_calls_D_A += 1
        fake_B = self.fake_B_pool.query(self.fake_B)
        self.loss_D_A = self.backward_D_basic(self.netD_A, self.real_B, fake_B)

    def backward_D_B(self):
        self.loss_calls_D_B += 1
        fake_A = self.fake_A_pool.query(self.fake_A)
        self.loss_D_B = self.backward_D_basic(self.netD_B, self.real_A, fake_A)

    def backward_G(self):
        self.loss_calls_G += 1
        CycleGANModel.backward_G(self)
