"""Modules on disk: JSON for how to build them, safetensors for what they have learned."""

import dataclasses
from pathlib import Path
from typing import Any, ClassVar, Self

from torch import nn

from gfnet_env import files


class SavedModule(nn.Module):
    """A module that is built from a configuration, a dataclass, and saved together with it."""

    file_name: ClassVar[str]
    config_class: ClassVar[type[Any]]
    config: Any

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = config

    def save(self, folder: str | Path) -> None:
        """Write the weights (safetensors) and the configuration (JSON) into a folder."""
        files.save_module(Path(folder), self.file_name, self, dataclasses.asdict(self.config))

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Read what ``save`` wrote, onto the CPU and in evaluation mode.

        Raises:
            FileNotFoundError: The folder or one of its files is missing.
            ValueError: A file is damaged, or the weights do not fit the configuration.
        """
        config = files.load_dataclass(Path(folder), cls.file_name, cls.config_class)
        module = cls(config)
        files.load_weights(Path(folder), cls.file_name, module)
        return module.eval()
