"""Trained networks that are part of the package, each in a folder of its name."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import overload

from gfnet_env.files import read_json
from gfnet_env.inference import EarlyExitGFNet
from gfnet_env.settings import checked

FOLDER = Path(__file__).parent
CARD = "card.json"
# The network of environments that are given none.
DEFAULT = "cluttered-digits"


@dataclass(frozen=True, kw_only=True)
class Card:
    """What is known about a trained network, with early exits on the split test of its images.

    Attributes:
        images: Spec of the images that it was trained on.
        accuracy: Share of images that it is right about.
        looks: Mean number of looks after the glance.
        multiply_adds: Mean number of multiply-adds.
        commit: Commit that it was trained at.
    """

    images: str
    accuracy: float
    looks: float
    multiply_adds: float
    commit: str | None


def place(name: str) -> Path:
    """The folder for a network of a name.

    Raises:
        ValueError: The name is none for a folder.
    """
    if not re.fullmatch(r"\w[\w.-]*", name):
        raise ValueError(f"a network's name has letters, digits, -, _ and dots only, not {name!r}")
    return FOLDER / name


@overload
def pretrained() -> dict[str, Card]: ...


@overload
def pretrained(name: str) -> EarlyExitGFNet: ...


def pretrained(name: str | None = None) -> EarlyExitGFNet | dict[str, Card]:
    """Load a trained network that is part of the package, onto the CPU and in evaluation mode.

    Args:
        name: Its name.

    Returns:
        The assembled network, or without a name what is known about all of them.

    Raises:
        ValueError: There is no network of this name.
    """
    checked("name", name, str | None)
    cards = sorted(FOLDER.glob(f"*/{CARD}"))
    known = {card.parent.name: card for card in cards}
    if name is None:
        return {each: Card(**read_json(card)) for each, card in known.items()}
    if name not in known:
        raise ValueError(f"unknown network {name!r}; known: {', '.join(known)}")
    return EarlyExitGFNet.load(known[name].parent)
