"""How large a patch should the discriminator judge? A pixel, 16, 70 or 286 pixels, which is the whole image.

The pix2pix paper's section 4.4, table 3 and figure 6: single pixels give colour but no structure, 16 pixels sharp
tiles, 70 do best, and the whole image does not gain on them. --quick: about 7 minutes on two cores.

    python scripts/studies/patches.py --quick
    python scripts/studies/patches.py --dataroot ./datasets/facades --direction BtoA
"""

from study import Study, main

STUDY = Study(
    name="patches",
    about=__doc__,
    model="pix2pix",
    arms={
        "1 x 1": "--netD pixel",
        "16 x 16": "--netD n_layers --n_layers_D 1",
        "70 x 70": "",
        "286 x 286": "--netD n_layers --n_layers_D 5",
    },
    papers={
        "paper, table 3 (Cityscapes, labels → photo): per-pixel acc., per-class acc., class IoU": {
            "1 x 1": "0.39, 0.15, 0.10",
            "16 x 16": "0.65, 0.21, 0.17",
            "70 x 70": "0.66, 0.23, 0.17",
            "286 x 286": "0.42, 0.16, 0.11",
        },
    },
)

if __name__ == "__main__":
    main(STUDY)
