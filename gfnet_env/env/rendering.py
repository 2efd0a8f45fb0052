"""Pictures of where a policy looked."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from gfnet_env.perception import GlanceFocusNetwork
from gfnet_env.perception.geometry import patch_corners

_MIN_SIDE = 256
_CAPTION_HEIGHT = 22
# One colour per step, first to last, distinct to colour-blind readers (Okabe and Ito).
_COLOURS = ("#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7")


def draw_trajectory(
    network: GlanceFocusNetwork, pixels: Tensor, locations: Tensor, caption: str
) -> npt.NDArray[np.uint8]:
    """Draw an image, its patches in the order they were taken, and a caption below.

    Args:
        network: Whose patches they are.
        pixels: (3, H, W) uint8.
        locations: (S, 2) in [-1, 1], one per patch.
        caption: One line.

    Returns:
        (H', W', 3) uint8; small images are enlarged.
    """
    height, width = pixels.shape[1:]
    scale = max(1, -(-_MIN_SIDE // min(height, width)))
    picture = Image.fromarray(pixels.permute(1, 2, 0).cpu().numpy())
    picture = picture.resize((width * scale, height * scale), Image.Resampling.NEAREST)
    frame = Image.new("RGB", (picture.width, picture.height + _CAPTION_HEIGHT), "white")
    frame.paste(picture)

    pen = ImageDraw.Draw(frame)
    font = ImageFont.load_default(size=14)
    corners = patch_corners(
        locations, (height, width), network.patch_size, network.config.corner_rounding
    )
    side = network.patch_size * scale
    for number, (top, left) in enumerate(corners.tolist(), start=1):
        colour = _COLOURS[(number - 1) % len(_COLOURS)]
        y, x = top * scale, left * scale
        pen.rectangle((x, y, x + side - 1, y + side - 1), outline=colour, width=3)
        pen.text((x + 6, y + 3), str(number), fill=colour, font=font)
    pen.text((4, picture.height + 2), caption, fill="black", font=font)
    return np.asarray(frame)


def caption(
    class_names: Sequence[str] | None, prediction: int, label: int | None, confidence: float
) -> str:
    """The prediction and its confidence, and the true class where it is known to be another."""

    def name(number: int) -> str:
        return class_names[number] if class_names else str(number)

    wrong = "" if label is None or prediction == label else f" (is {name(label)})"
    return f"{name(prediction)} {confidence:.0%}{wrong}"
