#!/usr/bin/env bash
# Translate a folder of labels with what train_pix2pix.sh trained; options can be added.
# testB comes with the facades of datasets/download_cyclegan_dataset.sh, which may join those of pix2pix.
set -ex
CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."
"${PYTHON:-python}" test.py --dataroot ./datasets/facades/testB/ --name facades_pix2pix --model test \
  --netG unet_256 --direction BtoA --dataset_mode single --norm batch "$@"
