"""Draw where a policy looked."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from gfnet_env.images import ImageSet
from gfnet_env.looks import Look, ViewConfig

# Larger pictures are reduced for drawing, smaller ones enlarged.
_MAX_SIDE = 1024
_MIN_SIDE = 256
_CAPTION_HEIGHT = 22
_OUTLINE = 3
# One colour per step, first to last, distinct to colour-blind readers (Okabe and Ito).
COLOURS = ("#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7")


def draw_looks(
    images: ImageSet, index: int, looks: Look, view: ViewConfig, caption: str
) -> npt.NDArray[np.uint8]:
    """Draw a picture, the windows of looks at it in their order, and a caption below.

    Args:
        images: The set.
        index: Index of the picture.
        looks: S looks at it.
        view: The model's view.
        caption: One line.

    Returns:
        (H', W', 3) uint8, in the shape of the picture.
    """
    height, width = images.sizes([index])[0].tolist()
    shorter, longer = sorted((height, width))
    scale = _MAX_SIDE / longer if longer > _MAX_SIDE else -(-_MIN_SIDE // shorter)
    picture = with_windows(images, index, looks, view, scale)
    return np.asarray(above_caption(picture, caption, picture.width))


def with_windows(
    images: ImageSet, index: int, looks: Look, view: ViewConfig, scale: float
) -> Image.Image:
    """A picture at a scale, and the windows of looks at it, numbered; see ``draw_looks``."""
    size = images.sizes([index])
    sides = [max(1, round(side * scale)) for side in size[0].tolist()]
    picture = whole_picture(images, index, max(sides) if scale < 1 else _MAX_SIDE)
    picture = picture.resize((sides[1], sides[0]), Image.Resampling.NEAREST)
    boxes = view.window_boxes(looks, size.to(looks.location.device).expand(len(looks), 2))
    draw_windows(picture, (boxes.double() * scale).round().long().tolist(), numbered=True)
    return picture


def draw_windows(
    picture: Image.Image, boxes: Sequence[Sequence[int]], *, numbered: bool = False
) -> None:
    """Outline windows (top, left, bottom, right), each in its colour.

    A window where an earlier one is goes inside it, so that both can be seen.
    """
    pen, font = ImageDraw.Draw(picture), ImageFont.load_default(size=14)
    every = np.array(boxes).reshape(-1, 4)
    numbers = []
    for number, (top, left, bottom, right) in enumerate(boxes):
        alike = (abs(every - every[number]) <= _OUTLINE).all(axis=1)
        before, others = int(alike[:number].sum()), int(alike.sum()) - 1
        inset = min(before * (_OUTLINE + 1), (min(bottom - top, right - left) - 1) // 2)
        colour = COLOURS[number % len(COLOURS)]
        corners = (left + inset, top + inset, right - 1 - inset, bottom - 1 - inset)
        pen.rectangle(corners, outline=colour, width=_OUTLINE)
        # Inside the innermost window, side by side.
        inside = min(others * (_OUTLINE + 1) + 3, min(bottom - top, right - left) // 2)
        numbers.append(((left + inside + 2 + 9 * before, top + inside), colour))
    for number, (place, colour) in enumerate(numbers[: len(boxes) * numbered], start=1):
        pen.text(place, str(number), fill=colour, font=font)


def above_caption(picture: Image.Image, caption: str, width: int) -> Image.Image:
    """A picture above a line of text, ``width`` pixels wide."""
    whole = Image.new("RGB", (width, picture.height + _CAPTION_HEIGHT), "white")
    whole.paste(picture)
    pen, font = ImageDraw.Draw(whole), ImageFont.load_default(size=14)
    pen.text((4, picture.height + 2), caption, fill="black", font=font)
    return whole


def whole_picture(images: ImageSet, index: int, max_side: int) -> Image.Image:
    """A whole picture, reduced so that no side exceeds ``max_side``, in pixels."""
    array = images.picture(index, max_side).permute(1, 2, 0).cpu()
    if array.is_floating_point():
        low, high = array.min(), array.max()
        array = ((array - low) / (high - low).clamp(min=1e-9) * 255).round().to(torch.uint8)
    return Image.fromarray(array.numpy())


def caption(
    class_names: Sequence[str] | None, prediction: int, label: int | None, confidence: float
) -> str:
    """The prediction and its confidence, and the true class if it is known and different."""

    def name(number: int) -> str:
        return class_names[number] if class_names else str(number)

    wrong = "" if label is None or prediction == label else f" (is {name(label)})"
    return f"{name(prediction)} {confidence:.0%}{wrong}"


def taken_looks(locations: Tensor, scales: Tensor) -> Look:
    """The looks of a trail, locations (S, 2) and scales (S,); NaN where none was taken."""
    taken = ~locations.isnan().any(dim=1)
    return Look.at(locations[taken], scales[taken])
