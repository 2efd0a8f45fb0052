"""Integers in place of floats: static quantisation of the convolutions of an exported network."""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx
from onnx import GraphProto, ModelProto
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_static,
)

from gfnet_env.export.runner import Named, Picture, Runner, Step
from gfnet_env.export.steps import needed
from gfnet_env.images import ImageSet


def quantised(
    parts: Mapping[str, ModelProto], runner: Runner, pictures: Sequence[Picture]
) -> dict[str, ModelProto]:
    """The parts with all but the first convolutions in 8-bit integers; what follows stays float.

    Weights have a scale for each channel. An activation has one, from its range over the glances,
    or over the windows that the policy looks at.

    Args:
        parts: What is known after a ``glance`` and after a ``focus``; without unused inputs.
        runner: Runs the network in floating point.
        pictures: (H, W, 3) uint8 each, to calibrate with.

    Raises:
        ValueError: A part has no convolutions, or no picture is looked at.
    """
    with _recorded(runner) as seen:
        for picture in pictures:
            runner.classify([picture])
    for name, given in seen.items():
        if not given:
            raise ValueError(
                f"no calibration picture needs a {name} at these thresholds; give more pictures, "
                "or higher thresholds"
            )
    return {name: _quantised(name, part, seen[name]) for name, part in parts.items()}


def in_memory(images: ImageSet) -> list[Picture]:
    """All pictures of a set, (H, W, 3) uint8 each."""
    return [_pixels(images, index) for index in range(len(images))]


def accuracy(runner: Runner, images: ImageSet) -> float:
    """The share of a set's pictures that an exported network gets right."""
    found = [runner.classify([_pixels(images, index)]).classes[0] for index in range(len(images))]
    return float((np.array(found) == images.labels.numpy()).mean())


def _pixels(images: ImageSet, index: int) -> Picture:
    return np.ascontiguousarray(images.picture(index).permute(1, 2, 0).numpy())


class _Recorded:
    """A step that keeps what it is given."""

    def __init__(self, step: Step, given: list[Named]) -> None:
        self._step, self._given = step, given

    def __call__(self, given: Named) -> Named:
        self._given.append(dict(given))
        return self._step(given)


@contextmanager
def _recorded(runner: Runner) -> Iterator[dict[str, list[Named]]]:
    """What the steps of a runner are given meanwhile, by their names."""
    seen: dict[str, list[Named]] = {"glance": [], "focus": []}
    steps = {name: getattr(runner, name) for name in seen}
    for name, step in steps.items():
        setattr(runner, name, _Recorded(step, seen[name]))
    try:
        yield seen
    finally:
        for name, step in steps.items():
            setattr(runner, name, step)


class _Reader(CalibrationDataReader):  # type: ignore[misc]
    """Gives the inputs of a graph, one after the other."""

    def __init__(self, graph: GraphProto, given: Sequence[Named]) -> None:
        names = [each.name for each in graph.input]
        self._inputs = iter([{name: each[name] for name in names} for each in given])

    def get_next(self) -> Named | None:
        return next(self._inputs, None)


def _quantised(name: str, part: ModelProto, given: Sequence[Named]) -> ModelProto:
    nodes = _encoding(part.graph)
    if not nodes:
        raise ValueError(
            f"the {name} has no convolutions, and int8 is for these only: export without it"
        )
    with tempfile.TemporaryDirectory() as folder:
        # It would change a graph that is not a file.
        floats, integers = (str(Path(folder) / f"{kind}.onnx") for kind in ("float32", "int8"))
        onnx.save(part, floats)
        quantize_static(
            floats,
            integers,
            _Reader(part.graph, given),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            nodes_to_quantize=nodes,
        )
        return onnx.load(integers)


def _encoding(graph: GraphProto) -> list[str]:
    """Names of the nodes after the first convolution, if it is not the only one, up to the last.

    With three channels, the first is no faster with integers, and loses the most.
    """
    convolutions = [node for node in graph.node if node.op_type == "Conv"]
    last = [name for node in convolutions for name in node.output]
    nodes, _ = needed(graph, last)
    reached = set(convolutions[0].output) if len(convolutions) > 1 else {"pixels"}
    after = []
    for node in nodes:
        if reached & set(node.input):
            reached |= set(node.output)
            after.append(node.name)
    return after
