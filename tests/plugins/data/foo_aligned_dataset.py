# ruff: noqa
# fmt: off
"""A subclass of AlignedDataset that turns A upside down; kept in its author's style."""
import torch
from data.aligned_dataset import AlignedDataset


class FooAlignedDataset(AlignedDataset):
    def __init__(self, opt):
        AlignedDataset.__init__(self, opt)
        self.AB_paths = self.AB_paths[1:]
        print('aligned in %s, %d of them, %d to %d channels' % (self.dir_AB, len(self.AB_paths), self.input_nc, self.output_nc))

    def __getitem__(self, index):
        item = AlignedDataset.__getitem__(self, index)
        item['A'] = torch.flip(item['B'], [1])
        return item
