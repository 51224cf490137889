"""Where a convolution's pixels go: explicit padding for both conventions, the same numbers for both twins.

A strided convolution takes n pixels to n/stride (strides divide, the spec sees to it). The decoder's transposed
convolution is its adjoint: it takes n to n·stride with the same two numbers, so one rule serves both.
"""

from ae_core.spec.backbone import Padding


def pads(kernel: int, stride: int, padding: Padding) -> tuple[int, int]:
    """Return the pixels added before and after each axis of a convolution's input.

    ``same`` is TensorFlow's rule where the stride divides: max(kernel − stride, 0) in all, the smaller half first.
    ``torch`` is (kernel − 1)/2 on both sides, and the last stride − 1 pixels may then go unread.

    >>> pads(3, 2, "same"), pads(3, 2, "torch")
    ((0, 1), (1, 1))
    """
    if padding == "torch":
        return (kernel - 1) // 2, (kernel - 1) // 2
    total = max(kernel - stride, 0)
    return total // 2, total - total // 2


def crops(kernel: int, stride: int, padding: Padding) -> tuple[int, int]:
    """Return the pixels cut off before and after each axis of a transposed convolution's full output.

    The full output of n pixels has (n − 1)·stride + kernel of them, and n·stride are wanted; a negative number adds
    pixels instead ("output padding").

    >>> crops(3, 2, "same"), crops(3, 2, "torch"), crops(2, 3, "same")
    ((0, 1), (1, 0), (0, -1))
    """
    before, _ = pads(kernel, stride, padding)
    return before, kernel - stride - before
