"""Every form of a convolution's three sums, against the sums themselves, tap by tap in NumPy and float64.

Forms do not ask how many channels there are: each is held to its sum at few of them, over all kernels, strides and
paddings. What chooses a form by its channels is asked on both sides of each of its thresholds.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ae_core.rng import normal
from ae_core.spec.geometry import crops, pads
from ae_jax.model import convolution as forms

UNIT = 2.0**-53
GEOMETRIES = [
    (kernel, stride, padding)
    for kernel in range(1, 9)
    for stride in range(1, 5)
    for padding in ("same", "torch")
    if padding == "same" or kernel % 2  # a spec refuses PyTorch's padding of even kernels
]
BATCH = 2
FASTER = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
"""Of machine code, which is not what is asked here; a kernel of side 8 has some hundred slices."""


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


def right(x, w, dy, stride, before):
    """Return the sums at the head of `ae_jax.model.convolution`: y, dx and dw."""
    side, (height, width) = len(w), dy.shape[1:3]
    room = side + stride * max(height, width)  # behind the last pixel that any tap reads
    wide = np.pad(x, ((0, 0), (before, room), (before, room), (0, 0)))
    y, by_wide, dw = np.zeros_like(dy), np.zeros_like(wide), np.zeros_like(w)
    for i, j in np.ndindex(side, side):
        rows, columns = (slice(tap, tap + stride * n, stride) for tap, n in ((i, height), (j, width)))
        y += wide[:, rows, columns] @ w[i, j]
        by_wide[:, rows, columns] += dy @ w[i, j].T
        dw[i, j] = np.einsum("bhwi,bhwo->io", wide[:, rows, columns], dy)
    dx = by_wide[:, before : before + x.shape[1], before : before + x.shape[2]]
    return {"forward": y, "input gradient": dx, "weight gradient": dw}


def limits(x, w, dy, stride, before):
    """Return by how much two float64 evaluations of each sum may differ.

    A sum of K products is off by at most K·u times the sum of their sizes, u = 2⁻⁵³, in whatever order it is taken
    (Higham, *Accuracy and Stability of Numerical Algorithms*, eq. 3.5); two evaluations by twice that.
    """
    sizes = right(*map(np.abs, (x, w, dy)), stride, before)
    terms = {
        "forward": w[..., 0].size,
        "input gradient": w[:, :, 0].size,
        "weight gradient": dy[..., 0].size,
    }
    return {name: 2 * terms[name] * UNIT * size for name, size in sizes.items()}


def drawn(kernel, stride, padding, size, channels):
    """Return images [B, *size, I], a kernel, and what may come out or go into a transposed convolution."""
    inputs, outputs = channels
    small = [(n + sum(pads(kernel, stride, padding)) - kernel) // stride + 1 for n in size]
    x, dy = normal((BATCH, *size, inputs), 0, "x"), normal((BATCH, *small, outputs), 0, "dy")
    return x, normal((kernel, kernel, inputs, outputs), 0, "kernel"), dy


def functions(x, w, dy, stride, padding):
    """Return both public functions' results and their derivatives, by what they are to be.

    The transposed one, where the stride divides the images: it takes dy, and the images are its cotangent.
    """
    kernel = len(w)
    y, pull = jax.vjp(lambda x, w: forms.convolution(x, w, stride, pads(kernel, stride, padding)), x, w)
    found = dict(zip(("input gradient", "weight gradient"), pull(dy), strict=True))
    found = {f"convolution, {name}": value for name, value in ({"forward": y} | found).items()}
    if x.shape[1:3] == (dy.shape[1] * stride, dy.shape[2] * stride):
        cut = crops(kernel, stride, padding)
        grown, pull = jax.vjp(lambda z, w: forms.transposed_convolution(z, w, stride, cut), dy, w)
        by_code, by_kernel = pull(x)
        found |= {
            "transposed, input gradient": grown,
            "transposed, forward": by_code,
            "transposed, weight gradient": by_kernel,
        }
    return found


def forms_of(x, w, dy, stride, padding):
    """Return each form that goes with the stride, ready to be worked out, by its name."""
    side, edges = len(w), (pads(len(w), stride, padding),) * 2
    reach = forms._reaching(x, dy, side, stride, edges)
    found = {
        "canonical, forward": lambda: forms._canonical_forward(x, w, stride, edges),
        "canonical, input gradient": lambda: forms._canonical_input_gradient(dy, w, stride, reach),
        "canonical, weight gradient": lambda: forms._canonical_weight_gradient(x, dy, side, stride, reach),
        "patches, weight gradient": lambda: forms._patches_weight_gradient(x, dy, side, stride, reach),
    }
    if stride > 1:
        found["columns, input gradient"] = lambda: forms._columns_input_gradient(dy, w, stride, reach)
    else:
        found["planes, forward"] = lambda: forms._planes_forward(x, w, edges)
        found["planes, weight gradient"] = lambda: forms._planes_weight_gradient(x, dy, side, reach)
    return found


def every_form(*arguments):
    return {name: form() for name, form in forms_of(*arguments).items()}


def wrong(kernel, stride, padding, arrays, ask):
    """Return the names of all that is not its sum, of what ``ask`` returns."""
    before, _ = pads(kernel, stride, padding)
    run = jax.jit(lambda *arrays: ask(*arrays, stride, padding), compiler_options=FASTER)
    sums, limit = right(*arrays, stride, before), limits(*arrays, stride, before)
    found = run(*map(jnp.asarray, arrays))
    assert found
    names = set()
    for name, value in found.items():
        wanted = name.partition(", ")[2]
        assert value.dtype == jnp.float64
        assert value.shape == sums[wanted].shape, name
        assert np.abs(sums[wanted]).max() > 0.1
        if not (np.abs(np.asarray(value) - sums[wanted]) <= limit[wanted]).all():
            names.add(name)
    return names


@pytest.mark.parametrize(("kernel", "stride", "padding"), GEOMETRIES)
def test_every_form(kernel, stride, padding):
    """The forms on odd and even sides that a stride does not divide; what is made of them on sides that it does."""
    for size, ask in (((5 * stride + stride // 2, 3 * stride - 1), every_form), ((4 * stride, 3 * stride), functions)):
        arrays = drawn(kernel, stride, padding, size, (3, 2))
        assert wrong(kernel, stride, padding, arrays, ask) == set()


FORMS = (
    "_canonical_forward",
    "_planes_forward",
    "_canonical_input_gradient",
    "_columns_input_gradient",
    "_canonical_weight_gradient",
    "_planes_weight_gradient",
    "_patches_weight_gradient",
)


@pytest.mark.parametrize("form", FORMS)
def test_a_swapped_margin_is_noticed(form, monkeypatch):
    """In one form alone, and for kernels of 6 and more alone."""
    original = getattr(forms, form)

    def swapped(*arguments):
        *others, edges = arguments
        side = others[2] if form.endswith("weight_gradient") else len(others[1])
        return original(*others, tuple(pair[::-1] for pair in edges) if side >= 6 else edges)

    monkeypatch.setattr(forms, form, swapped)
    name = form[1:].replace("_", ", ", 1).replace("_", " ")
    stride = 1 + name.startswith("columns")
    # pads differ where kernel − stride is odd
    for kernel, noticed in ((3 + stride, False), (5 + stride, True)):
        arrays = drawn(kernel, stride, "same", (4, 3), (3, 2))
        found = wrong(kernel, stride, "same", arrays, lambda *a: {name: forms_of(*a)[name]()})
        assert found == ({name} if noticed else set())


def around(kernel):
    """Return channels on both sides of each threshold at stride 1, and the forms that they are to take."""
    few, most = 18 // kernel**2, forms.MOST_PLANES // kernel**2
    forward = {(8, few): "planes", (7, few): "canonical"} if few else {}
    forward[8, few + 1] = "canonical"
    # nothing is left for planes to save where more comes out than goes in
    weights = {(most, most): "planes", (most - 1, most): "patches" if most > 64 else "canonical"}
    weights[most + 1, most + 1] = "patches" if most >= 63 else "canonical"
    if most < 63:
        weights |= {(64, 64): "patches", (63, 64): "canonical", (64, 63): "canonical"}
    return forward, weights


@pytest.mark.parametrize("kernel", range(1, 9))
def test_channels_on_both_sides_of_each_threshold(kernel, monkeypatch):
    taken = []
    for form in FORMS:
        original = getattr(forms, form)
        monkeypatch.setattr(forms, form, lambda *a, form=form, original=original: (taken.append(form), original(*a))[1])
    forward, weights = around(kernel)
    for channels in forward | weights:
        taken.clear()
        arrays = drawn(kernel, 1, "same", (3, 2), channels)
        assert wrong(kernel, 1, "same", arrays, functions) == set(), channels
        if channels in forward:
            assert f"_{forward[channels]}_forward" in taken, channels
        if channels in weights:
            assert f"_{weights[channels]}_weight_gradient" in taken, channels
    # with a stride there are no planes, whatever the channels
    for channels, form in (((8, 1), "canonical"), ((64, 64), "patches")):
        taken.clear()
        assert wrong(kernel, 2, "same", drawn(kernel, 2, "same", (6, 4), channels), functions) == set(), channels
        assert set(taken) == {"_canonical_forward", "_columns_input_gradient", f"_{form}_weight_gradient"}
