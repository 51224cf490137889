"""Images brought to the shape that a spec wants, in the one way that the user allowed."""

import numpy as np
from jaxtyping import Float32

from ae_core.data.dataset import DataOptions, Shape
from ae_core.errors import DataError

_LUMA = (0.299, 0.587, 0.114)


def adapt_images(
    images: Float32[np.ndarray, "N h w c"], shape: Shape, options: DataOptions, where: str
) -> Float32[np.ndarray, "N H W C"]:
    """Return images of exactly ``shape`` = (H, W, C); those that have it already are returned as they are.

    ``options.channels`` = gray takes the luma 0.299 R + 0.587 G + 0.114 B (ITU-R BT.601), rgb repeats gray.
    ``options.adapt`` = pad centres in zeros, resize stretches, bilinear and antialiased where it shrinks.

    Raises ``DataError`` that names both shapes and the option that would bring one to the other.
    """
    images = _adapt_channels(images, shape, options, where)
    if images.shape[1:3] == shape[:2]:
        return images
    if options.adapt == "pad":
        return _pad(images, shape, where)
    if options.adapt == "resize":
        return _resize(images, shape)
    grows = images.shape[1] <= shape[0] and images.shape[2] <= shape[1]
    remedy = "--adapt pad or --adapt resize" if grows else "--adapt resize"
    raise DataError(f"{where}: images are {_text(images.shape[1:])}, the spec wants {_text(shape)}: use {remedy}")


def _adapt_channels(
    images: Float32[np.ndarray, "N h w c"], shape: Shape, options: DataOptions, where: str
) -> Float32[np.ndarray, "N h w C"]:
    given, wanted = images.shape[3], shape[2]
    if given == wanted:
        return images
    if (given, wanted) == (3, 1) and options.channels == "gray":
        luma = sum(weight * images[..., [channel]] for channel, weight in enumerate(_LUMA))
        return np.minimum(luma, np.float32(1))
    if (given, wanted) == (1, 3) and options.channels == "rgb":
        return np.repeat(images, 3, axis=3)
    ways = {(3, 1): "use --channels gray", (1, 3): "use --channels rgb"}
    remedy = ways.get((given, wanted), "only 3 channels become 1, or 1 becomes 3")
    raise DataError(f"{where}: images are {_text(images.shape[1:])}, the spec wants {_text(shape)}: {remedy}")


def _pad(images: Float32[np.ndarray, "N h w C"], shape: Shape, where: str) -> Float32[np.ndarray, "N H W C"]:
    down, right = shape[0] - images.shape[1], shape[1] - images.shape[2]
    if down < 0 or right < 0:
        given = _text(images.shape[1:])
        raise DataError(f"{where}: images are {given}, too large to pad to {_text(shape)}: use --adapt resize")
    top, left = down // 2, right // 2
    return np.pad(images, ((0, 0), (top, down - top), (left, right - left), (0, 0)))


def _resize(images: Float32[np.ndarray, "N h w C"], shape: Shape) -> Float32[np.ndarray, "N H W C"]:
    from PIL import Image

    height, width, channels = shape
    result = np.empty((len(images), *shape), np.float32)
    for image, out in zip(images, result, strict=True):
        for channel in range(channels):
            plane = Image.fromarray(np.ascontiguousarray(image[..., channel]))
            out[..., channel] = np.asarray(plane.resize((width, height), Image.Resampling.BILINEAR))
    # A weighted mean of values in [0, 1] may leave it by a rounding.
    return np.clip(result, 0, 1, out=result)


def _text(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape))
