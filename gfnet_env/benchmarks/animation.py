"""An animation of a network that looks at pictures until it is sure."""

import io
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont

from gfnet_env import rows
from gfnet_env.env.rendering import caption, draw_windows, whole_picture
from gfnet_env.files import write_bytes
from gfnet_env.images import ImageSet
from gfnet_env.images.base import Indices
from gfnet_env.inference import EarlyExitGFNet, Prediction
from gfnet_env.looks import Look, ViewConfig
from gfnet_env.models import Model, glance_view

# Side of a picture, and heights of what is below it, in pixels.
_SIDE, _BAR, _TEXT = 256, 10, 22
_GAP = 16
_MILLISECONDS = 900
_SURE, _UNSURE = "#009E73", "#999999"

_Box = tuple[int, int, int, int]


def draw_animation(
    gfnet: EarlyExitGFNet, images: ImageSet, indices: Indices, path: Path, columns: int = 3
) -> None:
    """Write a GIF with a frame for every step: what was seen so far, and how sure the network is.

    Args:
        gfnet: The network, which exits by its thresholds.
        images: The set.
        indices: Which of its pictures to show, (S,).
        path: The file.
        columns: Pictures side by side; the others follow in turn.
    """
    numbers = images.numbers(indices)
    exits = gfnet(images, numbers).exit_step.tolist()
    steps = [*gfnet.anytime(images, numbers)]
    panels = [
        _panels(
            *(gfnet.model, images, number),
            [rows.select(step, torch.tensor([row])) for step in steps[: exits[row] + 1]],
        )
        for row, number in enumerate(numbers.tolist())
    ]
    frames: list[Image.Image] = []
    for first in range(0, len(panels), columns):
        beside = panels[first : first + columns]
        # The last frame stays for as long as two.
        for step in range(max(map(len, beside)) + 1):
            shown = [panel[min(step, len(panel) - 1)] for panel in beside]
            frames.append(_frame(shown, min(columns, len(panels))))
    file = io.BytesIO()
    frames[0].save(
        file, "GIF", save_all=True, append_images=frames[1:], duration=_MILLISECONDS, loop=0
    )
    write_bytes(path, file.getvalue())


def _panels(
    model: Model, images: ImageSet, number: int, steps: Sequence[Prediction]
) -> list[Image.Image]:
    """One picture for each step up to the exit."""
    whole = _fitted(whole_picture(images, number, _SIDE))
    seen = _glance(whole, glance_view(model))
    size, boxes, panels = images.sizes([number]), list[_Box](), list[Image.Image]()
    scale = torch.tensor([whole.height, whole.width]).repeat(2) / size.repeat(1, 2)
    for step, prediction in enumerate(steps):
        if step:
            looks = Look.at(prediction.locations[:, step - 1], prediction.scales[:, step - 1])
            box = model.view.window_boxes(looks, size.to(looks.location.device)).cpu()
            top, left, bottom, right = (box * scale)[0].round().long().tolist()
            boxes.append((top, left, bottom, right))
            seen.paste(whole.crop((left, top, right, bottom)), (left, top))
        found, confidence = int(prediction.classes[0]), float(prediction.confidence[0])
        text = caption(model.class_names, found, None, confidence)
        panels.append(_panel(seen, boxes, text, confidence, step, step == len(steps) - 1))
    return panels


def _glance(whole: Image.Image, view: ViewConfig) -> Image.Image:
    """A picture with no more detail than an overview has, dimmed so that windows stand out."""
    longer = max(whole.size)
    sides = [side / longer if view.aspect == "pad" else 1 for side in whole.size]
    width, height = (max(1, round(view.size * side)) for side in sides)
    if max(width, height) < _SIDE:
        whole = whole.resize((width, height)).resize(whole.size, Image.Resampling.NEAREST)
    return whole.point(lambda level: level * 2 // 3)


def _panel(
    seen: Image.Image, boxes: Sequence[_Box], text: str, confidence: float, step: int, is_exit: bool
) -> Image.Image:
    """What was seen, the windows, and below it the confidence and the answer."""
    panel = Image.new("RGB", (_SIDE, _SIDE + _BAR + 2 * _TEXT), "white")
    seen = seen.copy()
    draw_windows(seen, boxes)
    panel.paste(seen, ((_SIDE - seen.width) // 2, (_SIDE - seen.height) // 2))
    pen, font = ImageDraw.Draw(panel), ImageFont.load_default(size=16)
    colour = _SURE if is_exit else _UNSURE
    pen.rectangle((0, _SIDE + 2, round(confidence * _SIDE), _SIDE + _BAR), fill=colour)
    pen.text((2, _SIDE + _BAR + 2), text, fill="black", font=font)
    done = f"look {step}" if step else "glance"
    done = f"{done}: exit" if is_exit else done
    pen.text((2, _SIDE + _BAR + _TEXT), done, fill=colour, font=font)
    return panel


def _frame(panels: Sequence[Image.Image], columns: int) -> Image.Image:
    width, height = panels[0].size
    frame = Image.new("RGB", (columns * (width + _GAP) - _GAP, height), "white")
    for column, panel in enumerate(panels):
        frame.paste(panel, (column * (width + _GAP), 0))
    return frame.quantize(64, dither=Image.Dither.NONE)


def _fitted(picture: Image.Image) -> Image.Image:
    """A picture whose longer side is that of a panel."""
    scale = _SIDE / max(picture.size)
    width, height = (max(1, round(scale * side)) for side in picture.size)
    return picture.resize((width, height))
