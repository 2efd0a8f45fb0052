"""How images are read, as options that every command shares."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from gfnet_env.images.base import ImageSet
from gfnet_env.images.picture import Fit
from gfnet_env.images.registry import load_images
from gfnet_env.settings import AtLeast, Settings


@dataclass(frozen=True, kw_only=True)
class ReadingOptions(Settings):
    """How images are read, whichever they are."""

    data_root: Path = Path("data")
    """Folder of downloaded data sets, and that they are downloaded to."""
    workers: Annotated[int, AtLeast(0)] = 4
    """Threads that decode pictures; with 0 the thread that reads decodes."""
    memory_gib: Annotated[float, AtLeast(0)] = 1.0
    """GiB that a split's decoded pictures may take; what does not fit is decoded every time."""

    def load(
        self,
        spec: str,
        split: str,
        *,
        image_size: int,
        seed: int,
        fit: Fit | None = None,
        crop: float = 1,
        trusted: bool = True,
    ) -> ImageSet:
        """``load_images`` with these options."""
        return load_images(
            spec,
            split,
            image_size=image_size,
            seed=seed,
            data_root=self.data_root,
            workers=self.workers,
            memory_limit=round(self.memory_gib * 2**30),
            fit=fit,
            crop=crop,
            trusted=trusted,
        )
