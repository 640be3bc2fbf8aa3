#!/usr/bin/env bash
# Train pix2pix on labels -> facades (datasets/download_pix2pix_dataset.sh facades); options can be added.
set -ex
CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."
"${PYTHON:-python}" train.py --dataroot ./datasets/facades --name facades_pix2pix --model pix2pix \
  --netG unet_256 --direction BtoA --lambda_L1 100 --dataset_mode aligned --norm batch --pool_size 0 "$@"
