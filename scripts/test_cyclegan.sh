#!/usr/bin/env bash
# Translate the test set with what train_cyclegan.sh trained; options can be added.
set -ex
CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."
"${PYTHON:-python}" test.py --dataroot ./datasets/maps --name maps_cyclegan --model cycle_gan \
  --phase test --no_dropout "$@"
