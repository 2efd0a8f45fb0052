"""Megapixel MNIST: five digits among noise, on canvases of 1500×1500 and 3000×3000.

python experiments/recipes/megapixel.py --run runs/megapixel --out experiments/results/megapixel

Networks learn on mined windows and follow their where-map. They are compared with all windows of a
lattice, through the same encoder, and with published patch-based multiple-instance learning (IPS,
Bergner et al., ICLR 2023), which encodes all windows too.
"""

import math
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import torch

from gfnet_agents.parts import Parts, PartsOptions, Results, mean_exit, run_parts
from gfnet_env import EarlyExitGFNet, GlanceFocusNetwork
from gfnet_env.benchmarks import ComparisonConfig, compare_policies
from gfnet_env.benchmarks.results import PolicyResult
from gfnet_env.benchmarks.rounds import Contender, speedup, time_rounds
from gfnet_env.command_line import parse
from gfnet_env.evaluation import evaluate_policy
from gfnet_env.export import export_onnx, export_static
from gfnet_env.export.runner import Runner, open_session
from gfnet_env.images import ImageSet
from gfnet_env.inference import calibrate
from gfnet_env.markdown import header, row
from gfnet_env.matching import ImageOptions
from gfnet_env.models import StaticConfig, StaticNetwork
from gfnet_env.training import ClassifierConfig, train_classifier

TaskName = Literal["majority", "max", "top", "majority-1000", "majority-3000"]

SCANS = ("scan", "scan:skip_empty=True")
# Accuracy on val that early exits may give up.
TOLERANCE = 0.001
# Pictures that are timed one by one, windows that a scan encodes at once, and rounds.
TIMED, TOGETHER, REPEATS = 10, 64, 5
COLUMNS = {
    "random looks": "{:.1%}",
    "heat": "{:.1%}",
    "scan": "{:.1%}",
    "early exits": "{:.1%}",
    "looks": "{:.1f}",
    "million multiply-adds": "{:.0f}",
    "fewer than all windows": "{:.0f}×",
    "than those not empty": "{:.0f}×",
    "faster, 1 thread": "{:.0f}×",
    "2 threads": "{:.0f}×",
}
# Test accuracies of IPS, from the logs of its authors.
PUBLISHED = {"majority": "99.1%", "max": "93.7%", "top": "92.7%", "majority-3000": "66.6%"}


@dataclass(frozen=True)
class Task:
    """A task, on pictures of some size.

    Attributes:
        images: Their spec.
        glance_size: Side of the glance, a sixth of theirs.
        epochs: Passes over them.
        classifier: What combines the views.
        begin_from: The task whose network lends its encoders and its where-map. The authors of IPS
            train all tasks together, which teaches the encoders each digit likewise.
    """

    images: str
    glance_size: int = 250
    epochs: int = 40
    classifier: str = "evidence:keep_glance=False"
    begin_from: TaskName | None = None


TASKS: dict[TaskName, Task] = {
    "majority": Task("megapixel-mnist"),
    # A sum of evidence can tell neither the largest digit, if a smaller one is there three times,
    # nor the uppermost.
    "max": Task("megapixel-mnist:task=max", 250, 20, "attention", "majority"),
    "top": Task("megapixel-mnist:task=top", 250, 20, "attention", "majority"),
    "majority-1000": Task("megapixel-mnist:train=1000", epochs=120),
    "majority-3000": Task("megapixel-mnist:side=3000,train=1000", glance_size=500, epochs=80),
}


@dataclass(frozen=True, kw_only=True)
class MegapixelOptions(PartsOptions):
    """What to run, and where."""

    tasks: tuple[TaskName, ...] = get_args(TaskName)
    """Tasks, with the number of training pictures or the side where they are not the common
    ones."""


def main(options: MegapixelOptions) -> None:
    """Train and measure all networks, and write results.json and README.md after each."""
    parts: Parts = {name: partial(_run, name, options) for name in options.tasks}
    run_parts(options.out, parts, options.seeds, _report)


def config(task: Task, seed: int, run: Path, options: MegapixelOptions) -> ClassifierConfig:
    """How the network of a task is trained."""
    # On black canvases, running statistics that begin at the mean of photographs lag behind.
    glance = "compact:widths=[8,16,24],strides=[2,2,1],mean=[0,0,0]"
    begun: dict[str, Any] = {"learning_rate": 2e-3}
    if task.begin_from is not None:
        begun = {
            "baseline": run.with_name(f"{task.begin_from}-{seed}"),
            # What the encoders know must outlast the classifier's first steps.
            "learning_rate": 2e-4,
            "classifier_learning_rate": 4e-3,
        }
    return ClassifierConfig.of(
        run=run,
        images=task.images,
        glance_size=task.glance_size,
        glance_encoder=glance,
        # Its map's cells see 31 pixels of the window: a whole digit.
        encoder="compact:widths=[32,64,64,128],strides=[2,2,2,1],mean=[0,0,0]",
        patch_size=52,
        # More than there are digits, so that it learns that strokes say nothing.
        focus_steps=7,
        classifier=task.classifier,
        windows="mined",
        where_loss=10.0,
        encoder_loss=1.0,
        weight_decay=0.05,
        precision="auto",
        epochs=task.epochs,
        batch_size=32,
        average_decay=0.998,
        seed=seed,
        **begun,
        **options.shared,
    )


def _run(name: TaskName, options: MegapixelOptions, seed: int) -> dict[str, Any]:
    """Train and measure one network."""
    folder = options.run / f"{name}-{seed}"
    train_classifier(config(TASKS[name], seed, folder, options))
    compared = compare_policies(
        ComparisonConfig(
            run=folder,
            policies=("random", "learned", *SCANS),
            images=ImageOptions(reading=options.reading),
            overwrite=True,
        )
    )
    gfnet = EarlyExitGFNet.load(folder)
    costs = gfnet.multiply_adds
    val, test = (
        ImageOptions(reading=options.reading).open(gfnet.model, split) for split in ("val", "test")
    )
    gfnet = _with_exits(gfnet, val)
    gfnet.save(folder)
    return {
        "policies": {name: each.to_json() for name, each in compared.policies.items()},
        "multiply_adds": costs,
        "exits": mean_exit(gfnet, test),
        "faster": _faster(gfnet, test),
    }


def _with_exits(gfnet: EarlyExitGFNet, val: ImageSet) -> EarlyExitGFNet:
    """The network with as many looks at most as are best on val, and one threshold."""
    model = gfnet.model
    assert isinstance(model, GlanceFocusNetwork)
    accuracy = evaluate_policy(model, gfnet.policy, val).accuracy
    model.set_focus_steps(max(1, int(accuracy.argmax())))
    gfnet = EarlyExitGFNet(model, gfnet.policy)
    gfnet.set_thresholds(calibrate(gfnet, val, "uniform").cheapest(TOLERANCE).thresholds)
    return gfnet


def _faster(gfnet: EarlyExitGFNet, images: ImageSet) -> dict[str, Any]:
    """How many times as fast as a scan it is, picture by picture in ONNX Runtime, by threads."""
    side = gfnet.model.view.size
    assert isinstance(gfnet.model, GlanceFocusNetwork)
    # Its weights do not matter here.
    config = StaticConfig(
        encoder=gfnet.model.config.encoder, resolution=side, num_classes=gfnet.model.num_classes
    )
    encoder = StaticNetwork(config).eval()
    pixels = images[np.arange(TIMED)].expand(-1, 3, -1, -1).permute(0, 2, 3, 1)
    pictures = [np.ascontiguousarray(each) for each in pixels.numpy()]
    with tempfile.TemporaryDirectory() as folder:
        export_onnx(gfnet, folder)
        export_static(encoder, Path(folder) / "windows.onnx")
        return {str(threads): _speedup(Path(folder), pictures, side, threads) for threads in (1, 2)}


def _speedup(
    folder: Path, pictures: Sequence[npt.NDArray[np.uint8]], side: int, threads: int
) -> dict[str, Any]:
    """``_faster`` of the graphs in a folder, with some threads."""
    runner = Runner(folder, threads=threads)
    session = open_session(folder / "windows.onnx", threads)

    def look() -> None:
        for picture in pictures:
            runner.classify([picture])

    def scan() -> None:
        for picture in pictures:
            places = np.linspace(0, len(picture) - side, math.ceil(len(picture) / side))
            starts = places.round().astype(int).tolist()
            windows = [
                picture[top : top + side, left : left + side] for top in starts for left in starts
            ]
            for first in range(0, len(windows), TOGETHER):
                session.run(None, {"pixels": np.stack(windows[first : first + TOGETHER])})

    contenders = {"look": Contender(look), "scan": Contender(scan)}
    times = time_rounds(contenders, REPEATS, torch.device("cpu"), f"{threads} threads")
    return speedup(times["look"], times["scan"]).to_json()


def _report(results: Results) -> Iterator[str]:
    """The lines of README.md."""
    yield from ("# Megapixel MNIST", "")
    yield (
        "Test accuracy, means over seeds. Networks with early exits take at most as many looks as "
        f"are best on `val`; their threshold costs at most {TOLERANCE:.1%} there. The last "
        "columns say how many times fewer multiply-adds they need than a scan of all windows, "
        "than a scan of those that are not empty, and how many times faster than a scan of all "
        "they are with ONNX Runtime, one picture at a time."
    )
    yield ""
    yield from header("task", "seeds", *COLUMNS, "IPS")
    for name, runs in results.items():
        measured = [_measured(run) for run in runs.values()]
        cells = [
            form.format(np.mean([each[column] for each in measured]))
            for column, form in COLUMNS.items()
        ]
        yield row(name, str(len(runs)), *cells, PUBLISHED.get(name, ""))


def _measured(run: Mapping[str, Any]) -> dict[str, float]:
    """The figures of one run that the table shows."""
    found = {name: PolicyResult.from_json(each) for name, each in run["policies"].items()}
    glance, first = run["multiply_adds"][:2]
    exits = run["exits"]
    # A scan needs no glance: it costs its windows.
    windows = [found[name].windows or 0 for name in SCANS]
    fewer = [each * (first - glance) / exits["multiply_adds"] for each in windows]
    shown = (
        *(found[name].accuracy[-1] for name in ("random", "learned", SCANS[0])),
        *(exits[name] for name in ("accuracy", "looks")),
        *(exits["multiply_adds"] / 1e6, *fewer),
        *(each["median"] for each in run["faster"].values()),
    )
    return dict(zip(COLUMNS, shown, strict=True))


if __name__ == "__main__":
    main(parse(MegapixelOptions, __doc__))
