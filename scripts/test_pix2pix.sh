#!/usr/bin/env bash
# Translate the test set with what train_pix2pix.sh trained; options can be added.
set -ex
CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."
"${PYTHON:-python}" test.py --dataroot ./datasets/facades --name facades_pix2pix --model pix2pix \
  --netG unet_256 --direction BtoA --dataset_mode aligned --norm batch "$@"
