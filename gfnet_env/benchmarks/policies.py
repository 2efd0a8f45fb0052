"""What policies are worth: the same network looks at the same images under each of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
from gfnet_env.benchmarks.statistics import mean_interval
from gfnet_env.data import ImageSet, object_masks
from gfnet_env.files import write_json
from gfnet_env.inference import EarlyExitGFNet, Record, evaluate_policy
from gfnet_env.matching import ImageOptions, check_fit
from gfnet_env.perception import GlanceFocusNetwork
from gfnet_env.policies import BOUNDS, UNLEARNED, Policy, find_policy
from gfnet_env.runs import create_run, resolve_device, save_config

LEARNED = "learned"
_DIGITS = 6


@dataclass(frozen=True, kw_only=True)
class ComparisonConfig(ImageOptions):
    """Which policies to compare, on what; the split test is used."""

    run: Path
    """Run folder of an assembled network; its policy is the one called learned."""
    policies: tuple[str, ...] = ()
    """Policies by name; by default all that the images and the options below allow."""
    oracle_images: int = 500
    """Images, drawn at random, that the oracle, dear as it is, is run on; 0 leaves it out."""
    masks: Path | None = None
    """Folder of masks FOLDER/test/CLASS/NAME.png (or FOLDER/CLASS/NAME.png) of a folder of
    pictures: as large as the picture, zero where the object is not. By default boxes say where the
    object is, if the images have any."""
    sheet_images: int = 6
    """Images, likewise, whose patches are drawn."""
    out: Path | None = None
    """Folder for the results; by default RUN/policies."""
    seed: int = 0
    """Of the bootstrap."""
    device: str = "auto"
    """auto, cpu, cuda or mps."""
    overwrite: bool = False
    """Whether existing results may be replaced."""

    def __post_init__(self) -> None:
        if self.oracle_images < 0:
            raise ValueError(f"oracle_images must be at least 0, not {self.oracle_images}")
        if self.sheet_images < 1:
            raise ValueError(f"sheet_images must be at least 1, not {self.sheet_images}")


def compare_policies(config: ComparisonConfig, images: ImageSet | None = None) -> dict[str, Any]:
    """Take every step of every test image under each policy, and write what came out.

    Writes results.json, table.csv, accuracy.png and trajectories.png.

    Args:
        config: What to compare.
        images: The images to use in place of the split ``test`` of ``config.images``.

    Returns:
        What results.json holds; see ``compare_records`` for ``policies``.

    Raises:
        FileExistsError: There are results already, and overwriting was not asked for.
        FileNotFoundError: A folder or a mask is missing.
        ValueError: A policy is unknown or needs what the images do not have, or network and images
            do not fit.
    """
    console = Console()
    gfnet = EarlyExitGFNet.load(config.run).to(resolve_device(config.device))
    network = gfnet.network
    images = config.open(network, "test") if images is None else images
    check_fit(network, images)
    names = config.policies or compared_names(images, config.oracle_images)
    policies = choose_policies(names, gfnet.policy, images, config.oracle_images)
    masks = object_masks(images, config.masks)
    out = create_run(config.out or config.run / "policies", overwrite=config.overwrite)
    save_config(out, config)

    records = record_policies(network, policies, images, config.oracle_images, console)
    with console.status("intervals"):
        overlaps = measure_overlaps(network, records, masks) if masks else {}
        results = {
            "split": "test",
            "images": len(images),
            "reference": _reference(records),
            "objects": None if masks is None else "masks" if config.masks else "boxes",
            "policies": compare_records(records, overlaps, images.sources, config.seed),
        }
    write_comparison(results, out / "table.csv")
    plot_comparison(results, out / "accuracy.png")
    drawn = some_of(images, config.sheet_images)
    draw_trajectories(network, policies, images, drawn, out / "trajectories.png")
    write_json(out / "results.json", results)
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
        names: ``learned`` or what ``find_policy`` knows.
        learned: The policy of that name.
        images: What they will look at.
        oracle_images: How many of them the oracle may take.

    Raises:
        ValueError: A name is unknown or given twice, or the images or options do not allow it.
    """
    known = [LEARNED, *UNLEARNED]
    for name in names:
        if name not in known:
            raise ValueError(f"unknown policy {name!r}; known: {', '.join(known)}")
    if len(set(names)) < len(names):
        raise ValueError(f"a policy is named twice: {', '.join(names)}")
    if "target" in names and images.boxes is None:
        raise ValueError("the policy 'target' needs images with boxes; leave it out")
    if "oracle" in names and oracle_images == 0:
        raise ValueError("the policy 'oracle' needs oracle_images above 0")
    return {name: learned if name == LEARNED else find_policy(name) for name in names}


def some_of(images: ImageSet, count: int) -> npt.NDArray[np.int64]:
    """Numbers of ``count`` images, or of all there are, by rising number: always the same ones.

    A set may list its images class by class, so that its first are of few classes.
    """
    return np.sort(np.random.default_rng(0).permutation(len(images))[:count])


def record_policies(
    network: GlanceFocusNetwork,
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
            records[name] = evaluate_policy(network, policy, images, indices=chosen)
    return records


def compare_records(
    records: Mapping[str, Record],
    overlaps: Mapping[str, Overlap] | None = None,
    sources: npt.NDArray[np.int64] | None = None,
    seed: int = 0,
) -> dict[str, dict[str, Any]]:
    """What came out under each policy, as JSON has it.

    Two policies are compared on the images that both were run on.

    Args:
        records: By policy, all of images of one set.
        overlaps: By policy, where the objects are known.
        sources: Originals that the set's images were made from, (N,), which the bootstrap draws;
            None draws images.
        seed: Of the bootstrap.

    Returns:
        For each policy: ``images``; per step, glance first, ``accuracy`` and ``label_confidence``
        with 95% intervals; per focus step ``share_of_gain``, of what the target, or else the
        oracle, gains over the glance in accuracy (null where that is nothing); ``over_random``,
        by how much the accuracy after the last step is above that of random patches, with its
        paired interval; and of ``object_images`` that show an object ``centred`` and ``covered``
        per focus step, see ``Overlap``. What cannot be known is left out.
    """
    reference = _reference(records)
    compared = {}
    for name, record in records.items():
        groups = _groups(record.indices, sources)
        found: dict[str, Any] = {
            "images": len(record.indices),
            "accuracy": _rounded(record.accuracy),
            "accuracy_interval": _intervals(record.correct, groups, seed),
            "label_confidence": _rounded(record.label_confidence.mean(axis=0, dtype=float)),
            "label_confidence_interval": _intervals(record.label_confidence, groups, seed),
        }
        if reference is not None:
            found["share_of_gain"] = _share_of_gain(record, records[reference])
        if "random" in records and name != "random":
            found["over_random"] = _difference(record, records["random"], sources, seed)
        if overlaps and name in overlaps:
            overlap = overlaps[name]
            found["object_images"] = len(overlap.centred)
            found["centred"] = _rounded(overlap.centred.mean(axis=0))
            found["covered"] = _rounded(overlap.covered.mean(axis=0))
        compared[name] = found
    return compared


def _reference(records: Mapping[str, Record]) -> str | None:
    """Whose gain is the whole of what there is to gain."""
    return next((name for name in BOUNDS if name in records), None)


def _share_of_gain(record: Record, reference: Record) -> list[float | None]:
    """The gain over the glance as a share of that of the reference, one per focus step."""
    _, rows, other_rows = _shared(record, reference)
    glance, *accuracy = record.correct[rows].mean(axis=0)
    _, *best = reference.correct[other_rows].mean(axis=0)
    return [
        round(float((reached - glance) / (most - glance)), _DIGITS) if most > glance else None
        for reached, most in zip(accuracy, best, strict=True)
    ]


def _difference(
    record: Record, random: Record, sources: npt.NDArray[np.int64] | None, seed: int
) -> dict[str, Any]:
    """By how much the last step is more often right than after random patches, image by image."""
    indices, rows, random_rows = _shared(record, random)
    last, last_random = record.correct[rows, -1], random.correct[random_rows, -1]
    difference = last.astype(int) - last_random
    (interval,) = _intervals(difference[:, None], _groups(indices, sources), seed)
    return {"difference": round(float(difference.mean()), _DIGITS), "interval": interval}


def _shared(
    record: Record, other: Record
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Images that two records have in common, and their rows in each."""
    return np.intersect1d(record.indices, other.indices, return_indices=True)


def _groups(
    indices: npt.NDArray[np.int64], sources: npt.NDArray[np.int64] | None
) -> npt.NDArray[np.int64] | None:
    return None if sources is None else sources[indices]


def _intervals(
    values: npt.NDArray[np.generic], groups: npt.NDArray[np.int64] | None, seed: int
) -> list[list[float]]:
    """Bounds of the mean of each column of values (N, T), drawn by groups (N,)."""
    return [_rounded(mean_interval(column, groups, seed=seed)) for column in values.T]


def _rounded(values: npt.ArrayLike) -> list[float]:
    return np.round(np.asarray(values, dtype=float), _DIGITS).tolist()
