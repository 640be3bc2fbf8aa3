#!/usr/bin/env bash
# Fetch the FCN-8s that scores Cityscapes results into ./scripts/eval_cityscapes/caffemodel/.
set -euo pipefail
source "$(dirname -- "${BASH_SOURCE[0]}")/../download.sh"
base=${BASE_URL:-http://efrosgans.eecs.berkeley.edu/pix2pix_extra}

# A caffemodel is a protobuf message that begins with its name or its first layer; it has no checksum.
caffemodel_as() {
  case "$(head -c 1 -- "$2" | od -An -tx1 | tr -d ' \n')" in 0a | 12) ;; *) return 3 ;; esac
  ! is_page "$2" || return 3
  file_as "$1" "$2"
}

[ $# -eq 0 ] || die "usage: bash $0 (it takes no name: there is one file)"
file=./scripts/eval_cityscapes/caffemodel/fcn-8s-cityscapes.caffemodel
if [ -e "$file" ]; then
  echo "$file is there already; it was left as it is"
else
  fetch "${base%/}/${file##*/}" "$file.part" caffemodel_as "$file"
fi
