"""Settings of stage 2, and their defaults."""

import dataclasses
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
from gfnet_env.runs import Run, RunControl, dated_folder
from gfnet_env.settings import Above, AtLeast, Flat, Seed, Settings

# Registries by the setting that names their parts, including learners.
PARTS: Mapping[str, Registry[Any]] = {
    **command_line.PARTS,
    "algorithm": LEARNERS,
    "algorithms": LEARNERS,
}
# The weights depend on these, so a continued run must keep them; the spelling of a spec and the
# learner's settings may differ.
_KEPT: Mapping[str, Callable[[str, bool], object]] = {
    "algorithm": lambda spec, trusted: LEARNERS.parse(spec, trusted=trusted)[0],
    "actions": lambda spec, trusted: build_actions(spec, trusted=trusted).spec,
    "observation": lambda spec, _: spec,
}
# Settings of the images that a run takes over from the run that it continues.
_IMAGES = ("images", "image_size", "image_seed", "fit")
_LENGTHS = ("timesteps", "epochs")


class _OneLength(Settings):
    """Settings that state the length of learning in ``timesteps`` or in ``epochs``."""

    def with_defaults(self, *layers: Mapping[str, Any]) -> Self:
        """See ``Settings``; the first layer that has ``timesteps`` or ``epochs`` decides."""
        merged: dict[str, Any] = {}
        for layer in layers:
            is_settled = any(name in self.given() | merged for name in _LENGTHS)
            ignored = _LENGTHS if is_settled else ()
            new = {name: value for name, value in layer.items() if name not in ignored}
            merged = {name: value for name, value in new.items() if value is not None} | merged
        return super().with_defaults(merged)


@dataclass(frozen=True, kw_only=True)
class PolicySchedule(_OneLength):
    """How to learn a policy; ``DEFAULT`` fills in missing settings."""

    algorithm: str | None = None
    """Learner and its settings: ppo (the default), sac:learning_rate=1e-4,…, or module:NAME of your
    own."""
    actions: str | None = None
    """Kind of action: continuous, grid:cells=7, zoom:max_scale=4, peak, or module:NAME; append
    +stop to let it stop. By default continuous, or grid if the algorithm needs cells."""
    observation: str | None = None
    """Observation of the policy: maps, peak, plain, or module:NAME; by default maps."""
    begin_from: Literal["scratch", "heat"] | None = None
    """Policy to begin with: scratch (the default), or heat, which follows the network's where-map.
    The agent then corrects the map (actions and observation peak)."""
    focus_steps: Annotated[int | None, AtLeast(1)] = None
    """Looks per episode; by default the network's number."""
    timesteps: Annotated[int | None, AtLeast(1)] = None
    """Number of looks to learn from, rounded up to whole updates; 56,000 by default."""
    epochs: Annotated[int | None, AtLeast(1)] = None
    """Passes over the training images, in place of timesteps."""
    num_envs: Annotated[int | None, AtLeast(1)] = None
    """Number of images looked at in parallel; 64 by default."""
    learn_from: Literal["train", "val"] | None = None
    """Split to learn from, by default train. The classifier knows train, so looks gain less there;
    but val is also used for the learning curve and the thresholds."""
    sampling: Sampling | None = None
    """Which images to draw: all equally often; uncertain, in proportion to the doubt that their
    glances left so far; or uncertain-full, after a glance at every image. By default uncertain-full
    if glances are kept and there are at least two looks per image, so that nearly all are needed
    anyway, or else uncertain."""
    reward: str | None = None
    """Reward of a look: confidence-gain (the default), random-contrast, cross-entropy-gain, sparse,
    or module:NAME."""
    look_cost: float | None = None
    """Cost of each look, in units of the reward; 0 by default."""
    exits: str | None = None
    """When a training episode ends early: never, or confidence:threshold=0.9 (the default), so that
    the policy learns later looks on images that need them."""
    replay_gib: Annotated[float | None, Above(0)] = None
    """Maximum size of a replay memory in GiB, by default 2; writing a checkpoint temporarily takes
    as much again."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.timesteps is not None and self.epochs is not None:
            raise ValueError("give timesteps or epochs, not both")

    def steps(self, images: int, focus_steps: int) -> int:
        """The number of looks to learn from, given the numbers of images and of looks per image."""
        if self.epochs is not None:
            return self.epochs * images * focus_steps
        assert self.timesteps is not None
        return self.timesteps


DEFAULT = PolicySchedule(
    algorithm="ppo",
    timesteps=56_000,
    num_envs=64,
    begin_from="scratch",
    learn_from="train",
    reward="confidence-gain",
    look_cost=0.0,
    exits="confidence:threshold=0.9",
    replay_gib=2.0,
)


@dataclass(frozen=True, kw_only=True)
class PolicyConfig(_OneLength):
    """What to learn, on which images, and how."""

    run: Path | None = None
    """Folder for the assembled network and its results; by default runs/policy-DATE-TIME."""
    network: Path | None = None
    """Folder of a trained network; by default the packaged network."""
    schedule: Flat[PolicySchedule] = field(default_factory=PolicySchedule)
    images: Flat[ImageOptions] = field(default_factory=ImageOptions)
    features: Flat[FeatureOptions] = field(default_factory=FeatureOptions)
    control: Flat[RunControl] = field(default_factory=RunControl)
    oracle_images: Annotated[int, AtLeast(0)] = 500
    """Number of test images for the oracle, which is slow; 0 leaves it out."""
    curve_points: Annotated[int, AtLeast(0)] = 8
    """Number of evaluations for the learning curve, spread evenly over the training; 0 for none."""
    curve_images: Annotated[int, AtLeast(1)] = 500
    """Number of validation images for the learning curve."""
    continue_from: Path | None = None
    """Run folder of a policy to train further. Its settings are the defaults; images, reward,
    exits, sampling and focus_steps may change."""
    seed: Seed = 0
    """Seed of the learner and of the order of images."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.control.resume and self.run is None:
            raise ValueError("give the run to resume")


def complete(config: PolicyConfig) -> PolicyConfig:
    """Complete a configuration from the run that it continues, then from ``DEFAULT``.

    Raises:
        FileNotFoundError: The run to continue does not exist.
        ValueError: That run has another algorithm, other actions or observations, or names a part
            in a module that is not imported; or the algorithm does not take the actions or a
            setting; or the actions are not those of ``begin_from``.
    """
    begun = {} if config.continue_from is None else begun_with(config, config.continue_from)
    heat = config.schedule.begin_from == "heat"
    given = (config.schedule.actions or "peak").removesuffix("+stop")
    if heat and given.partition(":")[0] != "peak":
        raise ValueError(
            f"who begins from heat corrects the map, by actions 'peak', not {given!r}; leave "
            "actions or begin_from out"
        )
    parts = {"actions": "peak", "observation": "peak"} if heat else {}
    schedule = config.schedule.with_defaults(begun, parts, DEFAULT.given())
    assert schedule.algorithm is not None
    actions = choose_actions(schedule.algorithm, schedule.actions).spec
    return dataclasses.replace(
        config,
        run=config.run or dated_folder("policy"),
        schedule=schedule.replace(actions=actions),
        images=config.images.with_defaults(begun),
        network=config.network or config.continue_from,
    )


def begun_with(config: PolicyConfig, folder: Path) -> dict[str, Any]:
    """The schedule and the images that the run being continued was begun with, as far as given."""
    given, saved = config.given(), Run(folder).config
    if "exit_confidence" in saved:
        saved = _of_0_1(saved)
    names = (*dict(PolicySchedule().items()), *_IMAGES)
    begun = {name: saved[name] for name in names if saved.get(name) is not None}
    try:
        for kind in (PolicySchedule, ImageOptions):
            kind.from_json(begun)
    except ValueError as error:
        raise ValueError(f"the configuration of {folder} is damaged: {error}") from error
    for name, meant in _KEPT.items():
        before = begun.get(name, "maps")
        # A given setting may import its module; afterwards the file may name that module.
        if name in given and meant(given[name], True) != meant(before, False):
            raise ValueError(
                f"{name} is {before} in {folder}, not {given[name]}; a continued run keeps it: "
                "leave it out, or begin anew"
            )
    for name in sorted(begun.keys() & PARTS.keys() - given.keys()):
        try:
            # A file must not import anything.
            PARTS[name].find(begun[name].removesuffix("+stop"), trusted=False)
        except ValueError as error:
            raise ValueError(f"{name} of the run {folder}: {error}") from error
    return begun


def exits_of_0_1(threshold: float | None) -> str:
    """The setting ``exits`` for ``exit_confidence`` of version 0.1."""
    return "never" if threshold is None else f"confidence:threshold={threshold}"


def part_control(control: RunControl) -> dict[str, Any]:
    """The control of a run that is part of another run; the outer run decides about overwriting."""
    return control.given() | {"resume": True, "overwrite": False}


def _of_0_1(saved: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a run of version 0.1, under their current names."""
    algorithm = saved["algorithm"]
    actions = saved.get("actions") or choose_actions(algorithm, None, trusted=False).spec
    settings = ",".join(saved.get("settings", ()))
    return {
        **saved,
        "algorithm": f"{algorithm}:{settings}" if settings else algorithm,
        "actions": f"grid:cells={saved.get('grid', 7)}" if "grid" in actions else actions,
        "exits": exits_of_0_1(saved["exit_confidence"]),
        # In version 0.1, epochs took precedence.
        "timesteps": None if saved.get("epochs") else saved.get("timesteps"),
    }
