#!/usr/bin/env bash
# Fetch one of the pix2pix paper's data sets into ./datasets/NAME (a folder of side-by-side pairs for each split).
set -euo pipefail
source "$(dirname -- "${BASH_SOURCE[0]}")/../scripts/download.sh"
base=${BASE_URL:-http://efrosgans.eecs.berkeley.edu/pix2pix/datasets}

name=$(choose "data set" "night2day edges2handbags edges2shoes facades maps cityscapes" "$@")

split=''
case $name in
  cityscapes) explain_cityscapes ;;
  facades | maps) split=train ;;
esac
fetch_dataset "${base%/}/$name.tar.gz" "./datasets/$name" "$split"
direction=''
if [ "$name" = facades ]; then direction=' --direction BtoA'; fi # labels to photos
echo "next: python train.py --dataroot ./datasets/$name --name ${name}_pix2pix --model pix2pix$direction"
