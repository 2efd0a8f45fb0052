"""What policies are worth: the same model looks at the same images under each of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
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
from gfnet_env.evaluation import Record, evaluate_policy
from gfnet_env.files import write_json
from gfnet_env.images import ImageSet, object_masks
from gfnet_env.inference import EarlyExitGFNet
from gfnet_env.matching import ImageOptions, check_fit
from gfnet_env.models import Model
from gfnet_env.policies import BOUNDS, UNLEARNED, Policy, find_policy
from gfnet_env.runs import check_free, resolve_device, save_config
from gfnet_env.settings import AtLeast, Flat, Settings

LEARNED = "learned"


@dataclass(frozen=True, kw_only=True)
class ComparisonConfig(Settings):
    """Which policies to compare, on what; the split test is used."""

    run: Path
    """Run folder of an assembled network; its policy is the one called learned."""
    images: Flat[ImageOptions] = field(default_factory=ImageOptions)
    policies: tuple[str, ...] = ()
    """Policies by their specs; by default all that the images and the options below allow."""
    oracle_images: Annotated[int, AtLeast(0)] = 500
    """Images, drawn at random, that the expensive oracle is run on; 0 leaves it out."""
    masks: Path | None = None
    """Folder of masks FOLDER/test/CLASS/NAME.png (or FOLDER/CLASS/NAME.png) of a folder of
    pictures: as large as the picture, zero where the object is not. By default boxes say where the
    object is, if the images have any."""
    sheet_images: Annotated[int, AtLeast(1)] = 6
    """Images, likewise, to draw with the looks at them."""
    out: Path | None = None
    """Folder for the results; by default RUN/policies."""
    seed: int = 0
    """Of the bootstrap."""
    device: str = "auto"
    """auto, cpu, cuda or mps."""
    overwrite: bool = False
    """Whether existing results may be replaced."""


def compare_policies(config: ComparisonConfig, images: ImageSet | None = None) -> PolicyComparison:
    """Take every step of every test image under each policy, and write what came out.

    Args:
        config: What to compare.
        images: The test images, in place of ``config.images``.

    Raises:
        FileExistsError: There are results already, and overwriting was not asked for.
        FileNotFoundError: A folder or a mask is missing.
        ValueError: A policy is unknown or needs what the images do not have, or network and images
            do not fit.
    """
    console = Console()
    gfnet = EarlyExitGFNet.load(config.run).to(resolve_device(config.device))
    model = gfnet.model
    images = config.images.open(model, "test") if images is None else images
    check_fit(model, images)
    names = config.policies or compared_names(images, config.oracle_images)
    policies = choose_policies(names, gfnet.policy, images, config.oracle_images)
    masks = object_masks(images, config.masks)
    out = config.out or config.run / "policies"
    check_free(out, overwrite=config.overwrite)
    save_config(out, config)

    records = record_policies(model, policies, images, config.oracle_images, console)
    with console.status("intervals"):
        overlaps = measure_overlaps(model.view, images, records, masks) if masks else {}
        compared = compare_records(records, overlaps, images.sources, config.seed)
    objects = None if masks is None else "masks" if config.masks else "boxes"
    results = PolicyComparison("test", len(images), compared, _reference(records), objects)
    write_comparison(results, out / "table.csv")
    plot_comparison(results, out / "accuracy.png")
    drawn = some_of(images, config.sheet_images)
    draw_trajectories(model, policies, images, drawn, out / "trajectories.png")
    write_json(out / "results.json", results.to_json())
    print_comparison(results, console)
    console.print(f"{out} holds results.json, table.csv, accuracy.png and trajectories.png")
    return results


def compared_names(images: ImageSet, oracle_images: int) -> list[str]:
    """All policies that can be compared on some images, the learned one before the bounds."""
    names = list(UNLEARNED)
    names.insert(names.index("target"), LEARNED)
    if images.boxes is None:
        names.remove("target")
    if oracle_images == 0:
        names.remove("oracle")
    return names


def choose_policies(
    names: Sequence[str], learned: Policy, images: ImageSet, oracle_images: int
) -> dict[str, Policy]:
    """Policies by name.

    Args:
        names: ``learned``, or specs that ``find_policy`` takes.
        learned: The policy of that name.
        images: What they will look at.
        oracle_images: How many of them the oracle may take.

    Raises:
        ValueError: A name is unknown or given twice, or the images or options do not allow it.
    """
    if len(set(names)) < len(names):
        raise ValueError(f"a policy is named twice: {', '.join(names)}")
    if "target" in names and images.boxes is None:
        raise ValueError("the policy 'target' needs images with boxes; leave it out")
    if "oracle" in names and oracle_images == 0:
        raise ValueError("the policy 'oracle' needs oracle_images above 0")
    return {name: learned if name == LEARNED else find_policy(name) for name in names}


def some_of(images: ImageSet, count: int) -> npt.NDArray[np.int64]:
    """Numbers of ``count`` images, or of all there are, by rising number: always the same ones.

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
    """Take every step of every image under each policy; of some images under the oracle."""
    records = {}
    for name, policy in policies.items():
        chosen = some_of(images, oracle_images if name == "oracle" else len(images))
        with console.status(f"{name} policy on {len(chosen)} test images"):
            records[name] = evaluate_policy(model, policy, images, indices=chosen)
    return records


def compare_records(
    records: Mapping[str, Record],
    overlaps: Mapping[str, Overlap] | None = None,
    sources: npt.NDArray[np.int64] | None = None,
    seed: int = 0,
) -> dict[str, PolicyResult]:
    """What came out under each policy; two are compared on the images that both were run on.

    Args:
        records: By policy, all of images of one set.
        overlaps: By policy, where the objects are known.
        sources: Originals that the set's images were made from, (N,), which the bootstrap draws;
            None draws images.
        seed: Of the bootstrap.
    """
    reference = _reference(records)
    gains = () if reference is None else _gains(records[reference], sources, seed)
    results = {}
    for name, record in records.items():
        overlap = (overlaps or {}).get(name)
        results[name] = PolicyResult(
            images=len(record.indices),
            looks=rounded(record.looks.mean()),
            accuracy=_rounded(record.accuracy),
            accuracy_interval=_intervals(record.correct, record, sources, seed),
            label_confidence=_rounded(record.label_confidence.mean(axis=0, dtype=float)),
            label_confidence_interval=_intervals(record.label_confidence, record, sources, seed),
            share_of_gain=(
                None if reference is None else _share_of_gain(record, records[reference], gains)
            ),
            over_random=(
                _difference(record, records["random"], sources, seed)
                if "random" in records and name != "random"
                else None
            ),
            object_images=None if overlap is None else len(overlap.centred),
            centred=None if overlap is None else _taken_mean(overlap.centred),
            covered=None if overlap is None else _rounded(overlap.covered.mean(axis=0)),
        )
    return results


def _reference(records: Mapping[str, Record]) -> str | None:
    """Whose gain is the whole of what there is to gain."""
    return next((name for name in BOUNDS if name in records), None)


def _gains(reference: Record, sources: npt.NDArray[np.int64] | None, seed: int) -> tuple[bool, ...]:
    """Whether the reference gains over the glance with each look, beyond its own interval."""
    gains = reference.correct[:, 1:].astype(int) - reference.correct[:, :1]
    return tuple(low > 0 for low, _ in _intervals(gains, reference, sources, seed))


def _share_of_gain(
    record: Record, reference: Record, gains: Sequence[bool]
) -> tuple[float | None, ...]:
    """The gain over the glance as a share of that of the reference, one per look."""
    _, rows, other_rows = _shared(record, reference)
    glance, *accuracy = record.correct[rows].mean(axis=0)
    _, *best = reference.correct[other_rows].mean(axis=0)
    return tuple(
        rounded((reached - glance) / (most - glance)) if gained and most > glance else None
        for reached, most, gained in zip(accuracy, best, gains, strict=True)
    )


def _difference(
    record: Record, random: Record, sources: npt.NDArray[np.int64] | None, seed: int
) -> Difference:
    """By how much the last step is more often right than after random looks, image by image."""
    indices, rows, random_rows = _shared(record, random)
    difference = record.correct[rows, -1].astype(int) - random.correct[random_rows, -1]
    groups = None if sources is None else sources[indices]
    return Difference(rounded(difference.mean()), interval_of(difference, groups, seed))


def _shared(
    record: Record, other: Record
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Images that two records have in common, and their rows in each."""
    return np.intersect1d(record.indices, other.indices, return_indices=True)


def _intervals(
    values: npt.NDArray[np.generic],
    record: Record,
    sources: npt.NDArray[np.int64] | None,
    seed: int,
) -> tuple[Interval, ...]:
    """Bounds of the mean of each column of values (N, T) of a record's images."""
    groups = None if sources is None else sources[record.indices]
    return tuple(interval_of(column, groups, seed) for column in values.T)


def _rounded(values: npt.NDArray[np.floating]) -> tuple[float, ...]:
    return tuple(map(rounded, values))


def _taken_mean(values: npt.NDArray[np.float64]) -> tuple[float | None, ...]:
    """Mean of each column over the looks that were taken; None where none was."""
    taken = ~np.isnan(values)
    return tuple(
        rounded(column[each].mean()) if each.any() else None
        for column, each in zip(values.T, taken.T, strict=True)
    )
