"""What stable-baselines3's networks see of an observation."""

from typing import Any

from gymnasium import spaces
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import Tensor

from gfnet_env.env.observation import FlatView
from gfnet_env.policies import ObservationEncoder


class ObservationExtractor(BaseFeaturesExtractor):
    """``ObservationEncoder`` as stable-baselines3's features extractor.

    Args:
        observation_space: Of the environment.
        view: What observations are to be split by where they are vectors; None where they are
            dicts.
        options: Arguments of the encoder in place of its defaults.

    Attributes:
        encoder: The encoder.
        arguments: What ``LearnedPolicy`` takes to have the same one.
    """

    def __init__(
        self, observation_space: spaces.Space[Any], view: FlatView | None = None, **options: Any
    ) -> None:
        parts = observation_space if view is None else view.parts
        assert isinstance(parts, spaces.Dict)
        depth, height, width = parts["features"].shape or ()
        (memory_size,) = parts["memory"].shape or ()
        encoder = ObservationEncoder((depth, height, width), memory_size, **options)
        super().__init__(observation_space, encoder.output_size)
        self.encoder = encoder
        self.arguments: dict[str, Any] = {
            "feature_shape": (depth, height, width),
            "memory_size": memory_size,
            "encoder": options,
        }
        self._view = view

    def forward(self, observations: Any) -> Tensor:
        return self.encoder(observations if self._view is None else self._view.split(observations))
