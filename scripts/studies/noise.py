"""How much does dropout vary a result? Ten translations of each test image, with dropout on as in training.

The pix2pix paper gives the noise z as dropout alone, also at test time, and observes only minor stochasticity in the
output (section 3.1). Spread is the standard deviation of a pixel over the draws, distance the mean absolute difference
of two draws, both as shares of the range and averaged over pixels and images. Compare them with the L1 distance to the
ground truth. --quick: about 10 minutes on two cores.

    python scripts/studies/noise.py --quick
    python scripts/studies/noise.py --dataroot ./datasets/facades --direction BtoA
"""

import itertools
import statistics

from study import Study, main

DRAWS = 10
AMPLIFIED = 10  # times, on the contact sheet


def compare_draws(runner) -> None:
    """Train each arm, translate with several seeds of dropout, measure how the results differ."""
    from report import report

    from scripts.evaluation.targets import find_pairs

    cells = []
    for seed in runner.args.seeds:
        for arm in runner.args.arms:
            name = runner.train(arm, seed)
            draws = [find_pairs(runner.translate(name, f"draw {i}", f"--seed {i}")) for i in range(DRAWS)]
            measures = {**diversity(draws), "L1 to the truth": runner.measure(draws[0], ["l1"])["l1"]}
            runner.add(*runner.sides(), arm, seed, measures)
            if not cells:
                cells = [cells_of(draws, i, arm) for i in runner.samples(range(len(draws[0])))]
        report(runner, cells)


def cells_of(draws: list, index: int, arm: str) -> list:
    """Return the contact sheet's row of one test image."""
    from images import input_of

    from scripts.evaluation.outputs import read

    real = draws[0][index][1]
    spread = (AMPLIFIED * draws_of(draws, index).std(0)).clip(0, 255).astype("uint8")
    cells = [("input", read(input_of(real, "B")))]
    cells += [(f"{arm}, draw {i + 1}", read(draw[index][0])) for i, draw in enumerate(draws[:3])]
    return [*cells, (f"spread of {DRAWS}, times {AMPLIFIED}", spread), ("ground truth", read(real))]


def draws_of(draws: list, index: int):
    """Return one test image's translations, float64 (draws, H, W, 3)."""
    import numpy as np

    from scripts.evaluation.outputs import read

    return np.stack([read(draw[index][0]) for draw in draws]).astype(np.float64)


def diversity(draws: list) -> dict[str, float]:
    """Return spread and distance, averaged over images, in [0, 1]."""
    spreads, distances = [], []
    for index in range(len(draws[0])):
        images = draws_of(draws, index) / 255
        spreads.append(images.std(0, ddof=1).mean())
        distances += [abs(a - b).mean() for a, b in itertools.combinations(images, 2)]
    return {"spread": statistics.fmean(spreads), "distance": statistics.fmean(distances)}


STUDY = Study(
    name="noise",
    about=__doc__,
    model="pix2pix",
    arms={"L1+cGAN": "", "L1": "--lambda_GAN 0", "L1+cGAN, no dropout": "--no_dropout"},
    procedure=compare_draws,
)

if __name__ == "__main__":
    main(STUDY)
