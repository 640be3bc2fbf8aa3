#!/usr/bin/env bash
# Fetch the FCN-8s that scores Cityscapes results into ./scripts/eval_cityscapes/caffemodel/.
set -euo pipefail
CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../.."
exec "${PYTHON:-python3}" -m util.download.published fcn8s "$@"
