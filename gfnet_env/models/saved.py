"""Networks on disk: configuration as JSON, weights as safetensors."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

import torch
from torch import nn

from gfnet_env import files
from gfnet_env.contracts import explained
from gfnet_env.digest import uncompiled_state
from gfnet_env.hub import Shareable
from gfnet_env.looks import Aspect, Interpolation
from gfnet_env.models.trained_on import TrainingData
from gfnet_env.paths import user_path
from gfnet_env.settings import MOST_CLASSES, AtLeast, AtMost, Settings


@dataclass(frozen=True, kw_only=True)
class SavedConfig(Settings):
    """The common configuration of saved networks; see ``ViewConfig`` for the other fields.

    Attributes:
        encoder: Spec of the encoder, see ``build_encoder``.
        num_classes: K.
        class_names: One name per class, or None.
        trained_on: What the weights were trained on.
    """

    encoder: str
    num_classes: Annotated[int, AtLeast(1), AtMost(MOST_CLASSES)]
    interpolation: Interpolation = "bilinear"
    antialias: bool = True
    aspect: Aspect = "stretch"
    class_names: tuple[str, ...] | None = None
    trained_on: TrainingData = field(default_factory=TrainingData)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.class_names is not None and len(self.class_names) != self.num_classes:
            raise ValueError(
                f"{len(self.class_names)} class names were given for {self.num_classes} classes"
            )

    @classmethod
    def from_json(cls, saved: Mapping[str, Any]) -> Self:
        """Read the result of ``to_json``; version 0.1 called ``trained_on`` ``metadata``.

        Raises:
            TypeError: A field is unknown.
            ValueError: A value is wrong.
        """
        values = dict(saved)
        trained_on = values.pop("trained_on", values.pop("metadata", {}))
        # Unlike in a command's settings, an unknown field is an error: it may come from a later
        # version.
        return cls(**values, trained_on=TrainingData.from_json(trained_on))


class SavedModule(Shareable, nn.Module):
    """A network that is saved together with its configuration."""

    file_name: ClassVar[str]
    config_class: ClassVar[type[SavedConfig]]

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = config

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """One name per class, or None."""
        return self.config.class_names

    @property
    def trained_on(self) -> TrainingData:
        """What its weights were trained on."""
        return self.config.trained_on

    @trained_on.setter
    def trained_on(self, data: TrainingData) -> None:
        self.config = dataclasses.replace(self.config, trained_on=data)

    def check_saveable(self) -> None:
        """Raise ``ValueError`` unless a new network of this configuration has the same tensors."""
        with torch.random.fork_rng(devices=[]):
            new = type(self)(self.config).state_dict()
        own = uncompiled_state(self)
        differing = sorted(
            name
            for name in {*new, *own}
            if name not in new or name not in own or new[name].shape != own[name].shape
        )
        if differing:
            raise ValueError(
                f"the network cannot be saved, since it could not be loaded: {len(differing)} "
                f"tensors are not those of its configuration ({', '.join(differing[:3])}); undo "
                "DataParallel, parametrizations and other changes of its layers first"
            )

    def save(self, folder: str | Path) -> None:
        """Write the weights (safetensors) and the configuration (JSON) into a folder.

        Raises:
            ValueError: A layer was replaced, so that the weights could not be loaded.
        """
        self.check_saveable()
        files.save_module(user_path(folder), self.file_name, self, self.config.to_json())

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Read what ``save`` wrote, onto the CPU and in evaluation mode.

        Raises:
            FileNotFoundError: The folder or one of its files is missing.
            ValueError: A file is damaged, names a part that is not imported, or the weights do not
                fit the configuration.
        """
        folder = user_path(folder)
        config = files.load_config(folder, cls.file_name, cls.config_class)
        with explained(f"the network in {folder / cls.file_name}.json cannot be built"):
            module = cls(config, trusted=False)  # type: ignore[call-arg]
        files.load_weights(folder, cls.file_name, module)
        return module.eval()
