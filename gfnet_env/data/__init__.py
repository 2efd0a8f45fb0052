"""Where images come from."""

from gfnet_env.data.augmentation import Augmentation, AugmentedImages, augment
from gfnet_env.data.clutter import Clutter, ClutteredScenes
from gfnet_env.data.folder import SPLITS, FolderImages, open_folder
from gfnet_env.data.images import ArrayImages, CentreCrops, ImageSet, Subset
from gfnet_env.data.masks import Masks, object_masks
from gfnet_env.data.options import ReadingOptions
from gfnet_env.data.picture import load_picture
from gfnet_env.data.reading import Batch, batches
from gfnet_env.data.specs import DEFAULT_SPEC, IMAGE_SETS, folder_split_by_seed, load_images

__all__ = [
    "DEFAULT_SPEC",
    "IMAGE_SETS",
    "SPLITS",
    "ArrayImages",
    "Augmentation",
    "AugmentedImages",
    "Batch",
    "CentreCrops",
    "Clutter",
    "ClutteredScenes",
    "FolderImages",
    "ImageSet",
    "Masks",
    "ReadingOptions",
    "Subset",
    "augment",
    "batches",
    "folder_split_by_seed",
    "load_images",
    "load_picture",
    "object_masks",
    "open_folder",
]
