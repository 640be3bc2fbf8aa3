"""Which loss? L1 alone, a GAN alone, a conditional GAN, and L1 with either.

The pix2pix paper's section 4.2, table 1 and figure 4: L1 alone blurs, a GAN that does not see the input forgets it,
and L1 with a conditional GAN does best. --quick: about 9 minutes on two cores.

    python scripts/studies/losses.py --quick
    python scripts/studies/losses.py --dataroot ./datasets/facades --direction BtoA
"""

from study import Study, main

STUDY = Study(
    name="losses",
    about=__doc__,
    model="pix2pix",
    arms={
        "L1": "--lambda_GAN 0",
        "GAN": "--lambda_L1 0 --unconditional_D",
        "cGAN": "--lambda_L1 0",
        "L1+GAN": "--unconditional_D",
        "L1+cGAN": "",
    },
    papers={
        "paper, table 1 (Cityscapes, labels → photo): per-pixel acc., per-class acc., class IoU": {
            "L1": "0.42, 0.15, 0.11",
            "GAN": "0.22, 0.05, 0.01",
            "cGAN": "0.57, 0.22, 0.16",
            "L1+GAN": "0.64, 0.20, 0.15",
            "L1+cGAN": "0.66, 0.23, 0.17",
            "ground truth": "0.80, 0.26, 0.21",
        },
    },
)

if __name__ == "__main__":
    main(STUDY)
