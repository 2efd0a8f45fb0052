"""Classify pictures with an exported glance-and-focus network.

python classify.py PICTURE [PICTURE ...]

The network glances at each picture scaled down, then looks at windows of it while it is unsure.
Pictures that it is sure of leave the batch. It needs numpy, Pillow and onnxruntime. Pictures
that do not fit in memory need pyvips or OpenSlide too.
"""

import argparse
import contextlib
import hashlib
import io
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

from gfnet_env.images.large import LargePicture, load_square, open_large
from gfnet_env.images.picture import Fit, load_picture

Picture = npt.NDArray[np.uint8]
Rows = npt.NDArray[np.int64]
# Inputs or outputs of a graph, by name: arrays with a row for each picture, and a threshold.
Named = dict[str, npt.NDArray[Any]]


# What the files of a folder hold; a runner reads no other.
FORMAT = 3


@dataclass(frozen=True)
class Prediction:
    """Predictions for B pictures.

    Attributes:
        classes: The most confident class at the exit, (B,) int64.
        confidence: Its probability, (B,) float32.
        probabilities: Of every class, (B, K) float32.
        exit_step: Looks taken, (B,) int64 in [0, N].
        locations: Locations of the looks, (B, N, 2) in [-1, 1]; NaN if not taken.
        scales: Side of each window as a multiple of P, (B, N); NaN if not taken.
        multiply_adds: Cost of each picture, (B,) int64.
    """

    classes: npt.NDArray[np.int64]
    confidence: npt.NDArray[np.float32]
    probabilities: npt.NDArray[np.float32]
    exit_step: npt.NDArray[np.int64]
    locations: npt.NDArray[np.float32]
    scales: npt.NDArray[np.float32]
    multiply_adds: npt.NDArray[np.int64]

    @classmethod
    def blank(cls, count: int, looks: int, num_classes: int) -> "Prediction":
        """Before the glance."""
        return cls(
            classes=np.zeros(count, dtype=np.int64),
            confidence=np.zeros(count, dtype=np.float32),
            probabilities=np.zeros((count, num_classes), dtype=np.float32),
            exit_step=np.zeros(count, dtype=np.int64),
            locations=np.full((count, looks, 2), np.nan, dtype=np.float32),
            scales=np.full((count, looks), np.nan, dtype=np.float32),
            multiply_adds=np.zeros(count, dtype=np.int64),
        )


class Step:
    """A graph: what it answers, and what the next step takes, whose names begin with ``next_``."""

    def __init__(self, session: onnxruntime.InferenceSession) -> None:
        self.session = session
        self._takes = [each.name for each in session.get_inputs()]
        self._outputs = [each.name for each in session.get_outputs()]
        self._gives = [name.removeprefix("next_") for name in self._outputs]

    def __call__(self, given: Named) -> Named:
        values = self.session.run(self._outputs, {name: given[name] for name in self._takes})
        return dict(zip(self._gives, values, strict=True))


class Runner:
    """An exported network.

    Args:
        folder: Folder written by ``export_onnx``.
        threads: Threads per operation, 1 to 256; None leaves the number to onnxruntime. For small
            windows of single pictures, one thread is as fast as two.
        providers: Names of onnxruntime's execution providers; an operation runs on the first one
            that has it.

    Attributes:
        glance: The first step.
        focus: Every later step.

    Raises:
        FileNotFoundError: The folder or a file is missing.
        ValueError: A file is damaged, is of another version or belongs to another export; the
            number of threads is out of range; or a provider is not available.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        threads: int | None = None,
        providers: Sequence[str] = ("CPUExecutionProvider",),
    ) -> None:
        folder = _folder(folder)
        settings = _settings(folder)
        self.patch_size: int = settings["patch_size"]
        self.glance_size: int = settings["glance_size"]
        self.focus_steps: int = settings["focus_steps"]
        self.fit: Fit = settings["fit"]
        self.image_size: int | None = settings["image_size"]
        self.crop: float = settings["crop"]
        self.class_names: list[str] = settings["class_names"]
        self._costs = np.array(settings["multiply_adds"])
        self._stop_cost: int = settings["stop_multiply_adds"]
        self._interpolation: str = settings["interpolation"]
        self._aspect: str = settings["aspect"]
        self.thresholds = settings["thresholds"]
        self.glance, self.focus = (
            Step(open_session(_graph(folder, name, settings), threads, providers))
            for name in ("glance.onnx", "focus.onnx")
        )

    @property
    def providers(self) -> list[str]:
        """The execution providers that onnxruntime uses, in its order."""
        return self.focus.session.get_providers()

    @property
    def thresholds(self) -> tuple[float, ...]:
        """Certainty at which a picture exits, one per step; at the last step, all exit."""
        return self._thresholds

    @thresholds.setter
    def thresholds(self, thresholds: Sequence[float]) -> None:
        count = 1 + self.focus_steps
        fits = isinstance(thresholds, Sequence | np.ndarray) and len(thresholds) == count
        if not fits or not all(map(_is_threshold, thresholds)):
            raise ValueError(
                f"{count} thresholds are needed, one per step, finite and at least 0, not "
                f"{thresholds!r}"
            )
        self._thresholds = values = tuple(map(float, thresholds))
        # After the last step, no picture goes on.
        self._limits = [np.array(value, dtype=np.float32) for value in (*values[:-1], -1)]

    def classify(
        self, pictures: Sequence[Picture | LargePicture | str | Path | bytes]
    ) -> Prediction:
        """Classify pictures; each leaves the batch as soon as it is confident enough.

        Args:
            pictures: Each (H, W, 3) uint8, in memory or on disk; or a file, or the bytes of one,
                which is brought to the size of those that the network was trained on. Their sizes
                may differ.

        Raises:
            FileNotFoundError: There is no such file.
            TypeError: There is no list of pictures.
            ValueError: A picture cannot be decoded, has another type or shape, or is smaller than
                a window.
        """
        if isinstance(pictures, str | bytes) or not isinstance(pictures, Sequence | np.ndarray):
            raise TypeError(f"pictures must be a list, not {type(pictures).__name__}")
        return self._classify([self._open(picture) for picture in pictures])

    def _open(self, picture: Picture | LargePicture | str | Path | bytes) -> Picture | LargePicture:
        """A picture that can be looked at."""
        if isinstance(picture, str | Path | bytes):
            source = Path(picture) if isinstance(picture, str) else picture
            picture = open_picture(source, self.image_size, self.fit, self.crop)
        self._check(picture)
        return picture

    def _classify(self, pictures: Sequence[Picture | LargePicture]) -> Prediction:
        rows = np.arange(len(pictures))
        found = Prediction.blank(len(rows), self.focus_steps, len(self.class_names))
        if len(rows) == 0:
            return found
        given: Named = {
            "pixels": overview(pictures, self.glance_size, self._interpolation, self._aspect),
            "size": np.array([picture.shape[:2] for picture in pictures], dtype=np.int64),
        }
        for step, threshold in enumerate(self._limits):
            given["threshold"] = threshold
            known = (self.focus if step else self.glance)(given)
            probabilities, certainty = known.pop("probabilities"), known.pop("certainty")
            found.classes[rows] = probabilities.argmax(axis=1)
            found.confidence[rows] = probabilities.max(axis=1)
            found.probabilities[rows] = probabilities
            found.exit_step[rows] = step
            found.multiply_adds[rows] = self._costs[step]
            if step > 0:
                found.locations[rows, step - 1] = given["location"]
                found.scales[rows, step - 1] = given["scale"]
            rows = rows[~(certainty >= threshold)]
            stop = known["stop"]
            if stop.any():
                found.multiply_adds[rows[stop]] += self._stop_cost
                rows, known = rows[~stop], {name: each[~stop] for name, each in known.items()}
            if len(rows) == 0:
                break
            given = known | {"pixels": self._windows(pictures, rows, known)}
        return found

    def _windows(
        self, pictures: Sequence[Picture | LargePicture], rows: Rows, known: Named
    ) -> Picture:
        """The windows that the policy looks at, (B, P, P, 3)."""
        if not (np.abs(known["location"]) <= 1).all() or not (known["scale"] >= 1).all():
            raise ValueError(
                "the policy's locations are not in [-1, 1], or its scales below 1: export another"
            )
        shape = self.patch_size, self.patch_size
        boxes = zip(rows.tolist(), known["box"].tolist(), strict=True)
        return np.stack(
            [_resized(pictures[row], shape, self._interpolation, box) for row, box in boxes]
        )

    def _check(self, picture: Picture | LargePicture) -> None:
        if not isinstance(picture, np.ndarray | LargePicture):
            raise ValueError(f"pictures must be (H, W, 3) uint8, not {type(picture).__name__}")
        if picture.dtype != np.uint8 or len(picture.shape) != 3 or picture.shape[2] != 3:
            raise ValueError(
                f"pictures must be (H, W, 3) uint8, not {picture.shape} {picture.dtype}"
            )
        least = max(self.patch_size, self.glance_size)
        if min(picture.shape[:2]) < least:
            height, width = picture.shape[:2]
            raise ValueError(
                f"a picture of {height}×{width} is smaller than the patch of {least}×{least}; "
                "enlarge it"
            )


def _is_threshold(value: Any) -> bool:
    """Whether a value is a finite number of at least 0."""
    return isinstance(value, int | float | np.number) and bool(0 <= value <= sys.float_info.max)


def _folder(folder: str | Path) -> Path:
    """A folder that a user names; ``~`` stands for the home folder."""
    # Where there is no such home, or the name is too long, there is no such folder either.
    with contextlib.suppress(OSError, RuntimeError):
        found = Path(folder).expanduser()
        if folder != "" and found.is_dir():
            return found
    raise FileNotFoundError(
        f"there is no folder {str(folder)[:200]!r}; give one that gfnet export wrote"
    )


def _settings(folder: Path) -> dict[str, Any]:
    """The settings of an exported folder, which have their own digest."""
    path = _find(folder, "gfnet.json")
    try:
        settings = dict(json.loads(path.read_bytes()))
    except (RecursionError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is damaged ({error}); export the network again") from error
    if settings.get("format") != FORMAT:
        raise ValueError(
            f"{folder} was exported by another version of gfnet-env; export the network again"
        )
    digest = settings.pop("sha256", None)
    if _sha256(json.dumps(settings, sort_keys=True).encode()) != digest:
        raise ValueError(
            f"{path} is damaged, or was changed after it was exported; export the network again"
        )
    return settings


def _graph(folder: Path, name: str, settings: dict[str, Any]) -> Path:
    """The file of a graph, which is the one that was exported with the settings."""
    path = _find(folder, name)
    if _sha256(path.read_bytes()) != settings["files_sha256"][name]:
        raise ValueError(
            f"{path} is damaged or belongs to another export than the gfnet.json beside it; "
            "export the network again"
        )
    return path


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _find(folder: Path, name: str) -> Path:
    # Newer files come first: a kill may have kept them from being moved to their places.
    for path in (folder / ".committed" / name, folder / name):
        if path.is_file():
            return path
    raise FileNotFoundError(f"there is no {name} in {folder}; copy the whole folder")


def open_session(
    path: Path,
    threads: int | None = None,
    providers: Sequence[str] = ("CPUExecutionProvider",),
) -> onnxruntime.InferenceSession:
    """An ONNX graph, ready to run.

    Raises:
        ValueError: The file is damaged, the number of threads is not in 1 to 256, or a provider
            does not exist or start.
    """
    check_providers(providers)
    options = onnxruntime.SessionOptions()
    if threads is not None:
        # onnxruntime starts any number, and then waits for all of them.
        if not isinstance(threads, int | np.integer) or not 1 <= threads <= 256:
            raise ValueError(f"threads must be a whole number from 1 to 256, not {threads!r}")
        options.intra_op_num_threads = threads
    # Spinning threads of a finished graph would take the cores from other graphs' threads.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    try:
        session = onnxruntime.InferenceSession(
            path.read_bytes(), options, providers=list(providers)
        )
    # onnxruntime's errors have no common base.
    except Exception as error:
        raise ValueError(f"cannot read the graph {path} ({error}); copy it again") from error
    # Without a word, onnxruntime goes on without a provider whose libraries are missing.
    for name in providers:
        if name not in session.get_providers():
            raise ValueError(
                f"the execution provider {name} does not start here; onnxruntime says above what "
                "it misses"
            )
    return session


def check_providers(providers: Sequence[str]) -> None:
    """Raise ``ValueError`` unless this onnxruntime has the execution providers."""
    available = onnxruntime.get_available_providers()
    if (
        isinstance(providers, str)
        or not providers
        or not all(map(available.__contains__, providers))
    ):
        raise ValueError(
            f"providers must be a list of what this onnxruntime has, {', '.join(available)}; not "
            f"{providers!r}"
        )


def open_picture(
    path: Path | bytes, image_size: int | None, fit: Fit, crop: float
) -> Picture | LargePicture:
    """A picture, brought to a square if there is an ``image_size``; a big file stays on disk."""
    if isinstance(path, bytes):
        return load_picture(path, image_size, fit, crop)
    if image_size is not None and fit != "whole":
        return load_square(path, image_size, fit, crop)
    return open_large(path) or load_picture(path, image_size, fit, crop)


def overview(
    pictures: Sequence[Picture | LargePicture], side: int, interpolation: str, aspect: str
) -> Picture:
    """Whole pictures (H, W, 3) as squares (B, side, side, 3), stretched or padded with black."""
    if aspect == "pad":
        return np.stack([_padded(picture, side, interpolation) for picture in pictures])
    return np.stack([_resized(picture, (side, side), interpolation) for picture in pictures])


def _padded(picture: Picture | LargePicture, side: int, interpolation: str) -> Picture:
    longest = max(picture.shape[:2])
    scale = side / longest
    top, left = (round((longest - extent) // 2 * scale) for extent in picture.shape[:2])
    height, width = (max(1, round(extent * scale)) for extent in picture.shape[:2])
    inner = _resized(picture, (height, width), interpolation)
    canvas = np.zeros((side, side, 3), dtype=np.uint8)
    canvas[top : top + height, left : left + width] = inner
    return canvas


def _resized(
    picture: Picture | LargePicture,
    shape: tuple[int, int],
    interpolation: str,
    box: Sequence[int] | None = None,
) -> Picture:
    """A picture, or its part (top, left, bottom, right), resized to a shape."""
    top, left, bottom, right = box or (0, 0, *picture.shape[:2])
    method = Image.Resampling[interpolation.upper()]
    if isinstance(picture, LargePicture):
        part = picture.show((top, left, bottom, right), shape, method)
        return np.asarray(part.convert("RGB"))
    picture = picture[top:bottom, left:right]
    if picture.shape[:2] == shape:
        return picture
    # Pillow takes the width first, and antialiases.
    return np.asarray(Image.fromarray(picture).resize(shape[::-1], method))


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pictures", nargs="+", type=Path, metavar="PICTURE")
    parser.add_argument("--folder", default=Path(__file__).parent)
    parser.add_argument("--image-size", type=int, help="of pictures, in pixels; 0 does not resize")
    parser.add_argument("--thresholds", help="one per step: 0.9,0.9,0.8,0")
    parser.add_argument("--threads", type=int)
    parser.add_argument(
        "--providers",
        type=lambda text: text.split(","),
        default=["CPUExecutionProvider"],
        help="onnxruntime's execution providers, in order: CUDAExecutionProvider,…",
    )
    options = parser.parse_args(arguments)
    for stream in (sys.stdout, sys.stderr):
        # A terminal may lack a character of a name.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    try:
        runner = Runner(options.folder, threads=options.threads, providers=options.providers)
        if options.thresholds is not None:
            runner.thresholds = _numbers(options.thresholds)
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")
    if options.image_size and runner.fit == "whole":
        parser.error("this network sees pictures as they are: leave --image-size out")
    size = runner.image_size if options.image_size is None else options.image_size
    print(f"onnxruntime runs it on {', '.join(runner.providers)}", file=sys.stderr)
    errors = []
    # One by one, so that one costs no other its answer, and memory does not grow.
    for path in options.pictures:
        try:
            found = _classify_file(runner, path, size or None)
        except (ImportError, OSError, ValueError) as error:
            errors.append(f"error: {error}")
            continue
        print(
            f"{path}: {runner.class_names[found.classes[0]]} {found.confidence[0]:.1%}, "
            f"exit at step {found.exit_step[0]}, "
            f"{found.multiply_adds[0] / 1e6:.2f} M multiply-adds"
        )
    if errors:
        sys.exit("\n".join(errors))


def _classify_file(runner: Runner, path: Path, image_size: int | None) -> Prediction:
    if path.is_dir():
        raise ValueError(f"{path} is a folder; give the pictures in it")
    picture = open_picture(path, image_size, runner.fit, runner.crop)
    try:
        return runner.classify([picture])
    except ValueError as error:
        # Some errors name the file already.
        raise error if str(path) in str(error) else ValueError(f"{path}: {error}") from error


def _numbers(text: str) -> tuple[float, ...]:
    try:
        return tuple(map(float, text.split(",")))
    except ValueError as error:
        raise ValueError(
            f"thresholds must be numbers with commas between them, not {text!r}"
        ) from error


if __name__ == "__main__":
    main()
