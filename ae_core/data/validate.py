"""The one gate through which every image passes: what comes out is float32 in [0, 1]."""

import numpy as np
from jaxtyping import Float32, Shaped

from ae_core.errors import DataError


def validate_images(array: Shaped[np.ndarray, "..."], where: str) -> Float32[np.ndarray, "N H W C"]:
    """Return images as float32 in [0, 1] with a channel axis, copied only where something has to change.

    ``array`` is ``[N, H, W]`` or ``[N, H, W, C]``: bool, uint8 (divided by 255) or float in [0, 1]. ``where`` names its
    origin in errors.

    Raises ``DataError`` for another rank or dtype, an empty axis, and NaN, infinite or out-of-range values.
    """
    if array.ndim not in (3, 4):
        raise DataError(f"{where}: shape is {array.shape}, images must be [N, H, W] or [N, H, W, C]")
    if array.size == 0:
        raise DataError(f"{where}: shape is {array.shape}, there must be at least one image of at least 1×1×1")
    if array.ndim == 3:
        array = array[..., None]
    if array.dtype == np.uint8:
        images = np.empty(array.shape, np.float32)
        np.divide(array, np.float32(255), out=images)
        return images
    if array.dtype == np.bool_:
        return array.astype(np.float32, order="C")
    if array.dtype.kind != "f":
        raise DataError(f"{where}: dtype is {array.dtype}, images must be bool, uint8, or float in [0, 1]")
    with np.errstate(over="ignore", invalid="ignore"):
        images = np.ascontiguousarray(array, np.float32)
        # Both comparisons are false for NaN, which minimum and maximum pass on.
        if not (images.min() >= 0 and images.max() <= 1):
            raise DataError(_out_of_range(images, where))
    return images


def _out_of_range(images: Float32[np.ndarray, "N H W C"], where: str) -> str:
    """Name the first image that is not in [0, 1], and say what is wrong with it."""
    inside = (images >= 0) & (images <= 1)
    first = int(inside.all(axis=(1, 2, 3)).argmin())
    image = images[first]
    if np.isnan(image).any():
        found = "holds NaN"
    elif np.isinf(image).any():
        found = "holds infinity"
    else:
        found = f"ranges from {image.min():g} to {image.max():g}"
    return f"{where}: image {first} {found}, float images must be in [0, 1] (uint8 ones are divided by 255)"
