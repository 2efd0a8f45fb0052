"""Standard tasks: networks and pictures that stay as they are, so that scores compare."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Importing the zoo would import torch.
_ZOO = Path(__file__).parent / "zoo"


@dataclass(frozen=True)
class Task:
    """A standard task, which is also a registered environment, ``gfnet_env/NAME``.

    An episode has as many looks as the network was trained with.

    Attributes:
        title: What it is, in a few words.
        network: Name of its packaged network.
        images: Spec of its pictures: a policy learns from their train split, and its score is the
            accuracy on their test split after the last look.
        timesteps: Looks that a policy may learn from.
        parts: Names of further parts of the environment, by argument.
    """

    title: str
    network: str
    images: str
    timesteps: int
    parts: Mapping[str, str]

    @property
    def arguments(self) -> dict[str, Any]:
        """The arguments of the environment."""
        return {"model": self.folder, "images": self.images, **self.parts}

    @property
    def folder(self) -> Path:
        """The folder of its network."""
        return _ZOO / self.network


def _digits(title: str, images: str) -> Task:
    return Task(title, "cluttered-digits", images, timesteps=10_000, parts={})


TASKS: dict[str, Task] = {
    "ClutteredDigits-v0": _digits("a digit among 10 pieces of others", "cluttered-digits"),
    "ClutteredDigitsEasy-v0": _digits(
        "a digit among 4 pieces of others", "cluttered-digits:pieces=4"
    ),
    "ClutteredDigitsHard-v0": _digits(
        "a digit among 30 pieces of others", "cluttered-digits:pieces=30"
    ),
    "MegapixelMNIST-v0": Task(
        "the most frequent of five digits on 1500×1500 pixels",
        "megapixel-mnist",
        "megapixel-mnist",
        timesteps=20_000,
        # Pictures are far larger than windows, so that the where-map has to lead.
        parts={"actions": "peak", "observation": "peak"},
    ),
}
