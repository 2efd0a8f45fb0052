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
    size = images.sizes([index])
    height, width = size[0].tolist()
    boxes = view.window_boxes(looks, size.to(looks.location.device).expand(len(looks), 2))
    scale = min(_MAX_SIDE / max(height, width), 1.0)
    scale = max(scale, float(-(-_MIN_SIDE // min(height, width)))) if scale == 1 else scale
    picture = whole_picture(images, index, _MAX_SIDE)
    if scale > 1:
        larger = round(width * scale), round(height * scale)
        picture = picture.resize(larger, Image.Resampling.NEAREST)
    frame = Image.new("RGB", (picture.width, picture.height + _CAPTION_HEIGHT), "white")
    frame.paste(picture)

    pen = ImageDraw.Draw(frame)
    font = ImageFont.load_default(size=14)
    for number, box in enumerate((boxes.double() * scale).round().long().tolist(), start=1):
        top, left, bottom, right = box
        colour = COLOURS[(number - 1) % len(COLOURS)]
        pen.rectangle((left, top, right - 1, bottom - 1), outline=colour, width=3)
        pen.text((left + 6, top + 3), str(number), fill=colour, font=font)
    pen.text((4, picture.height + 2), caption, fill="black", font=font)
    return np.asarray(frame)


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
