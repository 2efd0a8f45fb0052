"""Where images come from."""

from gfnet_env.data.clutter import Clutter, ClutteredScenes
from gfnet_env.data.folder import FolderImages, open_folder
from gfnet_env.data.images import (
    ArrayImages,
    Batch,
    CentreCrops,
    ImageSet,
    Subset,
    batches,
)
from gfnet_env.data.picture import load_picture
from gfnet_env.data.specs import DEFAULT_SPEC, IMAGE_SETS, load_images

__all__ = [
    "DEFAULT_SPEC",
    "IMAGE_SETS",
    "ArrayImages",
    "Batch",
    "CentreCrops",
    "Clutter",
    "ClutteredScenes",
    "FolderImages",
    "ImageSet",
    "Subset",
    "batches",
    "load_images",
    "load_picture",
    "open_folder",
]
