"""How much does dropout vary a result? Ten translations of each test image, with dropout on as in training.

The pix2pix paper gives the noise z as dropout alone, at test time, too, and observes only minor stochasticity in the
output (section 3.1). Spread is the standard deviation of a pixel over the draws, distance the mean absolute difference
of two draws, both as shares of the range and averaged over pixels and images; the L1 to the truth is their scale.
--quick: about 10 minutes on two cores.

    python scripts/studies/noise.py --quick
    python scripts/studies/noise.py --dataroot ./datasets/facades --direction BtoA
"""

import itertools

from study import Study, main

DRAWS = 10
AMPLIFIED = 10  # times, on the contact sheet


def conduct(lab) -> None:
    """Train each arm, translate with several seeds of dropout, measure how the results differ."""
    from lab import array, input_of
    from report import report

    from scripts.evaluation.targets import find_pairs

    cells = []
    for seed in lab.args.seeds:
        for arm in lab.args.arms:
            name = lab.train(arm, seed)
            draws = [find_pairs(lab.translate(name, f"draw {i}", f"--seed {i}")) for i in range(DRAWS)]
            measures = {**diversity(draws), "L1 to the truth": lab.measure(draws[0], ["l1"])["l1"]}
            lab.note(*lab.sides(), arm, seed, measures)
            if not cells:
                for row in lab.shown(range(len(draws[0]))):
                    real = draws[0][row][1]
                    images = {"input": input_of(real, "B")}
                    images |= {f"{arm}, draw {i + 1}": draw[row][0] for i, draw in enumerate(draws[:3])}
                    row_cells = [(label, array(path)) for label, path in images.items()]
                    spread = (AMPLIFIED * stack(draws, row).std(0)).clip(0, 255).astype("uint8")
                    row_cells += [(f"spread of {DRAWS}, times {AMPLIFIED}", spread), ("truth", array(real))]
                    cells.append(row_cells)
        report(lab, cells)


def stack(draws: list, row: int):
    """Return an image's translations, float64 (draws, H, W, 3)."""
    import numpy as np
    from lab import array

    return np.stack([array(draw[row][0]) for draw in draws]).astype(np.float64)


def diversity(draws: list) -> dict[str, float]:
    """Return the mean over images of spread and distance, in [0, 1]."""
    spreads, distances = [], []
    for row in range(len(draws[0])):
        images = stack(draws, row) / 255
        spreads.append(images.std(0, ddof=1).mean())
        distances.append(sum(abs(a - b).mean() for a, b in itertools.combinations(images, 2)))
    count = len(draws) * (len(draws) - 1) / 2
    return {"spread": sum(spreads) / len(spreads), "distance": sum(distances) / len(distances) / count}


STUDY = Study(
    name="noise",
    about=__doc__,
    model="pix2pix",
    arms={"L1+cGAN": "", "L1": "--lambda_GAN 0", "L1+cGAN, no dropout": "--no_dropout"},
    conduct=conduct,
)

if __name__ == "__main__":
    main(STUDY)
