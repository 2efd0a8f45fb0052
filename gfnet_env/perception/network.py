"""The glance-and-focus network: what sees. Everyone calls its ``glance`` and its ``focus``."""

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self, get_args

import torch
from torch import Tensor

from gfnet_env.perception.classifiers import build_classifier
from gfnet_env.perception.encoders import Features, build_encoder
from gfnet_env.perception.geometry import (
    CornerRounding,
    check_images,
    check_locations,
    check_rounding,
    covered,
    crop_patches,
    patch_corners,
)
from gfnet_env.perception.resize import Interpolation, check_interpolation, resize
from gfnet_env.perception.saved import SavedModule

GlanceLogits = Literal["classifier", "encoder"]


@dataclass(frozen=True)
class Step:
    """What is known of a batch of images after a glance or a focus.

    Attributes:
        feature_map: What the encoder saw last, (B, C, h, w).
        vector: The same after pooling, (B, V).
        glance_map: What it saw at the glance, (B, C, h, w): the only view of the whole image.
        seen: The most that any one patch has covered of each cell of the glance's map, (B, h, w) in
            [0, 1].
        memory: What the classifier remembers, (B, M).
        logits: (B, K).
        location: Where the last patch was, (B, 2) in [-1, 1]; zeros at the glance.
        number: Focus steps taken so far, (B,) int64: a batch may hold images at different steps.
    """

    feature_map: Tensor
    vector: Tensor
    glance_map: Tensor
    seen: Tensor
    memory: Tensor
    logits: Tensor
    location: Tensor
    number: Tensor

    def __len__(self) -> int:
        return len(self.number)

    @property
    def probabilities(self) -> Tensor:
        """Softmax of the logits, (B, K) float32."""
        return self.logits.float().softmax(dim=1)

    @property
    def classes(self) -> Tensor:
        """The most confident class, (B,) int64."""
        return self.logits.argmax(dim=1)

    @property
    def confidence(self) -> Tensor:
        """Probability of the most confident class, (B,): what an exit looks at."""
        return self.probabilities.amax(dim=1)

    def label_confidence(self, labels: Tensor) -> Tensor:
        """Probability of the true class, (B,): what a reward looks at."""
        return self.probabilities.gather(1, labels[:, None]).squeeze(1)

    def select(self, rows: Tensor) -> "Step":
        """The step of some rows only; ``rows`` holds indices or a mask."""
        return Step(*(getattr(self, item.name)[rows] for item in dataclasses.fields(self)))

    def with_rows(self, rows: Tensor, other: "Step") -> "Step":
        """A copy in which ``rows`` (indices) are those of ``other``."""
        names = [item.name for item in dataclasses.fields(self)]
        return Step(*(getattr(self, n).index_put((rows,), getattr(other, n)) for n in names))


@dataclass(frozen=True, kw_only=True)
class NetworkConfig:
    """How to build a network; saved with its weights.

    Attributes:
        encoder: Name of both encoders, see ``build_encoder``.
        patch_size: P, side of the glance and of the patches, in pixels.
        num_classes: K.
        focus_steps: N, most focus steps after the glance (T = 1 + N).
        classifier: Name of the classifier, see ``build_classifier``.
        memory_size: Numbers that the classifier remembers, M, or None for its own choice.
        glance_logits: Whose logits the glance has: the ``classifier``'s, or those of the global
            ``encoder``'s own head; None for what the classifier is made for.
        interpolation: How the glance is resized.
        antialias: Whether the glance is low-pass filtered before it is made smaller.
        align_corners: Whether corner pixels keep their centres in the glance, see ``resize``.
        corner_rounding: From a location to the pixel of the patch's corner.
        class_names: One name per class, or None.
        metadata: Where the weights come from: free-form, JSON.
    """

    encoder: str
    patch_size: int
    num_classes: int
    focus_steps: int = 3
    classifier: str = "recurrent"
    memory_size: int | None = None
    glance_logits: GlanceLogits | None = None
    interpolation: Interpolation = "bilinear"
    antialias: bool = True
    align_corners: bool = False
    corner_rounding: CornerRounding = "nearest"
    class_names: tuple[str, ...] | None = None
    metadata: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("patch_size", "num_classes", "focus_steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        if self.memory_size is not None and self.memory_size < 1:
            raise ValueError(f"memory_size must be at least 1, not {self.memory_size}")
        if self.glance_logits not in (None, *get_args(GlanceLogits)):
            known = " or ".join(get_args(GlanceLogits))
            raise ValueError(f"unknown glance_logits {self.glance_logits!r}: {known}")
        check_interpolation(self.interpolation)
        check_rounding(self.corner_rounding)
        check_class_names(self.class_names, self.num_classes)


def check_class_names(names: tuple[str, ...] | None, num_classes: int) -> None:
    """Raises ``ValueError`` unless every class has a name, or none has."""
    if names is not None and len(names) != num_classes:
        raise ValueError(f"{len(names)} class names were given for {num_classes} classes")


class GlanceFocusNetwork(SavedModule):
    """Two encoders and a classifier: one encoder for glances, one for patches.

    Use ``build`` for a new network and ``load`` for a saved one.

    Args:
        config: How to build it.
        weights: Initial weights of both encoders, see ``TimmEncoder``.

    Raises:
        ValueError: The encoder has no feature map at this patch size, a name is unknown, or the
            classifier has no logits for the glance that is to have them.
    """

    file_name = "network"
    config_class = NetworkConfig
    config: NetworkConfig

    def __init__(self, config: NetworkConfig, weights: str | Path | None = None) -> None:
        super().__init__(config)
        self.global_encoder = build_encoder(config.encoder, config.num_classes, weights)
        self.local_encoder = build_encoder(config.encoder, config.num_classes, weights)
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
    def build(
        cls,
        *,
        encoder: str,
        patch_size: int,
        num_classes: int,
        focus_steps: int = 3,
        classifier: str = "recurrent",
        weights: str | Path | None = None,
        **config: Any,
    ) -> Self:
        """A new network; see ``NetworkConfig`` for the arguments, ``TimmEncoder`` for weights."""
        return cls(
            NetworkConfig(
                encoder=encoder,
                patch_size=patch_size,
                num_classes=num_classes,
                focus_steps=focus_steps,
                classifier=classifier,
                **config,
            ),
            weights,
        )

    @property
    def patch_size(self) -> int:
        """P, in pixels."""
        return self.config.patch_size

    @property
    def num_classes(self) -> int:
        """K."""
        return self.config.num_classes

    @property
    def focus_steps(self) -> int:
        """N, the most focus steps after a glance."""
        return self.config.focus_steps

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    def glance(self, images: Tensor, normalised: bool = False) -> Step:
        """Look at whole images, scaled down to P×P (GFNet, section 3.1).

        Args:
            images: (B, 3, H, W) uint8, H and W at least P.
            normalised: Whether ``images`` are floats instead, normalised as the encoders expect.

        Raises:
            ValueError: The images have another type, shape or size.
        """
        return self.begin(self.encode_glances(images, normalised))

    def focus(
        self,
        images: Tensor,
        locations: Tensor,
        step: Step,
        rows: Tensor | None = None,
        normalised: bool = False,
    ) -> Step:
        """Look at one P×P patch of each image at full resolution (GFNet, section 3.1).

        Args:
            images: (B, 3, H, W) uint8.
            locations: (R, 2) in [-1, 1], (row, column); -1 is flush with the top or left edge.
            step: What is known of the images so far, R rows.
            rows: Which images the R rows of ``locations`` and ``step`` belong to, (R,) int64;
                None for all, R = B. The images themselves are never copied.
            normalised: As at the glance.

        Raises:
            ValueError: Images or locations have another type, shape or range.
        """
        self.check_images(images, normalised)
        check_locations(locations, len(step))
        features = self.encode_patches(images, locations, rows, normalised)
        return self.go_on(features, locations, step, (images.shape[2], images.shape[3]))

    def encode_glances(self, images: Tensor, normalised: bool = False) -> Features:
        """What the global encoder makes of whole images; see ``glance``."""
        self.check_images(images, normalised)
        return self.global_encoder(self.scale_down(images), normalised)

    def encode_patches(
        self,
        images: Tensor,
        locations: Tensor,
        rows: Tensor | None = None,
        normalised: bool = False,
    ) -> Features:
        """What the local encoder makes of a patch at each of R locations; see ``focus``."""
        if rows is None:
            rows = torch.arange(len(images), device=images.device)
        if len(rows) != len(locations):
            raise ValueError(f"{len(rows)} images were given {len(locations)} locations")
        corners = self._corners(locations, (images.shape[2], images.shape[3]))
        return self.local_encoder(crop_patches(images, rows, corners, self.patch_size), normalised)

    def begin(self, features: Features) -> Step:
        """The step of a glance, from what the global encoder made of it.

        Args:
            features: Of B glances, see ``encode_glances``.
        """
        feature_map, vector = features
        # Not len(): an exported graph would keep it for a constant.
        count = vector.shape[0]
        number = torch.zeros(count, dtype=torch.int64, device=vector.device)
        memory = self.classifier.remember(vector, self.classifier.empty_memory(vector), number)
        if self.glance_logits == "encoder":
            logits = self.global_encoder.head(vector)
        else:
            logits = self.classifier.judge(memory, number)
        location = torch.zeros(count, 2, device=vector.device)
        seen = torch.zeros(count, *feature_map.shape[2:], device=vector.device)
        return Step(feature_map, vector, feature_map, seen, memory, logits, location, number)

    def go_on(
        self, features: Features, locations: Tensor, step: Step, image_size: tuple[int, int]
    ) -> Step:
        """The step of a focus, from what the local encoder made of the patches.

        Args:
            features: Of R patches, see ``encode_patches``.
            locations: Where the patches are, (R, 2).
            step: What is known of the images so far, R rows.
            image_size: (H, W).
        """
        feature_map, vector = features
        number = step.number + 1
        memory, logits = self.classifier(vector, step.memory, number)
        height, width = step.seen.shape[1:]
        corners = self._corners(locations, image_size)
        patches = covered(corners, image_size, self.patch_size, (height, width))
        seen = step.seen.maximum(patches)
        location = locations.float()
        return Step(feature_map, vector, step.glance_map, seen, memory, logits, location, number)

    def _corners(self, locations: Tensor, image_size: tuple[int, int]) -> Tensor:
        return patch_corners(locations, image_size, self.patch_size, self.config.corner_rounding)

    def scale_down(self, images: Tensor) -> Tensor:
        """The glance's pixels, (B, 3, P, P), of images (B, 3, H, W); see ``resize``."""
        config = self.config
        return resize(
            images, self.patch_size, config.interpolation, config.antialias, config.align_corners
        )

    def check_images(self, images: Tensor, normalised: bool = False) -> None:
        """Raises ``ValueError`` unless ``images`` are what ``glance`` takes."""
        check_images(images, normalised)
        if min(images.shape[2:]) < self.patch_size:
            height, width = images.shape[2:]
            raise ValueError(
                f"images of {height}×{width} are smaller than the patch of {self.patch_size}×"
                f"{self.patch_size}; enlarge them or build the network with a smaller patch_size"
            )

    def _example_features(self) -> Features:
        """Features of one blank image, which show the sizes of this encoder at this patch size."""
        size = self.patch_size
        try:
            with torch.no_grad():
                features = self.local_encoder.eval()(torch.zeros(1, 3, size, size).byte())
        # Some encoders assert that images have the size that they were made for.
        except (RuntimeError, AssertionError) as error:
            raise ValueError(
                f"encoder {self.config.encoder!r} does not take {size}×{size} images ({error}); "
                "choose another patch_size or encoder"
            ) from error
        finally:
            self.local_encoder.train()
        if features.map.ndim != 4:
            raise ValueError(
                f"encoder {self.config.encoder!r} has no (C, h, w) feature map but one of shape "
                f"{tuple(features.map.shape[1:])}; choose a convolutional network"
            )
        return features
