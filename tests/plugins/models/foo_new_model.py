# ruff: noqa
# fmt: off
"""Written as for the reference since August 2025; kept in its author's style."""
import torch
import torch.nn as nn
from pathlib import Path
from models.base_model import BaseModel
from models import networks


class FooNewModel(BaseModel):
    """Regression by a generator, beside a small network E that is not in model_names."""

    @staticmethod
    def modify_commandline_options(parser, is_train=True):
        parser.set_defaults(norm="instance", netG="resnet_6blocks", dataset_mode="foo_new")
        parser.add_argument("--code_nc", type=int, default=3, help="channels of the code")
        opt, _ = parser.parse_known_args()  # what the user typed decides another default
        if opt.code_nc > 4:
            parser.set_defaults(no_dropout=True)
        if is_train:
            parser.set_defaults(lr_policy="plateau")
            parser.add_argument("--start_metric", type=float, default=1.0, help="metric of the first step")
        return parser

    def __init__(self, opt):
        BaseModel.__init__(self, opt)
        self.loss_names = ["G", "E", "metric"]
        self.visual_names = ["data_A", "output"]
        self.model_names = ["G"]
        self.netG = networks.define_G(opt.input_nc, opt.output_nc, opt.ngf, opt.netG, opt.norm, not opt.no_dropout, opt.init_type, opt.init_gain)
        self.netE = nn.Sequential(nn.Conv2d(opt.output_nc, opt.code_nc, 3, padding=1), nn.ReLU()).to(opt.device)
        if self.isTrain:
            self.steps = 0
            self.criterion = nn.L1Loss()
            self.optimizer = torch.optim.Adam(list(self.netG.parameters()) + list(self.netE.parameters()), lr=opt.lr, betas=(opt.beta1, 0.999))
            self.optimizers = [self.optimizer]

    def set_input(self, input):
        self.data_A = input["data_A"].to(self.device)
        self.data_B = input["data_B"].to(self.device)
        self.image_paths = input["path"]

    def forward(self):
        self.output = self.netG(self.data_A)
        self.code = self.netE(self.output)

    def optimize_parameters(self):
        self.forward()
        self.optimizer.zero_grad()
        self.loss_G = self.criterion(self.output, self.data_B)
        self.loss_E = self.code.square().mean()
        (self.loss_G + self.loss_E).backward()
        self.optimizer.step()
        self.steps += 1
        self.metric = torch.tensor(self.opt.start_metric + self.steps)  # never falls, so the rate does
        self.loss_metric = self.metric

    def save_networks(self, epoch):
        super().save_networks(epoch)
        torch.save(self.netE.state_dict(), self.save_dir / f"{epoch}_net_E.pth")

    def load_networks(self, epoch):
        super().load_networks(epoch)
        path = Path(self.save_dir) / f"{epoch}_net_E.pth"
        self.netE.load_state_dict(torch.load(path, map_location=str(self.device), weights_only=True))
        print(f"loaded E, bias {self.netE[0].bias.abs().sum().item():.6f}")
