"""Stage 2: learn a policy, hold it against others, and assemble the early-exit network."""

import dataclasses
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium.vector import AutoresetMode
from rich.console import Console
from stable_baselines3.common.logger import configure
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm

from gfnet_agents.algorithms import build_agent, learned_policy
from gfnet_agents.progress import ProgressBar
from gfnet_agents.report import draw_sheet, plot_accuracy, print_results
from gfnet_agents.vec_env import GlanceFocusVecEnv
from gfnet_env.data import DEFAULT_SPEC, ImageSet, batches, load_images
from gfnet_env.env.sampling import Sampling
from gfnet_env.env.vector import GlanceFocusVectorEnv, check_fit
from gfnet_env.files import read_json, write_atomically, write_json
from gfnet_env.inference import (
    EarlyExitGFNet,
    Prediction,
    Record,
    evaluate_policy,
    exit_steps,
    geometric_shares,
    thresholds_for_shares,
)
from gfnet_env.perception import GlanceFocusNetwork
from gfnet_env.policies import (
    CenterPolicy,
    LearnedPolicy,
    OraclePolicy,
    Policy,
    RandomPolicy,
    TargetPolicy,
)
from gfnet_env.pretrained import packaged_network
from gfnet_env.runs import create_run, resolve_device, save_config

# Ratios of the geometric exit shares: from nearly all at the glance to nearly all at the end.
_RATIOS = (0.1, 0.25, 0.5, 0.75, 1.0, 1.5, 2.5, 5.0)
# The saved operating point is the cheapest within this of the best validation accuracy.
_TOLERANCE = 0.005
_AGENT_FILE = "agent.zip"
_SHEET_IMAGES = 24
# What a run that goes on takes over from the run that it continues.
_KEPT_WHEN_CONTINUED = (
    "algorithm",
    "images",
    "image_size",
    "sampling",
    "exit_confidence",
    "num_envs",
)


@dataclass(frozen=True)
class _OperatingPoint:
    """Thresholds, and the accuracy and mean multiply-adds they give on the validation split."""

    thresholds: list[float]
    accuracy: float
    multiply_adds: float


@dataclass(frozen=True, kw_only=True)
class PolicyConfig:
    """What to learn, on what, and how."""

    run: Path | None = None
    """Folder for the assembled network and its results; by default runs/policy-DATE-TIME."""
    network: Path | None = None
    """Folder of a trained network; by default the one that comes with the package."""
    images: str | None = None
    """Image set; by default what the network was trained on."""
    image_size: int | None = None
    """Side that pictures of a folder are brought to; by default as in the network's training."""
    data_root: Path = Path("data")
    """Folder of downloaded data sets."""
    timesteps: int = 60_000
    """Focus steps to learn from."""
    algorithm: str = "ppo"
    """What learns."""
    sampling: Sampling = "uncertain"
    """Images to learn from: all alike, or by how uncertain the glance leaves them."""
    exit_confidence: float | None = None
    """End training episodes at this confidence; by default they go on to the last step."""
    num_envs: int = 64
    """Images looked at side by side."""
    oracle_images: int = 500
    """Test images that the oracle, dear as it is, is run on; 0 leaves it out."""
    continue_from: Path | None = None
    """Run folder of an agent to go on training."""
    seed: int = 0
    """Of the agent and of the order of images."""
    device: str = "auto"
    """auto, cpu, cuda or mps."""
    overwrite: bool = False
    """Whether an existing run may be written into."""

    def __post_init__(self) -> None:
        if self.timesteps < 1:
            raise ValueError(f"timesteps must be at least 1, not {self.timesteps}")
        if self.oracle_images < 0:
            raise ValueError(f"oracle_images must be at least 0, not {self.oracle_images}")


def train_policy(
    config: PolicyConfig,
    *,
    network: GlanceFocusNetwork | None = None,
    image_sets: Mapping[str, ImageSet] | None = None,
) -> EarlyExitGFNet:
    """Learn a policy, compare it, assemble the early-exit network and write the run folder.

    Args:
        config: What to learn and how.
        network: What sees, in place of ``config.network``.
        image_sets: Splits to use (``train``, ``val``, ``test``) in place of ``config.images``.

    Returns:
        The assembled network with the thresholds that the run saved.

    Raises:
        FileExistsError: The run folder exists, and overwriting was not asked for.
        FileNotFoundError: A folder is missing.
        ValueError: A value is wrong, or network and images do not fit.
    """
    started = time.monotonic()
    console = Console()
    config = _as_begun(config)
    device = resolve_device(config.device)
    if network is None:
        network = GlanceFocusNetwork.load(config.network) if config.network else packaged_network()
    network.to(device)
    sets = image_sets or _open_sets(config, network)
    for images in sets.values():
        check_fit(network, images)
    agent = _build(config, network, sets["train"])
    run = create_run(
        config.run or Path("runs") / time.strftime("policy-%Y%m%d-%H%M%S"),
        overwrite=config.overwrite,
    )
    save_config(run, config)
    agent.set_logger(configure(str(run / "tensorboard"), ["tensorboard"]))
    agent.learn(config.timesteps, callback=ProgressBar(config.timesteps))
    write_atomically(run / _AGENT_FILE, lambda temporary: agent.save(temporary))
    learned = learned_policy(agent).to(device)

    records = _compare(network, learned, sets["test"], config, console)
    gfnet = EarlyExitGFNet(network, learned)
    points = _operating_points(gfnet, sets["val"])
    early_exit = [_measure(gfnet, point.thresholds, sets["test"]) for point in points]
    gfnet.set_thresholds(_choose(points))
    gfnet.save(run)

    results = {
        "split": "test",
        "images": len(sets["test"]),
        "environment_steps": agent.num_timesteps,
        "seconds": round(time.monotonic() - started, 1),
        "multiply_adds": gfnet.multiply_adds,
        "policies": {name: _summary(record) for name, record in records.items()},
        "early_exit": early_exit,
    }
    write_json(run / "results.json", results)
    plot_accuracy(results, run / "accuracy.png")
    shown = np.arange(min(_SHEET_IMAGES, len(sets["test"])))
    draw_sheet(gfnet, sets["test"], shown, run / "patches.png")
    print_results(results, console)
    console.print(f"{run} holds the assembled network, results.json, accuracy.png and patches.png")
    return gfnet


def _build(
    config: PolicyConfig, network: GlanceFocusNetwork, images: ImageSet
) -> OnPolicyAlgorithm:
    """The agent, in its vector environment."""
    env = GlanceFocusVectorEnv(
        config.num_envs,
        network=network,
        images=images,
        exit_confidence=config.exit_confidence,
        sampling=config.sampling,
        autoreset_mode=AutoresetMode.SAME_STEP,
    )
    return build_agent(
        config.algorithm,
        GlanceFocusVecEnv(env),
        seed=config.seed,
        device=network.device,
        parameters=config.continue_from / _AGENT_FILE if config.continue_from else None,
    )


def _as_begun(config: PolicyConfig) -> PolicyConfig:
    """``config`` with the problem and the algorithm of the run that it continues."""
    if config.continue_from is None:
        return config
    begun = read_json(config.continue_from / "config.json")["config"]
    kept = {name: begun[name] for name in _KEPT_WHEN_CONTINUED}
    return dataclasses.replace(config, network=config.network or config.continue_from, **kept)


def _open_sets(config: PolicyConfig, network: GlanceFocusNetwork) -> dict[str, ImageSet]:
    trained_on = network.config.metadata
    return {
        split: load_images(
            config.images or trained_on.get("images", DEFAULT_SPEC),
            split,
            image_size=config.image_size or trained_on.get("image_size", 224),
            data_root=config.data_root,
        )
        for split in ("train", "val", "test")
    }


def _compare(
    network: GlanceFocusNetwork,
    learned: LearnedPolicy,
    images: ImageSet,
    config: PolicyConfig,
    console: Console,
) -> dict[str, Record]:
    """Take every step of every image under each policy; of some images under the oracle."""
    policies: dict[str, tuple[Policy, int]] = {
        "random": (RandomPolicy(), len(images)),
        "center": (CenterPolicy(), len(images)),
        "learned": (learned, len(images)),
    }
    if images.boxes is not None:
        policies["target"] = (TargetPolicy(), len(images))
    if config.oracle_images > 0:
        policies["oracle"] = (OraclePolicy(), min(config.oracle_images, len(images)))
    records = {}
    for name, (policy, count) in policies.items():
        with console.status(f"{name} policy on {count} test images"):
            records[name] = evaluate_policy(network, policy, images, indices=np.arange(count))
    return records


def _operating_points(gfnet: EarlyExitGFNet, images: ImageSet) -> list[_OperatingPoint]:
    """Thresholds for geometric exit shares, and what each set of them gives on ``images``."""
    record = evaluate_policy(gfnet.network, gfnet.policy, images)
    points = []
    for ratio in _RATIOS:
        shares = geometric_shares(ratio, len(gfnet.thresholds))
        thresholds = thresholds_for_shares(record.confidence, shares)
        exits = exit_steps(record.confidence, thresholds)
        accuracy = record.correct[np.arange(len(exits)), exits].mean()
        cost = np.array(gfnet.multiply_adds)[exits].mean()
        points.append(_OperatingPoint(thresholds, float(accuracy), float(cost)))
    return points


def _choose(points: list[_OperatingPoint]) -> list[float]:
    """The thresholds of the cheapest point that is nearly as accurate as the best."""
    enough = max(point.accuracy for point in points) - _TOLERANCE
    cheapest = min(
        (point for point in points if point.accuracy >= enough),
        key=lambda point: point.multiply_adds,
    )
    return cheapest.thresholds


def _classify(gfnet: EarlyExitGFNet, images: ImageSet) -> Prediction:
    """Run the assembled network, exits and all, on a whole set."""
    parts = [gfnet(batch.pixels) for batch in batches(images, 256, device=gfnet.network.device)]
    names = [item.name for item in dataclasses.fields(Prediction)]
    return Prediction(*(torch.cat([getattr(part, name) for part in parts]) for name in names))


def _measure(
    gfnet: EarlyExitGFNet, thresholds: Sequence[float], images: ImageSet
) -> dict[str, Any]:
    gfnet.set_thresholds(thresholds)
    prediction = _classify(gfnet, images)
    correct = prediction.classes.cpu() == images.labels
    exits = torch.bincount(prediction.exit_step.cpu(), minlength=len(thresholds))
    return {
        "accuracy": round(correct.double().mean().item(), 6),
        "multiply_adds": round(prediction.multiply_adds.double().mean().item(), 1),
        "exit_share": (exits / len(images)).double().numpy().round(6).tolist(),
        "thresholds": list(thresholds),
    }


def _summary(record: Record) -> dict[str, Any]:
    return {
        "images": len(record.indices),
        "accuracy": record.accuracy.round(6).tolist(),
        "label_confidence": record.label_confidence.mean(axis=0, dtype=float).round(6).tolist(),
    }
