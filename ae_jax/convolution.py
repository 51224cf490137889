"""Strided convolutions and their transposes, with gradients that XLA runs fast on a CPU.

XLA's CPU backend has one fast convolution: images NHWC, kernel HWIO. The gradients that JAX derives by itself are laid
out otherwise and fall back to plain loops inside ``scan``, one to two orders of magnitude slower. Here the forward
pass and both gradients are each written as a convolution in the fast layout:

    y[b, p, o]  = Σ_{t, i} x[b, s·p + t − before, i] · w[t, i, o]          `_forward`
    dx          = dy, spread out by the stride, with w flipped             `_input_gradient`
    dw          = x, with batch and channels exchanged, with dy as kernel  `_weight_gradient`

A transposed convolution is the adjoint of a convolution, so the same three serve it in another order. Elsewhere than
on a CPU the plain form, whose gradients are JAX's own, is used.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

Wide = Float[Array, "B H W I"]
"""What goes into a convolution, or comes out of a transposed one."""
Narrow = Float[Array, "B h w O"]
"""What comes out of a convolution, or goes into a transposed one."""
Kernel = Float[Array, "K K I O"]
Pads = tuple[int, int]

_LAYOUT = ("NHWC", "HWIO", "NHWC")


def convolution(x: Wide, kernel: Kernel, stride: int, pads: Pads) -> Narrow:
    """Convolve NHWC images with an HWIO kernel; ``pads`` go before and after both axes."""
    if jax.default_backend() == "cpu":
        return _convolution(x, kernel, stride, pads)
    return _forward(x, kernel, stride, pads)


def transposed_convolution(x: Narrow, kernel: Kernel, stride: int, crops: Pads) -> Wide:
    """Apply the adjoint of a convolution with an HWIO ``kernel`` (I are the channels that come out here).

    ``crops`` pixels are cut off before and after both axes of the full output; a negative number adds some.
    """
    if jax.default_backend() == "cpu":
        return _transposed_convolution(x, kernel, stride, crops)
    return _input_gradient(x, kernel, stride, crops)


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _convolution(x: Wide, kernel: Kernel, stride: int, pads: Pads) -> Narrow:
    return _forward(x, kernel, stride, pads)


def _convolution_fwd(x: Wide, kernel: Kernel, stride: int, pads: Pads) -> tuple[Narrow, tuple[Wide, Kernel]]:
    return _forward(x, kernel, stride, pads), (x, kernel)


def _convolution_bwd(stride: int, pads: Pads, saved: tuple[Wide, Kernel], dy: Narrow) -> tuple[Wide, Kernel]:
    x, kernel = saved
    # what the convolution leaves unread at the end of the input has to be given back as zeros
    read = (dy.shape[1] - 1) * stride + kernel.shape[0]
    crops = (pads[0], read - pads[0] - x.shape[1])
    return _input_gradient(dy, kernel, stride, crops), _weight_gradient(x, dy, kernel.shape[0], stride, pads[0])


_convolution.defvjp(_convolution_fwd, _convolution_bwd)


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _transposed_convolution(x: Narrow, kernel: Kernel, stride: int, crops: Pads) -> Wide:
    return _input_gradient(x, kernel, stride, crops)


def _transposed_fwd(x: Narrow, kernel: Kernel, stride: int, crops: Pads) -> tuple[Wide, tuple[Narrow, Kernel]]:
    return _input_gradient(x, kernel, stride, crops), (x, kernel)


def _transposed_bwd(stride: int, crops: Pads, saved: tuple[Narrow, Kernel], dy: Wide) -> tuple[Narrow, Kernel]:
    x, kernel = saved
    return _forward(dy, kernel, stride, crops), _weight_gradient(dy, x, kernel.shape[0], stride, crops[0])


_transposed_convolution.defvjp(_transposed_fwd, _transposed_bwd)


def _forward(x: Wide, kernel: Kernel, stride: int, pads: Pads) -> Narrow:
    return lax.conv_general_dilated(x, kernel, (stride, stride), (pads, pads), dimension_numbers=_LAYOUT)


def _input_gradient(dy: Narrow, kernel: Kernel, stride: int, crops: Pads) -> Wide:
    flipped = jnp.flip(kernel, (0, 1)).swapaxes(2, 3)
    last = kernel.shape[0] - 1
    pads = (last - crops[0], last - crops[1])
    return lax.conv_general_dilated(
        dy, flipped, (1, 1), (pads, pads), lhs_dilation=(stride, stride), dimension_numbers=_LAYOUT
    )


def _weight_gradient(x: Wide, dy: Narrow, side: int, stride: int, before: int) -> Kernel:
    def pads(axis: int) -> Pads:
        reach = (dy.shape[axis] - 1) * stride + side
        return before, reach - x.shape[axis] - before

    dw = lax.conv_general_dilated(
        x.transpose(3, 1, 2, 0),  # the channels play the batch, the batch is summed over
        dy.transpose(1, 2, 0, 3),
        (1, 1),
        (pads(1), pads(2)),
        rhs_dilation=(stride, stride),
        dimension_numbers=_LAYOUT,
    )
    return dw.transpose(1, 2, 0, 3)
