#!/usr/bin/env bash
# Colour the test set with what train_colorization.sh trained; options can be added.
set -ex
CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."
"${PYTHON:-python}" test.py --dataroot ./datasets/colorization --name color_pix2pix --model colorization "$@"
