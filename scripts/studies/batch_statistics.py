"""Which statistics should batch norm use at test time: those of the test image, or those of training?

The pix2pix paper's section 3.3 uses those of the test batch, with batches of 1 to 10 images, depending on the
experiment. test.py uses those of each test image; --eval uses those of training. Dropout is off in every arm, since
--eval turns it off. --quick takes about 5 minutes on two cores.

    python scripts/studies/batch_statistics.py --quick
    python scripts/studies/batch_statistics.py --dataroot ./datasets/facades --direction BtoA
"""

from study import Study, main

STUDY = Study(
    name="batch_statistics",
    about=__doc__,
    model="pix2pix",
    arms={
        "batches of 1": "--no_dropout",
        "batches of 4": "--no_dropout --batch_size 4",
        "batches of 10": "--no_dropout --batch_size 10",
    },
    views={"its own": "", "--eval": "--eval"},
)

if __name__ == "__main__":
    main(STUDY)
