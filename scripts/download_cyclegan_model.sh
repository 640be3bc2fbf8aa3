#!/usr/bin/env bash
# Fetch one of the CycleGAN paper's generators into ./checkpoints/NAME_pretrained/latest_net_G.pth.
set -euo pipefail
source "$(dirname -- "${BASH_SOURCE[0]}")/download.sh"
base=${BASE_URL:-http://efrosgans.eecs.berkeley.edu/cyclegan/pretrained_models}

names="apple2orange orange2apple summer2winter_yosemite winter2summer_yosemite horse2zebra zebra2horse monet2photo
  style_monet style_cezanne style_ukiyoe style_vangogh sat2map map2sat cityscapes_photo2label cityscapes_label2photo
  facades_photo2label facades_label2photo iphone2dslr_flower"
name=$(choose model "$names" "$@")

fetch_weights cyclegan "${base%/}/$name.pth" \
  "./checkpoints/${name}_pretrained/latest_net_G.pth"
echo "next: python test.py --dataroot FOLDER_OF_IMAGES --name ${name}_pretrained"
