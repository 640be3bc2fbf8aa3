"""Whose statistics should batch norm use in testing: the test image's own, or those of training?

The pix2pix paper's section 3.3 takes the test batch's, an image each, which test.py does; --eval takes training's. The
paper trained with batches of 1 to 10 images. Dropout is off, since --eval would turn it off, too. --quick: about 5
minutes on two cores.

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
