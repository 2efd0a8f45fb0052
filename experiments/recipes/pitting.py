"""Surface damage on a machine part: 0.3% of photographs of 1130×460 to 1540×645 pixels.

python experiments/recipes/pitting.py --images PATH --masks PATH --weights FILE \
    --run runs/pitting --out experiments/results/pitting

PATH are photographs of the Industrial Machine Tool Element Surface Defect Dataset (Schlagenhauf et
al., arXiv 2103.13003) in folders train, val and test of clean and pitting, split by position on the
part, and masks of the damage in a tree of the same names. Masks are used for measuring only.
"""

import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch
from scipy.ndimage import binary_dilation
from torch import Tensor

from gfnet_agents import PolicyConfig, train_policy
from gfnet_agents.parts import PartName, Parts, PhotographOptions, Results, run_parts
from gfnet_env import EarlyExitGFNet
from gfnet_env.benchmarks.overlap import measure_overlaps
from gfnet_env.benchmarks.report import millions
from gfnet_env.benchmarks.statistics import probability_of_improvement
from gfnet_env.command_line import parse
from gfnet_env.evaluation import Record, evaluate_policy
from gfnet_env.images import FolderImages, ImageSet, Masks, batches, object_masks
from gfnet_env.images.base import Numbers
from gfnet_env.looks import ViewConfig
from gfnet_env.markdown import header, row
from gfnet_env.models import StaticNetwork, static_multiply_adds
from gfnet_env.policies import HeatPolicy, Policy, RandomPolicy, ScanPolicy
from gfnet_env.training import BaselineConfig, ClassifierConfig, train_baselines, train_classifier

# Sides that whole pictures are resized to; the last has as many pixels as they have.
RESOLUTIONS = (224, 384, 544, 720)
# Learning rates of static networks, of which one is chosen on val, at one resolution.
RATES, SEARCHED = (1e-4, 3e-4, 1e-3), 384
# Policies that are learned, with their settings.
LEARNED: dict[str, dict[str, Any]] = {
    "RL": {"observation": "peak"},
    "RL from heat": {"begin_from": "heat"},
}
# Looks that should find the damage.
FIRST = 3
# Number of the class pitting.
DAMAGED = 1
# The position on the part and its angle, in the names of the files.
_POSITION = re.compile(r"_(\d{6}_\d{3})_")


Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class PittingOptions(PhotographOptions):
    """What to run, and where."""

    masks: Path
    """Folder of the masks."""


def main(options: PittingOptions) -> None:
    """Train and measure all networks, and write results.json and README.md after each part."""
    parts: Parts = {name: partial(PARTS[name], options) for name in options.parts}
    run_parts(options.out, parts, options.seeds, _report)


def _shared(options: PittingOptions, seed: int) -> dict[str, Any]:
    """Settings of all trainings."""
    return {
        "images": f"folder:{options.images}",
        "weights": options.weights,
        "flip": True,
        "class_weights": True,
        "load_best_model_at_end": True,
        "precision": "auto",
        "seed": seed,
        **options.shared,
    }


def gfnet_config(options: PittingOptions, seed: int) -> ClassifierConfig:
    """How the glance-and-focus network is trained."""
    return ClassifierConfig.of(
        run=options.run / f"gfnet-{seed}",
        # A glance of 96×96 shows nothing of the damage.
        glance_size=384,
        glance_encoder="early:tf_efficientnet_lite0,level=2",
        encoder="tf_efficientnet_lite0",
        patch_size=96,
        focus_steps=5,
        classifier="evidence:keep_glance=False",
        windows="mined",
        where_loss=10.0,
        encoder_loss=1.0,
        epochs=8,
        batch_size=8,
        learning_rate=3e-4,
        classifier_learning_rate=3e-3,
        frozen=("model.conv_stem", "model.bn1", "model.blocks.0"),
        **_shared(options, seed),
    )


def static_config(
    options: PittingOptions, seed: int, rate: float, resolution: int
) -> BaselineConfig:
    """How a static network is trained."""
    return BaselineConfig.of(
        run=options.run / f"static-{resolution}-{rate}-{seed}",
        resolutions=(resolution,),
        encoder="tf_efficientnet_lite0",
        epochs=6,
        batch_size=16,
        learning_rate=rate,
        classifier_learning_rate=10 * rate,
        frozen=("model.conv_stem", "model.bn1", "model.blocks.0"),
        **_shared(options, seed),
    )


def _looks(options: PittingOptions, seed: int) -> dict[str, Any]:
    """Train a network, and measure policies with it."""
    train_classifier(gfnet_config(options, seed))
    gfnet = EarlyExitGFNet.load(options.run / f"gfnet-{seed}")
    measure = _Measure.open(options)
    policies: dict[str, Policy] = {
        "random": RandomPolicy(),
        "heat": HeatPolicy(),
        **{name: _learned(options, seed, name) for name in LEARNED},
        "scan": ScanPolicy(),
        "scan, stride P/2": ScanPolicy(stride=0.5),
    }
    records = {
        name: evaluate_policy(gfnet.model, policy, measure.images, batch_size=16)
        for name, policy in policies.items()
    }
    view, random = gfnet.model.view, records["random"]
    found = {name: measure(record, random, view) for name, record in records.items()}
    return {"multiply_adds": gfnet.multiply_adds, "policies": found}


def _static(options: PittingOptions, seed: int) -> dict[str, Any]:
    """Train and measure static networks."""

    def measured(split: str, rate: float, side: int) -> dict[str, float]:
        network = train_baselines(static_config(options, seed, rate, side))[side]
        measure = _Measure.open(options, split)
        damaged = _static_probabilities(network, measure.images)
        return {
            "multiply_adds": static_multiply_adds(network),
            "auc": measure.auc(damaged),
            "balanced_accuracy": measure.balanced((damaged > 0.5) == measure.damaged),
        }

    searched = {rate: measured("val", rate, SEARCHED) for rate in RATES}
    best = max(RATES, key=lambda rate: searched[rate]["auc"])
    networks = {str(side): measured("test", best, side) for side in RESOLUTIONS}
    return {"learning_rate": best, "networks": networks}


PARTS: dict[PartName, Callable[[PittingOptions, int], dict[str, Any]]] = {
    "looks": _looks,
    "static": _static,
}


def _learned(options: PittingOptions, seed: int, name: str) -> Policy:
    """A policy that PPO learns on the frozen network."""
    config = PolicyConfig.of(
        run=options.run / f"{name.replace(' ', '-').lower()}-{seed}",
        network=options.run / f"gfnet-{seed}",
        **LEARNED[name],
        timesteps=20_000,
        num_envs=32,
        oracle_images=0,
        curve_points=0,
        seed=seed,
        **options.shared,
    )
    return train_policy(config).policy


def _static_probabilities(network: StaticNetwork, images: ImageSet) -> Floats:
    """The probability of damage in each image, (N,)."""
    with torch.no_grad():
        parts = [
            network(images.overview(batch.indices, network.view)).softmax(dim=1)[:, DAMAGED]
            for batch in batches(images, 16)
        ]
    return torch.cat(parts).double().numpy()


class _Measure:
    """Measures results.

    Args:
        images: The images of a split.
        masks: Masks of the damage.
    """

    def __init__(self, images: FolderImages, masks: Masks) -> None:
        self.images, self._masks = images, masks
        self.damaged = images.labels.numpy() == DAMAGED
        positions = [_POSITION.search(path.name) for path in images.files]
        assert all(positions)
        names = [each[1] for each in positions if each is not None]
        # Pictures of one position show the same place at other times.
        self._positions = np.unique(names, return_inverse=True)[1]

    @classmethod
    def open(cls, options: PittingOptions, split: str = "test") -> Self:
        """For a split."""
        images = options.open(split)
        assert isinstance(images, FolderImages)
        masks = object_masks(images, options.masks)
        assert masks is not None
        return cls(images, masks)

    def auc(self, probability: Floats, rows: Numbers | None = None) -> float:
        """Area under the ROC curve of the probability of damage, (N,), or of some rows of it."""
        rows = np.arange(len(self.damaged)) if rows is None else rows
        found, damaged = probability[rows], self.damaged[rows]
        return probability_of_improvement(found[damaged], found[~damaged])

    def balanced(self, right: npt.NDArray[np.bool_], rows: Numbers | None = None) -> float:
        """The mean accuracy of both classes, of images that are right or not, (N,)."""
        rows = np.arange(len(self.damaged)) if rows is None else rows
        found, damaged = right[rows], self.damaged[rows]
        return float((found[damaged].mean() + found[~damaged].mean()) / 2)

    def __call__(self, record: Record, random: Record, view: ViewConfig) -> dict[str, Any]:
        """The figures of a policy, after each step, and its gains over random looks."""
        probability, chance = self._probability(record), self._probability(random)
        right, by_chance = record.correct, random.correct
        return {
            "auc": [self.auc(each) for each in probability.T],
            "balanced_accuracy": [self.balanced(each) for each in right.T],
            "windows": record.windows,
            "auc_over_random": self._gains(self.auc, probability, chance),
            "over_random": self._gains(self.balanced, right, by_chance),
            "found": self._found(record, view),
        }

    def _gains(
        self,
        figure: Callable[[npt.NDArray[Any], Numbers], float],
        values: npt.NDArray[Any],
        others: npt.NDArray[Any],
    ) -> list[list[float]]:
        """How much a figure of values (N, T) is above that of others, with bounds, after each."""

        def gain(step: int, rows: Numbers) -> float:
            return figure(values[:, step], rows) - figure(others[:, step], rows)

        return [self._interval(partial(gain, step)) for step in range(values.shape[1])]

    def _probability(self, record: Record) -> Floats:
        """The probability of damage after each step, (N, T)."""
        confidence = record.label_confidence.astype(float)
        return np.where(self.damaged[:, None], confidence, 1 - confidence)

    def _interval(self, figure: Callable[[Numbers], float]) -> list[float]:
        """A figure of some rows, and the bounds of its 95% bootstrap interval over positions."""
        places = [np.flatnonzero(self._positions == each) for each in np.unique(self._positions)]
        drawn = itertools.product(places, repeat=len(places))
        values = [figure(np.concatenate(each)) for each in drawn]
        return [figure(np.arange(len(self._positions))), *np.percentile(values, [2.5, 97.5])]

    def _found(self, record: Record, view: ViewConfig) -> float:
        """Share of damaged pictures where one of the first looks has its centre in the damage.

        Damage ends a quarter of a patch beyond its mask.
        """

        def dilated(indices: Numbers) -> list[Tensor]:
            return [
                torch.from_numpy(binary_dilation(mask.numpy(), iterations=view.size // 4))
                if bool(mask.any())
                else mask
                for mask in self._masks(indices)
            ]

        overlap = measure_overlaps(view, self.images, {"": record}, dilated)[""]
        return float((overlap.centred[:, :FIRST] == 1).any(axis=1).mean())


def _report(results: Results) -> Iterator[str]:
    """The lines of README.md."""
    yield from ("# Surface damage, 1130×460", "")
    yield (
        "On the split test, means over seeds. Intervals draw the positions on the part, of which "
        f"there are four. Found: one of the first {FIRST} looks has its centre in the damage, "
        "which ends a quarter of a window beyond its mask."
    )
    tables = {"static": _static_table, "looks": _looks_table}
    for name, lines in tables.items():
        if name in results:
            yield ""
            yield from lines(list(results[name].values()))


def _static_table(runs: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    yield from header("whole pictures", "multiply-adds", "AUC", "balanced accuracy")
    for side in runs[0]["networks"]:
        found = [run["networks"][side] for run in runs]
        yield row(
            f"static, {side}×{side}",
            millions(found[0]["multiply_adds"]),
            *(_mean(each[name] for each in found) for name in ("auc", "balanced_accuracy")),
        )


def _looks_table(runs: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    glance, first, *_, last = runs[0]["multiply_adds"]
    steps = len(runs[0]["multiply_adds"])
    columns = (
        "multiply-adds",
        "AUC",
        "over random looks",
        "balanced accuracy",
        "over random looks",
    )
    yield from header(f"{steps - 1} looks", *columns, "found")
    for name in runs[0]["policies"]:
        found = [run["policies"][name] for run in runs]
        scans = name.startswith("scan")
        cost = found[0]["windows"] * (first - glance) if scans else last
        figures = []
        for key, gain in (("auc", "auc_over_random"), ("balanced_accuracy", "over_random")):
            gains = ["{:+.1%} ({:+.1%} to {:+.1%})".format(*each[gain][-1]) for each in found]
            figures += [_mean(each[key][-1] for each in found)]
            figures += ["; ".join(gains) if name != "random" else ""]
        yield row(name, millions(cost), *figures, _mean(each["found"] for each in found))


def _mean(values: Iterable[float]) -> str:
    return f"{np.mean(list(values)):.1%}"


if __name__ == "__main__":
    main(parse(PittingOptions, __doc__))
