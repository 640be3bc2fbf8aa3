"""Signs that a training goes wrong, read off its losses and images. Each is told once, with what was seen."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from statistics import median

import numpy as np
from PIL import Image

from util.loggers.visuals import Pictures, Step

PRINTS = 20  # in a row
WON = 0.02  # a discriminator's loss (vanilla, lsgan) below which it tells every image apart
FALLING = ("G_L1", "cycle_A", "cycle_B")
FALLEN = 0.97  # of what they were
EPOCHS = 3  # in which they should
DISPLAYS = 5  # in a row
FLAT, VARIED = 1.5, 10.0  # of 255 levels: the standard deviation of an image with nothing on it, and with something
NEGATIVE = -0.5  # correlation
SIDE = 32  # pixels of the thumbnails that are compared


class Diagnosis:
    """Looks at what is printed and displayed, beside console, page and dashboards."""

    alive = True

    def __init__(self, opt, say: Callable[[str], None]):
        """Tell by `say` what is found."""
        self.say = say
        self.told: set[str] = set()
        self.paired = getattr(opt, "dataset_mode", "") != "unaligned"
        # Other objectives have no such bound, and without the GAN loss D is to win.
        self.watches_D = getattr(opt, "gan_mode", "") in ("vanilla", "lsgan") and getattr(opt, "lambda_GAN", 1) > 0
        self.tuning = bool(getattr(opt, "init_from", ""))
        self.from_the_start = not self.tuning
        self.first = defaultdict(list)  # loss -> its first values
        self.last = defaultdict(lambda: deque(maxlen=PRINTS))  # and its last ones
        self.stays = defaultdict(int)  # loss -> prints in a row at which it had not fallen
        self.prints = defaultdict(int)
        self.streaks = defaultdict(int)  # what was seen -> displays in a row
        self.thumbnails: dict[str, np.ndarray] = {}  # of the last display

    def cut(self, total_iters: int, epoch: int = 0) -> None:
        """Note where the run begins; in one that goes on, or begins with trained networks, losses need not fall."""
        self.from_the_start = not total_iters and not self.tuning

    def losses(self, step: Step, losses: dict[str, float]) -> None:
        """Look at one print's losses."""
        for name, value in losses.items():
            self.last[name].append(value)
            self.prints[name] += 1
            if len(self.first[name]) < PRINTS:
                self.first[name].append(value)
        for names in ([n for n in ("D_real", "D_fake") if n in losses], ["D_A"], ["D_B"]) if self.watches_D else ():
            if names and all(name in losses and len(self.last[name]) == PRINTS for name in names):
                self._has_won(names, losses)
        for name in FALLING if self.from_the_start else ():
            if name in losses and self.prints[name] >= 2 * PRINTS:  # the last ones are not the first
                self._has_fallen(name, step)

    def _has_won(self, names: list[str], losses: dict[str, float]) -> None:
        highest = max(max(self.last[name]) for name in names)
        if highest < WON:
            against = ", ".join(f"{n} is {losses[n]:.2f}" for n in ("G_GAN", "G_A", "G_B") if n in losses)
            self._tell(
                f"{' and '.join(names)} won",
                f"the discriminator has won: {' and '.join(names)} stayed below {WON} for {PRINTS} prints (at most "
                f"{highest:.4f}){f', {against}' if against else ''}; from one that tells all fakes apart the generator "
                "learns little. More images, a smaller --ndf, or --gan_mode lsgan help",
            )

    def _has_fallen(self, name: str, step: Step) -> None:
        before, now = median(self.first[name]), median(self.last[name])
        self.stays[name] = self.stays[name] + 1 if before > 0 and now >= FALLEN * before else 0
        if self.stays[name] > PRINTS and step.x > EPOCHS:  # medians vary: once is no evidence
            cure = "are A and B of a pair the same place (first_batch.png)? Check" if name == "G_L1" else "check"
            self._tell(
                f"{name} stays",
                f"{name} does not fall: it was {before:.3g} at first and is {now:.3g} after {step.x:.1f} epochs "
                f"(medians of {PRINTS} prints); {cure} --lr and --direction",
            )

    def images(self, step: Step, pictures: Pictures) -> None:
        """Look at the first item of what is displayed."""
        seen = {label: thumbnail(images[0]) for label, images in pictures.items() if images}
        for label, fake in seen.items():
            name = label.removeprefix("fake_")
            if name == label:
                continue
            real, source = seen.get(f"real_{name}"), seen.get({"A": "real_B", "B": "real_A"}.get(name[0], ""))
            self._look(label, fake, real, source)
        self.thumbnails = seen

    def validation(self, step: Step, values: dict[str, float], pictures: Pictures) -> None:
        """Leave alone what is measured: it is told by itself."""

    def _look(self, label: str, fake: np.ndarray, real: np.ndarray | None, source: np.ndarray | None) -> None:
        """Judge an output by its truth (of another image where there are no pairs) and by its input."""
        for sign, found in self._signs(label, fake, real, source):
            self.streaks[f"{label} {sign}"] = self.streaks[f"{label} {sign}"] + 1 if found else 0
            if found and self.streaks[f"{label} {sign}"] >= DISPLAYS:
                self._tell(f"{label} {sign}", f"{label} {found} at the last {DISPLAYS} displays; {CURES[sign]}")

    def _signs(self, label: str, fake, real, source) -> Iterator[tuple[str, str]]:
        """Yield each sign's name, and what there is to say of it: nothing if it does not show."""
        spread = float(fake.std(axis=(0, 1)).max())
        varied = real is not None and float(real.std(axis=(0, 1)).max()) > VARIED
        flat = spread < FLAT and varied
        yield "constant", flat and f"was of one colour (deviation {spread:.1f} of 255 levels)"

        name, before = f"real_{'A' if label[5:6] == 'B' else 'B'}", self.thumbnails
        same = varied and not flat and source is not None and label in before and name in before
        if same and before[label].shape == fake.shape and before[name].shape == source.shape:
            difference = float(np.abs(fake - before[label]).mean())
            same = difference < 1 and float(np.abs(source - before[name]).mean()) > VARIED
            yield "same", same and f"was the same picture whatever went in (difference {difference:.2f} of 255 levels)"

        other, what = (real, f"real_{label[5:]}") if self.paired else (source, name)
        likeness = correlation(fake, other) if other is not None and other.shape == fake.shape else 0.0
        yield "inverted", likeness < NEGATIVE and f"was like a negative of {what} (correlation {likeness:.2f})"

    def _tell(self, what: str, text: str) -> None:
        if what not in self.told:
            self.told.add(what)
            self.say(f"warning: {text}. See docs/questions.md")


CURES = {
    "constant": "begin again with another --seed, a smaller --lr, or more images",
    "same": "the generator has collapsed to one answer: go on from an earlier checkpoint with a smaller --lr, or begin "
    "again with another --seed",
    "inverted": "if the task does not ask for that, begin again with another --seed; for CycleGAN with a larger "
    "--lambda_identity or a smaller --init_gain",
}


def thumbnail(picture: np.ndarray) -> np.ndarray:
    """Shrink a picture uint8 (H, W, 3) to floats (32, 32, 3), so that noise does not count."""
    return np.asarray(Image.fromarray(picture).resize((SIDE, SIDE), Image.Resampling.BOX), dtype=np.float32)


def correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Return the correlation of two pictures' grey levels, 0 where one has nothing on it."""
    one, other = (picture.mean(axis=2).ravel() for picture in (one, other))
    if min(one.std(), other.std()) < FLAT:
        return 0.0
    return float(np.corrcoef(one, other)[0, 1])
