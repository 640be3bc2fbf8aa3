# ruff: noqa
# fmt: off
"""A generator of its own under its own --netG, another one as an entry of our table, and options that meet ours."""
import torch
import torch.nn as nn
from . import networks
from .template_model import TemplateModel


class SmallNet(nn.Module):
    def __init__(self, input_nc, output_nc, ngf=8, norm_layer=nn.BatchNorm2d, use_dropout=False):
        super(SmallNet, self).__init__()
        model = [nn.Conv2d(input_nc, ngf, 5, padding=2), norm_layer(ngf), nn.ReLU(True)]
        model += [nn.Conv2d(ngf, output_nc, 5, padding=2), nn.Tanh()]
        self.model = nn.Sequential(*model)

    def forward(self, input):
        return self.model(input)


networks.GENERATORS['small_in_table'] = SmallNet


class FooNetModel(TemplateModel):
    @staticmethod
    def modify_commandline_options(parser, is_train=True):
        parser.add_argument('--seed', type=str, default='apple', help='a word')
        parser.add_argument('--load', type=str, default='nothing', help='begins as --load_size and --load_iter do')
        parser.add_argument('--lambda_regression', type=int, default=3, help='an int here')
        parser.add_argument('--widths', type=int, nargs='+', default=[8], help='several numbers')
        parser.set_defaults(dataset_mode='aligned', netG='small_of_mine')
        return parser

    def __init__(self, opt):
        if opt.netG == 'small_of_mine':
            define_G = networks.define_G
            networks.define_G = self.define_G
            TemplateModel.__init__(self, opt)
            networks.define_G = define_G
        else:
            TemplateModel.__init__(self, opt)
        print('seed %r load %r lambda %r widths %r' % (opt.seed, opt.load, opt.lambda_regression, opt.widths))

    def define_G(self, input_nc, output_nc, ngf, netG, norm='batch', use_dropout=False, init_type='normal', init_gain=0.02, gpu_ids=[]):
        net = SmallNet(input_nc, output_nc, self.opt.widths[0], networks.get_norm_layer(norm))
        return networks.init_net(net, init_type, init_gain, gpu_ids)
