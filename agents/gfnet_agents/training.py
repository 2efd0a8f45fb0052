"""Stage 2: learn a policy, hold it against others, and assemble the early-exit network."""

import dataclasses
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import tyro
from gymnasium.vector import AutoresetMode
from rich.console import Console
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.logger import configure

from gfnet_agents.algorithms import (
    ALGORITHMS,
    Algorithm,
    build_agent,
    check_use,
    find_algorithm,
)
from gfnet_agents.checkpoint import AgentCheckpoints
from gfnet_agents.curve import LearningCurve
from gfnet_agents.learned import learned_policy
from gfnet_agents.progress import ProgressBar
from gfnet_agents.settings import parse_settings, schedule_arguments
from gfnet_agents.vec_env import StableBaselinesVecEnv
from gfnet_env.benchmarks.policies import (
    LEARNED,
    choose_policies,
    compare_records,
    record_policies,
    some_of,
)
from gfnet_env.benchmarks.report import draw_sheet, plot_accuracy, print_results
from gfnet_env.data import SPLITS, ImageSet
from gfnet_env.env.reward import resolve_reward
from gfnet_env.env.sampling import Sampling
from gfnet_env.env.vector import GlanceFocusVectorEnv
from gfnet_env.features import COST_OPTIONS, FeatureOptions
from gfnet_env.files import read_json, write_atomically, write_json
from gfnet_env.inference import (
    EarlyExitGFNet,
    OperatingPoint,
    assemble,
    operating_point,
)
from gfnet_env.matching import ImageOptions, check_fit
from gfnet_env.perception import GlanceFocusNetwork
from gfnet_env.pretrained import packaged_network
from gfnet_env.runs import create_run, resolve_device, resume_run, save_config, stale_files
from gfnet_env.training.checkpoint import Checkpoints
from gfnet_env.training.config import MAY_CHANGE, RunControl

CURVE_FILE = "curve.json"
_AGENT_FILE = "agent.zip"
# What changes nothing that is learned.
_MAY_CHANGE = MAY_CHANGE | COST_OPTIONS | {"oracle_images", "curve_points", "curve_images"}
_SHEET_IMAGES = 24
_BUDGETS_SHOWN = 9
# What a run that goes on takes over from the run that it continues.
_KEPT_WHEN_CONTINUED = (
    "algorithm",
    "actions",
    "grid",
    "images",
    "image_size",
    "image_seed",
    "learn_from",
    "sampling",
    "reward",
    "exit_confidence",
    "num_envs",
)


@dataclass(frozen=True, kw_only=True)
class PolicySchedule:
    """How long to learn and by which settings; what is left out is the algorithm's default."""

    algorithm: str = "ppo"
    """What learns: a name in ALGORITHMS, or module:name of your own, which is imported."""
    actions: str | None = None
    """What it emits, continuous locations or cells of a grid; by default what it takes."""
    grid: int = 7
    """Cells along each axis of that grid."""
    timesteps: int = 80_000
    """Focus steps to learn from."""
    epochs: int | None = None
    """Times the training images to learn from, in place of timesteps."""
    num_envs: int = 64
    """Images looked at side by side."""
    learn_from: Literal["train", "val"] = "train"
    """Split to learn from: the classifier knows train, which leaves less to gain there; val also
    gives the learning curve and solves the thresholds."""
    sampling: Sampling = "uncertain"
    """Images to learn from: all alike, or by how uncertain the glance leaves them."""
    reward: str = "confidence-gain"
    """What a patch is worth: confidence-gain, random-contrast, cross-entropy-gain or sparse."""
    exit_confidence: float | None = 0.9
    """End training episodes once the classifier is this sure, so that later steps are learned where
    they are needed; None goes on to the last step."""
    episodes_per_update: int | None = None
    """Episodes of each of them between updates."""
    passes: int | None = None
    """Times that an update goes over what came since the last one."""
    minibatches: int | None = None
    """Steps of the optimiser that it does so in."""
    policy_rate: float | None = None
    """Learning rate, the same throughout."""
    discount: float | None = None
    """What a reward one step later counts, the paper's gamma."""
    clip_range: float | None = None
    """How far an update may change the probability of an action (PPO)."""
    entropy_weight: float | None = None
    """Weight of the entropy of the actions."""
    deviation: float | None = None
    """Standard deviation that actions begin with, on [-1, 1]."""
    settings: Annotated[tuple[str, ...], tyro.conf.arg(name="set", metavar="KEY=VALUE ...")] = ()
    """Other arguments of the algorithm's constructor, each value JSON or else a string."""
    replay_gib: float = 2.0
    """GiB that a replay memory may take; a checkpoint takes as much again while it is written."""

    def __post_init__(self) -> None:
        resolve_reward(self.reward)
        if self.learn_from not in ("train", "val"):
            raise ValueError(f"learn_from must be train or val, not {self.learn_from!r}")
        for name in (
            *("timesteps", "epochs", "num_envs", "episodes_per_update", "passes", "minibatches"),
            "grid",
        ):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, not {value}")
        parse_settings(self.settings)
        for name in ("policy_rate", "clip_range", "deviation", "replay_gib"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"{name} must be positive, not {value}")
        if self.discount is not None and not 0 <= self.discount <= 1:
            raise ValueError(f"discount must be in [0, 1], not {self.discount}")
        if self.entropy_weight is not None and not self.entropy_weight >= 0:
            raise ValueError(f"entropy_weight must be at least 0, not {self.entropy_weight}")

    def total_steps(self, images: int, focus_steps: int) -> int:
        """Focus steps to learn from, on so many images and steps of each."""
        return self.timesteps if self.epochs is None else self.epochs * images * focus_steps


@dataclass(frozen=True, kw_only=True)
class PolicyConfig(PolicySchedule, ImageOptions, FeatureOptions, RunControl):
    """What to learn, on what, and how."""

    run: Path | None = None
    """Folder for the assembled network and its results; by default runs/policy-DATE-TIME."""
    network: Path | None = None
    """Folder of a trained network; by default the one that comes with the package."""
    oracle_images: int = 500
    """Test images that the oracle, dear as it is, is run on; 0 leaves it out."""
    curve_points: int = 8
    """Times to evaluate, evenly over the training, what was learned so far; 0 leaves it out."""
    curve_images: int = 500
    """Validation images that this is done on."""
    continue_from: Path | None = None
    """Run folder of an agent to go on training."""
    seed: int = 0
    """Of the agent and of the order of images."""

    def __post_init__(self) -> None:
        PolicySchedule.__post_init__(self)
        RunControl.__post_init__(self)
        FeatureOptions.__post_init__(self)
        if self.resume and self.run is None:
            raise ValueError("give the run to resume")
        for name in ("oracle_images", "curve_points"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be at least 0, not {getattr(self, name)}")
        if self.curve_images < 1:
            raise ValueError(f"curve_images must be at least 1, not {self.curve_images}")


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
    network = (network or open_network(config.network)).to(device)
    sets = image_sets or {split: config.open(network, split) for split in SPLITS}
    for images in sets.values():
        check_fit(network, images)
    run = config.run or Path("runs") / time.strftime("policy-%Y%m%d-%H%M%S")
    going_on = config.resume and resume_run(run, config, _MAY_CHANGE)
    if going_on and (run / "results.json").is_file():
        console.print(f"{run} is complete; there is nothing to resume")
        return EarlyExitGFNet.load(run).to(device)
    learned_from = sets[config.learn_from]
    agent = _build(config, network, learned_from, console)
    checkpoints = Checkpoints(run / "checkpoints")
    saving = AgentCheckpoints(checkpoints, config.checkpoint_minutes)
    if not going_on:
        create_run(run, overwrite=config.overwrite or config.resume)
        # What a run that is written over has left could be taken for this one's.
        stale = stale_files(run, [config.network, config.continue_from])
        for name in ("results.json", CURVE_FILE, *stale):
            (run / name).unlink(missing_ok=True)
        checkpoints.clear()
        save_config(run, config)
    restored = going_on and saving.restore(agent)
    agent.set_logger(configure(str(run / "tensorboard"), ["tensorboard"]))
    timesteps = config.total_steps(len(learned_from), network.focus_steps)
    curve = LearningCurve(
        network,
        sets["val"],
        count=config.curve_images,
        timesteps=timesteps,
        points=config.curve_points,
        path=run / CURVE_FILE,
    )
    with ProgressBar(timesteps) as progress:
        agent.learn(
            timesteps - agent.num_timesteps if restored else timesteps,
            callback=[progress, curve, saving],
            reset_num_timesteps=not restored,
        )
    write_atomically(run / _AGENT_FILE, lambda temporary: agent.save(temporary))
    learned = learned_policy(agent).to(device)

    test = sets["test"]
    bounds = ["target"] * (test.boxes is not None) + ["oracle"] * (config.oracle_images > 0)
    names = ["random", "center", LEARNED, *bounds]
    policies = choose_policies(names, learned, test, config.oracle_images)
    records = record_policies(network, policies, test, config.oracle_images, console)
    gfnet = assemble(network, learned, sets["val"])
    gfnet.save(run)
    budgets = gfnet.budgets
    shown = np.linspace(0, len(budgets) - 1, _BUDGETS_SHOWN).round().astype(int)
    tested = [
        operating_point(records[LEARNED], gfnet.multiply_adds, budgets[number].thresholds)
        for number in shown
    ]

    results = {
        "split": "test",
        "images": len(sets["test"]),
        "environment_steps": agent.num_timesteps,
        "seconds": round(time.monotonic() - started, 1),
        "multiply_adds": gfnet.multiply_adds,
        "policies": compare_records(records, sources=sets["test"].sources),
        "early_exit": [_early_exit(point) for point in tested],
    }
    plot_accuracy(results, run / "accuracy.png")
    drawn = some_of(sets["test"], _SHEET_IMAGES)
    draw_sheet(gfnet, sets["test"], drawn, run / "patches.png")
    # Last, since it says that the run is complete.
    write_json(run / "results.json", results)
    checkpoints.clear()
    print_results(results, console)
    console.print(f"{run} holds the assembled network, results.json, accuracy.png and patches.png")
    return gfnet


def open_network(folder: Path | None) -> GlanceFocusNetwork:
    """The network in a folder, or the one that comes with the package."""
    return GlanceFocusNetwork.load(folder) if folder else packaged_network()


def check_schedule(config: PolicyConfig, focus_steps: int) -> tuple[Algorithm, dict[str, Any]]:
    """See before anything is trained that an algorithm can do what is asked of it.

    Returns:
        The algorithm, and what its constructor is given.

    Raises:
        ValueError: There is no such algorithm, or it does not take the actions or a setting.
    """
    name, algorithm = config.algorithm, find_algorithm(config.algorithm)
    arguments = schedule_arguments(vars(config), algorithm, name, config.num_envs, focus_steps)
    check_use(algorithm, name, config.actions or algorithm.actions[0], arguments)
    return algorithm, arguments


def _build(
    config: PolicyConfig, network: GlanceFocusNetwork, images: ImageSet, console: Console
) -> BaseAlgorithm:
    """The agent, in its vector environment."""
    algorithm, arguments = check_schedule(config, network.focus_steps)
    env = GlanceFocusVectorEnv(
        config.num_envs,
        network=network,
        images=images,
        features=config.feature_source(),
        reward=config.reward,
        actions=config.actions or algorithm.actions[0],
        grid=config.grid,
        exit_confidence=config.exit_confidence,
        sampling=config.sampling,
        autoreset_mode=AutoresetMode.SAME_STEP,
    )
    return build_agent(
        config.algorithm,
        StableBaselinesVecEnv(env),
        seed=config.seed,
        device=network.device,
        parameters=config.continue_from / _AGENT_FILE if config.continue_from else None,
        timesteps=config.total_steps(len(images), network.focus_steps),
        replay_gib=config.replay_gib,
        announce=console.print,
        **arguments,
    )


def _as_begun(config: PolicyConfig) -> PolicyConfig:
    """``config`` with the problem and the algorithm of the run that it continues."""
    folder = config.continue_from
    if folder is None:
        return config
    if not (folder / _AGENT_FILE).is_file():
        raise FileNotFoundError(
            f"there is no {_AGENT_FILE} in {folder}; give a run of train_policy"
        )
    default = PolicyConfig()
    # What the run of an older version does not name, it had as it is by default.
    begun = dataclasses.asdict(default) | read_json(folder / "config.json")["config"]
    if begun["algorithm"] not in {*ALGORITHMS, config.algorithm}:
        raise ValueError(
            f"{folder} was learned by {begun['algorithm']!r}, and no file says what is imported: "
            "name the algorithm yourself"
        )
    for name in _KEPT_WHEN_CONTINUED:
        if getattr(config, name) not in (getattr(default, name), begun[name]):
            raise ValueError(
                f"{name} is {begun[name]} in {folder}, not {getattr(config, name)}; a run that "
                "goes on keeps it: leave it out, or begin anew"
            )
    kept = {name: begun[name] for name in _KEPT_WHEN_CONTINUED}
    return dataclasses.replace(config, network=config.network or folder, **kept)


def _early_exit(point: OperatingPoint) -> dict[str, Any]:
    return {
        "accuracy": round(point.accuracy, 6),
        "multiply_adds": round(point.multiply_adds, 1),
        "exit_share": [round(share, 6) for share in point.exit_share],
        "thresholds": list(point.thresholds),
    }
