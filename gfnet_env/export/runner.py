"""Classify pictures with an exported glance-and-focus network.

python classify.py PICTURE [PICTURE ...]

The network glances at each picture scaled down, then looks at patches of it while it is unsure.
Pictures that are sure leave the batch. Needs numpy, Pillow and onnxruntime.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
from PIL import Image

from gfnet_env.data.picture import load_picture

_GRAPHS = ("glance", "policy", "focus")


@dataclass(frozen=True)
class Prediction:
    """What came out for B pictures.

    Attributes:
        classes: The most confident class at the exit, (B,) int64.
        confidence: Its probability, (B,) float32.
        exit_step: Focus steps taken, (B,) int64.
        locations: Where each picture was looked at, (B, steps, 2) in [-1, 1]; NaN where a step was
            not taken.
        multiply_adds: What each picture cost, (B,) int64.
    """

    classes: npt.NDArray[np.int64]
    confidence: npt.NDArray[np.float32]
    exit_step: npt.NDArray[np.int64]
    locations: npt.NDArray[np.float32]
    multiply_adds: npt.NDArray[np.int64]


class Runner:
    """An exported network.

    Args:
        folder: What ``export_onnx`` wrote.
        threads: Threads of one operation; None leaves it to onnxruntime. The policy always has one:
            its operations are too small to be shared. So are all of them where small patches of
            single pictures are looked at: there one thread is as fast as two.
        providers: Where it runs, by onnxruntime's names.

    Raises:
        FileNotFoundError: A file is missing.
        ValueError: A file is damaged.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        threads: int | None = None,
        providers: Sequence[str] = ("CPUExecutionProvider",),
    ) -> None:
        folder = Path(folder)
        for name in ("gfnet.json", *(f"{graph}.onnx" for graph in _GRAPHS)):
            if not (folder / name).is_file():
                raise FileNotFoundError(f"there is no {name} in {folder}; copy the whole folder")
        try:
            config = json.loads((folder / "gfnet.json").read_text())
            self.patch_size: int = config["patch_size"]
            self.focus_steps: int = config["focus_steps"]
            self.image_size: int | None = config["image_size"]
            self.crop: float = config["crop"]
            self.class_names: list[str] = config["class_names"]
            self._costs = np.array(config["multiply_adds"])
            self._interpolation: str = config["interpolation"]
            self.thresholds = config["thresholds"]
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"{folder / 'gfnet.json'} is damaged ({error!r}); copy the whole folder again"
            ) from error
        self._sessions = {
            name: open_session(
                folder / f"{name}.onnx", 1 if name == "policy" else threads, providers
            )
            for name in _GRAPHS
        }

    @property
    def thresholds(self) -> tuple[float, ...]:
        """Confidence at which a picture exits, one per step; the last step always exits."""
        return self._thresholds

    @thresholds.setter
    def thresholds(self, thresholds: Sequence[float]) -> None:
        values = tuple(float(value) for value in thresholds)
        if len(values) != 1 + self.focus_steps:
            raise ValueError(
                f"{1 + self.focus_steps} thresholds are needed, one per step, not {len(values)}"
            )
        if not all(np.isfinite(value) and value >= 0 for value in values):
            raise ValueError(f"thresholds must be finite and at least 0, not {list(values)}")
        self._thresholds = values

    def classify(self, pictures: Sequence[npt.NDArray[np.uint8]]) -> Prediction:
        """Classify pictures; each leaves the batch as soon as it is confident enough.

        Args:
            pictures: (H, W, 3) uint8 each; their sizes may differ.

        Raises:
            ValueError: A picture has another type or shape, or is smaller than a patch.
        """
        for picture in pictures:
            self._check(picture)
        count = len(pictures)
        classes = np.zeros(count, dtype=np.int64)
        confidence = np.zeros(count, dtype=np.float32)
        exit_step = np.zeros(count, dtype=np.int64)
        locations = np.full((count, self.focus_steps, 2), np.nan, dtype=np.float32)
        if count == 0:
            return Prediction(classes, confidence, exit_step, locations, self._costs[exit_step])

        rows = np.arange(count)
        sizes = np.array([picture.shape[:2] for picture in pictures])
        number = np.zeros(count, dtype=np.int64)
        location = np.zeros((count, 2), dtype=np.float32)
        thumbnails = resize(pictures, self.patch_size, self._interpolation)
        features, memory, probabilities = self._run("glance", pixels=thumbnails)
        glance = features
        seen = np.zeros((count, *features.shape[2:]), dtype=np.float32)
        for step, threshold in enumerate(self.thresholds):
            if step > 0:
                location, corners, seen = self._run(
                    "policy",
                    features=features,
                    glance=glance,
                    seen=seen,
                    memory=memory,
                    location=location,
                    number=number,
                    sizes=sizes,
                )
                if not (np.abs(location) <= 1).all():
                    raise ValueError("the policy's locations are not in [-1, 1]: export another")
                locations[rows, step - 1] = location
                patches = self._patches(pictures, rows, corners)
                number = number + 1
                features, memory, probabilities = self._run(
                    "focus", pixels=patches, memory=memory, number=number
                )
            surest = probabilities.max(axis=1)
            sure = surest >= threshold
            if step == self.focus_steps:
                sure[:] = True
            elif not sure.any():
                continue
            leaving = rows[sure]
            classes[leaving] = probabilities[sure].argmax(axis=1)
            confidence[leaving] = surest[sure]
            exit_step[leaving] = step
            stay = ~sure
            rows = rows[stay]
            if len(rows) == 0:
                break
            number, memory, location = number[stay], memory[stay], location[stay]
            features, glance = features[stay], glance[stay]
            seen, sizes = seen[stay], sizes[stay]
        return Prediction(classes, confidence, exit_step, locations, self._costs[exit_step])

    def _run(self, graph: str, **inputs: npt.NDArray[Any]) -> list[npt.NDArray[Any]]:
        return self._sessions[graph].run(None, inputs)

    def _check(self, picture: npt.NDArray[np.uint8]) -> None:
        if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
            raise ValueError(
                f"pictures must be (H, W, 3) uint8, not {picture.shape} {picture.dtype}"
            )
        if min(picture.shape[:2]) < self.patch_size:
            height, width = picture.shape[:2]
            raise ValueError(
                f"a picture of {height}×{width} is smaller than the patch of {self.patch_size}×"
                f"{self.patch_size}; enlarge it"
            )

    def _patches(
        self,
        pictures: Sequence[npt.NDArray[np.uint8]],
        rows: npt.NDArray[np.int64],
        corners: npt.NDArray[np.int64],
    ) -> npt.NDArray[np.uint8]:
        """One patch each of some of the pictures, (R, P, P, 3)."""
        side = self.patch_size
        return np.stack(
            [
                pictures[row][top : top + side, left : left + side]
                for row, (top, left) in zip(rows.tolist(), corners.tolist(), strict=True)
            ]
        )


def open_session(
    path: Path,
    threads: int | None = None,
    providers: Sequence[str] = ("CPUExecutionProvider",),
) -> onnxruntime.InferenceSession:
    """An ONNX graph, ready to run.

    Raises:
        ValueError: The file is damaged.
    """
    options = onnxruntime.SessionOptions()
    if threads is not None:
        options.intra_op_num_threads = threads
    # Threads spin between the operations of a graph, but not after it: there they would take the
    # cores from the other graphs' threads.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=list(providers))
    # Its errors have no common class of their own.
    except Exception as error:
        raise ValueError(f"cannot read the graph {path} ({error}); copy it again") from error


def resize(
    pictures: Sequence[npt.NDArray[np.uint8]], side: int, interpolation: str
) -> npt.NDArray[np.uint8]:
    """Pictures (H, W, 3) brought to squares, (B, side, side, 3)."""
    method = Image.Resampling[interpolation.upper()]
    return np.stack(
        [
            picture
            if picture.shape[:2] == (side, side)
            else np.asarray(Image.fromarray(picture).resize((side, side), method))
            for picture in pictures
        ]
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pictures", nargs="+", type=Path, metavar="PICTURE")
    parser.add_argument("--folder", type=Path, default=Path(__file__).parent)
    parser.add_argument(
        "--image-size", type=int, help="side they are brought to, in pixels; 0 leaves them"
    )
    parser.add_argument("--thresholds", help="one per step: 0.9,0.9,0.8,0")
    parser.add_argument("--threads", type=int)
    options = parser.parse_args(arguments)
    try:
        runner = Runner(options.folder, threads=options.threads)
        if options.thresholds is not None:
            runner.thresholds = tuple(map(float, options.thresholds.split(",")))
        size = runner.image_size if options.image_size is None else options.image_size
        prediction = runner.classify(
            [load_picture(path, size or None, share=runner.crop) for path in options.pictures]
        )
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")
    for row, path in enumerate(options.pictures):
        name = runner.class_names[prediction.classes[row]]
        print(
            f"{path}: {name} {prediction.confidence[row]:.1%}, "
            f"exit at step {prediction.exit_step[row]}, "
            f"{prediction.multiply_adds[row] / 1e6:.2f} M multiply-adds"
        )


if __name__ == "__main__":
    main()
