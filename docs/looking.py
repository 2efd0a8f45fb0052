"""Draw docs/looking.gif, in which the packaged network looks at test scenes.

python docs/looking.py --out docs/looking.gif
"""

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from gfnet_env import EarlyExitGFNet, Look, load_images, pretrained
from gfnet_env.command_line import parse
from gfnet_env.files import write_bytes
from gfnet_env.images import ImageSet
from gfnet_env.inference import Prediction
from gfnet_env.settings import AtLeast, Settings

_SIDE = 256
_GAP = 16
_BAR = 10
_TEXT = 22
_MILLISECONDS = 900
_COLOURS = ("#E69F00", "#56B4E9", "#009E73")
_SURE, _UNSURE = "#009E73", "#999999"


@dataclass(frozen=True, kw_only=True)
class LookingConfig(Settings):
    """What to draw."""

    out: Path
    """File for the animation."""
    scenes: Annotated[int, AtLeast(1)] = 15
    """Number of test scenes, from the first on."""
    columns: Annotated[int, AtLeast(1)] = 3
    """Scenes side by side."""


def draw(config: LookingConfig) -> None:
    """Draw test scenes as the network sees them, after each of its looks."""
    gfnet = pretrained("cluttered-digits")
    images = load_images("cluttered-digits", "test")
    numbers = range(config.scenes)
    exits = gfnet(images, numbers).exit_step
    steps = [*gfnet.anytime(images, numbers)]
    panels = [_panels(gfnet, images, number, steps, int(exits[number])) for number in numbers]
    frames: list[Image.Image] = []
    for first in range(0, len(panels), config.columns):
        beside = panels[first : first + config.columns]
        for step in range(max(map(len, beside)) + 1):
            shown = [panel[min(step, len(panel) - 1)] for panel in beside]
            frames.append(_row(shown, config.columns))
    file = io.BytesIO()
    frames[0].save(
        file, "GIF", save_all=True, append_images=frames[1:], duration=_MILLISECONDS, loop=0
    )
    write_bytes(config.out, file.getvalue())


def _panels(
    gfnet: EarlyExitGFNet, images: ImageSet, number: int, steps: list[Prediction], exit_step: int
) -> list[Image.Image]:
    """One picture for each step of a scene: what was seen so far, and how sure the network is."""
    view, whole = gfnet.model.view, _picture(images.picture(number))
    seen = _picture(images.overview(number, view)[0]).resize(whole.size, Image.Resampling.NEAREST)
    # The rest is dimmed, so that windows stand out.
    seen = seen.point(lambda level: level * 2 // 3)
    panels, frames = [], []
    for step, prediction in enumerate(steps[: exit_step + 1]):
        if step:
            looks = Look.at(prediction.locations[number, step - 1][None])
            top, left, bottom, right = view.window_boxes(looks, images.sizes(number))[0].tolist()
            seen.paste(whole.crop((left, top, right, bottom)), (left, top))
            frames.append((left, top, right, bottom))
        confidence = float(prediction.confidence[number])
        name = int(prediction.classes[number])
        end = step == exit_step
        panels.append(_panel(seen, frames, f"{name}  {confidence:.0%}", confidence, end, step))
    return panels


def _panel(
    seen: Image.Image,
    frames: list[tuple[int, int, int, int]],
    text: str,
    confidence: float,
    end: bool,
    step: int,
) -> Image.Image:
    panel = Image.new("RGB", (_SIDE, _SIDE + _BAR + 2 * _TEXT), "white")
    panel.paste(seen.resize((_SIDE, _SIDE), Image.Resampling.NEAREST))
    pen, font = ImageDraw.Draw(panel), ImageFont.load_default(size=16)
    scale = _SIDE / seen.width
    for frame, colour in zip(frames, _COLOURS, strict=False):
        left, top, right, bottom = (round(scale * edge) for edge in frame)
        pen.rectangle((left, top, right - 1, bottom - 1), outline=colour, width=3)
    colour = _SURE if end else _UNSURE
    pen.rectangle((0, _SIDE + 2, round(confidence * _SIDE), _SIDE + _BAR), fill=colour)
    pen.text((2, _SIDE + _BAR + 2), text, fill="black", font=font)
    done = f"look {step}" if step else "glance"
    pen.text((2, _SIDE + _BAR + _TEXT), f"{done}: exit" if end else done, fill=colour, font=font)
    return panel


def _row(panels: list[Image.Image], columns: int) -> Image.Image:
    width, height = panels[0].size
    frame = Image.new("RGB", (columns * (width + _GAP) - _GAP, height), "white")
    for column, panel in enumerate(panels):
        frame.paste(panel, (column * (width + _GAP), 0))
    return frame.quantize(64, dither=Image.Dither.NONE)


def _picture(pixels: Tensor) -> Image.Image:
    """A picture from (3, H, W) uint8."""
    return Image.fromarray(pixels.to(torch.uint8).permute(1, 2, 0).contiguous().numpy())


if __name__ == "__main__":
    draw(parse(LookingConfig, __doc__))
