# ruff: noqa
# fmt: off
"""Written as for the reference of 2018 to July 2025; kept in its author's style."""
import os
import itertools
import torch
from collections import OrderedDict
from util.image_pool import ImagePool
import util.util as util
from .base_model import BaseModel
from . import networks


class FooOldModel(BaseModel):
    def name(self):
        return 'FooOldModel'

    @staticmethod
    def modify_commandline_options(parser, is_train=True):
        parser.set_defaults(norm='batch', netG='unet_32', dataset_mode='foo_old', no_dropout=True)
        parser.add_argument('--extra_blocks', type=int, default=1, help='residual blocks of the refiner')
        if is_train:
            parser.set_defaults(pool_size=2, gan_mode='lsgan')
            parser.add_argument('--lambda_rec', type=float, default=25.0, help='weight of the reconstruction')
            parser.add_argument('--lambda_tv', type=float, default=0.5, help='weight of the total variation')
        return parser

    def __init__(self, opt):
        BaseModel.__init__(self, opt)
        self.loss_names = ['G_GAN', 'G_rec', 'G_TV', 'D_real', 'D_fake', 'D_steps']
        self.visual_names = ['real_A', 'coarse_B', 'fake_B', 'real_B']
        if self.isTrain:
            self.model_names = ['G', 'R', 'D']
        else:
            self.model_names = ['G', 'R']

        self.netG = networks.define_G(opt.input_nc, opt.output_nc, opt.ngf, opt.netG, opt.norm,
                                      not opt.no_dropout, opt.init_type, opt.init_gain, self.gpu_ids)
        norm_layer = networks.get_norm_layer(norm_type='instance')
        refiner = networks.ResnetGenerator(opt.output_nc, opt.output_nc, 4, norm_layer=norm_layer, use_dropout=False,
                                           n_blocks=opt.extra_blocks)
        self.netR = networks.init_net(refiner, opt.init_type, opt.init_gain, self.gpu_ids)

        if self.isTrain:
            self.netD = networks.define_D(opt.input_nc + opt.output_nc, opt.ndf, opt.netD,
                                          opt.n_layers_D, opt.norm, opt.init_type, opt.init_gain, self.gpu_ids)
            self.fake_AB_pool = ImagePool(opt.pool_size)
            self.criterionGAN = networks.GANLoss(opt.gan_mode).to(self.device)
            self.criterionRec = torch.nn.L1Loss()
            self.optimizer_G = torch.optim.Adam(itertools.chain(self.netG.parameters(), self.netR.parameters()),
                                                lr=opt.lr, betas=(opt.beta1, 0.999))
            self.optimizer_D = torch.optim.Adam(self.netD.parameters(), lr=opt.lr, betas=(opt.beta1, 0.999))
            self.optimizers.append(self.optimizer_G)
            self.optimizers.append(self.optimizer_D)
            self.loss_D_steps = 0
            util.mkdirs([os.path.join(self.save_dir, 'notes')])

    def set_input(self, input):
        AtoB = self.opt.direction == 'AtoB'
        self.real_A = input['A' if AtoB else 'B'].to(self.device)
        self.real_B = input['B' if AtoB else 'A'].to(self.device)
        self.gain = input['gain'].to(self.device).float().view(-1, 1, 1, 1)
        self.image_paths = input['A_paths' if AtoB else 'B_paths']

    def forward(self):
        self.coarse_B = self.netG(self.real_A)
        self.fake_B = self.netR(self.coarse_B)

    def backward_D(self):
        fake_AB = self.fake_AB_pool.query(torch.cat((self.real_A, self.fake_B), 1))
        self.loss_D_fake = self.criterionGAN(self.netD(fake_AB.detach()), False)
        self.loss_D_real = self.criterionGAN(self.netD(torch.cat((self.real_A, self.real_B), 1)), True)
        self.loss_D = (self.loss_D_fake + self.loss_D_real) * 0.5
        self.loss_D.backward()

    def backward_G(self):
        self.loss_G_GAN = self.criterionGAN(self.netD(torch.cat((self.real_A, self.fake_B), 1)), True)
        self.loss_G_rec = self.criterionRec(self.fake_B * self.gain, self.real_B * self.gain) * self.opt.lambda_rec
        tv = (self.fake_B[:, :, 1:] - self.fake_B[:, :, :-1]).abs().mean(dim=(1, 2, 3))
        self.loss_G_TV = tv.mean(0, keepdim=True) * self.opt.lambda_tv  # one element, one dimension
        self.loss_G = self.loss_G_GAN + self.loss_G_rec + self.loss_G_TV.sum()
        self.loss_G.backward()

    def optimize_parameters(self):
        self.forward()
        self.set_requires_grad(self.netD, True)
        self.optimizer_D.zero_grad()
        self.backward_D()
        self.optimizer_D.step()
        self.loss_D_steps += 1
        self.set_requires_grad([self.netD], False)
        self.optimizer_G.zero_grad()
        self.backward_G()
        self.optimizer_G.step()

    def get_current_visuals(self):
        visual_ret = OrderedDict()
        for name in self.visual_names:
            if isinstance(name, str):
                visual_ret[name] = getattr(self, name)
        return visual_ret
