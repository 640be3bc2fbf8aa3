"""Signs of failed training: reported once with the evidence, and never in a good run."""

from __future__ import annotations

import math

import numpy as np
import pytest

from util.loggers.base import Step
from util.monitor.diagnosis import Diagnosis
from util.runtime.run_facts import Options, set_facts

rng = np.random.default_rng(0)


def make(paired=True, **options):
    said, opt = [], Options(**{"gan_mode": "vanilla", **options})
    set_facts(opt, paired=paired)
    return Diagnosis(opt, said.append), said


def print_losses(diagnosis, count, losses, begin=0):
    """Print `losses(k)` `count` times, ten prints an epoch."""
    for k in range(begin, begin + count):
        diagnosis.losses(Step(1 + k // 10, k, k / 10), losses(k))


def picture(low=0, high=256):
    return np.kron(rng.integers(low, high, (8, 8, 3)), np.ones((5, 6, 1))).astype(np.uint8)  # (40, 48, 3)


ONE = picture()


def display(diagnosis, fake, count=6):
    """Display `fake(real_A, real_B)` of other images each time."""
    for k in range(count):
        real_A, real_B = picture(), picture()
        images = {"real_A": real_A, "fake_B": fake(real_A, real_B), "real_B": real_B}
        diagnosis.images(Step(1, k, 0.1 * k), {label: [image] for label, image in images.items()})


@pytest.mark.parametrize(
    ("losses", "names", "against"),
    [
        ({"D_real": 0.003, "D_fake": 0.0041, "G_GAN": 6.1}, "D_real and D_fake", "G_GAN is 6.10"),
        ({"D_A": 0.01, "D_B": 0.2, "G_A": 0.9, "G_B": 0.4}, "D_A", "G_A is 0.90, G_B is 0.40"),
    ],
)
def test_a_discriminator_that_has_won_for_twenty_prints_is_reported_once(losses, names, against):
    diagnosis, said = make()
    print_losses(diagnosis, 19, lambda k: losses)
    assert said == []
    print_losses(diagnosis, 30, lambda k: losses, 19)
    highest = max(losses[name] for name in names.split(" and "))
    assert len(said) == 1
    assert said[0].startswith(
        f"warning: the discriminator has won: {names} stayed below 0.02 for 20 prints (at most {highest:.4f}), "
        f"{against}"
    )


@pytest.mark.parametrize(
    ("options", "low"),
    [({}, 0.03), ({"gan_mode": "wgangp"}, 0.001), ({"lambda_GAN": 0.0}, 0.001)],
)
def test_a_discriminator_that_should_win_is_not_reported(options, low):
    diagnosis, said = make(**options)
    print_losses(diagnosis, 60, lambda k: {"D_real": 0.001, "D_fake": low if k % 19 == 0 else 0.001, "G_GAN": 3.0})
    assert said == []


def test_a_loss_that_does_not_fall_is_reported_with_its_medians():
    diagnosis, said = make()
    print_losses(diagnosis, 80, lambda k: {"G_L1": 25 + (-1) ** k, "G_GAN": 1.0})
    assert len(said) == 1
    assert said[0].startswith(
        "warning: G_L1 does not fall: it was 25 at first and is 25 after 5.9 epochs (medians of 20 prints); do A and B"
    )


def slowly(x):
    return 30 * math.exp(-0.02 * x)


@pytest.mark.parametrize(("prints", "falls"), [(10, lambda x: max(10.0, 30 - 2.5 * x)), (2, slowly), (20, slowly)])
def test_a_loss_that_falls_and_then_stays_or_falls_slowly_is_not_reported(prints, falls):
    diagnosis, said = make()
    for k in range(1, 60 * prints):
        x = k / prints
        diagnosis.losses(Step(1 + int(x), 100 * k, x), dict.fromkeys(("G_L1", "cycle_A"), falls(x)))
    assert said == []


def test_the_losses_of_a_resumed_run_need_not_fall():
    diagnosis, said = make()
    diagnosis.cut(1000, 20)
    print_losses(diagnosis, 400, lambda k: {"G_L1": 10.0})
    assert said == []


@pytest.mark.parametrize(
    ("fake", "evidence"),
    [
        (lambda A, B: np.full_like(A, 7), "had a single colour (deviation 0.0 of 255 levels)"),
        (lambda A, B: ONE, "was the same picture for every input (difference 0.00 of 255 levels)"),
        (lambda A, B: 255 - B, "looked like a negative of real_B (correlation -1.00)"),
    ],
)
def test_outputs_that_fail_at_five_displays_are_reported(fake, evidence):
    diagnosis, said = make()
    display(diagnosis, fake, 4)
    assert said == []
    display(diagnosis, fake, 4)
    assert len(said) == 1
    assert said[0].startswith(f"warning: fake_B {evidence} at the last 5 displays; ")
    assert said[0].endswith("See docs/questions.md")


def test_without_pairs_outputs_are_compared_with_the_input():
    for fake, count in ((lambda A, B: 255 - A, 1), (lambda A, B: 255 - B, 0), (lambda A, B: A, 0)):
        diagnosis, said = make(paired=False)
        display(diagnosis, fake)
        assert len(said) == count
        assert all("looked like a negative of real_A (correlation -1.00)" in line for line in said)


def test_blank_outputs_may_match_blank_targets():
    diagnosis, said = make()
    for k in range(8):
        images = {"real_A": picture(), "fake_B": picture(9, 10), "real_B": picture(9, 10)}
        diagnosis.images(Step(1, k, 0.1 * k), {label: [image] for label, image in images.items()})
    assert said == []
