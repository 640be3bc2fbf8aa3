#!/usr/bin/env bash
# Fetch one of the pix2pix paper's generators into ./checkpoints/NAME_pretrained/latest_net_G.pth.
set -euo pipefail
CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."
exec "${PYTHON:-python3}" -m util.download.published pix2pix_model "$@"
