"""Compare policies: the same model looks at the same images under each of them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated

import numpy as np
import numpy.typing as npt
from rich.console import Console

from gfnet_env.benchmarks.overlap import Overlap, measure_overlaps
from gfnet_env.benchmarks.policy_report import (
    draw_trajectories,
    plot_comparison,
    print_comparison,
    write_comparison,
)
from gfnet_env.benchmarks.results import (
    Difference,
    Interval,
    PolicyComparison,
    PolicyResult,
    interval_of,
    rounded,
)
from gfnet_env.console import PlainConsole
from gfnet_env.evaluation import Record, evaluate_policy
from gfnet_env.features import FeatureOptions
from gfnet_env.files import replacing, write_json
from gfnet_env.images import ImageSet, object_masks
from gfnet_env.inference import EarlyExitGFNet, assembled_in
from gfnet_env.matching import ImageOptions, check_fit
from gfnet_env.models import Model
from gfnet_env.planning import Plan, plan_passes
from gfnet_env.policies import BOUNDS, POLICIES, UNLEARNED, HeatPolicy, Policy
from gfnet_env.runs import check_free, resolve_device, save_config
from gfnet_env.settings import AtLeast, Flat, Seed, Settings

LEARNED = "learned"


@dataclass(frozen=True, kw_only=True)
class ComparisonConfig(Settings):
    """Which policies to compare, on which images of the test split."""

    run: Path
    """Run folder of an assembled network, or of all stages; its policy is called learned."""
    images: Flat[ImageOptions] = field(default_factory=ImageOptions)
    policies: tuple[str, ...] = ()
    """Specs of the policies; by default all policies that the images and the options below
    allow."""
    oracle_images: Annotated[int, AtLeast(0)] = 500
    """Number of images, drawn at random, for the expensive oracle; 0 leaves it out."""
    masks: Path | None = None
    """Folder of masks FOLDER/test/CLASS/NAME.png (or FOLDER/CLASS/NAME.png) of a folder of
    pictures. A mask has the size of its picture and is zero outside the object. By default boxes
    say where the object is, if the images have any."""
    sheet_images: Annotated[int, AtLeast(1)] = 6
    """Number of images, drawn at random, to draw with the looks at them."""
    out: Path | None = None
    """Folder for the results; by default RUN/policies."""
    seed: Seed = 0
    """Seed of the bootstrap."""
    device: str = "auto"
    """auto, cpu, cuda or mps."""
    overwrite: bool = False
    """Whether existing results may be replaced."""


def compare_policies(config: ComparisonConfig, images: ImageSet | None = None) -> PolicyComparison:
    """Take every step of every test image under each policy, and write the results.

    Args:
        config: What to compare.
        images: The test images, in place of ``config.images``.

    Raises:
        FileExistsError: Results exist already, and ``overwrite`` is off.
        FileNotFoundError: A folder or a mask is missing.
        ValueError: A policy is unknown or needs something that the images lack, or the network and
            the images do not fit.
    """
    console = PlainConsole()
    gfnet = EarlyExitGFNet.load(assembled_in(config.run)).to(resolve_device(config.device))
    model = gfnet.model
    out = config.out or config.run / "policies"
    check_free(out, overwrite=config.overwrite)
    images = config.images.open(model, "test") if images is None else images
    check_fit(model, images)
    names = config.policies or _comparable(gfnet, images, config.oracle_images)
    policies = choose_policies(names, gfnet.policy, images, config.oracle_images)
    masks = object_masks(images, config.masks)
    with replacing(out) as new:
        save_config(new, config)
        records = record_policies(model, policies, images, config.oracle_images, console)
        with console.status("intervals"):
            overlaps = measure_overlaps(model.view, images, records, masks) if masks else {}
            compared = compare_records(records, overlaps, images.sources, config.seed)
        objects = None if masks is None else "masks" if config.masks else "boxes"
        results = PolicyComparison("test", len(images), compared, _reference(records), objects)
        write_json(new / "results.json", results.to_json())
        write_comparison(results, new / "table.csv")
        plot_comparison(results, new / "accuracy.png")
        drawn = some_of(images, config.sheet_images)
        draw_trajectories(model, policies, images, drawn, new / "trajectories.png")
    print_comparison(results, model, console)
    console.print(f"{out} holds results.json, table.csv, accuracy.png and trajectories.png")
    return results


def plan_policies(config: ComparisonConfig) -> Plan:
    """What ``compare_policies`` would do and cost."""
    gfnet = EarlyExitGFNet.load(assembled_in(config.run)).to(resolve_device(config.device))
    check_free(config.out or config.run / "policies", overwrite=config.overwrite)
    images = config.images.open(gfnet.model, "test")
    check_fit(gfnet.model, images)
    names = config.policies or _comparable(gfnet, images, config.oracle_images)
    choose_policies(names, gfnet.policy, images, config.oracle_images)
    plan = plan_passes(config, gfnet, {"test": images}, {"test": len(names)})
    left_out = {"left out": "what scan and oracle cost beyond other policies: they try windows"}
    tried = left_out if {"scan", "oracle"} & set(names) else {}
    return replace(plan, figures={**plan.figures, "policies": ", ".join(names), **tried})


def _comparable(gfnet: EarlyExitGFNet, images: ImageSet, oracle_images: int) -> list[str]:
    """All policies that network and images allow; the learned one comes before the upper bounds."""
    names = allowed_policies(UNLEARNED, gfnet.model, images, oracle_images)
    if isinstance(gfnet.policy, HeatPolicy):
        # The learned policy is the same.
        names = [name for name in names if name != "heat"]
    bounds = [name for name in names if name in BOUNDS]
    return [*(name for name in names if name not in BOUNDS), LEARNED, *bounds]


def allowed_policies(
    names: Iterable[str], model: Model, images: ImageSet, oracle_images: int = 0
) -> list[str]:
    """Those of some policies that a model and images allow; see ``choose_policies``."""
    mapped = getattr(model, "where", None) is not None
    allowed = {
        "heat": mapped,
        "scan": mapped,
        "target": images.boxes is not None,
        "oracle": oracle_images > 0,
    }
    return [name for name in names if allowed.get(name, True)]


def choose_policies(
    names: Sequence[str], learned: Policy, images: ImageSet, oracle_images: int
) -> dict[str, Policy]:
    """Build policies, by name.

    Args:
        names: ``learned``, or specs, see ``POLICIES``.
        learned: The policy called ``learned``.
        images: What they will look at.
        oracle_images: Number of images for the oracle; 0 does not allow it.

    Raises:
        ValueError: A name is unknown or given twice, or the images or options do not allow the
            policy.
    """
    if len(set(names)) < len(names):
        raise ValueError(f"a policy is named twice: {', '.join(names)}")
    if "target" in names and images.boxes is None:
        raise ValueError("the policy 'target' needs images with boxes; leave it out")
    if "oracle" in names and oracle_images == 0:
        raise ValueError("the policy 'oracle' needs oracle_images above 0")
    return {name: learned if name == LEARNED else POLICIES.build(name) for name in names}


def some_of(images: ImageSet, count: int) -> npt.NDArray[np.int64]:
    """Indices of ``count`` images, or of all if there are fewer, in rising order; always the same.

    They are drawn at random, since a set may list its images class by class.
    """
    return np.sort(np.random.default_rng(0).permutation(len(images))[:count])


def record_policies(
    model: Model,
    policies: Mapping[str, Policy],
    images: ImageSet,
    oracle_images: int,
    console: Console,
) -> dict[str, Record]:
    """Take every step of every image under each policy; the oracle gets only some images."""
    records = {}
    # Glances do not depend on the policy.
    features = FeatureOptions().live(model, images)
    for name, policy in policies.items():
        # The oracle remembers dozens of feature maps of each image.
        count, together = (oracle_images, 64) if name == "oracle" else (len(images), 256)
        chosen = some_of(images, count)
        with console.status(f"{name} policy on {len(chosen)} test images"):
            records[name] = evaluate_policy(
                model, policy, images, indices=chosen, batch_size=together, features=features
            )
    return records


def compare_records(
    records: Mapping[str, Record],
    overlaps: Mapping[str, Overlap] | None = None,
    sources: npt.NDArray[np.int64] | None = None,
    seed: int = 0,
) -> dict[str, PolicyResult]:
    """Results of each policy; two policies are compared on the images that both were run on.

    Args:
        records: Records by policy, all on images of one set.
        overlaps: Overlaps by policy, if the objects are known.
        sources: Originals of all images of the set, the groups of ``mean_interval``.
        seed: Seed of the bootstrap.
    """
    compare = _Comparer(records, sources, seed)
    results = {}
    for name, record in records.items():
        overlap = (overlaps or {}).get(name)
        results[name] = PolicyResult(
            images=len(record.indices),
            looks=rounded(record.looks.mean()),
            accuracy=_rounded(record.accuracy),
            accuracy_interval=compare.intervals(record.correct, record.indices),
            label_confidence=_rounded(record.label_confidence.mean(axis=0, dtype=float)),
            label_confidence_interval=compare.intervals(record.label_confidence, record.indices),
            share_of_gain=compare.share_of_gain(record),
            over_random=None if name == "random" else compare.over_random(record),
            over_glance=compare.over_glance(record),
            windows=rounded(record.windows),
            object_images=None if overlap is None else len(overlap.centred),
            centred=None if overlap is None else _taken_mean(overlap.centred),
            covered=None if overlap is None else _rounded(overlap.covered.mean(axis=0)),
        )
    return results


def _reference(records: Mapping[str, Record]) -> str | None:
    """The policy whose gain over the glance is the reference for the other gains."""
    return next((name for name in BOUNDS if name in records), None)


class _Comparer:
    """Compares records with random looks and with the reference."""

    def __init__(
        self,
        records: Mapping[str, Record],
        sources: npt.NDArray[np.int64] | None,
        seed: int,
    ) -> None:
        self._sources, self._seed = sources, seed
        self._random = records.get("random")
        self._reference = records.get(_reference(records) or "")
        if self._reference is not None:
            correct = self._reference.correct.astype(int)
            bounds = self.intervals(correct[:, 1:] - correct[:, :1], self._reference.indices)
            self._gained = [low > 0 for low, _ in bounds]

    def intervals(
        self, values: npt.NDArray[np.generic], indices: npt.NDArray[np.int64]
    ) -> tuple[Interval, ...]:
        """Bounds of the mean of each column of values (N, T) of images (N,)."""
        groups = None if self._sources is None else self._sources[indices]
        return tuple(interval_of(column, groups, self._seed) for column in values.T)

    def share_of_gain(self, record: Record) -> tuple[float | None, ...] | None:
        if self._reference is None:
            return None
        _, rows, best_rows = _shared(record, self._reference)
        glance, *accuracy = record.correct[rows].mean(axis=0)
        _, *best = self._reference.correct[best_rows].mean(axis=0)
        return tuple(
            rounded((reached - glance) / (most - glance)) if gained and most > glance else None
            for reached, most, gained in zip(accuracy, best, self._gained, strict=True)
        )

    def over_random(self, record: Record) -> Difference | None:
        if self._random is None:
            return None
        indices, rows, random_rows = _shared(record, self._random)
        return self._difference(record.correct[rows], self._random.correct[random_rows], indices)

    def over_glance(self, record: Record) -> Difference:
        return self._difference(record.correct, record.correct[:, :1], record.indices)

    def _difference(
        self,
        correct: npt.NDArray[np.bool_],
        other: npt.NDArray[np.bool_],
        indices: npt.NDArray[np.int64],
    ) -> Difference:
        """That of the last steps."""
        difference = correct[:, -1:].astype(int) - other[:, -1:]
        (interval,) = self.intervals(difference, indices)
        return Difference(rounded(difference.mean()), interval)


def _shared(
    record: Record, other: Record
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The images that two records share, and their rows in each."""
    return np.intersect1d(record.indices, other.indices, return_indices=True)


def _rounded(values: npt.NDArray[np.floating]) -> tuple[float, ...]:
    return tuple(map(rounded, values))


def _taken_mean(values: npt.NDArray[np.float64]) -> tuple[float | None, ...]:
    """Mean of each column over the looks that were taken; None if no look was taken."""
    means = (column[~np.isnan(column)] for column in values.T)
    return tuple(rounded(taken.mean()) if len(taken) else None for taken in means)
