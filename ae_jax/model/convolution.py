"""Strided convolutions and their transposes, in the forms that XLA runs fast on a CPU; elsewhere plain.

Three sums make up a convolution with kernel w of side k, stride s and padding a before each axis, and its derivatives:

    y[b, p, o]  = Σ_{t, i} x[b, s·p + t − a, i] · w[t, i, o]        `_forward`
    dx[b, q, i] = Σ_{p, t, o: s·p + t − a = q} dy[b, p, o] · w[t, i, o]   `_input_gradient`
    dw[t, i, o] = Σ_{b, p} x[b, s·p + t − a, i] · dy[b, p, o]       `_weight_gradient`

A transposed convolution is the adjoint of a convolution: its forward pass is the second sum, its gradients the first
and the third. XLA's CPU backend has one fast convolution, images NHWC and kernel HWIO; what JAX derives from it by
itself is laid out otherwise, and inside ``scan`` falls back to plain loops, one to two orders of magnitude slower. So
here each sum is written by hand in one of these forms:

- *canonical*: a convolution in the fast layout. For dx, dy is spread out by the stride and w flipped; for dw, batch
  and channels are exchanged and dy is the kernel.
- *planes*: where few channels come out, a convolution leaves most of a vector register empty. Then x is multiplied by
  all k² taps at once, and the k²·O planes that come of it are shifted and added (y), or k²·O shifted planes of dy are
  multiplied by x (dw).
- *columns*: for dx with a stride, dy is multiplied by all k² taps at once, and each product is added where its tap
  lands; stride² interleaved images are summed apart. No zero between spread-out pixels is touched, and w need not be
  flipped.
- *patches*: for dw with many channels on both sides, a product of two matrices, the k² shifted views of x and dy.

Which one is chosen from shapes when a function is traced, by the conditions in `_forward`, `_input_gradient` and
`_weight_gradient`. They were measured on one core with AVX-512, with kernels of side 3, at 1 to 8 images, inside a
loop, over the layers of foster-ae and around them: y by canonical is within 5 % of the arithmetic floor, but for one
channel out of 32 planes take 0.6 of its time; dw by planes takes 0.11 of canonical's time for one channel out of 32,
and 0.7 for 32 out of 32, by patches 0.8 to 1 from 64 channels on, and its result needs no transposing; dx by columns
takes 0.66 to 0.93 with stride 2 at 8 images, 0.3 to 0.8 at one, and 1.5 with stride 1. Splitting dx into stride² small
convolutions took 1.4 times as long as canonical.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

Wide = Float[Array, "B H W I"]
"""What goes into a convolution, or comes out of a transposed one."""
Narrow = Float[Array, "B h w O"]
"""What comes out of a convolution, or goes into a transposed one."""
Kernel = Float[Array, "K K I O"]
Pads = tuple[int, int]
"""Pixels added before and after an axis; a negative number cuts some off."""
Edges = tuple[Pads, Pads]
"""Pads of height and width."""

MOST_PLANES = 32 * 3 * 3
"""Of a weight gradient: those of 32 channels at a kernel of side 3, up to which they were measured."""

_LAYOUT = ("NHWC", "HWIO", "NHWC")
_plain: ContextVar[bool] = ContextVar("plain", default=False)


@contextmanager
def plain_convolutions(plain: bool = True) -> Iterator[None]:
    """Trace convolutions as JAX's own, which can be differentiated in forward mode too, on a CPU slowly."""
    token = _plain.set(plain)
    try:
        yield
    finally:
        _plain.reset(token)


def convolution(x: Wide, kernel: Kernel, stride: int, pads: Pads) -> Narrow:
    """Convolve images [B, H, W, I] with an HWIO ``kernel``; ``pads`` are pixels added before and after both axes."""
    function = _convolution if _by_hand() else _canonical_forward
    return function(x, kernel, stride, (pads, pads))


def transposed_convolution(x: Narrow, kernel: Kernel, stride: int, crops: Pads) -> Wide:
    """Apply the adjoint of a convolution with an HWIO ``kernel`` (I are the channels that come out here).

    ``crops`` pixels are cut off before and after both axes of the full output; a negative number adds some.
    """
    function = _transposed_convolution if _by_hand() else _canonical_input_gradient
    return function(x, kernel, stride, (crops, crops))


def _by_hand() -> bool:
    return jax.default_backend() == "cpu" and not _plain.get()


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _convolution(x: Wide, kernel: Kernel, stride: int, pads: Edges) -> Narrow:
    return _forward(x, kernel, stride, pads)


def _convolution_fwd(x: Wide, kernel: Kernel, stride: int, pads: Edges) -> tuple[Narrow, tuple[Wide, Kernel]]:
    return _forward(x, kernel, stride, pads), (x, kernel)


def _convolution_bwd(stride: int, pads: Edges, saved: tuple[Wide, Kernel], dy: Narrow) -> tuple[Wide, Kernel]:
    x, kernel = saved
    # what the convolution leaves unread at the end of the input is given back as zeros: a negative crop
    crops = _reaching(x, dy, kernel.shape[0], stride, pads)
    return _input_gradient(dy, kernel, stride, crops), _weight_gradient(x, dy, kernel.shape[0], stride, pads)


_convolution.defvjp(_convolution_fwd, _convolution_bwd)


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _transposed_convolution(x: Narrow, kernel: Kernel, stride: int, crops: Edges) -> Wide:
    return _input_gradient(x, kernel, stride, crops)


def _transposed_fwd(x: Narrow, kernel: Kernel, stride: int, crops: Edges) -> tuple[Wide, tuple[Narrow, Kernel]]:
    return _input_gradient(x, kernel, stride, crops), (x, kernel)


def _transposed_bwd(stride: int, crops: Edges, saved: tuple[Narrow, Kernel], dy: Wide) -> tuple[Narrow, Kernel]:
    x, kernel = saved
    return _forward(dy, kernel, stride, crops), _weight_gradient(dy, x, kernel.shape[0], stride, crops)


_transposed_convolution.defvjp(_transposed_fwd, _transposed_bwd)


def _forward(x: Wide, kernel: Kernel, stride: int, pads: Edges) -> Narrow:
    side, _, inputs, outputs = kernel.shape
    if stride > 1 or outputs * side * side > 2 * 3 * 3 or inputs < 8:
        return _canonical_forward(x, kernel, stride, pads)
    return _planes_forward(x, kernel, pads)


def _canonical_forward(x: Wide, kernel: Kernel, stride: int, pads: Edges) -> Narrow:
    return lax.conv_general_dilated(x, kernel, (stride, stride), pads, dimension_numbers=_LAYOUT)


def _planes_forward(x: Wide, kernel: Kernel, pads: Edges) -> Narrow:
    side, _, inputs, outputs = kernel.shape
    planes = x @ kernel.transpose(2, 0, 1, 3).reshape(inputs, side * side * outputs)
    padded = lax.pad(planes, jnp.zeros((), x.dtype), ((0, 0, 0), *((*pad, 0) for pad in pads), (0, 0, 0)))
    count, height, width, _ = padded.shape
    height, width = height - side + 1, width - side + 1
    shifted = [
        lax.slice(padded, (0, i, j, tap * outputs), (count, i + height, j + width, (tap + 1) * outputs))
        for tap, (i, j) in enumerate(np.ndindex(side, side))
    ]
    return sum(shifted[1:], shifted[0])


def _input_gradient(dy: Narrow, kernel: Kernel, stride: int, crops: Edges) -> Wide:
    form = _canonical_input_gradient if stride == 1 else _columns_input_gradient
    return form(dy, kernel, stride, crops)


def _canonical_input_gradient(dy: Narrow, kernel: Kernel, stride: int, crops: Edges) -> Wide:
    flipped = jnp.flip(kernel, (0, 1)).swapaxes(2, 3)
    last = kernel.shape[0] - 1
    pads = [(last - before, last - after) for before, after in crops]
    return lax.conv_general_dilated(dy, flipped, (1, 1), pads, lhs_dilation=(stride, stride), dimension_numbers=_LAYOUT)


def _columns_input_gradient(dy: Narrow, kernel: Kernel, stride: int, crops: Edges) -> Wide:
    side, _, inputs, outputs = kernel.shape
    count, height, width, _ = dy.shape
    columns = lax.dot_general(dy.reshape(-1, outputs), kernel.reshape(-1, outputs), (((1,), (1,)), ((), ())))
    columns = columns.reshape(count, height, width, side, side, inputs)
    # tap t of position p lands on pixel stride·p + t − before; pixels with one remainder by the stride are a phase
    sizes = [(n - 1) * stride + side - sum(crop) for n, crop in zip((height, width), crops, strict=True)]
    rounded = [-(-size // stride) for size in sizes]

    def landing(axis: int, remainder: int) -> list[tuple[int, tuple[int, int, int]]]:
        lead, first = divmod(remainder + crops[axis][0], stride)
        moves = [(tap, tap // stride - lead) for tap in range(first, side, stride)]
        return [(tap, (move, rounded[axis] - (height, width)[axis] - move, 0)) for tap, move in moves]

    def phase(row: int, column: int) -> Wide:
        moved = [
            lax.pad(columns[:, :, :, i, j], jnp.zeros((), dy.dtype), ((0, 0, 0), down, right, (0, 0, 0)))
            for i, down in landing(0, row)
            for j, right in landing(1, column)
        ]
        return sum(moved[1:], moved[0]) if moved else jnp.zeros((count, *rounded, inputs), dy.dtype)

    rows = [jnp.stack([phase(i, j) for j in range(stride)], 3) for i in range(stride)]
    dx = jnp.stack(rows, 2).reshape(count, rounded[0] * stride, rounded[1] * stride, inputs)
    return dx[:, : sizes[0], : sizes[1]]


def _weight_gradient(x: Wide, dy: Narrow, side: int, stride: int, pads: Edges) -> Kernel:
    pads = _reaching(x, dy, side, stride, pads)
    inputs, outputs = x.shape[3], dy.shape[3]
    if stride == 1 and outputs <= inputs and outputs * side * side <= MOST_PLANES:
        return _planes_weight_gradient(x, dy, side, pads)
    form = _patches_weight_gradient if inputs >= 64 and outputs >= 64 else _canonical_weight_gradient
    return form(x, dy, side, stride, pads)


def _canonical_weight_gradient(x: Wide, dy: Narrow, side: int, stride: int, pads: Edges) -> Kernel:
    dw = lax.conv_general_dilated(
        x.transpose(3, 1, 2, 0),  # the channels play the batch, the batch is summed over
        dy.transpose(1, 2, 0, 3),
        (1, 1),
        pads,
        rhs_dilation=(stride, stride),
        dimension_numbers=_LAYOUT,
    )
    return dw.transpose(1, 2, 0, 3)


def _planes_weight_gradient(x: Wide, dy: Narrow, side: int, pads: Edges) -> Kernel:
    planes = dy.transpose(3, 0, 1, 2)
    # tap t reads x at p + t − before, so pixel q of x meets dy at q − t + before: dy moves against the tap
    margins = [(side - 1 - before, side - 1 - after, 0) for before, after in pads]
    padded = lax.pad(planes, jnp.zeros((), dy.dtype), ((0, 0, 0), (0, 0, 0), *margins))
    last, (count, height, width, _) = side - 1, x.shape
    shifted = [
        lax.slice(padded, (0, 0, last - i, last - j), (len(planes), count, last - i + height, last - j + width))
        for i, j in np.ndindex(side, side)
    ]
    dw = lax.dot_general(jnp.stack(shifted), x, (((2, 3, 4), (0, 1, 2)), ((), ())))  # [k², O, I]
    return dw.reshape(side, side, len(planes), -1).swapaxes(2, 3)


def _patches_weight_gradient(x: Wide, dy: Narrow, side: int, stride: int, pads: Edges) -> Kernel:
    patches = jnp.concatenate(_views(x, side, stride, pads, dy.shape[1:3]), 3)  # [B, h, w, k²·I]
    dw = lax.dot_general(patches, dy, (((0, 1, 2), (0, 1, 2)), ((), ())))
    return dw.reshape(side, side, x.shape[3], dy.shape[3])


def _views(x: Wide, side: int, stride: int, pads: Edges, shape: tuple[int, ...]) -> list[Narrow]:
    """Return what each tap of a kernel reads, row by row."""
    padded = lax.pad(x, jnp.zeros((), x.dtype), ((0, 0, 0), *((*pad, 0) for pad in pads), (0, 0, 0)))
    (height, width), (count, *_, channels) = shape, x.shape
    spans = (height - 1) * stride + 1, (width - 1) * stride + 1
    return [
        lax.slice(padded, (0, i, j, 0), (count, i + spans[0], j + spans[1], channels), (1, stride, stride, 1))
        for i, j in np.ndindex(side, side)
    ]


def _reaching(x: Wide, dy: Narrow, side: int, stride: int, pads: Edges) -> Edges:
    """Return the padding with which a convolution reads x to its end and no further."""

    def axis(number: int, before: int) -> Pads:
        return before, (dy.shape[number] - 1) * stride + side - x.shape[number] - before

    return axis(1, pads[0][0]), axis(2, pads[1][0])
