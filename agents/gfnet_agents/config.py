"""Settings of stage 2, and where they come from if they are not given."""

import dataclasses
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from gfnet_agents.learners import LEARNERS, choose_actions
from gfnet_env import command_line
from gfnet_env.actions import build_actions
from gfnet_env.env.sampling import Sampling
from gfnet_env.features import FeatureOptions
from gfnet_env.matching import ImageOptions
from gfnet_env.registry import Registry
from gfnet_env.runs import Run, RunControl
from gfnet_env.settings import Above, AtLeast, Flat, Settings

# Settings that name parts, those that learn included.
PARTS: Mapping[str, Registry[Any]] = {
    **command_line.PARTS,
    "algorithm": LEARNERS,
    "algorithms": LEARNERS,
}
# Weights are made for these, so a run that continues another has the same: spelled otherwise,
# perhaps, and the learner's settings may differ.
_KEPT: Mapping[str, Callable[[str, bool], object]] = {
    "algorithm": lambda spec, trusted: LEARNERS.parse(spec, trusted=trusted)[0],
    "actions": lambda spec, trusted: build_actions(spec, trusted=trusted).spec,
    "observation": lambda spec, _: spec,
}
# What a run that continues another takes over of its images.
_IMAGES = ("images", "image_size", "image_seed", "fit")
_LENGTHS = ("timesteps", "epochs")


class _OneLength(Settings):
    """Settings that say how long to learn by ``timesteps`` or by ``epochs``."""

    def with_defaults(self, *layers: Mapping[str, Any]) -> Self:
        """See ``Settings``; the first layer that says how long to learn settles it."""
        merged: dict[str, Any] = {}
        for layer in layers:
            is_settled = any(name in self.given() | merged for name in _LENGTHS)
            ignored = _LENGTHS if is_settled else ()
            new = {name: value for name, value in layer.items() if name not in ignored}
            merged = {name: value for name, value in new.items() if value is not None} | merged
        return super().with_defaults(merged)


@dataclass(frozen=True, kw_only=True)
class PolicySchedule(_OneLength):
    """How to learn a policy; ``DEFAULT`` completes what is not given."""

    algorithm: str | None = None
    """What learns, and its settings: ppo, sac:learning_rate=1e-4,…, or module:NAME of your own."""
    actions: str | None = None
    """What an action is: continuous, grid:cells=7, zoom:max_scale=4, peak, or module:NAME; +stop
    behind any lets it stop. By default continuous, or grid where the algorithm needs cells."""
    observation: str | None = None
    """What the policy sees: maps, peak, plain, or module:NAME; by default maps."""
    begin_from: Literal["scratch", "heat"] | None = None
    """Where learning begins: scratch (the default), or heat, the policy that follows the network's
    where-map, which the agent then corrects (actions and observation peak)."""
    focus_steps: Annotated[int | None, AtLeast(1)] = None
    """Looks of an episode; by default as many as the network takes."""
    timesteps: Annotated[int | None, AtLeast(1)] = None
    """Looks to learn from; 80,000 by default."""
    epochs: Annotated[int | None, AtLeast(1)] = None
    """Passes over the training images, in place of timesteps."""
    num_envs: Annotated[int | None, AtLeast(1)] = None
    """Images looked at side by side; 64 by default."""
    learn_from: Literal["train", "val"] | None = None
    """Split to learn from, by default train. The classifier knows train, so that looks gain less
    there; but val also gives the learning curve and the thresholds."""
    sampling: Sampling | None = None
    """Which images to draw: all alike, or (the default) by how uncertain the glance leaves them."""
    reward: str | None = None
    """Reward of a look: confidence-gain (the default), random-contrast, cross-entropy-gain, sparse,
    or module:NAME."""
    look_cost: float | None = None
    """What each look costs, in units of the reward; nothing by default."""
    exits: str | None = None
    """When a training episode ends early: never, or (the default) confidence:threshold=0.9, so that
    later looks are learned on images that need them."""
    replay_gib: Annotated[float | None, Above(0)] = None
    """Most GiB for a replay memory, by default 2; a checkpoint takes as much again while it is
    written."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.timesteps is not None and self.epochs is not None:
            raise ValueError("give timesteps or epochs, not both")

    def steps(self, images: int, focus_steps: int) -> int:
        """Looks to learn from, given the number of images and of looks at each."""
        if self.epochs is not None:
            return self.epochs * images * focus_steps
        assert self.timesteps is not None
        return self.timesteps


DEFAULT = PolicySchedule(
    algorithm="ppo",
    timesteps=80_000,
    num_envs=64,
    begin_from="scratch",
    learn_from="train",
    sampling="uncertain",
    reward="confidence-gain",
    look_cost=0.0,
    exits="confidence:threshold=0.9",
    replay_gib=2.0,
)


@dataclass(frozen=True, kw_only=True)
class PolicyConfig(_OneLength):
    """What to learn, on what, and how."""

    run: Path | None = None
    """Folder for the assembled network and its results; by default runs/policy-DATE-TIME."""
    network: Path | None = None
    """Folder of a trained network; by default the one that comes with the package."""
    schedule: Flat[PolicySchedule] = field(default_factory=PolicySchedule)
    images: Flat[ImageOptions] = field(default_factory=ImageOptions)
    features: Flat[FeatureOptions] = field(default_factory=FeatureOptions)
    control: Flat[RunControl] = field(default_factory=RunControl)
    oracle_images: Annotated[int, AtLeast(0)] = 500
    """Test images for the oracle, which is slow; 0 leaves it out."""
    curve_points: Annotated[int, AtLeast(0)] = 8
    """Evaluations of what was learned so far, evenly over the training; 0 for none."""
    curve_images: Annotated[int, AtLeast(1)] = 500
    """Validation images for these."""
    continue_from: Path | None = None
    """Run folder of a policy to go on training, with its settings unless others are given; images,
    reward, exits, sampling and focus_steps may change."""
    seed: int = 0
    """Of the learner and of the order of images."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.control.resume and self.run is None:
            raise ValueError("give the run to resume")


def complete(config: PolicyConfig) -> PolicyConfig:
    """A configuration completed from the run that it continues, then from ``DEFAULT``.

    Raises:
        FileNotFoundError: There is no run to continue.
        ValueError: That run has another algorithm, other actions or observations, or names a part
            in a module that is not imported; or the algorithm does not take the actions or a
            setting.
    """
    begun = {} if config.continue_from is None else begun_with(config, config.continue_from)
    heat = config.schedule.begin_from == "heat"
    parts = {"actions": "peak", "observation": "peak"} if heat else {}
    schedule = config.schedule.with_defaults(begun, parts, DEFAULT.given())
    assert schedule.algorithm is not None
    actions = choose_actions(schedule.algorithm, schedule.actions).spec
    return dataclasses.replace(
        config,
        run=config.run or Path("runs") / time.strftime("policy-%Y%m%d-%H%M%S"),
        schedule=schedule.replace(actions=actions),
        images=config.images.with_defaults(begun),
        network=config.network or config.continue_from,
    )


def begun_with(config: PolicyConfig, folder: Path) -> dict[str, Any]:
    """The schedule and the images of the run that a configuration continues, as far as given."""
    given, saved = config.given(), Run(folder).config
    if "exit_confidence" in saved:
        saved = _of_0_1(saved)
    names = (*dict(PolicySchedule().items()), *_IMAGES)
    begun = {name: saved[name] for name in names if saved.get(name) is not None}
    for name, meant in _KEPT.items():
        before = begun.get(name, "maps")
        # What is given may import its module, which the file may then name.
        if name in given and meant(given[name], True) != meant(before, False):
            raise ValueError(
                f"{name} is {before} in {folder}, not {given[name]}; a run that goes on keeps it: "
                "leave it out, or begin anew"
            )
    for name in begun.keys() & PARTS.keys() - given.keys():
        # A file may not import anything.
        PARTS[name].find(begun[name].removesuffix("+stop"), trusted=False)
    return begun


def exits_of_0_1(threshold: float | None) -> str:
    """The setting ``exits`` for ``exit_confidence`` of version 0.1."""
    return "never" if threshold is None else f"confidence:threshold={threshold}"


def part_control(control: RunControl) -> dict[str, Any]:
    """The control of a run that is part of another, whose folder says whether to begin anew."""
    return control.given() | {"resume": True, "overwrite": False}


def _of_0_1(saved: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a run of version 0.1 by their names of today."""
    algorithm = saved["algorithm"]
    actions = saved.get("actions") or choose_actions(algorithm, None, trusted=False).spec
    settings = ",".join(saved.get("settings", ()))
    return {
        **saved,
        "algorithm": f"{algorithm}:{settings}" if settings else algorithm,
        "actions": f"grid:cells={saved.get('grid', 7)}" if "grid" in actions else actions,
        "exits": exits_of_0_1(saved["exit_confidence"]),
        # Epochs took precedence.
        "timesteps": None if saved.get("epochs") else saved.get("timesteps"),
    }
