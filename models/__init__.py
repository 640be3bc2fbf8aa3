"""Models: networks, losses and training steps. `models/foo_model.py` with a class FooModel is `--model foo`."""

from __future__ import annotations

from models.base_model import BaseModel
from util.runtime import seeds
from util.runtime.plugins import find_class

BUILT_IN = ("pix2pix", "cycle_gan", "colorization", "test", "template")


def find_model_using_name(model_name: str, is_train: bool = False) -> type[BaseModel]:
    """Return the class that `--model model_name` names."""
    return find_class("models", model_name, BaseModel, is_train)


def get_option_setter(model_name: str, is_train: bool = False):
    """Return the function that adds a model's options to the parser."""
    return find_model_using_name(model_name, is_train).modify_commandline_options


def create_model(opt) -> BaseModel:
    """Make the model that the options name; its initial weights follow from the seed."""
    if (seed := getattr(opt, "seed", None)) is not None:
        seeds.seed_all(seed, "networks")
    model = find_model_using_name(opt.model)(opt)
    print(f"model [{type(model).__name__}] was created")
    return model
