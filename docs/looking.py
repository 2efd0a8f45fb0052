"""Draw docs/looking.gif, in which the packaged network looks at test scenes.

python docs/looking.py --out docs/looking.gif
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from gfnet_env import load_images, pretrained
from gfnet_env.benchmarks.animation import draw_animation
from gfnet_env.command_line import parse
from gfnet_env.settings import AtLeast, Settings


@dataclass(frozen=True, kw_only=True)
class LookingConfig(Settings):
    """What to draw."""

    out: Path
    """File for the animation."""
    scenes: Annotated[int, AtLeast(1)] = 15
    """Number of test scenes, from the first on."""


def draw(config: LookingConfig) -> None:
    """Draw test scenes as the network sees them, after each of its looks."""
    images = load_images("cluttered-digits", "test")
    draw_animation(pretrained("cluttered-digits"), images, range(config.scenes), config.out)


if __name__ == "__main__":
    draw(parse(LookingConfig, __doc__))
