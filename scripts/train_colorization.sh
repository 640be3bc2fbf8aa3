#!/usr/bin/env bash
# Train colorization on the photos in datasets/colorization/train; options can be added.
set -ex
CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."
"${PYTHON:-python}" train.py --dataroot ./datasets/colorization --name color_pix2pix --model colorization "$@"
