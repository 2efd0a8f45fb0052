"""Photographs of coffee leaves, 512×256: healthy, or with one of four stresses.

python experiments/recipes/leaves.py --images PATH --weights FILE \
    --run runs/leaves --out experiments/results/leaves

PATH holds the published split (Esgario et al., "Deep learning for classification and severity
estimation of coffee leaf biotic stress", 2020) in folders train, val and test of the five classes.
The published test accuracy is 95.24%, of a ResNet-50.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from gfnet_agents.parts import Parts, PhotographOptions, Results, mean_exit, run_parts
from gfnet_env import EarlyExitGFNet
from gfnet_env.benchmarks.report import millions
from gfnet_env.benchmarks.statistics import mean_interval
from gfnet_env.command_line import parse
from gfnet_env.evaluation import evaluate_policy, evaluate_static
from gfnet_env.inference import calibrate
from gfnet_env.markdown import header, row
from gfnet_env.models import static_multiply_adds
from gfnet_env.policies import HeatPolicy, Policy, RandomPolicy, ScanPolicy
from gfnet_env.training import BaselineConfig, ClassifierConfig, train_baselines, train_classifier

# Sides that whole pictures are resized to; the last has as many pixels as they have.
RESOLUTIONS = (128, 192, 256, 362)


def main(options: PhotographOptions) -> None:
    """Train and measure all networks, and write results.json and README.md after each part."""
    parts: Parts = {name: partial(PARTS[name], options) for name in options.parts}
    run_parts(options.out, parts, options.seeds, _report)


def _shared(options: PhotographOptions, seed: int) -> dict[str, Any]:
    """Settings of all trainings."""
    return {
        "images": f"folder:{options.images}",
        "encoder": "tf_efficientnet_lite0",
        "weights": options.weights,
        "frozen": ("model.conv_stem", "model.bn1", "model.blocks.0"),
        "flip": True,
        "crop_scale": (0.5, 1.0),
        "crop_ratio": (1.5, 2.5),
        "epochs": 20,
        "batch_size": 16,
        "learning_rate": 1e-3,
        "average_decay": 0.99,
        "load_best_model_at_end": True,
        "precision": "auto",
        "seed": seed,
        **options.shared,
    }


def gfnet_config(options: PhotographOptions, seed: int) -> ClassifierConfig:
    """How the glance-and-focus network is trained."""
    return ClassifierConfig.of(
        run=options.run / f"gfnet-{seed}",
        glance_size=192,
        patch_size=96,
        focus_steps=3,
        classifier="evidence",
        windows="mined",
        **_shared(options, seed),
    )


def static_config(options: PhotographOptions, seed: int) -> BaselineConfig:
    """How the static networks are trained."""
    return BaselineConfig.of(
        run=options.run / f"static-{seed}", resolutions=RESOLUTIONS, **_shared(options, seed)
    )


def _looks(options: PhotographOptions, seed: int) -> dict[str, Any]:
    """Train a network, and measure policies and early exits with it."""
    train_classifier(gfnet_config(options, seed))
    folder = options.run / f"gfnet-{seed}"
    gfnet = EarlyExitGFNet.load(folder)
    val, test = (options.open(split) for split in ("val", "test"))
    policies: dict[str, Policy] = {
        "random": RandomPolicy(),
        "heat": HeatPolicy(),
        "scan": ScanPolicy(),
    }
    records = {name: evaluate_policy(gfnet.model, each, test) for name, each in policies.items()}
    random = records["random"].correct.astype(float)
    found = {
        name: {
            "accuracy": record.accuracy.tolist(),
            "windows": record.windows,
            "over_random": [mean_interval(each) for each in (record.correct - random).T],
        }
        for name, record in records.items()
    }
    # The cheapest threshold that costs nothing on val.
    gfnet.set_thresholds(calibrate(gfnet, val, "uniform").cheapest(0.0).thresholds)
    gfnet.save(folder)
    return {
        "multiply_adds": gfnet.multiply_adds,
        "policies": found,
        "exits": mean_exit(gfnet, test),
    }


def _static(options: PhotographOptions, seed: int) -> dict[str, Any]:
    """Train and measure static networks."""
    networks = {}
    test = options.open("test")
    for side, network in train_baselines(static_config(options, seed)).items():
        networks[str(side)] = {
            "multiply_adds": static_multiply_adds(network),
            "accuracy": float(evaluate_static(network, test).mean()),
        }
    return {"networks": networks}


PARTS = {"looks": _looks, "static": _static}


def _report(results: Results) -> Iterator[str]:
    """The lines of README.md."""
    yield from ("# Coffee leaves, 512×256", "")
    yield "Test accuracy, means over seeds. Intervals are of the paired gain over random looks."
    tables = {"static": _static_table, "looks": _looks_table}
    for name, lines in tables.items():
        if name in results:
            yield ""
            yield from lines(list(results[name].values()))


def _static_table(runs: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    yield from header("whole pictures", "multiply-adds", "accuracy")
    for side in runs[0]["networks"]:
        found = [run["networks"][side] for run in runs]
        accuracy = np.mean([each["accuracy"] for each in found])
        yield row(f"static, {side}×{side}", millions(found[0]["multiply_adds"]), f"{accuracy:.1%}")


def _looks_table(runs: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    glance, first, *_, last = runs[0]["multiply_adds"]
    looks = len(runs[0]["multiply_adds"]) - 1
    yield from header(f"{looks} looks", "multiply-adds", "accuracy", "over random looks")
    for name in runs[0]["policies"]:
        found = [run["policies"][name] for run in runs]
        cost = found[0]["windows"] * (first - glance) if name == "scan" else last
        gains = [
            f"{each['accuracy'][-1] - run['policies']['random']['accuracy'][-1]:+.1%} "
            "({:+.1%} to {:+.1%})".format(*each["over_random"][-1])
            for each, run in zip(found, runs, strict=True)
        ]
        accuracy = np.mean([each["accuracy"][-1] for each in found])
        cells = millions(cost), f"{accuracy:.1%}", "" if name == "random" else "; ".join(gains)
        yield row(name, *cells)
    exits = [run["exits"] for run in runs]
    mean = {name: float(np.mean([each[name] for each in exits])) for name in exits[0]}
    yield row(
        f"early exits, {mean['looks']:.1f} looks",
        millions(round(mean["multiply_adds"])),
        f"{mean['accuracy']:.1%}",
        "",
    )


if __name__ == "__main__":
    main(parse(PhotographOptions, __doc__))
