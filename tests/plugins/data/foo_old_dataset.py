# ruff: noqa
# fmt: off
"""Written as for the reference of 2018 to July 2025; kept in its author's style."""
import os.path
import random
import torchvision.transforms as transforms
from data.base_dataset import BaseDataset, get_params, get_transform
from data.image_folder import make_dataset
from PIL import Image


class FooOldDataset(BaseDataset):
    @staticmethod
    def modify_commandline_options(parser, is_train):
        parser.add_argument('--max_gain', type=float, default=2.0, help='gains are drawn from 1 to this')
        parser.set_defaults(max_dataset_size=float('inf'))
        return parser

    def __init__(self, opt):
        BaseDataset.__init__(self, opt)
        self.dir_AB = os.path.join(opt.dataroot, opt.phase)
        self.AB_paths = sorted(make_dataset(self.dir_AB, opt.max_dataset_size))
        assert(self.opt.load_size >= self.opt.crop_size)
        self.input_nc = self.opt.output_nc if self.opt.direction == 'BtoA' else self.opt.input_nc
        self.output_nc = self.opt.input_nc if self.opt.direction == 'BtoA' else self.opt.output_nc

    def __getitem__(self, index):
        AB_path = self.AB_paths[index % len(self.AB_paths)]
        AB = Image.open(AB_path).convert('RGB')
        w, h = AB.size
        w2 = int(w / 2)
        A = AB.crop((0, 0, w2, h))
        B = AB.crop((w2, 0, w, h))
        transform_params = get_params(self.opt, A.size)
        A_transform = get_transform(self.opt, transform_params, grayscale=(self.input_nc == 1), method=Image.BICUBIC)
        B_transform = get_transform(self.opt, transform_params, grayscale=(self.output_nc == 1))
        gray = transforms.Compose([transforms.Grayscale(1), transforms.ToTensor()])
        gain = random.uniform(1, self.opt.max_gain)
        if random.random() < 0.5:
            gain = 1.0
        return {'A': A_transform(A), 'B': B_transform(B), 'A_paths': AB_path, 'B_paths': AB_path,
                'gain': gain, 'mask': gray(A), 'index': index, 'note': 'item %d' % random.randint(0, 9)}

    def __len__(self):
        return len(self.AB_paths)
