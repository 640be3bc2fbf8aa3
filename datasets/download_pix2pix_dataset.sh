#!/usr/bin/env bash
# Fetch one of the pix2pix paper's datasets into ./datasets/NAME (a folder of side-by-side pairs for each split).
set -euo pipefail
CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."
exec "${PYTHON:-python3}" -m util.download.published pix2pix_dataset "$@"
