"""What does each part of CycleGAN's loss contribute? Cycle alone, GAN alone, one cycle, both; and the identity loss.

The CycleGAN paper's section 5.1.4, tables 4 and 5, figure 7; the identity loss is in section 5.2 and figure 9.
In figure 7, cycle alone and GAN + backward cycle do not reach the target domain. GAN alone and GAN + forward cycle
collapse: they give the same label map for every photo. The paper's forward cycle starts from label maps, which are B in
this project's cityscapes. --quick takes about 18 minutes on two cores.

    python scripts/studies/cyclegan.py --quick
    python scripts/studies/cyclegan.py --dataroot ./datasets/cityscapes --direction BtoA
"""

from study import Study, main

MEASURES = "per-pixel acc., per-class acc., class IoU"
STUDY = Study(
    name="cyclegan",
    about=__doc__,
    model="cycle_gan",
    arms={
        "cycle alone": "--lambda_identity 0 --lambda_GAN 0",
        "GAN alone": "--lambda_identity 0 --lambda_A 0 --lambda_B 0",
        "GAN + forward cycle": "--lambda_identity 0 --lambda_B 0",
        "GAN + backward cycle": "--lambda_identity 0 --lambda_A 0",
        "CycleGAN": "--lambda_identity 0",
        "CycleGAN + identity": "",
    },
    papers={
        f"paper, table 4 (Cityscapes, labels → photo): {MEASURES}": {
            "cycle alone": "0.22, 0.07, 0.02",
            "GAN alone": "0.51, 0.11, 0.08",
            "GAN + forward cycle": "0.55, 0.18, 0.12",
            "GAN + backward cycle": "0.39, 0.14, 0.06",
            "CycleGAN": "0.52, 0.17, 0.11",
        },
        f"paper, table 5 (Cityscapes, photo → labels): {MEASURES}": {
            "cycle alone": "0.10, 0.05, 0.02",
            "GAN alone": "0.53, 0.11, 0.07",
            "GAN + forward cycle": "0.49, 0.11, 0.07",
            "GAN + backward cycle": "0.01, 0.06, 0.01",
            "CycleGAN": "0.58, 0.22, 0.16",
        },
    },
    tile=(256, 128),
    size=(256, 64),
)

if __name__ == "__main__":
    main(STUDY)
