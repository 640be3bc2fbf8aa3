#!/usr/bin/env bash
# From nothing to translated pictures of the Earth: environment, data, training, test, score.
#   bash scripts/quickstart.sh              pix2pix: satellite to shaded relief, learned from pairs
#   bash scripts/quickstart.sh cycle_gan    the same task, learned without pairs
# A second run reuses what is there; FRESH=1 trains anew. Without a CUDA GPU the tiles and the networks are smaller.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

model=${1:-pix2pix}
case $model in
    pix2pix | cycle_gan) ;;
    *) echo "error: quickstart.sh $model: the choices are pix2pix (the default) and cycle_gan" >&2; exit 1 ;;
esac

say() { printf '\n[%d:%02d] %s\n' $((SECONDS / 60)) $((SECONDS % 60)) "$*"; } # the time since the start
run() { echo "  $ ${*/#.venv\/bin\/python/python}"; "$@"; }                      # prints the command to type

say "1/5 environment: .venv"
bash scripts/setup_env.sh
python=.venv/bin/python

if "$python" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())'; then
    echo "CUDA found: full size and the models' defaults, 200 epochs; look at the training page while it trains"
    size=256 data=./datasets/earth name=earth_$model
    options=()
else
    echo "no CUDA GPU here: smaller tiles and networks, a few minutes of training (on 2 cores pix2pix takes 6, cycle_gan 10)"
    size=128 data=./datasets/earth128 name=earth128_$model
    options=(--load_size 143 --crop_size 128 --num_threads 2)
    if [ "$model" = pix2pix ]; then
        options+=(--netG unet_128 --ngf 32 --ndf 32 --no_dropout --n_epochs 2 --n_epochs_decay 2)
    else
        options+=(--netG resnet_6blocks --ngf 16 --ndf 16 --n_epochs 2 --n_epochs_decay 2)
    fi
fi
if [ "$model" = pix2pix ]; then target=$data/train; else target=$data/trainB; fi

say "2/5 data: satellite pictures and relief, $size-px tiles"
run "$python" datasets/make_earth_dataset.py --size "$size" --out "$data"

say "3/5 training: $model"
train=("$python" train.py --dataroot "$data" --name "$name" --model "$model" ${options[@]+"${options[@]}"} --display_id -1)
done_mark=checkpoints/$name/.trained # holds the command that trained this checkpoint to its end
if [ -z "${FRESH:-}" ] && [ -f "$done_mark" ] && [ "$(cat "$done_mark")" = "${train[*]}" ]; then
    echo "checkpoints/$name is trained already (FRESH=1 trains it anew)"
else
    rm -f "$done_mark"
    run "${train[@]}"
    echo "${train[*]}" >"$done_mark"
fi

say "4/5 test: the tiles of longitudes that training never saw"
rm -rf "results/$name/test_latest" # images of an earlier dataset would be scored too
run "$python" test.py --dataroot "$data" --name "$name" --num_test inf

say "5/5 score"
run "$python" scripts/evaluate.py "results/$name/test_latest" --paired --output fake_B --train_B "$target"

say "done"
echo "look at the results:  results/$name/test_latest/index.html"
echo "look at the training: checkpoints/$name/web/index.html"
if [ "$model" = pix2pix ]; then
    echo "learn without pairs:  bash scripts/quickstart.sh cycle_gan"
fi
echo "train on your pictures: see docs/datasets.md"
