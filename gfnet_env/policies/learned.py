"""The learned policy as a plain torch module, free of the library that trained it."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, Literal, Self, get_args

import torch
from gymnasium import spaces
from torch import Tensor, nn

from gfnet_env.actions import WithStop, build_actions
from gfnet_env.models.base import Model
from gfnet_env.observations import OBSERVATIONS, observation_space
from gfnet_env.policies.base import POLICIES
from gfnet_env.policies.observation_encoder import ObservationEncoder

Squash = Literal["clamp", "tanh"]

_ACTIVATIONS: dict[str, type[nn.Module]] = {"tanh": nn.Tanh, "relu": nn.ReLU}


@POLICIES.register("learned")
class LearnedPolicy(nn.Module):
    """Maps an observation to an action, deterministically: what an agent has learned.

    Args:
        shapes: Of each part of an observation, by its key.
        hidden_sizes: Widths of the hidden layers between encoder and action.
        focus_steps: N of the model, which observations go by.
        patch_size: P of the model, which actions may go by.
        actions: Spec of what it emits, see ``build_actions``.
        observation: Spec of what it is shown, see ``OBSERVATIONS``.
        activation: ``tanh`` or ``relu``, after each hidden layer.
        squash: What brings numbers to [-1, 1]: ``clamp`` or ``tanh``.
        revisit: Whether cells of a grid may be looked at twice; where not, each picture's are
            remembered.
        recurrent_size: Size of a memory of its own (an LSTM) after the encoder; None for none.
        encoder: Arguments of the ``ObservationEncoder`` in place of its defaults.
        trusted: See ``Registry.build``.

    Raises:
        ValueError: A name is unknown, or cells are to be told apart where there are none.
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
        if activation not in _ACTIVATIONS:
            raise ValueError(f"unknown activation {activation!r}; known: {', '.join(_ACTIVATIONS)}")
        if squash not in get_args(Squash):
            raise ValueError(f"unknown squash {squash!r}; known: {', '.join(get_args(Squash))}")
        self.actions = build_actions(actions, trusted=trusted, patch_size=patch_size)
        self.observation = OBSERVATIONS.build(observation, trusted=trusted, focus_steps=focus_steps)
        space = self.actions.space
        counted = isinstance(space, spaces.Discrete)
        if not revisit and not counted:
            raise ValueError(f"only cells of a grid can be left out, not actions of {actions!r}")
        self.config: dict[str, Any] = {
            "shapes": {key: list(shape) for key, shape in shapes.items()},
            "hidden_sizes": list(hidden_sizes),
            "focus_steps": focus_steps,
            "patch_size": patch_size,
            "actions": actions,
            "observation": observation,
            "activation": activation,
            "squash": squash,
            "revisit": revisit,
            "recurrent_size": recurrent_size,
            "encoder": dict(encoder or {}),
        }
        self.encoder = ObservationEncoder(shapes, **(encoder or {}))
        size = self.encoder.output_size
        self.recurrent = None if recurrent_size is None else nn.LSTMCell(size, recurrent_size)
        sizes = [size if recurrent_size is None else recurrent_size, *hidden_sizes]
        layers: list[nn.Module] = []
        for before, after in pairwise(sizes):
            layers += [nn.Linear(before, after), _ACTIVATIONS[activation]()]
        outputs = int(space.n) if isinstance(space, spaces.Discrete) else space.shape[0]
        self.actor = nn.Sequential(*layers, nn.Linear(sizes[-1], outputs))
        # The last number may be a stop, which is no place to look at.
        self._cells = outputs - isinstance(self.actions, WithStop) if counted else None

    @classmethod
    def for_model(
        cls, model: Model, hidden_sizes: Sequence[int], *, observation: str = "maps", **options: Any
    ) -> Self:
        """A new policy for what a model shows; see the class for the other arguments."""
        built = OBSERVATIONS.build(observation, focus_steps=model.focus_steps)
        shapes = {key: box.shape or () for key, box in observation_space(built, model).items()}
        return cls(
            shapes,
            hidden_sizes,
            observation=observation,
            focus_steps=model.focus_steps,
            patch_size=model.view.size,
            **options,
        )

    def check_fit(self, model: Model) -> None:
        """Raises ``ValueError`` unless this policy was made for such a model."""
        space = observation_space(self.observation, model)
        wanted = {key: list(box.shape or ()) for key, box in space.items()}
        if wanted != self.config["shapes"]:
            raise ValueError(
                f"the policy was made for observations of {self.config['shapes']}, the model has "
                f"{wanted}; learn a policy for this model"
            )

    def forward(
        self, observation: Mapping[str, Tensor], memory: Mapping[str, Any] | None = None
    ) -> tuple[Tensor, dict[str, Any] | None]:
        """Actions, (B, D) in [-1, 1] or (B,) int64, and what it remembers.

        That is ``recurrent``, the hidden and the cell state of its LSTM, each (B, recurrent_size),
        and ``looked``, (B, cells) bool, as far as it has them; None where it has neither.
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
        # As in the environment, all cells are open again where none is left.
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
        kept = ("hidden_sizes", "activation", "revisit", "recurrent_size", "encoder")
        grid = saved.get("output") == "grid"
        return {
            "shapes": shapes,
            "focus_steps": focus_steps,
            "patch_size": patch_size,
            "actions": f"grid:cells={saved['grid']}" if grid else "continuous",
            "squash": "tanh" if saved.get("output") == "tanh" else "clamp",
            **{name: saved[name] for name in kept if name in saved},
        }
