# ruff: noqa
# fmt: off
"""A subclass of pix2pix that knows no option of pix2pix but lambda_L1; kept in its author's style."""
from models.pix2pix_model import Pix2PixModel


class FooHalfModel(Pix2PixModel):
    @staticmethod
    def modify_commandline_options(parser, is_train=True):
        parser.set_defaults(norm='batch', netG='unet_32', dataset_mode='aligned')
        if is_train:
            parser.set_defaults(pool_size=0, gan_mode='vanilla')
            parser.add_argument('--lambda_L1', type=float, default=50.0, help='weight for L1 loss')
        return parser
