"""GFNet: an encoder for overviews, an encoder for windows, and a classifier over their vectors."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

import torch
from torch import Tensor, nn

from gfnet_env.classifiers import build_classifier, place
from gfnet_env.encoders import Features, build_encoder, example_features
from gfnet_env.looks import CornerRounding, Look, ViewConfig
from gfnet_env.models.base import State, check_views
from gfnet_env.models.cost import step_multiply_adds
from gfnet_env.models.saved import SavedConfig, SavedModule
from gfnet_env.models.where import WhereMap
from gfnet_env.settings import Above, AtLeast, AtMost

GlanceLogits = Literal["classifier", "encoder"]

NO_WHERE_MAP = (
    "the network has no where-map; train one with --windows mined, or build it with where_scales"
)


@dataclass(frozen=True, kw_only=True)
class GFNetState(State):
    """What a GFNet knows about B pictures.

    Attributes:
        feature_map: Feature map of the last view, (B, C, h, w); zeros at the glance if the glance's
            map has another shape.
        vector: Feature vector of the last view, (B, V).
        glance_map: Feature map of the glance, (B, C', h', w'): the only view of the whole picture.
        seen: Largest share of each cell of the glance map that a single window has covered, (B, h',
            w') in [0, 1].
        memory: Memory of the classifier, (B, M).
        heat: The where-map without the windows that were looked at, (B, S, h', w'), see
            ``WhereMap``; None in a network without a where-map.
        peak_location: Location of the best window by that map, (B, 2).
        peak_scale: Scale of the best window by that map, (B,).
    """

    feature_map: Tensor
    vector: Tensor
    glance_map: Tensor
    seen: Tensor
    memory: Tensor
    heat: Tensor | None = None
    peak_location: Tensor | None = None
    peak_scale: Tensor | None = None


@dataclass(frozen=True, kw_only=True)
class NetworkConfig(SavedConfig):
    """How to build a network.

    Attributes:
        patch_size: P, side of windows, in pixels.
        glance_size: Side of overviews, in pixels; None means P.
        glance_encoder: Spec of the encoder of overviews; None builds a second ``encoder``.
        where_scales: Scales of windows that the where-map rates, see ``WhereMap``; none for no map.
        focus_steps: N, maximum number of looks after the glance (T = 1 + N).
        classifier: Spec of the classifier, see ``build_classifier``.
        memory_size: M, size of the classifier's memory; None lets the classifier choose.
        glance_logits: What classifies after the glance: the ``classifier``, or the global
            ``encoder``'s own head; None lets the classifier choose.
        align_corners: See ``ViewConfig``.
        corner_rounding: See ``ViewConfig.rounding``.
        temperatures: What the logits of each step are divided by, glance first; steps behind the
            last one have its temperature, and without any nothing is divided (Guo et al., 2017).
    """

    patch_size: Annotated[int, AtLeast(1), AtMost(10_000)]
    glance_size: Annotated[int | None, AtLeast(1), AtMost(10_000)] = None
    glance_encoder: str | None = None
    where_scales: Annotated[tuple[float, ...], AtLeast(1)] = ()
    focus_steps: Annotated[int, AtLeast(1), AtMost(1000)] = 3
    classifier: str = "recurrent"
    memory_size: Annotated[int | None, AtLeast(1), AtMost(10_000)] = None
    glance_logits: GlanceLogits | None = None
    align_corners: bool = False
    corner_rounding: CornerRounding = "nearest"
    temperatures: tuple[Annotated[float, Above(0)], ...] = ()

    @property
    def spec_of_glances(self) -> str:
        """Spec of the encoder of overviews."""
        return self.glance_encoder or self.encoder

    @property
    def view(self) -> ViewConfig:
        """How windows are made."""
        return ViewConfig(
            size=self.patch_size,
            interpolation=self.interpolation,
            antialias=self.antialias,
            align_corners=self.align_corners,
            aspect=self.aspect,
            rounding=self.corner_rounding,
        )

    @property
    def glance_view(self) -> ViewConfig:
        """How overviews are made."""
        return dataclasses.replace(self.view, size=self.glance_size or self.patch_size)


class GlanceFocusNetwork(SavedModule):
    """GFNet (section 3.1), two encoders and a classifier: a ``Model``.

    Use ``build`` for a new network and ``load`` for a saved one.

    Args:
        config: How to build it.
        weights: Initial weights of both encoders, see ``TimmEncoder``.
        trusted: Whether the specs may import a module, see ``Registry.build``.

    Raises:
        FileNotFoundError: There is no such file of weights.
        ValueError: A spec is wrong, the encoder has no feature map at this patch size, or the
            classifier should classify after the glance but cannot.
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
        self.view, self.glance_view = config.view, config.glance_view
        self.num_classes, self.focus_steps = config.num_classes, config.focus_steps
        self.global_encoder, self.local_encoder = (
            build_encoder(spec, config.num_classes, weights, patch_size=size, trusted=trusted)
            for spec, size in (
                (config.spec_of_glances, self.glance_view.size),
                (config.encoder, self.view.size),
            )
        )
        example = example_features(
            self.local_encoder, self.view.size, config.num_classes, config.encoder
        )
        _, depth, height, width = example.map.shape
        self.feature_shape = (depth, height, width)
        self.vector_size = example.vector.shape[1]
        self._build_glance_parts()
        self.classifier = build_classifier(
            config.classifier,
            self.vector_size,
            config.num_classes,
            config.focus_steps,
            config.memory_size,
            trusted=trusted,
        )
        self.memory_size = self.classifier.memory_size
        self.glance_logits = self._choose_glance_logits()
        # In any other memory layout, depthwise convolutions train half as fast.
        self.to(memory_format=torch.channels_last)

    def _build_glance_parts(self) -> None:
        """Build what follows the global encoder: the bridge and the where-map, if needed."""
        config = self.config
        spec, size = config.spec_of_glances, self.glance_view.size
        glance = example_features(self.global_encoder, size, config.num_classes, spec)
        # Maps a glance's vector from another encoder to the size of the windows' vectors.
        sizes = glance.vector.shape[1], self.vector_size
        self.bridge = None if sizes[0] == sizes[1] else nn.Linear(*sizes)
        if self.bridge is not None:
            # Zero until it has learned something.
            nn.init.zeros_(self.bridge.weight)
            nn.init.zeros_(self.bridge.bias)
        self.where = None
        if config.where_scales:
            channels = glance.map.shape[1]
            views = self.view, self.glance_view
            self.where = WhereMap(config.num_classes, channels, config.where_scales, *views)

    def _choose_glance_logits(self) -> GlanceLogits:
        """Who classifies after the glance."""
        chosen, judges = self.config.glance_logits, self.classifier.judges_glance
        if chosen == "classifier" and not judges:
            raise ValueError(
                f"the classifier {self.config.classifier!r} has no logits for a glance; "
                "set glance_logits to 'encoder'"
            )
        return chosen or ("classifier" if judges else "encoder")

    @classmethod
    def build(cls, *, weights: str | Path | None = None, **config: Any) -> Self:
        """A new network; ``NetworkConfig`` describes the arguments, ``TimmEncoder`` the weights."""
        return cls(NetworkConfig(**config), weights)

    @property
    def patch_size(self) -> int:
        """P, in pixels."""
        return self.config.patch_size

    def set_focus_steps(self, focus_steps: int) -> None:
        """Set N, the most looks: a classifier over sets takes more than it was trained with.

        Raises:
            ValueError: N is below 1, or the classifier was built for another number.
        """
        if focus_steps != self.focus_steps and not self.classifier.over_sets:
            raise ValueError(
                f"the classifier {self.config.classifier!r} was trained with {self.focus_steps} "
                "looks and takes no other number; evidence and attention do"
            )
        self.config = dataclasses.replace(self.config, focus_steps=focus_steps)
        self.focus_steps = focus_steps

    def set_temperatures(self, temperatures: Sequence[float]) -> None:
        """Set what the logits of each step are divided by, see ``NetworkConfig``.

        Raises:
            ValueError: One is not positive.
        """
        self.config = dataclasses.replace(self.config, temperatures=tuple(temperatures))

    def encode_overview(self, views: Tensor, normalised: bool = False) -> Features:
        check_views(views, self.glance_view)
        return self.global_encoder(views, normalised)

    def encode_window(self, views: Tensor, normalised: bool = False) -> Features:
        check_views(views, self.view)
        return self.local_encoder(views, normalised)

    def begin(self, features: Features, sizes: Tensor) -> GFNetState:
        feature_map, vector = features
        # Not len(), which would become a constant in an exported graph.
        count = vector.shape[0]
        number = torch.zeros(count, dtype=torch.int64, device=vector.device)
        nowhere = Look.at(torch.zeros(count, 2, dtype=torch.float32, device=vector.device))
        seen_as = vector if self.bridge is None else self.bridge(vector)
        placed = self._placed(seen_as, nowhere)
        memory = self.classifier.remember(placed, self.classifier.empty_memory(vector), number)
        if self.glance_logits == "encoder":
            logits = self.global_encoder.head(vector)
        else:
            logits = self.classifier.judge(memory, number)
        state = GFNetState(
            logits=self._tempered(logits, number),
            number=number,
            location=nowhere.location,
            scale=nowhere.scale,
            size=sizes,
            feature_map=feature_map
            if feature_map.shape[1:] == self.feature_shape
            else feature_map.new_zeros(count, *self.feature_shape),
            vector=seen_as,
            # In the memory layout that every observation uses.
            glance_map=feature_map.contiguous(),
            seen=nowhere.location.new_zeros(count, *feature_map.shape[2:]),
            memory=memory,
        )
        if self.where is None:
            return state
        return self._rated(state, self.where(feature_map, sizes))

    def look(self, features: Features, looks: Look, state: State) -> GFNetState:
        assert isinstance(state, GFNetState)
        feature_map, vector = features
        number = state.number + 1
        placed = self._placed(vector, looks)
        memory, logits = self.classifier(placed, state.memory, number)
        height, width = state.seen.shape[1:]
        boxes = self.view.window_boxes(looks, state.size)
        covered = self.glance_view.covered(boxes, state.size, (height, width))
        after = dataclasses.replace(
            state,
            logits=self._tempered(logits, number),
            number=number,
            location=looks.location.float(),
            scale=looks.scale.float(),
            feature_map=feature_map,
            vector=vector,
            seen=state.seen.maximum(covered),
            memory=memory,
        )
        if self.where is None or state.heat is None:
            return after
        return self._rated(after, self.where.inhibited(state.heat, boxes, looks, state.size))

    def _tempered(self, logits: Tensor, number: Tensor) -> Tensor:
        """Logits (B, K) at steps (B,), divided by their temperatures."""
        known = self.config.temperatures
        if not known:
            return logits
        return logits / logits.new_tensor(known)[number.clamp(max=len(known) - 1), None]

    def _placed(self, vector: Tensor, looks: Look) -> Tensor:
        """A vector in the form that the classifier takes."""
        if not self.classifier.sees_places:
            return vector
        return torch.cat([vector, place(looks.location, looks.scale)], dim=1)

    def _rated(self, state: GFNetState, heat: Tensor) -> GFNetState:
        """Add a where-map and its peak to a state."""
        assert self.where is not None
        peak = self.where.peaks(heat, state.size)
        return dataclasses.replace(
            state, heat=heat, peak_location=peak.location, peak_scale=peak.scale
        )

    def own_logits(self, state: GFNetState) -> Tensor | None:
        """Logits of the last view alone, (B, K); all rows are at one step.

        None at a glance whose logits are already computed from that view alone.
        """
        if int(state.number[0]) > 0:
            return self.window_logits(state.vector, Look.at(state.location, state.scale))
        if self.glance_logits == "encoder" or self.classifier.over_sets or self.bridge is not None:
            return None
        return self.global_encoder.head(state.vector)

    def window_logits(self, vector: Tensor, looks: Look) -> Tensor:
        """Logits (B, K) of windows alone, by a classifier over sets or else by the encoder's head.

        Args:
            vector: Feature vectors, (B, V).
            looks: Looks that showed the windows.
        """
        if not self.classifier.over_sets:
            return self.local_encoder.head(vector)
        return self.classifier.judge_alone(self._placed(vector, looks))

    def multiply_adds(self) -> list[int]:
        return step_multiply_adds(self)


def peak_of(state: State) -> Look:
    """The best window of each picture by the where-map, without windows already looked at.

    Raises:
        ValueError: The model has no where-map.
    """
    if not isinstance(state, GFNetState) or state.peak_location is None:
        raise ValueError(NO_WHERE_MAP)
    return Look.at(state.peak_location, state.peak_scale)
