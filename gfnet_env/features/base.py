"""What serves frozen features to an environment."""

from abc import ABC, abstractmethod
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from gfnet_env.data import ImageSet
from gfnet_env.perception import Features, GlanceFocusNetwork, Step
from gfnet_env.perception.precision import (
    Precision,
    autocast,
    check_precision,
    precision_type,
    with_weights_in,
)

Numbers = npt.NDArray[np.int64]


class FrozenFeatures(ABC):
    """Glances and focuses of a network that does not change, for R rows of one image each.

    Where features come from is up to the classes; what the network makes of them is the same
    everywhere, ``GlanceFocusNetwork.begin`` and ``go_on``, so the classifier may change, unless
    whole steps are kept (``LiveFeatures``).

    Args:
        network: What sees; the features are on its device. Its encoders must not change from here
            on.
        images: The set that the rows' images are of.
        rows: R.
        precision: What the encoders compute in; features are rounded to it, and float32 again.

    Attributes:
        encoding: The network that encodes: ``network``, or a copy that holds its weights in another
            precision.
        image_size: (H, W) of the set's images.

    Raises:
        ValueError: The precision is unknown, or the network is in training mode, in which what an
            image shows hangs on the others of its batch.
    """

    def __init__(
        self,
        network: GlanceFocusNetwork,
        images: ImageSet,
        rows: int,
        *,
        precision: Precision = "float32",
    ) -> None:
        check_precision(precision)
        if network.training:
            raise ValueError("features are those of a network in evaluation mode; call its eval()")
        self.network = network
        self.images = images
        self.precision: Precision = precision
        self.encoding = with_weights_in(network, precision)
        height, width = images[[0]].shape[2:]
        self.image_size = (height, width)
        self._indices = np.full(rows, -1, dtype=np.int64)
        self._is_read = np.zeros(rows, dtype=bool)
        self._pixels = torch.empty(rows, 3, height, width, dtype=torch.uint8, device=network.device)

    def place(self, rows: Numbers, indices: Numbers) -> None:
        """Let rows (S,) be about the images of these indices (S,) from now on."""
        self._indices[rows] = indices
        self._is_read[rows] = False

    def begin(self, rows: Numbers, indices: Numbers) -> Step:
        """``place``, and a glance at these images, S rows."""
        self.place(rows, indices)
        return self._glance(rows)

    @abstractmethod
    def focus(self, rows: Numbers, locations: Tensor, step: Step) -> Step:
        """Look at one patch of the images of some rows.

        Args:
            rows: (S,), none of them twice.
            locations: (S, 2) in [-1, 1].
            step: What is known of those images so far, S rows.

        Returns:
            S rows; their location says where the patches are.
        """

    @abstractmethod
    def glances(self, batch_size: int = 256) -> Iterator[Step]:
        """Glances at all images of the set in order, whatever the rows are about."""

    def snap(self, locations: Tensor) -> Tensor:
        """Where patches that are asked for at locations (S, 2) really are, (S, 2)."""
        return locations

    def pixels(self, rows: Numbers) -> Tensor:
        """The images of some rows, (S, 3, H, W) uint8."""
        self._read(rows)
        return self._pixels.index_select(0, self._on_device(rows))

    @abstractmethod
    def _glance(self, rows: Numbers) -> Step:
        """A glance at the images of some rows."""

    def _read(self, rows: Numbers) -> None:
        """Read the images of some rows, unless they have been read."""
        rows = rows[~self._is_read[rows]]
        if len(rows) == 0:
            return
        pixels = self.images[self._indices[rows]].to(self.network.device)
        if self._are_all(rows):
            self._pixels = pixels.contiguous()
        else:
            self._pixels.index_copy_(0, self._on_device(rows), pixels)
        self._is_read[rows] = True

    def _are_all(self, rows: Numbers) -> bool:
        """Whether these are all rows in order, so that nothing need be picked out."""
        return np.array_equal(rows, np.arange(len(self._indices)))

    def _on_device(self, rows: Numbers) -> Tensor:
        return torch.from_numpy(rows).to(self.network.device)

    def _encode_rows(self, rows: Numbers) -> Features:
        """What the global encoder makes of the images of some rows."""
        self._read(rows)
        return self._encode_glances(self._pixels if self._are_all(rows) else self.pixels(rows))

    def _encode_glances(self, pixels: Tensor) -> Features:
        """What the global encoder makes of images, (B, 3, H, W)."""
        with torch.no_grad(), autocast(self.network.device, self.precision):
            return self._rounded(self.encoding.encode_glances(pixels))

    def _encode_patches(self, pixels: Tensor, locations: Tensor, rows: Tensor) -> Features:
        """What the local encoder makes of patches at locations (S, 2) of rows (S,) of images."""
        with torch.no_grad(), autocast(self.network.device, self.precision):
            return self._rounded(self.encoding.encode_patches(pixels, locations, rows))

    def _rounded(self, features: Features) -> Features:
        # To a type first: autocast leaves some results in float32.
        kept = precision_type(self.precision)
        return Features(features.map.to(kept).float(), features.vector.to(kept).float())
