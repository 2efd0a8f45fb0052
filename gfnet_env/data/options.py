"""How images are read, as options that every command shares."""

from dataclasses import dataclass
from pathlib import Path

from gfnet_env.data.images import ImageSet
from gfnet_env.data.specs import load_images


@dataclass(frozen=True, kw_only=True)
class ReadingOptions:
    """How images are read, whichever they are."""

    data_root: Path = Path("data")
    """Folder of downloaded data sets, and that they are downloaded to."""
    workers: int = 4
    """Threads that decode pictures; with 0 the thread that reads decodes."""
    memory_gib: float = 1.0
    """GiB that a split's decoded pictures may take; where they would take more, they are decoded
    every time."""

    def load(self, spec: str, split: str, *, image_size: int, seed: int) -> ImageSet:
        """``load_images`` with these options."""
        return load_images(
            spec,
            split,
            image_size=image_size,
            seed=seed,
            data_root=self.data_root,
            workers=self.workers,
            memory_limit=round(self.memory_gib * 2**30),
        )
