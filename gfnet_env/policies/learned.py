"""The learned policy as a plain torch module, independent of the library that trained it."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import torch
from gymnasium import spaces
from torch import Tensor, nn

from gfnet_env.actions import WithStop, build_actions
from gfnet_env.hub import Shareable
from gfnet_env.models.base import Model
from gfnet_env.observations import OBSERVATIONS, Observation, observation_space
from gfnet_env.policies.base import POLICIES
from gfnet_env.policies.observation_encoder import ObservationEncoder, Size, checked_shapes
from gfnet_env.settings import AtLeast, AtMost, checked

Squash = Literal["clamp", "tanh"]

_ACTIVATIONS: dict[str, type[nn.Module]] = {"tanh": nn.Tanh, "relu": nn.ReLU}


@POLICIES.register("learned")
class LearnedPolicy(Shareable, nn.Module):
    """Maps an observation to an action, deterministically.

    Args:
        shapes: Shape of each part of an observation, by key.
        hidden_sizes: Widths of the hidden layers between encoder and action, up to 10,000.
        focus_steps: N of the model, for the observation.
        patch_size: P of the model, for the actions.
        actions: Spec, see ``build_actions``.
        observation: Spec, see ``OBSERVATIONS``.
        activation: Activation after each hidden layer, ``tanh`` or ``relu``.
        squash: How to bring numbers to [-1, 1]: ``clamp`` or ``tanh``.
        revisit: Whether cells of a grid may be looked at twice; if not, the policy remembers the
            cells of each picture.
        recurrent_size: Size of an LSTM after the encoder; None means no LSTM.
        encoder: Arguments of the ``ObservationEncoder`` besides ``shapes``.
        trusted: See ``Registry.build``.

    Raises:
        ValueError: A name is unknown, an argument has the wrong type or is out of range, or
            ``revisit`` is off but the actions are not cells.
    """

    def __init__(
        self,
        shapes: Mapping[str, Sequence[int]],
        hidden_sizes: Sequence[int],
        *,
        focus_steps: int,
        patch_size: int,
        actions: str = "continuous",
        observation: str = "maps",
        activation: str = "tanh",
        squash: Squash = "clamp",
        revisit: bool = True,
        recurrent_size: int | None = None,
        encoder: Mapping[str, Any] | None = None,
        trusted: bool = True,
    ) -> None:
        super().__init__()
        most_steps = Annotated[int, AtLeast(1), AtMost(1000)]
        self.config: dict[str, Any] = {
            "shapes": checked_shapes(shapes),
            "hidden_sizes": list(checked("hidden_sizes", hidden_sizes, tuple[Size, ...])),
            "focus_steps": checked("focus_steps", focus_steps, most_steps),
            "patch_size": checked("patch_size", patch_size, Size),
            "actions": checked("actions", actions, str),
            "observation": checked("observation", observation, str),
            "activation": checked("activation", activation, Literal["tanh", "relu"]),
            "squash": checked("squash", squash, Squash),
            "revisit": checked("revisit", revisit, bool),
            "recurrent_size": checked("recurrent_size", recurrent_size, Size | None),
            "encoder": dict(checked("encoder", {} if encoder is None else encoder, Mapping)),
        }
        self.actions = build_actions(actions, trusted=trusted, patch_size=patch_size)
        self.observation = OBSERVATIONS.build(observation, trusted=trusted, focus_steps=focus_steps)
        if not revisit and isinstance(self.actions.space, spaces.Box):
            raise ValueError(f"only cells of a grid can be left out, not actions of {actions!r}")
        self._build()

    def _build(self) -> None:
        """Make the layers."""
        config, space = self.config, self.actions.space
        self.encoder = ObservationEncoder(config["shapes"], **config["encoder"])
        # With the defaults, which may be others when this is loaded.
        config["encoder"] = self.encoder.options
        size, memory_size = self.encoder.output_size, config["recurrent_size"]
        self.recurrent = None if memory_size is None else nn.LSTMCell(size, memory_size)
        sizes = [size if memory_size is None else memory_size, *config["hidden_sizes"]]
        layers: list[nn.Module] = []
        for before, after in pairwise(sizes):
            layers += [nn.Linear(before, after), _ACTIVATIONS[config["activation"]]()]
        outputs = space.shape[0] if isinstance(space, spaces.Box) else int(space.n)
        self.actor = nn.Sequential(*layers, nn.Linear(sizes[-1], outputs))
        # The last number may be a stop, which is not a cell.
        cells = outputs - isinstance(self.actions, WithStop)
        self._cells = None if isinstance(space, spaces.Box) else cells

    @classmethod
    def for_model(
        cls, model: Model, hidden_sizes: Sequence[int], *, observation: str = "maps", **options: Any
    ) -> Self:
        """Make a new policy for a model; see the class for the options."""
        built = OBSERVATIONS.build(observation, focus_steps=model.focus_steps)
        sizes: dict[str, Any] = {"focus_steps": model.focus_steps, "patch_size": model.view.size}
        shapes = _shapes(built, model)
        return cls(shapes, hidden_sizes, observation=observation, **sizes, **options)

    def save(self, folder: str | Path) -> None:
        """Write the weights (safetensors) and the arguments (JSON) into a folder."""
        # Imported here: the module knows this class.
        from gfnet_env.policies.storage import save_policy

        save_policy(self, Path(folder))

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Read what ``save`` wrote, onto the CPU and in evaluation mode.

        Raises:
            FileNotFoundError: The folder or one of its files is missing.
            ValueError: A file is damaged, or holds another policy.
        """
        from gfnet_env.policies.storage import load_policy

        policy = load_policy(Path(folder))
        if not isinstance(policy, cls):
            raise ValueError(f"{folder} holds a {type(policy).__name__}, which is not learned")
        return policy

    def check_fit(self, model: Model) -> None:
        """Raise ``ValueError`` unless this policy was made for such a model."""
        wanted = _shapes(self.observation, model)
        if wanted != self.config["shapes"]:
            raise ValueError(
                f"the policy was made for observations of {self.config['shapes']}, but the "
                f"model has {wanted}; learn a policy for this model"
            )

    def forward(
        self, observation: Mapping[str, Tensor], memory: Mapping[str, Any] | None = None
    ) -> tuple[Tensor, dict[str, Any] | None]:
        """Actions, (B, D) in [-1, 1] or (B,) int64, and the memory.

        The memory holds ``recurrent``, the hidden and the cell state of the LSTM, each (B,
        recurrent_size), if there is an LSTM; and ``looked``, (B, cells) bool, if ``revisit`` is
        off. Without either, it is None.
        """
        before: Mapping[str, Any] = memory or {}
        after: dict[str, Any] = {}
        features = self.encoder(observation)
        if self.recurrent is not None:
            after["recurrent"] = self.recurrent(features, before.get("recurrent"))
            features, _ = after["recurrent"]
        chosen = self.actor(features)
        if self._cells is None:
            bounded = chosen.tanh() if self.config["squash"] == "tanh" else chosen.clamp(-1, 1)
            return bounded, after or None
        if self.config["revisit"]:
            return chosen.argmax(dim=1), after or None
        looked = before.get("looked", torch.zeros_like(chosen[:, : self._cells], dtype=torch.bool))
        # Once no cell is left, all cells are allowed again, as in the environment.
        closed = looked & ~looked.all(dim=1, keepdim=True)
        others = torch.zeros_like(chosen[:, self._cells :], dtype=torch.bool)
        cell = chosen.masked_fill(torch.cat([closed, others], dim=1), -torch.inf).argmax(dim=1)
        number = torch.arange(self._cells, device=cell.device)
        after["looked"] = looked | (number == cell[:, None])
        return cell, after

    @staticmethod
    def arguments_of_01(
        saved: Mapping[str, Any], focus_steps: int, patch_size: int
    ) -> dict[str, Any]:
        """The arguments of a policy that version 0.1 saved, for a network of these sizes."""
        depth, height, width = saved["feature_shape"]
        shapes = {
            "features": [depth, height, width],
            "glance": [depth * height * width],
            "seen": [height * width],
            "memory": [saved["memory_size"]],
            "location": [2],
            "step": [1],
        }
        kept = ("hidden_sizes", "activation", "revisit", "recurrent_size")
        grid = saved.get("output") == "grid"
        return {
            "shapes": shapes,
            "focus_steps": focus_steps,
            "patch_size": patch_size,
            "actions": f"grid:cells={saved['grid']}" if grid else "continuous",
            "squash": "tanh" if saved.get("output") == "tanh" else "clamp",
            **{name: saved[name] for name in kept if name in saved},
            "encoder": {"channels": 64, "points": 32} | saved.get("encoder", {}),
        }


def _shapes(observation: Observation, model: Model) -> dict[str, list[int]]:
    """The shape of each part of an observation, by key."""
    space = observation_space(observation, model)
    return {key: list(box.shape or ()) for key, box in space.items()}
