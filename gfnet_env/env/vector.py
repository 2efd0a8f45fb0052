"""The environment: N images at once, one call of each encoder a step."""

from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from torch import Tensor

from gfnet_env.data import ImageSet
from gfnet_env.env.action import resolve_actions
from gfnet_env.env.observation import observation_space, observe
from gfnet_env.env.rendering import caption, draw_trajectory
from gfnet_env.env.reward import Reward, Transition, resolve_reward
from gfnet_env.env.sampling import ImageOrder, Sampling, check_sampling, glance_uncertainty
from gfnet_env.features import FeatureSource, resolve_features
from gfnet_env.matching import ImageOptions, check_fit
from gfnet_env.perception import GlanceFocusNetwork, Step
from gfnet_env.pretrained import packaged_network
from gfnet_env.runs import resolve_device

Observations = dict[str, npt.NDArray[np.float32]]
Info = dict[str, Any]


class GlanceFocusVectorEnv(VectorEnv[Observations, npt.NDArray[Any], npt.NDArray[Any]]):
    """Glance-and-focus as a Markov decision process, over N images side by side.

    An episode is one image. Its reset is the glance; each action is the location of the next patch,
    a (row, column) in [-1, 1] where -1 and 1 are flush with the edges (values beyond them are taken
    as the edge), or the cell of a grid; the reward is, unless another is chosen, the gain in the
    classifier's confidence in the true class. The episode terminates after the last focus step, or
    once the classifier is confident enough.

    Sub-environment i goes through the images in an order of its own, fixed by its seed: seed + i
    where ``reset`` is given one seed. ``reset(options={"indices": […]})`` puts images in front of
    that order, for the sub-environments in turn. ``reset(options={"reset_mask": mask})`` resets
    the sub-environments that the (N,) boolean mask names and leaves the others where they are.

    ``info`` holds, one per sub-environment: ``index`` and ``label`` of the image, ``prediction``
    and its ``confidence``, ``label_confidence`` (of the true class) and ``correct``.

    Args:
        num_envs: N.
        network: A network or the folder of one; None is the one that comes with the package. It is
            put into evaluation mode and never trained.
        images: An image set or the spec of one; None is what the network was trained on.
        split: Which split of a spec.
        data_root: Folder of downloaded data sets, for a spec that names one.
        features: Where features come from: ``live``, the encoders at every step; ``cached``, a
            store on disk for a lattice of locations that actions are taken to, see
            ``CachedFeatures``; or a function that makes them of network, images and N, such as
            ``functools.partial(CachedFeatures, cells=7)``.
        focus_steps: Focus steps of an episode; None is as many as the network has.
        actions: ``continuous`` locations, or ``grid``: the number of a cell, row by row, whose
            location is that of ``lattice``; a name in ``ACTIONS``.
        grid: Cells of that grid along each axis.
        reward: A name in ``REWARDS``, or a function of a ``Transition``.
        exit_confidence: End an episode after the focus step at which the most confident class
            reaches this probability; None never does.
        sampling: ``all`` images alike, or ``uncertain``: each as often as the glance leaves the
            true class in doubt. That costs one glance at every image at the first reset.
        device: Where the network works, ``auto`` included; None leaves it where it is.
        render_mode: None or ``rgb_array``.
        autoreset_mode: When a sub-environment that has ended begins anew.

    Raises:
        ValueError: An argument is unknown or out of range, or images and network do not fit.
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
        network: GlanceFocusNetwork | str | Path | None = None,
        images: ImageSet | str | None = None,
        split: str = "train",
        data_root: str | Path = "data",
        features: str | FeatureSource = "live",
        focus_steps: int | None = None,
        actions: str = "continuous",
        grid: int = 7,
        reward: str | Reward = "confidence-gain",
        exit_confidence: float | None = None,
        sampling: Sampling = "all",
        device: str | torch.device | None = None,
        render_mode: str | None = None,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
    ) -> None:
        if num_envs < 1:
            raise ValueError(f"num_envs must be at least 1, not {num_envs}")
        if exit_confidence is not None and not 0 <= exit_confidence <= 1:
            raise ValueError(f"exit_confidence must be in [0, 1] or None, not {exit_confidence}")
        if render_mode not in (None, "rgb_array"):
            raise ValueError(f"unknown render_mode {render_mode!r}; known: None, 'rgb_array'")
        if autoreset_mode not in [*AutoresetMode, *(mode.value for mode in AutoresetMode)]:
            known = ", ".join(repr(mode.value) for mode in AutoresetMode)
            raise ValueError(f"unknown autoreset_mode {autoreset_mode!r}; known: {known}")
        check_sampling(sampling)
        open_features = resolve_features(features)
        self.actions = resolve_actions(actions, grid)
        self.network = _open_network(network).eval()
        if device is not None:
            self.network.to(resolve_device(device))
        if not isinstance(images, ImageSet):
            options = ImageOptions(images=images, data_root=Path(data_root))
            images = options.open(self.network, split)
        self.images = images
        check_fit(self.network, self.images)
        self.focus_steps = self.network.focus_steps if focus_steps is None else focus_steps
        if not 1 <= self.focus_steps <= self.network.focus_steps:
            raise ValueError(
                f"focus_steps must be in 1..{self.network.focus_steps}, the steps the network was "
                f"built for, not {self.focus_steps}"
            )
        self.features = open_features(self.network, self.images, num_envs)
        self.num_envs = num_envs
        self.render_mode = render_mode
        self.autoreset_mode = AutoresetMode(autoreset_mode)
        self.metadata = {**self.metadata, "autoreset_mode": self.autoreset_mode}
        self.single_observation_space = observation_space(self.network)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.single_action_space = self.actions.space
        self.action_space = batch_space(self.single_action_space, num_envs)

        self._reward = resolve_reward(reward)
        self._exit_confidence = exit_confidence
        self._sampling = sampling
        self._weights: npt.NDArray[np.float64] | None = None
        self._orders: list[ImageOrder] = []
        self._requested: deque[int] = deque()
        self._ended = np.zeros(num_envs, dtype=bool)
        self._indices = np.zeros(num_envs, dtype=np.int64)
        self._trails = np.full((num_envs, self.focus_steps, 2), np.nan, dtype=np.float32)
        self._is_reset = False

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[Observations, Info]:
        """Begin new episodes, everywhere or where ``options["reset_mask"]`` says.

        Args:
            seed: Fixes the order of images; one per sub-environment, or one for all.
            options: ``indices`` and ``reset_mask``, see the class.

        Returns:
            Observations of all sub-environments, and the infos of those that were reset.
        """
        options = options or {}
        rows = self._rows_to_reset(options)
        requested = self._requested_images(options)
        self._seed(seed, rows)
        if requested is not None:
            self._requested = deque(requested)
        self._begin(rows)
        return self._observations(), self._infos(rows)

    def step(
        self, actions: npt.NDArray[Any]
    ) -> tuple[
        Observations,
        npt.NDArray[np.float64],
        npt.NDArray[np.bool_],
        npt.NDArray[np.bool_],
        Info,
    ]:
        """Look at one patch of every image whose episode is under way.

        Args:
            actions: Locations (N, 2) in [-1, 1], or cells (N,); those of sub-environments that
                begin anew instead (NEXT_STEP) are ignored.

        Raises:
            RuntimeError: The environment was never reset, or (autoreset disabled) an episode that
                has ended was not.
            ValueError: An action is NaN, no cell, or of the wrong shape or type.
        """
        beginning = self._ended if self.autoreset_mode == AutoresetMode.NEXT_STEP else None
        active = np.arange(self.num_envs) if beginning is None else np.flatnonzero(~beginning)
        locations = self._locations(actions, active)
        rewards = np.zeros(self.num_envs)
        terminations = np.zeros(self.num_envs, dtype=bool)
        if len(active):
            rewards[active], terminations[active] = self._focus(active, locations)
        if beginning is not None and beginning.any():
            # Where an image cannot be read, what was to begin is begun by the next call.
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

    def action_masks(self) -> npt.NDArray[np.bool_]:
        """Cells that have not been looked at in the episodes under way, (N, cells).

        Where an episode has looked at all of them, all are True again.

        Raises:
            ValueError: Actions are not cells of a grid.
        """
        return self.actions.masks(self._trails)

    def render(self) -> tuple[npt.NDArray[np.uint8], ...] | None:
        """One picture per sub-environment, (H', W', 3) uint8, or None without a render mode."""
        if self.render_mode is None:
            return None
        if not self._is_reset:
            raise RuntimeError("there is nothing to render before the first reset")
        infos = self._infos(np.arange(self.num_envs))
        frames = []
        for row, pixels in enumerate(self.features.pixels(np.arange(self.num_envs))):
            trail = torch.from_numpy(self._trails[row])
            text = caption(
                self.network.config.class_names,
                infos["prediction"][row],
                infos["label"][row],
                infos["confidence"][row],
            )
            taken = self.features.snap(trail[~trail.isnan().any(dim=1)].to(pixels.device))
            frames.append(draw_trajectory(self.network, pixels, taken, text))
        return tuple(frames)

    def state_dict(self) -> dict[str, Any]:
        """What all that is to come depends on but for the network and the images.

        Returns:
            Numbers, strings and tensors, in lists and dicts.

        Raises:
            RuntimeError: The environment was never reset.
        """
        if not self._is_reset:
            raise RuntimeError("there is no state to save before the first reset")
        return {
            "orders": [order.state_dict() for order in self._orders],
            "requested": list(self._requested),
            "indices": torch.from_numpy(self._indices.copy()),
            "ended": torch.from_numpy(self._ended.copy()),
            "trails": torch.from_numpy(self._trails.copy()),
            "step": {key: value.cpu() for key, value in vars(self._step).items()},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where ``state_dict`` was called, on an environment of the same making.

        Raises:
            ValueError: The state is of another number of sub-environments.
        """
        if len(state["orders"]) != self.num_envs:
            raise ValueError(
                f"the state is of {len(state['orders'])} sub-environments, not {self.num_envs}"
            )
        self._weigh()
        self._orders = [self._order(0) for _ in range(self.num_envs)]
        for order, saved in zip(self._orders, state["orders"], strict=True):
            order.load_state_dict(saved)
        self._requested = deque(state["requested"])
        self._indices = state["indices"].numpy().copy()
        self._ended = state["ended"].numpy().copy()
        self._trails = state["trails"].numpy().copy()
        device = self.network.device
        self.features.place(np.arange(self.num_envs), self._indices)
        self._labels = self.images.labels[state["indices"]].to(device)
        self._step = Step(**{key: value.to(device) for key, value in state["step"].items()})
        self._is_reset = True

    def observations(self) -> Observations:
        """What all sub-environments show now.

        Raises:
            RuntimeError: The environment was never reset.
        """
        if not self._is_reset:
            raise RuntimeError("there is nothing to observe before the first reset")
        return self._observations()

    def _rows_to_reset(self, options: dict[str, Any]) -> npt.NDArray[np.int64]:
        mask = options.get("reset_mask")
        if mask is None:
            return np.arange(self.num_envs)
        mask = np.asarray(mask)
        if mask.shape != (self.num_envs,) or mask.dtype != np.bool_:
            raise ValueError(
                f"reset_mask must be ({self.num_envs},) bool, not {mask.shape} {mask.dtype}"
            )
        if not mask.any():
            raise ValueError("reset_mask names no sub-environment; set at least one to True")
        if not self._is_reset and not mask.all():
            raise RuntimeError("reset all sub-environments once before resetting some of them")
        return np.flatnonzero(mask)

    def _requested_images(self, options: dict[str, Any]) -> list[int] | None:
        if "indices" not in options:
            return None
        indices = np.asarray(options["indices"]).ravel()
        if len(indices) and indices.dtype.kind not in "iu":
            raise TypeError(f"indices must be integers, not {indices.dtype}")
        outside = indices[(indices < 0) | (indices >= len(self.images))]
        if len(outside):
            raise IndexError(
                f"image {outside[0]} does not exist: this set has {len(self.images)} images"
            )
        return indices.tolist()

    def _seed(self, seed: int | Sequence[int | None] | None, rows: npt.NDArray[np.int64]) -> None:
        """Give the sub-environments in ``rows`` the orders of their seeds."""
        seeds: list[int | None]
        if seed is None or isinstance(seed, int | np.integer):
            super().reset(seed=None if seed is None else int(seed))
            seeds = [None if seed is None else int(seed) + row for row in range(self.num_envs)]
        else:
            seeds = list(seed)
        if len(seeds) != self.num_envs:
            raise ValueError(f"{len(seeds)} seeds were given for {self.num_envs} sub-environments")
        self._weigh()
        if not self._orders:
            drawn = self.np_random.integers(2**31, size=self.num_envs).tolist()
            self._orders = [self._order(start) for start in drawn]
        for row in rows:
            if seeds[row] is not None:
                self._orders[row] = self._order(seeds[row])
                self._requested.clear()

    def _weigh(self) -> None:
        """Find how often to draw each image, once."""
        if self._sampling == "uncertain" and self._weights is None:
            weights = glance_uncertainty(self.features)
            # A glance that leaves no doubt anywhere leaves nothing to prefer either.
            self._weights = weights if weights.sum() > 0 else np.ones_like(weights)

    def _order(self, seed: int) -> ImageOrder:
        return ImageOrder(len(self.images), seed, self._weights)

    @torch.no_grad()
    def _begin(self, rows: npt.NDArray[np.int64]) -> None:
        """Begin a new episode in each of ``rows``: draw an image and glance at it."""
        for row in rows:
            requested = self._requested
            self._indices[row] = requested.popleft() if requested else self._orders[row].draw()
        chosen = torch.from_numpy(self._indices[rows])
        device = self.network.device
        labels = self.images.labels[chosen].to(device)
        step = self.features.begin(rows, self._indices[rows])
        if len(rows) == self.num_envs:
            self._labels, self._step = labels, step
        else:
            where = torch.from_numpy(rows).to(device)
            self._labels[where] = labels
            self._step = self._step.with_rows(where, step)
        self._trails[rows] = np.nan
        self._ended[rows] = False
        self._is_reset = True

    @torch.no_grad()
    def _focus(
        self, rows: npt.NDArray[np.int64], locations: npt.NDArray[np.float32]
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
        """Look at one patch in each of ``rows``; rewards and terminations of those rows."""
        device = self.network.device
        where = torch.from_numpy(rows).to(device)
        everywhere = len(rows) == self.num_envs
        before = self._step if everywhere else self._step.select(where)
        self._trails[rows, before.number.cpu().numpy()] = locations

        def look(locations: Tensor) -> Step:
            return self.features.focus(rows, locations, before)

        after = look(torch.from_numpy(locations).to(device))
        terminated = after.number >= self.focus_steps
        if self._exit_confidence is not None:
            terminated = terminated | (after.confidence >= self._exit_confidence)
        labels = self._labels if everywhere else self._labels[where]
        indices = self._indices[rows]
        reward = self._reward(Transition(indices, labels, before, after, terminated, look))
        self._step = after if everywhere else self._step.with_rows(where, after)
        return reward.cpu().double().numpy(), terminated.cpu().numpy()

    def _locations(
        self, actions: npt.NDArray[Any], active: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.float32]:
        if not self._is_reset:
            raise RuntimeError("call reset before the first step")
        # In SAME_STEP mode one is left ended where the image after it could not be read.
        if self.autoreset_mode != AutoresetMode.NEXT_STEP and self._ended.any():
            ended = np.flatnonzero(self._ended).tolist()
            raise RuntimeError(
                f"the episodes of sub-environments {ended} have ended; reset them with "
                "options={'reset_mask': mask}"
            )
        given = np.asarray(actions)
        wanted = (self.num_envs, *(self.single_action_space.shape or ()))
        if given.shape != wanted:
            raise ValueError(
                f"actions must be {wanted}, {self.actions.meaning} per image, not {given.shape}"
            )
        return self.actions.locations(given[active])

    def _observations(self) -> Observations:
        tensors = observe(self._step, self.network.focus_steps)
        arrays: Observations = {}
        held = {value.untyped_storage().data_ptr() for value in vars(self._step).values()}
        for key, tensor in tensors.items():
            value = tensor.cpu()
            # Copied, so that what a caller holds or changes is never what the next step starts
            # from; unless that was done on the way.
            is_held = value.untyped_storage().data_ptr() in held
            arrays[key] = (value.clone() if is_held else value).numpy(force=True)
        return arrays

    def _infos(self, rows: npt.NDArray[np.int64]) -> Info:
        """Infos of all sub-environments, marked (``_key``) as given for ``rows``."""
        step = self._step
        values: Info = {
            "index": self._indices.copy(),
            "label": self._labels.cpu().numpy().copy(),
            "prediction": step.classes.cpu().numpy(),
            "confidence": step.confidence.cpu().numpy(),
            "label_confidence": step.label_confidence(self._labels).cpu().numpy(),
        }
        values["correct"] = values["prediction"] == values["label"]
        given = np.zeros(self.num_envs, dtype=bool)
        given[rows] = True
        return values | {f"_{key}": given.copy() for key in values}

    def _final(self, ended: npt.NDArray[np.bool_]) -> Info:
        """What the episodes that have just ended showed last, as gymnasium's SAME_STEP has it."""
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


def _open_network(network: GlanceFocusNetwork | str | Path | None) -> GlanceFocusNetwork:
    if network is None:
        return packaged_network()
    return GlanceFocusNetwork.load(network) if isinstance(network, str | Path) else network
