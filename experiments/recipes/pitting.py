"""Surface damage on a machine part: 0.3% of photographs of 1130×460 to 1540×645 pixels.

python experiments/recipes/pitting.py --images PATH --masks PATH --weights FILE \
    --run runs/pitting --out experiments/results/pitting

PATH are photographs of the Industrial Machine Tool Element Surface Defect Dataset (Schlagenhauf et
al., arXiv 2103.13003) in folders train, val and test of clean and pitting, split by position on the
part, and masks of the damage in a tree of the same names. Masks are used for measuring only.
"""

import re
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy.ndimage import binary_dilation
from torch import Tensor

from gfnet_agents import PolicyConfig, train_policy
from gfnet_agents.markdown import header, row, signature
from gfnet_env import EarlyExitGFNet
from gfnet_env.benchmarks.overlap import measure_overlaps
from gfnet_env.benchmarks.report import millions
from gfnet_env.benchmarks.statistics import mean_interval, probability_of_improvement
from gfnet_env.command_line import parse
from gfnet_env.evaluation import Record, evaluate_policy
from gfnet_env.files import read_json, write_json, write_text
from gfnet_env.images import FolderImages, ImageSet, Masks, ReadingOptions, batches, object_masks
from gfnet_env.images.base import Numbers
from gfnet_env.looks import ViewConfig
from gfnet_env.matching import ImageOptions
from gfnet_env.models import StaticNetwork, static_multiply_adds
from gfnet_env.policies import HeatPolicy, Policy, RandomPolicy, ScanPolicy
from gfnet_env.runs import RunControl, provenance
from gfnet_env.settings import Flat, Settings
from gfnet_env.training import BaselineConfig, ClassifierConfig, train_baselines, train_classifier

# Sides that whole pictures are resized to; the last has as many pixels as they have.
RESOLUTIONS = (224, 384, 544, 720)
# Policies that are learned, and what they begin from.
LEARNED = {"RL": None, "RL from heat": "heat"}
# Looks that should find the damage.
FIRST = 3
# Number of the class pitting.
DAMAGED = 1
# The position on the part and its angle, in the names of the files.
_POSITION = re.compile(r"_(\d{6}_\d{3})_")


Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class PittingOptions(Settings):
    """What to run, and where."""

    images: Path
    """Folder that holds train, val and test."""
    masks: Path
    """Folder of the masks."""
    run: Path
    """Folder for all runs."""
    out: Path
    """Folder for the tables; seeds that its results.json holds already are kept."""
    weights: str = "pretrained"
    """ImageNet's weights of tf_efficientnet_lite0: pretrained (downloaded), or a file."""
    seeds: tuple[int, ...] = (0,)
    """Seeds to repeat it with."""
    reading: Flat[ReadingOptions] = field(default_factory=ReadingOptions)
    control: Flat[RunControl] = field(default_factory=RunControl)


def main(options: PittingOptions) -> None:
    """Train and measure all networks, and write results.json and README.md after each seed."""
    path = options.out / "results.json"
    results: dict[str, Any] = read_json(path) if path.is_file() else {}
    for seed in options.seeds:
        if str(seed) in results:
            continue
        results[str(seed)] = _run(options, seed)
        write_json(path, results)
        write_text(options.out / "README.md", "\n".join(_report(results)) + "\n")


def _shared(options: PittingOptions, seed: int) -> dict[str, Any]:
    """Settings of all trainings."""
    return {
        "images": f"folder:{options.images}",
        "weights": options.weights,
        "flip": True,
        "class_weights": True,
        "load_best_model_at_end": True,
        "precision": "bfloat16",
        "seed": seed,
        **options.reading.given(),
        **options.control.given() | {"resume": not options.control.overwrite},
    }


def gfnet_config(options: PittingOptions, seed: int) -> ClassifierConfig:
    """How the glance-and-focus network is trained."""
    return ClassifierConfig.of(
        run=options.run / f"gfnet-{seed}",
        # A glance of 96×96 shows nothing of the damage.
        glance_size=384,
        glance_encoder="early:tf_efficientnet_lite0,level=2",
        encoder="early:tf_efficientnet_lite0,level=3",
        patch_size=96,
        focus_steps=5,
        classifier="evidence",
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


def static_config(options: PittingOptions, seed: int) -> BaselineConfig:
    """How the static networks are trained."""
    return BaselineConfig.of(
        run=options.run / f"static-{seed}",
        resolutions=RESOLUTIONS,
        encoder="tf_efficientnet_lite0",
        epochs=6,
        batch_size=16,
        learning_rate=3e-4,
        classifier_learning_rate=3e-3,
        frozen=("model.conv_stem", "model.bn1", "model.blocks.0"),
        **_shared(options, seed),
    )


def _run(options: PittingOptions, seed: int) -> dict[str, Any]:
    """Train and measure everything with one seed."""
    started = time.monotonic()
    folder = options.run / f"gfnet-{seed}"
    train_classifier(gfnet_config(options, seed))
    gfnet = EarlyExitGFNet.load(folder)
    test = ImageOptions(reading=options.reading).open(gfnet.model, "test")
    assert isinstance(test, FolderImages)
    masks = object_masks(test, options.masks)
    assert masks is not None
    measure = _Measure(test, masks)
    policies: dict[str, Policy] = {
        "random": RandomPolicy(),
        "heat": HeatPolicy(),
        **{name: _learned(options, seed, name) for name in LEARNED},
        "scan": ScanPolicy(),
        "scan, stride P/2": ScanPolicy(stride=0.5),
    }
    records = {
        name: evaluate_policy(gfnet.model, policy, test, batch_size=16)
        for name, policy in policies.items()
    }
    view = gfnet.model.view
    found = {name: measure(record, records["random"], view) for name, record in records.items()}
    static = {}
    for side, network in train_baselines(static_config(options, seed)).items():
        damaged = _static_probabilities(network, test)
        static[str(side)] = {
            "multiply_adds": static_multiply_adds(network),
            "auc": measure.auc(damaged),
            "balanced_accuracy": measure.balanced(damaged > 0.5),
        }
    return {
        "multiply_adds": gfnet.multiply_adds,
        "policies": found,
        "static": static,
        "seconds": time.monotonic() - started,
        **provenance(command=False),
    }


def _learned(options: PittingOptions, seed: int, name: str) -> Policy:
    """A policy that PPO learns on the frozen network."""
    config = PolicyConfig.of(
        run=options.run / f"{name.replace(' ', '-').lower()}-{seed}",
        network=options.run / f"gfnet-{seed}",
        begin_from=LEARNED[name],
        timesteps=20_000,
        num_envs=32,
        oracle_images=0,
        curve_points=0,
        seed=seed,
        **options.reading.given(),
        **options.control.given() | {"resume": not options.control.overwrite},
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
    """Measures results on the test images.

    Args:
        images: The test images.
        masks: Masks of the damage.
    """

    def __init__(self, images: FolderImages, masks: Masks) -> None:
        self._images, self._masks = images, masks
        self._damaged = images.labels.numpy() == DAMAGED
        positions = [_POSITION.search(path.name) for path in images.files]
        assert all(positions)
        names = [each[1] for each in positions if each is not None]
        # Pictures of one position show the same place at other times.
        self._positions = np.unique(names, return_inverse=True)[1]
        # What each image counts for, so that both classes count the same.
        share = np.where(self._damaged, self._damaged.mean(), 1 - self._damaged.mean())
        self._weights = 0.5 / share

    def auc(self, probability: Floats) -> float:
        """Area under the ROC curve of the probability of damage, (N,)."""
        damaged, clean = probability[self._damaged], probability[~self._damaged]
        return probability_of_improvement(damaged, clean)

    def balanced(self, says_damaged: npt.NDArray[np.bool_]) -> float:
        """The mean accuracy of both classes."""
        return float((self._weights * (says_damaged == self._damaged)).mean())

    def __call__(self, record: Record, random: Record, view: ViewConfig) -> dict[str, Any]:
        """The figures of a policy, after each step, and its gain over random looks."""
        confidence = record.label_confidence.astype(float)
        probability = np.where(self._damaged[:, None], confidence, 1 - confidence)
        gain = self._weights * (record.correct[:, -1].astype(float) - random.correct[:, -1])
        return {
            "auc": [self.auc(each) for each in probability.T],
            "balanced_accuracy": [
                float((self._weights * right).mean()) for right in record.correct.T
            ],
            "windows": record.windows,
            "over_random": [float(gain.mean()), *mean_interval(gain, self._positions)],
            "found": self._found(record, view),
        }

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

        overlap = measure_overlaps(view, self._images, {"": record}, dilated)[""]
        return float((overlap.centred[:, :FIRST] == 1).any(axis=1).mean())


def _report(results: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """The lines of README.md."""
    runs = list(results.values())
    yield from ("# Surface damage, 1130×460", "")
    yield (
        "On the split test, means over seeds. Intervals draw the positions on the part, of which "
        f"there are four. `found`: one of the first {FIRST} looks has its centre in the damage."
    )
    yield ""
    yield from header("whole pictures", "multiply-adds", "AUC", "balanced accuracy")
    for side in runs[0]["static"]:
        found = [run["static"][side] for run in runs]
        yield row(
            f"static, {side}×{side}",
            millions(found[0]["multiply_adds"]),
            *(_mean(each[name] for each in found) for name in ("auc", "balanced_accuracy")),
        )
    yield ""
    yield from header(
        f"{len(runs[0]['multiply_adds']) - 1} looks",
        "multiply-adds",
        "AUC",
        "balanced accuracy",
        "over random looks",
        "found",
    )
    glance, first, *_, last = runs[0]["multiply_adds"]
    for name in runs[0]["policies"]:
        found = [run["policies"][name] for run in runs]
        scans = name.startswith("scan")
        cost = found[0]["windows"] * (first - glance) if scans else last
        yield row(
            name,
            millions(cost),
            *(_mean(each[key][-1] for each in found) for key in ("auc", "balanced_accuracy")),
            "; ".join(
                "{:+.1%} ({:+.1%} to {:+.1%})".format(*each["over_random"]) for each in found
            ),
            _mean(each["found"] for each in found),
        )
    seconds = [run["seconds"] for run in runs]
    yield from ("", signature(runs, sorted(map(int, results)), seconds))


def _mean(values: Iterable[float]) -> str:
    return f"{np.mean(list(values)):.1%}"


if __name__ == "__main__":
    main(parse(PittingOptions, __doc__))
