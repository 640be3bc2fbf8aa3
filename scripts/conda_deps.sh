#!/usr/bin/env bash
# Install what requirements.txt names into the active conda environment; options are added.
set -ex
conda install -c conda-forge pytorch torchvision numpy pillow dominate visdom tqdm scikit-image "$@"
