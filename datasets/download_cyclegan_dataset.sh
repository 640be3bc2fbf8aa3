#!/usr/bin/env bash
# Fetch one of the CycleGAN paper's datasets into ./datasets/NAME (trainA, trainB, testA, testB).
set -euo pipefail
CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."
exec "${PYTHON:-python3}" -m util.download.published cyclegan_dataset "$@"
