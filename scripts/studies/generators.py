"""U-Net or encoder-decoder? The same generator with and without its skip connections, trained by L1 and by L1+cGAN.

The pix2pix paper's section 4.3, table 2 and figure 5: the encoder-decoder is the U-Net without its skip connections,
and it is worse with either loss. The paper used batches of 10 here and batches of 1 in its other tables, so its U-Net
scores differ from those of table 1. --quick takes about 7 minutes on two cores.

    python scripts/studies/generators.py --quick
    python scripts/studies/generators.py --dataroot ./datasets/facades --direction BtoA
"""

from study import Study, main

STUDY = Study(
    name="generators",
    about=__doc__,
    model="pix2pix",
    arms={
        "encoder-decoder, L1": "--netG encdec_{unet} --lambda_GAN 0",
        "encoder-decoder, L1+cGAN": "--netG encdec_{unet}",
        "U-Net, L1": "--lambda_GAN 0",
        "U-Net, L1+cGAN": "",
    },
    papers={
        "paper, table 2 (Cityscapes, labels → photo): per-pixel acc., per-class acc., class IoU": {
            "encoder-decoder, L1": "0.35, 0.12, 0.08",
            "encoder-decoder, L1+cGAN": "0.29, 0.09, 0.05",
            "U-Net, L1": "0.48, 0.18, 0.13",
            "U-Net, L1+cGAN": "0.55, 0.20, 0.14",
        },
    },
)

if __name__ == "__main__":
    main(STUDY)
