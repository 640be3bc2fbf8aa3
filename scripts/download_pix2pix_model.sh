#!/usr/bin/env bash
# Fetch one of the pix2pix paper's generators into ./checkpoints/NAME_pretrained/latest_net_G.pth.
set -euo pipefail
source "$(dirname -- "${BASH_SOURCE[0]}")/download.sh"
base=${BASE_URL:-http://efrosgans.eecs.berkeley.edu/pix2pix/models-pytorch}

name=$(choose model "edges2shoes sat2map map2sat facades_label2photo day2night" "$@")

fetch_weights pix2pix "${base%/}/$name.pth" \
  "./checkpoints/${name}_pretrained/latest_net_G.pth"
case $name in
  facades_label2photo) dataroot='./datasets/facades --direction BtoA' ;;
  map2sat) dataroot='./datasets/maps --direction BtoA' ;;
  sat2map) dataroot=./datasets/maps ;;
  *) dataroot=FOLDER_OF_PAIRS ;;
esac
echo "next: python test.py --dataroot $dataroot --model pix2pix --name ${name}_pretrained"
