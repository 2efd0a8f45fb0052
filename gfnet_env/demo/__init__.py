"""A page that runs a network in a browser: pictures, looks, and a slider for the budget."""

import io
import json
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

import numpy as np
from PIL import Image

from gfnet_env.demo.runtime import runtime_files
from gfnet_env.export.onnx import exported_files
from gfnet_env.files import replace_files
from gfnet_env.images import ImageSet
from gfnet_env.inference import EarlyExitGFNet, OperatingPoint
from gfnet_env.inference.budgets import spread
from gfnet_env.paths import user_path

# Budgets that the slider has at most.
_BUDGETS = 40
_EXPORTED = ("glance.onnx", "focus.onnx", "gfnet.json")


def write_demo(
    gfnet: EarlyExitGFNet,
    folder: str | Path,
    images: ImageSet,
    indices: Sequence[int],
    runtime: Path | None = None,
) -> None:
    """Write a folder that any web server can serve; it needs no network.

    Args:
        gfnet: The assembled network; without budgets the page has no slider.
        folder: Made if missing.
        images: Where the examples come from.
        indices: Numbers of the examples in it.
        runtime: Archive of onnxruntime-web, see ``runtime_files``.

    Raises:
        ImportError: The packages that write ONNX are missing.
        OSError: onnxruntime-web cannot be downloaded, or a file cannot be written.
        ValueError: The network cannot be exported, see ``export_onnx``; or the archive is damaged.
    """
    content = runtime_files(runtime)
    exported = exported_files(gfnet)
    content |= {name: exported[name] for name in _EXPORTED}
    pages = resources.files(__name__) / "page"
    content |= {page.name: page.read_bytes() for page in pages.iterdir()}
    names = gfnet.model.class_names
    examples = []
    for number, index in enumerate(indices):
        name = f"example-{number}.png"
        content[name] = _png(images, index)
        label = int(images.labels[index])
        examples.append({"file": name, "label": names[label] if names else str(label)})
    budgets = _budgets(gfnet)
    about = {"examples": examples, "budgets": budgets, "budget": _chosen(gfnet, budgets)}
    content["demo.json"] = json.dumps(about).encode()
    replace_files(user_path(folder), content)


def _png(images: ImageSet, index: int) -> bytes:
    pixels = images.picture(index).permute(1, 2, 0).numpy()
    file = io.BytesIO()
    Image.fromarray(pixels.repeat(3, axis=2) if pixels.shape[2] == 1 else pixels).save(file, "PNG")
    return file.getvalue()


def _budgets(gfnet: EarlyExitGFNet) -> list[dict[str, object]]:
    """Budgets over the whole range; of those that cost the same, the most accurate."""
    by_cost: dict[float, OperatingPoint] = {}
    for point in gfnet.budgets.points if gfnet.budgets else ():
        known = by_cost.get(point.multiply_adds, point)
        by_cost[point.multiply_adds] = max(known, point, key=lambda each: each.accuracy)
    return [point.to_json() for point in spread(list(by_cost.values()), _BUDGETS)]


def _chosen(gfnet: EarlyExitGFNet, budgets: Sequence[dict[str, object]]) -> int:
    """The budget whose thresholds are nearest to the network's."""
    if not budgets:
        return 0
    apart = np.abs(np.array([each["thresholds"] for each in budgets]) - np.array(gfnet.thresholds))
    return int(apart.sum(axis=1).argmin())
