"""Image sets: where the pictures come from."""

from gfnet_env.images.array import ArrayImages
from gfnet_env.images.augmentation import Augmentation, augment
from gfnet_env.images.base import ImageSet
from gfnet_env.images.cluttered import Clutter, ClutteredScenes
from gfnet_env.images.dataset import DatasetImages, as_image_set
from gfnet_env.images.folder import FolderImages, folder_split_by_seed, open_folder
from gfnet_env.images.masks import Masks, object_masks
from gfnet_env.images.megapixel_mnist import MegapixelMNIST
from gfnet_env.images.picture import Fit, load_picture
from gfnet_env.images.pictures import PictureImages
from gfnet_env.images.published import PUBLISHED
from gfnet_env.images.reading import Batch, batches
from gfnet_env.images.registry import (
    DEFAULT_SPEC,
    IMAGES,
    SPLITS,
    ReadingOptions,
    check_splits,
    load_images,
)
from gfnet_env.images.subset import Subset

__all__ = [
    "DEFAULT_SPEC",
    "IMAGES",
    "PUBLISHED",
    "SPLITS",
    "ArrayImages",
    "Augmentation",
    "Batch",
    "Clutter",
    "ClutteredScenes",
    "DatasetImages",
    "Fit",
    "FolderImages",
    "ImageSet",
    "Masks",
    "MegapixelMNIST",
    "PictureImages",
    "ReadingOptions",
    "Subset",
    "as_image_set",
    "augment",
    "batches",
    "check_splits",
    "folder_split_by_seed",
    "load_images",
    "load_picture",
    "object_masks",
    "open_folder",
]
