"""The environment: N pictures at once, with one call of each encoder per step."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, get_args

import numpy as np
import numpy.typing as npt
import torch
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from torch import Tensor

from gfnet_env import rows
from gfnet_env.actions import Actions, build_actions, looks_of
from gfnet_env.arrays import as_array
from gfnet_env.env.rendering import caption, draw_looks, taken_looks
from gfnet_env.env.sampling import ImageOrders, Sampling
from gfnet_env.exits import EXITS, ExitRule, exit_now
from gfnet_env.features import FeatureSource, FeatureSpec, build_features
from gfnet_env.images import ImageSet, ReadingOptions, as_image_set
from gfnet_env.looks import Look
from gfnet_env.matching import ImageOptions, check_fit
from gfnet_env.models import GlanceFocusNetwork, Model, State, blank_state
from gfnet_env.models.base import check_model
from gfnet_env.observations import (
    OBSERVATIONS,
    MapsObservation,
    Observation,
    observation_space,
    observe,
)
from gfnet_env.rewards import REWARDS, Reward, Transition, judge
from gfnet_env.rollout import glance, look
from gfnet_env.runs import resolve_device
from gfnet_env.settings import AtLeast, checked
from gfnet_env.zoo import DEFAULT, FOLDER

Observations = dict[str, npt.NDArray[np.float32]]
Info = dict[str, Any]
_Rows = npt.NDArray[np.int64]
_Floats = npt.NDArray[np.float64]
_Bools = npt.NDArray[np.bool_]

_SEED = Annotated[int | None, AtLeast(0)]
_RESET_OPTIONS = frozenset({"indices", "reset_mask"})


@dataclass(frozen=True)
class TensorStep:
    """What a step of N sub-environments gives, on the model's device.

    Attributes:
        observations: Observations, N rows each; of the next episode where one has ended.
        rewards: Rewards, (N,) float32.
        terminated: Whether the episode has ended, (N,) bool.
        correct: Whether the prediction after the step is right, (N,) bool.
    """

    observations: dict[str, Tensor]
    rewards: Tensor
    terminated: Tensor
    correct: Tensor


class GlanceFocusVectorEnv(VectorEnv[Observations, npt.NDArray[Any], npt.NDArray[Any]]):
    """Glance-and-focus as a Markov decision process, over N pictures side by side.

    An episode is one picture. Its reset is the glance; each action is a look; the default reward is
    the gain in the classifier's confidence in the true class. The episode terminates after the last
    look, when the exit rule says so, or with an action that stops.

    Sub-environment i goes through the images in its own order, which its seed fixes; if ``reset``
    gets one seed, sub-environment i uses seed + i. ``reset(options={"indices": […]})`` puts images
    before that order, one for each sub-environment in turn. ``reset(options={"reset_mask": mask})``
    resets only the sub-environments of the (N,) boolean mask.

    ``info`` holds one entry per sub-environment of each of these: ``index`` and ``label`` of the
    image, the ``logits`` (N, K), the ``prediction`` and its ``confidence``, ``label_confidence``
    (of the true class) and ``correct``.

    Args:
        num_envs: Number of sub-environments, N.
        model: A model, or the folder of a ``GlanceFocusNetwork``; None is the packaged one. The
            model is put into evaluation mode and never trained.
        images: An image set or its spec; None means the images that the model was trained on.
        split: Split of the image set, if ``images`` is a spec.
        data_root: Folder of downloaded data sets.
        features: Source of features, see ``build_features``: ``live`` encodes at every step;
            ``cached`` keeps a store on disk for a lattice of looks, which actions are snapped to.
        focus_steps: Looks per episode; None means the model's number.
        actions: See ``build_actions``: ``continuous`` locations, cells of a ``grid:cells=7``,
            ``zoom``; any of them with ``+stop``.
        observation: See ``OBSERVATIONS``; None means ``maps``, with the scale of the latest look if
            actions choose the scale.
        reward: A name in ``REWARDS``, or a function of a ``Transition``.
        look_cost: Cost of each look, in units of the reward; a stop costs nothing.
        exits: When an episode ends before the last look, see ``EXITS``: ``never``,
            ``confidence:threshold=0.9``, …
        sampling: ``all`` draws all images equally often. ``uncertain`` draws each image in
            proportion to the doubt that its glance left about the true class, as far as episodes
            have shown it; what other sub-environments saw counts too. ``uncertain-full`` glances at
            every image at the first reset, to know all doubts from the beginning.
        device: Device of the model, see ``resolve_device``; None leaves the model where it is.
        render_mode: None or ``rgb_array``.
        autoreset_mode: When a sub-environment begins a new episode after the end of one.

    Raises:
        ValueError: An argument is unknown or out of range, or the images and the model do not fit.
    """

    metadata: dict[str, Any] = {  # noqa: RUF012
        "render_modes": ["rgb_array"],
        "render_fps": 1,
        "autoreset_mode": AutoresetMode.NEXT_STEP,
    }

    def __init__(
        self,
        num_envs: int = 1,
        *,
        model: Model | str | Path | None = None,
        images: ImageSet | str | None = None,
        split: str = "train",
        data_root: str | Path = "data",
        features: FeatureSpec = "live",
        focus_steps: int | None = None,
        actions: str | Actions = "continuous",
        observation: str | Observation | None = None,
        reward: str | Reward = "confidence-gain",
        look_cost: float = 0.0,
        exits: str | ExitRule = "never",
        sampling: Sampling = "all",
        device: str | torch.device | None = None,
        render_mode: str | None = None,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
    ) -> None:
        _check_arguments(num_envs, look_cost, sampling, render_mode, autoreset_mode)
        self.num_envs, self.render_mode = num_envs, render_mode
        self.autoreset_mode = AutoresetMode(autoreset_mode)
        self.metadata = {**self.metadata, "autoreset_mode": self.autoreset_mode}
        self._reward, self._exits = REWARDS.build(reward), EXITS.build(exits)
        self._look_cost = look_cost
        self.model = open_model(model)
        self.model.eval()
        if device is not None:
            self.model.to(resolve_device(device))
        self.actions = build_actions(actions, patch_size=self.model.view.size)
        self.observation, self.observation_spec = self._build_observation(observation)
        self.images = self._open_images(images, split, data_root)
        self.focus_steps = self._checked_steps(focus_steps)
        self.features: FeatureSource = build_features(features, self.model, self.images)
        self._orders = ImageOrders(self.features, num_envs, sampling)
        self._make_spaces()
        self._make_episodes()

    def _build_observation(
        self, observation: str | Observation | None
    ) -> tuple[Observation, str | None]:
        """An observation and, if it has one, its spec."""
        if observation is None:
            observation = "maps:scale=true" if self.actions.chooses_scale else "maps"
        built = OBSERVATIONS.build(observation, focus_steps=self.model.focus_steps)
        if isinstance(observation, str):
            return built, observation
        named = f"maps:scale={built.scale}" if isinstance(built, MapsObservation) else None
        return built, named

    def _open_images(
        self, images: ImageSet | str | None, split: str, data_root: str | Path
    ) -> ImageSet:
        if images is not None and not isinstance(images, str):
            images = as_image_set(images)
        else:
            reading = ReadingOptions(data_root=checked("data_root", data_root, Path))
            images = ImageOptions(images=images, reading=reading).open(self.model, split)
        check_fit(self.model, images)
        return images

    def _checked_steps(self, focus_steps: int | None) -> int:
        most = self.model.focus_steps
        checked("focus_steps", focus_steps, int | None)
        if focus_steps is not None and not 1 <= focus_steps <= most:
            raise ValueError(
                f"focus_steps must be in 1..{most}, the steps the network was built for, not "
                f"{focus_steps}"
            )
        return most if focus_steps is None else focus_steps

    def _make_spaces(self) -> None:
        self.single_observation_space = observation_space(self.observation, self.model)
        spaces = self.single_observation_space.spaces
        self._shapes = {key: space.shape for key, space in spaces.items()}
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.single_action_space = self.actions.space
        self.action_space = batch_space(self.single_action_space, self.num_envs)

    def _make_episodes(self) -> None:
        """Make what changes from step to step, as it is before the first reset."""
        self._ended = np.zeros(self.num_envs, dtype=bool)
        self._indices = np.zeros(self.num_envs, dtype=np.int64)
        shape = (self.num_envs, self.focus_steps)
        self._locations = torch.full((*shape, 2), torch.nan, dtype=torch.float32)
        self._scales = torch.full(shape, torch.nan, dtype=torch.float32)
        self._is_reset = False

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[Observations, Info]:
        """Begin new episodes.

        Args:
            seed: Fixes the order of images; one per sub-environment, or one for all.
            options: ``indices`` and ``reset_mask``, see the class.

        Returns:
            Observations of all sub-environments, and the infos of those that were reset.
        """
        options = {} if options is None else options
        if not isinstance(options, Mapping):
            raise ValueError(f"the options of reset must be a dict, not {options!r}")
        unknown = sorted(map(str, options.keys() - _RESET_OPTIONS))
        if unknown:
            raise ValueError(
                f"reset has no option {unknown[0]!r}; known: {', '.join(sorted(_RESET_OPTIONS))}"
            )
        chosen = self._rows_to_reset(options)
        requested = self._orders.checked(options["indices"]) if "indices" in options else None
        self._seed(seed, chosen)
        if requested is not None:
            self._orders.request(requested)
        self._begin(chosen)
        return self._observations(), self._infos(chosen)

    def step(self, actions: npt.NDArray[Any]) -> tuple[Observations, _Floats, _Bools, _Bools, Info]:
        """Look once at every picture whose episode has not ended.

        Args:
            actions: Actions in ``action_space``; values beyond a Box are clipped. Sub-environments
                that begin a new episode in this step (NEXT_STEP) ignore their actions.

        Raises:
            RuntimeError: The environment was never reset, or, with autoreset disabled, an episode
                has ended and was not reset.
            ValueError: An action is NaN, is not a cell, or has the wrong shape or type.
        """
        beginning = self._ended if self.autoreset_mode == AutoresetMode.NEXT_STEP else None
        active = np.arange(self.num_envs) if beginning is None else np.flatnonzero(~beginning)
        checked = self._checked(actions, active)
        rewards = np.zeros(self.num_envs)
        terminations = np.zeros(self.num_envs, dtype=bool)
        if len(active):
            earned, ended = self._act(active, checked)
            rewards[active], terminations[active] = earned.cpu().numpy(), ended.cpu().numpy()
        if beginning is not None and beginning.any():
            # If an image cannot be read, the next call begins these episodes.
            self._ended = terminations | beginning
            self._begin(np.flatnonzero(beginning))
        self._ended = terminations.copy()

        final: Info = {}
        if self.autoreset_mode == AutoresetMode.SAME_STEP and terminations.any():
            final = self._final(terminations)
            self._begin(np.flatnonzero(terminations))
        infos = self._infos(np.arange(self.num_envs))
        truncations = np.zeros(self.num_envs, dtype=bool)
        return self._observations(), rewards, terminations, truncations, {**infos, **final}

    @torch.no_grad()
    def reset_tensors(self, seed: int | None = None) -> dict[str, Tensor]:
        """``reset`` of all sub-environments, with observations as tensors on the model's device."""
        chosen = np.arange(self.num_envs)
        self._seed(seed, chosen)
        self._begin(chosen)
        return observe(self.observation, self._state)

    @torch.no_grad()
    def step_tensors(self, actions: Tensor) -> TensorStep:
        """``step`` without NumPy: everything stays on the model's device, and there are no infos.

        Episodes that end are followed by new ones in the same step.

        Args:
            actions: As ``step`` takes them, as a tensor on the model's device.

        Raises:
            RuntimeError: The environment was never reset.
            TypeError: The actions are no tensor on that device.
            ValueError: The autoreset mode is not SAME_STEP, an action is NaN or is not a cell, or
                the actions have the wrong shape.
        """
        self._check_reset("step")
        self._check_ended()
        if self.autoreset_mode != AutoresetMode.SAME_STEP:
            raise ValueError(
                f"step_tensors needs autoreset_mode='SameStep', not {self.autoreset_mode.value!r}"
            )
        if not isinstance(actions, Tensor) or actions.device != self.model.device:
            where = f" on {actions.device}" if isinstance(actions, Tensor) else ""
            raise TypeError(
                f"step_tensors takes a tensor on {self.model.device}, not a "
                f"{type(actions).__name__}{where}; step takes arrays"
            )
        self._check_shape(tuple(actions.shape))
        rewards, terminated = self._act(np.arange(self.num_envs), self.actions.bounded(actions))
        # A copy, since beginning anew changes it.
        self._ended = terminated.cpu().numpy().copy()
        correct = self._state.classes == self._labels
        if self._ended.any():
            self._begin(np.flatnonzero(self._ended))
        return TensorStep(observe(self.observation, self._state), rewards, terminated, correct)

    def action_masks(self) -> npt.NDArray[np.bool_]:
        """Cells that the current episodes have not looked at, (N, actions).

        Once an episode has looked at all cells, all are True again. A stop is always True.

        Raises:
            ValueError: The actions are not cells of a grid.
        """
        taken = ~self._scales.isnan()
        return self.actions.masks(Look.at(self._locations, self._scales), taken).numpy()

    def render(self) -> tuple[npt.NDArray[np.uint8], ...] | None:
        """One drawing per sub-environment, (H', W', 3) uint8, or None without a render mode."""
        if self.render_mode is None:
            return None
        self._check_reset("render")
        infos = self._infos(np.arange(self.num_envs))
        shown = (infos[key].tolist() for key in ("index", "prediction", "label", "confidence"))
        frames = []
        for row, (index, *answer) in enumerate(zip(*shown, strict=True)):
            taken = taken_looks(self._locations[row], self._scales[row])
            text = caption(self.model.class_names, *answer)
            frames.append(draw_looks(self.images, index, taken, self.model.view, text))
        return tuple(frames)

    def state_dict(self) -> dict[str, Any]:
        """Everything that later steps depend on, except the model and the images.

        Returns:
            Numbers, strings and tensors, in lists and dicts.

        Raises:
            RuntimeError: The environment was never reset.
        """
        self._check_reset("save")
        return {
            **self._orders.state_dict(),
            "indices": torch.from_numpy(self._indices.copy()),
            "ended": torch.from_numpy(self._ended.copy()),
            "locations": self._locations.clone(),
            "scales": self._scales.clone(),
            "state": [tensor.cpu() for tensor in rows.tensors(self._state)],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Resume where ``state_dict`` was called, in an environment with the same arguments.

        Raises:
            ValueError: The state has other numbers of images or sub-environments.
        """
        self._orders.load_state_dict(state)
        self._indices = state["indices"].numpy().copy()
        self._ended = state["ended"].numpy().copy()
        self._locations, self._scales = state["locations"].clone(), state["scales"].clone()
        device = self.model.device
        self._labels = self.images.labels[state["indices"]].to(device)
        values = iter(state["state"])
        self._state = rows.map_tensors(lambda _: next(values).to(device), blank_state(self.model))
        self._is_reset = True

    def observations(self) -> Observations:
        """The current observations of all sub-environments.

        Raises:
            RuntimeError: The environment was never reset.
        """
        self._check_reset("observe")
        return self._observations()

    def _rows_to_reset(self, options: Mapping[str, Any]) -> _Rows:
        mask = options.get("reset_mask")
        if mask is None:
            return np.arange(self.num_envs)
        mask = as_array(mask, "reset_mask")
        if mask.shape != (self.num_envs,) or mask.dtype != np.bool_:
            raise ValueError(
                f"reset_mask must be ({self.num_envs},) bool, not {mask.shape} {mask.dtype}"
            )
        if not mask.any():
            raise ValueError("reset_mask names no sub-environment; set at least one to True")
        if not self._is_reset and not mask.all():
            raise RuntimeError("reset all sub-environments once before resetting some of them")
        return np.flatnonzero(mask)

    def _seed(self, seed: Any, chosen: _Rows) -> None:
        """Give sub-environments the orders of their seeds."""
        seeds: list[int | None]
        if isinstance(seed, list | tuple) or (isinstance(seed, np.ndarray) and seed.ndim):
            seeds = list(map(check_seed, seed))
        else:
            first = check_seed(seed)
            super().reset(seed=first)
            seeds = [None if first is None else first + row for row in range(self.num_envs)]
        if len(seeds) != self.num_envs:
            raise ValueError(f"{len(seeds)} seeds were given for {self.num_envs} sub-environments")
        given = {row: start for row in chosen.tolist() if (start := seeds[row]) is not None}
        self._orders.seed(given, self.np_random)

    @torch.no_grad()
    def _begin(self, chosen: _Rows) -> None:
        """Begin new episodes in some rows: draw an image for each and glance at it."""
        for row in chosen:
            self._indices[row] = self._orders.draw(row)
        indices, device = self._indices[chosen], self.model.device
        labels = self.images.labels[torch.from_numpy(indices)].to(device)
        state = glance(self.features, indices)
        self._orders.saw(indices, labels, state)
        if len(chosen) == self.num_envs:
            self._labels, self._state = labels, state
        else:
            where = torch.from_numpy(chosen).to(device)
            self._labels[where] = labels
            self._state = rows.put(self._state, where, state)
        begun = torch.from_numpy(chosen)
        self._locations[begun] = torch.nan
        self._scales[begun] = torch.nan
        self._ended[chosen] = False
        self._is_reset = True

    @torch.no_grad()
    def _act(self, active: _Rows, actions: Tensor) -> tuple[Tensor, Tensor]:
        """Take the actions of some rows; rewards and terminations of those rows."""
        device = self.model.device
        where = torch.from_numpy(active).to(device)
        everywhere = len(active) == self.num_envs
        before = self._state if everywhere else rows.select(self._state, where)
        looks = looks_of(self.actions, actions.to(device), before)
        stops = looks.stop
        if not bool(stops.any()):
            return self._look(active, where, looks, before)
        rewards = torch.zeros(len(active), dtype=torch.float32, device=device)
        terminated = stops.clone()
        going = torch.nonzero(~stops).squeeze(1)
        if len(going):
            looks, before = rows.select((looks, before), going)
            rewards[going], terminated[going] = self._look(
                active[going.cpu().numpy()], where[going], looks, before
            )
        return rewards, terminated

    def _look(
        self, active: _Rows, where: Tensor, looks: Look, before: State
    ) -> tuple[Tensor, Tensor]:
        """Look once at the pictures of some rows; none of the looks stops."""
        indices, everywhere = self._indices[active], len(active) == self.num_envs

        def look_there(there: Look | Tensor) -> State:
            chosen = (there if isinstance(there, Look) else Look.at(there)).clipped()
            chosen.check(len(indices))
            return look(self.features, indices, chosen, before)

        after = look_there(looks)
        terminated = (after.number >= self.focus_steps) | exit_now(self._exits, after)
        labels = self._labels if everywhere else self._labels[where]
        transition = Transition(indices, labels, before, after, terminated, look_there)
        reward = judge(self._reward, transition).float() - self._look_cost
        self._state = after if everywhere else rows.put(self._state, where, after)
        number, there = before.number.cpu(), torch.from_numpy(active)
        self._locations[there, number] = after.location.cpu()
        self._scales[there, number] = after.scale.cpu()
        return reward, terminated

    def _check_reset(self, what: str) -> None:
        if not self._is_reset:
            raise RuntimeError(f"there is nothing to {what} before the first reset")

    def _check_ended(self) -> None:
        # In SAME_STEP mode too, if the next image could not be read.
        if self.autoreset_mode != AutoresetMode.NEXT_STEP and self._ended.any():
            ended = np.flatnonzero(self._ended).tolist()
            raise RuntimeError(
                f"the episodes of sub-environments {ended} have ended; reset them with "
                "options={'reset_mask': mask}"
            )

    def _checked(self, actions: npt.NDArray[Any], active: _Rows) -> Tensor:
        if not self._is_reset:
            raise RuntimeError("call reset before the first step")
        self._check_ended()
        given = as_array(actions, "actions")
        self._check_shape(given.shape)
        return self.actions.read(given[active])

    def _check_shape(self, given: tuple[int, ...]) -> None:
        wanted = (self.num_envs, *(self.single_action_space.shape or ()))
        if given != wanted:
            raise ValueError(
                f"actions must be {wanted}, {self.actions.meaning} per image, not {given}"
            )

    def _observations(self) -> Observations:
        arrays: Observations = {}
        held = {tensor.untyped_storage().data_ptr() for tensor in rows.tensors(self._state)}
        for key, tensor in observe(self.observation, self._state).items():
            wanted = self._shapes[key]
            if tensor.shape[1:] != wanted:
                raise ValueError(
                    f"{key!r} of the observation is {tuple(tensor.shape[1:])} now and was "
                    f"{wanted} at first; its shape must stay the same"
                )
            # An encoder's map has its channels last, in which arrays are slow to copy.
            value = tensor.cpu().contiguous()
            # Callers must not share memory with the state, from which the next step starts.
            is_held = value.untyped_storage().data_ptr() in held
            arrays[key] = (value.clone() if is_held else value).numpy(force=True)
        return arrays

    def _infos(self, given: _Rows) -> Info:
        """Infos of all sub-environments; ``_key`` marks the given rows."""
        state = self._state
        values: Info = {
            "index": self._indices.copy(),
            "label": self._labels.cpu().numpy().copy(),
            "logits": state.logits.float().cpu().numpy().copy(),
            "prediction": state.classes.cpu().numpy(),
            "confidence": state.confidence.cpu().numpy(),
            "label_confidence": state.label_confidence(self._labels).cpu().numpy(),
        }
        values["correct"] = values["prediction"] == values["label"]
        mark = np.zeros(self.num_envs, dtype=bool)
        mark[given] = True
        return values | {f"_{key}": mark.copy() for key in values}

    def _final(self, ended: _Bools) -> Info:
        """Last observations and infos of ended episodes, in the format of gymnasium's SAME_STEP."""
        observations = self._observations()
        final = np.full(self.num_envs, None, dtype=object)
        for row in np.flatnonzero(ended):
            final[row] = {key: value[row] for key, value in observations.items()}
        return {
            "final_obs": final,
            "_final_obs": ended.copy(),
            "final_info": self._infos(np.flatnonzero(ended)),
            "_final_info": ended.copy(),
        }


def open_model(model: Model | str | Path | None) -> Model:
    """A model: as given, from a folder, or the packaged one."""
    if model is None:
        model = FOLDER / DEFAULT
    if isinstance(model, str | Path):
        return GlanceFocusNetwork.load(model)
    check_model(model)
    return model


def check_seed(seed: Any) -> int | None:
    """A seed; raises ``ValueError`` unless it is None or a whole number of at least 0."""
    return checked("seed", seed, _SEED)


def _check_arguments(
    num_envs: int,
    look_cost: float,
    sampling: str,
    render_mode: str | None,
    autoreset_mode: AutoresetMode | str,
) -> None:
    checked("num_envs", num_envs, Annotated[int, AtLeast(1)])
    checked("look_cost", look_cost, Annotated[float, AtLeast(0)])
    if sampling not in get_args(Sampling):
        raise ValueError(f"unknown sampling {sampling!r}; known: {', '.join(get_args(Sampling))}")
    if render_mode not in (None, "rgb_array"):
        raise ValueError(f"unknown render_mode {render_mode!r}; known: None, 'rgb_array'")
    if autoreset_mode not in [*AutoresetMode, *(mode.value for mode in AutoresetMode)]:
        known = ", ".join(repr(mode.value) for mode in AutoresetMode)
        raise ValueError(f"unknown autoreset_mode {autoreset_mode!r}; known: {known}")
