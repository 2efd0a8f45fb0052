"""GFNet: an encoder for overviews, one for windows, and a classifier over what they saw."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

import torch
from torch import Tensor

from gfnet_env.classifiers import build_classifier
from gfnet_env.encoders import Features, build_encoder
from gfnet_env.looks import CornerRounding, Look, ViewConfig
from gfnet_env.models.base import State, check_views
from gfnet_env.models.cost import step_multiply_adds
from gfnet_env.models.saved import SavedConfig, SavedModule
from gfnet_env.settings import AtLeast

GlanceLogits = Literal["classifier", "encoder"]


@dataclass(frozen=True, kw_only=True)
class GFNetState(State):
    """What a GFNet knows of B pictures.

    Attributes:
        feature_map: Of the last view, (B, C, h, w).
        vector: Of the last view, (B, V).
        glance_map: Feature map of the glance, (B, C, h, w): the only view of the whole picture.
        seen: Greatest share of each cell of that map that one window has covered, (B, h, w) in
            [0, 1].
        memory: Of the classifier, (B, M).
    """

    feature_map: Tensor
    vector: Tensor
    glance_map: Tensor
    seen: Tensor
    memory: Tensor


@dataclass(frozen=True, kw_only=True)
class NetworkConfig(SavedConfig):
    """How to build a network.

    Attributes:
        patch_size: P, side of all views, in pixels.
        focus_steps: N, most looks after the glance (T = 1 + N).
        classifier: Spec of the classifier, see ``build_classifier``.
        memory_size: M, numbers that the classifier remembers; None for its own choice.
        glance_logits: Who classifies after the glance: the ``classifier``, or the global
            ``encoder``'s own head; None for the classifier's own choice.
        align_corners: See ``ViewConfig``.
        corner_rounding: See ``ViewConfig.rounding``.
    """

    patch_size: Annotated[int, AtLeast(1)]
    focus_steps: Annotated[int, AtLeast(1)] = 3
    classifier: str = "recurrent"
    memory_size: Annotated[int | None, AtLeast(1)] = None
    glance_logits: GlanceLogits | None = None
    align_corners: bool = False
    corner_rounding: CornerRounding = "nearest"

    @property
    def view(self) -> ViewConfig:
        """How views are made."""
        return ViewConfig(
            size=self.patch_size,
            interpolation=self.interpolation,
            antialias=self.antialias,
            align_corners=self.align_corners,
            aspect=self.aspect,
            rounding=self.corner_rounding,
        )


class GlanceFocusNetwork(SavedModule):
    """GFNet (section 3.1), two encoders and a classifier: a ``Model``.

    Use ``build`` for a new network and ``load`` for a saved one.

    Args:
        config: How to build it.
        weights: Initial weights of both encoders, see ``TimmEncoder``.
        trusted: Whether specs may import a module, see ``Registry.build``.

    Raises:
        FileNotFoundError: There is no such file of weights.
        ValueError: A spec is wrong, the encoder has no feature map at this patch size, or the
            classifier has no logits of the glance and should.
    """

    # What features depend on.
    encoder_modules: ClassVar = ("global_encoder", "local_encoder")
    file_name = "network"
    config_class = NetworkConfig
    config: NetworkConfig

    def __init__(
        self, config: NetworkConfig, weights: str | Path | None = None, *, trusted: bool = True
    ) -> None:
        super().__init__(config)
        self.view = config.view
        self.num_classes, self.focus_steps = config.num_classes, config.focus_steps
        self.global_encoder, self.local_encoder = (
            build_encoder(
                config.encoder,
                config.num_classes,
                weights,
                patch_size=config.patch_size,
                trusted=trusted,
            )
            for _ in range(2)
        )
        example = self._example_features()
        _, depth, height, width = example.map.shape
        self.feature_shape = (depth, height, width)
        self.vector_size = example.vector.shape[1]
        self.classifier = build_classifier(
            config.classifier,
            self.vector_size,
            config.num_classes,
            config.focus_steps,
            config.memory_size,
            trusted=trusted,
        )
        self.memory_size = self.classifier.memory_size
        if config.glance_logits == "classifier" and not self.classifier.judges_glance:
            raise ValueError(
                f"the classifier {config.classifier!r} has no logits of a glance; "
                "set glance_logits to 'encoder'"
            )
        self.glance_logits: GlanceLogits = config.glance_logits or (
            "classifier" if self.classifier.judges_glance else "encoder"
        )
        # Depthwise convolutions train half as fast in any other layout.
        self.to(memory_format=torch.channels_last)

    @classmethod
    def build(cls, *, weights: str | Path | None = None, **config: Any) -> Self:
        """A new network; see ``NetworkConfig`` for the arguments, ``TimmEncoder`` for weights."""
        return cls(NetworkConfig(**config), weights)

    @property
    def patch_size(self) -> int:
        """P, in pixels."""
        return self.config.patch_size

    def encode_overview(self, views: Tensor, normalised: bool = False) -> Features:
        check_views(views, self.view)
        return self.global_encoder(views, normalised)

    def encode_window(self, views: Tensor, normalised: bool = False) -> Features:
        check_views(views, self.view)
        return self.local_encoder(views, normalised)

    def begin(self, features: Features, sizes: Tensor) -> GFNetState:
        feature_map, vector = features
        # Not len(): an exported graph would keep it for a constant.
        count = vector.shape[0]
        number = torch.zeros(count, dtype=torch.int64, device=vector.device)
        memory = self.classifier.remember(vector, self.classifier.empty_memory(vector), number)
        if self.glance_logits == "encoder":
            logits = self.global_encoder.head(vector)
        else:
            logits = self.classifier.judge(memory, number)
        return GFNetState(
            logits=logits,
            number=number,
            location=torch.zeros(count, 2, device=vector.device),
            scale=torch.ones(count, device=vector.device),
            size=sizes,
            feature_map=feature_map,
            vector=vector,
            # In the layout that every observation shows it in.
            glance_map=feature_map.contiguous(),
            seen=torch.zeros(count, *feature_map.shape[2:], device=vector.device),
            memory=memory,
        )

    def look(self, features: Features, looks: Look, state: State) -> GFNetState:
        assert isinstance(state, GFNetState)
        feature_map, vector = features
        number = state.number + 1
        memory, logits = self.classifier(vector, state.memory, number)
        height, width = state.seen.shape[1:]
        boxes = self.view.window_boxes(looks, state.size)
        covered = self.view.covered(boxes, state.size, (height, width))
        return dataclasses.replace(
            state,
            logits=logits,
            number=number,
            location=looks.location.float(),
            scale=looks.scale.float(),
            feature_map=feature_map,
            vector=vector,
            seen=state.seen.maximum(covered),
            memory=memory,
        )

    def own_logits(self, state: GFNetState) -> Tensor | None:
        """Logits of the last view by its encoder's own head, (B, K); all rows are at one step.

        None at a glance whose logits are these already.
        """
        if int(state.number[0]) > 0:
            return self.local_encoder.head(state.vector)
        if self.glance_logits == "encoder":
            return None
        return self.global_encoder.head(state.vector)

    def multiply_adds(self) -> list[int]:
        return step_multiply_adds(self)

    def _example_features(self) -> Features:
        """Features of one black view, for their shapes."""
        spec, size = self.config.encoder, self.config.patch_size
        try:
            with torch.no_grad():
                features = self.local_encoder.eval()(torch.zeros(1, 3, size, size).byte())
        # Some encoders assert that views have the size they were made for.
        except (RuntimeError, AssertionError) as error:
            raise ValueError(
                f"encoder {spec!r} does not take {size}×{size} views ({error}); choose another "
                "patch_size or encoder"
            ) from error
        finally:
            self.local_encoder.train()
        if features.map.ndim != 4:
            raise ValueError(
                f"encoder {spec!r} has no (C, h, w) feature map but one of shape "
                f"{tuple(features.map.shape[1:])}; choose another network"
            )
        return features
