"""The features extractor of observations for stable-baselines3's networks."""

from typing import Any

from gymnasium import spaces
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import Tensor

from gfnet_env.observations import FlatView
from gfnet_env.policies import ObservationEncoder


class ObservationExtractor(BaseFeaturesExtractor):
    """``ObservationEncoder`` as stable-baselines3's features extractor.

    Args:
        observation_space: Observation space of the environment.
        view: Splits observations that are vectors; None if observations are dicts.
        options: Arguments of the encoder that replace its defaults.

    Attributes:
        shapes: Shape of each part of an observation, by key.
        options: All arguments of the encoder but the shapes.
    """

    def __init__(
        self, observation_space: spaces.Space[Any], view: FlatView | None = None, **options: Any
    ) -> None:
        parts = observation_space if view is None else view.parts
        assert isinstance(parts, spaces.Dict)
        shapes = {key: part.shape or () for key, part in parts.items()}
        encoder = ObservationEncoder(shapes, **options)
        super().__init__(observation_space, encoder.output_size)
        self.encoder, self.shapes, self.options = encoder, shapes, encoder.options
        self._view = view

    def forward(self, observations: Any) -> Tensor:
        return self.encoder(observations if self._view is None else self._view.split(observations))
