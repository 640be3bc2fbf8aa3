#!/usr/bin/env bash
# Train CycleGAN on maps <-> aerial photos (datasets/download_cyclegan_dataset.sh maps); options can be added.
set -ex
CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."
"${PYTHON:-python}" train.py --dataroot ./datasets/maps --name maps_cyclegan --model cycle_gan \
  --pool_size 50 --no_dropout "$@"
