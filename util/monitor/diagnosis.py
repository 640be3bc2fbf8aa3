"""Signs of failed training in losses and images, each reported once with the evidence."""

from __future__ import annotations

import math
from collections import defaultdict, deque
from collections.abc import Iterator
from statistics import median

import numpy as np
from PIL import Image

from util.loggers.base import Pictures, Say, Sink, Step
from util.runtime.run_facts import run_facts

PRINTS = 20  # consecutive prints that a sign needs
WON = 0.02  # discriminator loss (vanilla, lsgan) below which D recognises every image
FALLING = ("G_L1", "cycle_A", "cycle_B")
FALLEN = 0.97  # of the first values: a loss above this has not fallen
EPOCHS = 3  # after which a loss should have fallen
DISPLAYS = 5  # consecutive displays that a sign needs
FLAT, VARIED = 1.5, 10.0  # standard deviations, of 255 levels: below, a blank image; above, one with content
NEGATIVE = -0.5  # correlation
SIDE = 32  # pixels of the thumbnails that are compared


class Diagnosis(Sink):
    """A sink that examines the losses and images which the loggers get."""

    def __init__(self, opt, say: Say):
        """Report findings by `say`."""
        self.say = say
        self.reported: set[str] = set()
        self.paired = run_facts(opt).paired
        # Other objectives have no such bound, and without the GAN loss D should win.
        self.watches_D = getattr(opt, "gan_mode", "") in ("vanilla", "lsgan") and getattr(opt, "lambda_GAN", 1) > 0
        self.tuning = bool(getattr(opt, "init_from", ""))
        self.from_the_start = not self.tuning
        self.first = defaultdict(list)  # loss -> its first values
        self.last = defaultdict(lambda: deque(maxlen=PRINTS))  # and its last ones
        self.not_fallen = defaultdict(int)  # loss -> consecutive prints at which it had not fallen
        self.prints = defaultdict(int)
        self.streaks = defaultdict(int)  # sign -> consecutive displays that show it
        self.thumbnails: dict[str, np.ndarray] = {}  # of the last display

    def cut(self, total_iters: float, epoch: float = math.inf) -> None:
        """Note where the run begins: resumed or with trained networks, losses need not fall."""
        self.from_the_start = not total_iters and not self.tuning

    def losses(self, step: Step, losses: dict[str, float]) -> None:
        """Examine the losses of one print."""
        for name, value in losses.items():
            self.last[name].append(value)
            self.prints[name] += 1
            if len(self.first[name]) < PRINTS:
                self.first[name].append(value)
        for names in ([n for n in ("D_real", "D_fake") if n in losses], ["D_A"], ["D_B"]) if self.watches_D else ():
            if names and all(name in losses and len(self.last[name]) == PRINTS for name in names):
                self._check_discriminator(names, losses)
        for name in FALLING if self.from_the_start else ():
            if name in losses and self.prints[name] >= 2 * PRINTS:  # first and last values don't overlap
                self._check_fall(name, step)

    def _check_discriminator(self, names: list[str], losses: dict[str, float]) -> None:
        highest = max(max(self.last[name]) for name in names)
        if highest < WON:
            against = ", ".join(f"{n} is {losses[n]:.2f}" for n in ("G_GAN", "G_A", "G_B") if n in losses)
            self._report(
                f"{' and '.join(names)} won",
                f"the discriminator has won: {' and '.join(names)} stayed below {WON} for {PRINTS} prints (at most "
                f"{highest:.4f}){f', {against}' if against else ''}; "
                "the generator learns little from a discriminator that recognises every fake. More images, a smaller "
                "--ndf, or --gan_mode lsgan help",
            )

    def _check_fall(self, name: str, step: Step) -> None:
        before, now = median(self.first[name]), median(self.last[name])
        self.not_fallen[name] = self.not_fallen[name] + 1 if before > 0 and now >= FALLEN * before else 0
        if self.not_fallen[name] > PRINTS and step.x > EPOCHS:  # medians vary: one print is no evidence
            advice = "do A and B of a pair show the same scene (first_batch.png)? Check" if name == "G_L1" else "check"
            self._report(
                f"{name} does not fall",
                f"{name} does not fall: it was {before:.3g} at first and is {now:.3g} after {step.x:.1f} epochs "
                f"(medians of {PRINTS} prints); {advice} --lr and --direction",
            )

    def images(self, step: Step, pictures: Pictures) -> None:
        """Examine the first item of the displayed images."""
        seen = {label: thumbnail(images[0]) for label, images in pictures.items() if images}
        for label, fake in seen.items():
            name = label.removeprefix("fake_")
            if name == label:
                continue
            real, source = seen.get(f"real_{name}"), seen.get({"A": "real_B", "B": "real_A"}.get(name[0], ""))
            self._examine(label, fake, real, source)
        self.thumbnails = seen

    def _examine(self, label: str, fake: np.ndarray, real: np.ndarray | None, source: np.ndarray | None) -> None:
        """Compare an output with its target (another image if there are no pairs) and with its input."""
        for sign, found in self._signs(label, fake, real, source):
            self.streaks[f"{label} {sign}"] = self.streaks[f"{label} {sign}"] + 1 if found else 0
            if found and self.streaks[f"{label} {sign}"] >= DISPLAYS:
                self._report(f"{label} {sign}", f"{label} {found} at the last {DISPLAYS} displays; {ADVICE[sign]}")

    def _signs(self, label: str, fake, real, source) -> Iterator[tuple[str, str]]:
        """Yield each sign's name and its evidence, False if the output does not show it."""
        spread = float(fake.std(axis=(0, 1)).max())
        varied = real is not None and float(real.std(axis=(0, 1)).max()) > VARIED
        flat = spread < FLAT and varied
        yield "constant", flat and f"had a single colour (deviation {spread:.1f} of 255 levels)"

        name, before = f"real_{'A' if label[5:6] == 'B' else 'B'}", self.thumbnails
        same = varied and not flat and source is not None and label in before and name in before
        if same and before[label].shape == fake.shape and before[name].shape == source.shape:
            difference = float(np.abs(fake - before[label]).mean())
            same = difference < 1 and float(np.abs(source - before[name]).mean()) > VARIED
            yield "same", same and f"was the same picture for every input (difference {difference:.2f} of 255 levels)"

        other, other_name = (real, f"real_{label[5:]}") if self.paired else (source, name)
        likeness = correlation(fake, other) if other is not None and other.shape == fake.shape else 0.0
        yield "inverted", likeness < NEGATIVE and f"looked like a negative of {other_name} (correlation {likeness:.2f})"

    def _report(self, sign: str, text: str) -> None:
        if sign not in self.reported:
            self.reported.add(sign)
            self.say(f"warning: {text}. See docs/questions.md")


ADVICE = {
    "constant": "train again with another --seed, a smaller --lr, or more images",
    "same": "the generator has collapsed to one image: resume from an earlier checkpoint with a smaller --lr, or train "
    "again with another --seed",
    "inverted": "unless the task asks for that, train again with another --seed; for CycleGAN with a larger "
    "--lambda_identity or a smaller --init_gain",
}


def thumbnail(picture: np.ndarray) -> np.ndarray:
    """Shrink a picture uint8 (H, W, 3) to floats (32, 32, 3), which averages noise away."""
    return np.asarray(Image.fromarray(picture).resize((SIDE, SIDE), Image.Resampling.BOX), dtype=np.float32)


def correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Return the correlation of two pictures' grey levels, 0 if one is blank."""
    one, other = (picture.mean(axis=2).ravel() for picture in (one, other))
    if min(one.std(), other.std()) < FLAT:
        return 0.0
    return float(np.corrcoef(one, other)[0, 1])
