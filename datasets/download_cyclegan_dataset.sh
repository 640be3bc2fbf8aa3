#!/usr/bin/env bash
# Fetch one of the CycleGAN paper's data sets into ./datasets/NAME (trainA, trainB, testA, testB).
set -euo pipefail
source "$(dirname -- "${BASH_SOURCE[0]}")/../scripts/download.sh"
base=${BASE_URL:-http://efrosgans.eecs.berkeley.edu/cyclegan/datasets}

names="apple2orange summer2winter_yosemite horse2zebra monet2photo cezanne2photo ukiyoe2photo vangogh2photo maps
  cityscapes facades iphone2dslr_flower ae_photos mini mini_pix2pix mini_colorization"
name=$(choose "data set" "$names" "$@")

split=''
case $name in
  cityscapes) explain_cityscapes ;;
  facades | maps) split=trainA ;;
esac
fetch_dataset "${base%/}/$name.zip" "./datasets/$name" "$split"
case $name in
  mini_pix2pix | mini_colorization | ae_photos) ;;
  *) echo "next: python train.py --dataroot ./datasets/$name --name ${name}_cyclegan --model cycle_gan" ;;
esac
