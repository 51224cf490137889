"""Atlases of many kinds of decoders and data for tests, and what is read from them in a browser."""

import numpy as np

from ae_core import atlas
from ae_core.commands import cli
from ae_core.data.cans import cans
from ae_core.data.digits import digits
from ae_core.data.garments import garments
from ae_core.rng import normal
from ae_core.spec import (
    BatchNorm,
    ConvBackbone,
    DenseBackbone,
    GaussianBottleneck,
    GaussianLikelihood,
    GroupNorm,
    LayerNorm,
    PlainBottleneck,
    Spec,
)
from ae_core.training.initial import initial_weights

_SMALL = Spec((8, 8, 1), DenseBackbone((6,)), PlainBottleneck(2))
_CANS = cans(90, (8, 8))
PAGES = {
    # labels; all numbers of a small decoder
    "digits": (_SMALL, digits(), "auto"),
    # labels and factors, three channels, sliders, batch norm
    "wide": (
        Spec((16, 16, 3), ConvBackbone((4, 6), (2, 2), norm=BatchNorm()), GaussianBottleneck(5)),
        garments(90, (16, 16), channels=3),
        "auto",
    ),
    # factors
    "group norm": (
        Spec((12, 8, 1), ConvBackbone((4, 4), (2, 2), 5, "torch", "gelu_erf", norm=GroupNorm(2)), PlainBottleneck(2)),
        cans(90, (12, 8)),
        "auto",
    ),
    "layer norm": (
        Spec((8, 8, 1), ConvBackbone((4,), (4,), 2, "same", "leaky_relu", 0.2, LayerNorm()), PlainBottleneck(3)),
        _CANS,
        "auto",
    ),
    "dense norm": (
        Spec(
            (8, 8, 1), DenseBackbone((8, 6), "gelu_tanh", norm=GroupNorm(2)), PlainBottleneck(2), GaussianLikelihood()
        ),
        _CANS,
        "auto",
    ),
    "half": (Spec((28, 28, 1), DenseBackbone((1000,), "silu"), PlainBottleneck(2)), cans(90, (28, 28)), "auto"),
    # neither labels nor factors, and a plane that is a line
    "line": (
        Spec((8, 8, 1), DenseBackbone((6,)), PlainBottleneck(1)),
        _CANS._replace(factors=None, factor_names=()),
        "auto",
    ),
    "grid": (_SMALL, _CANS, "grid"),
    "line grid": (Spec((8, 8, 1), DenseBackbone((6,)), PlainBottleneck(1)), _CANS, "grid"),
    "colour grid": (Spec((8, 8, 3), DenseBackbone((6,)), PlainBottleneck(4)), cans(90, (8, 8), channels=3), "grid"),
}


class Page:
    """An atlas, what it was made of, and its file."""

    def __init__(self, folder, name):
        spec, data, means = PAGES[name]
        engine = cli.load_engine("torch")
        # weights as a training starts from are too small for pictures that differ
        start = initial_weights(engine.shapes(spec), spec, 0)
        tensors = {k: (2 * t + 0.2 * normal(t.shape, 0, k)).astype(np.float32) for k, t in start.items()}
        tensors = {k: np.abs(t) if k.endswith("running_var") else t for k, t in tensors.items()}
        self.model = engine.infer(spec, tensors)
        self.content = atlas.make_content(spec, tensors, self.model, data, 80, means)
        self.values = self.content.values
        self.codes = self.model.encode(data.images[self.content.indices]).astype(np.float32)
        self.path = folder / f"{name}.html"
        self.path.write_text(atlas.render(self.content, "a model"), encoding="utf-8")


def opened(chromium, page, width=1280, height=900, dark=False, touch=False):
    """Open a page on a screen of this size, and wait for its first walk."""
    chromium.screen(width, height, dark, touch)
    chromium.open(page.path)
    frames_are_there(chromium)
    chromium.settle()


def frames_are_there(chromium):
    """Wait until a walk has its frames, which are decoded one after the other."""
    frames = "[...document.querySelectorAll('#frames canvas')]"
    chromium.wait(f"{frames}.length === 11 && {frames}.every((frame) => frame.width > 1)")


def canvas(chromium, selector="#picture"):
    """Return the pixels of a canvas, [h, w, 4]."""
    # a copy is read: the page's own canvases are there to be drawn on
    script = (
        f"(() => {{ const c = document.querySelector({selector!r}), copy = document.createElement('canvas'); "
        "copy.width = c.width; copy.height = c.height; "
        "const context = copy.getContext('2d', {willReadFrequently: true}); context.drawImage(c, 0, 0); "
        "return [c.height, c.width, ...context.getImageData(0, 0, c.width, c.height).data]; })()"
    )
    height, width, *data = chromium.run(script)
    return np.array(data, np.uint8).reshape(height, width, 4)


def place(chromium, point):
    """Return where a point of the plane is on the screen, after scrolling there."""
    chromium.run("at('plane').scrollIntoView({block: 'center', behavior: 'instant'})")
    box = "const r = at('plane').getBoundingClientRect(), c = at('plane')"
    left, top, width, height = chromium.run(
        f"(() => {{ {box}; return [r.left + c.clientLeft, r.top + c.clientTop, c.clientWidth, c.clientHeight]; }})()"
    )
    x0, x1, y0, y1 = chromium.run("VIEW")
    return left + (point[0] - x0) / (x1 - x0) * width, top + (y1 - point[1]) / (y1 - y0) * height


def alone(chromium):
    """Return two real pictures whose points have none other near them on the screen."""
    points = np.array(chromium.run("POINTS"))
    view = np.array(chromium.run("VIEW"))
    share = (points - view[[0, 2]]) / (view[[1, 3]] - view[[0, 2]])
    gaps = np.linalg.norm(share[:, None] - share, axis=2) + 9 * np.eye(len(share))
    first, second = np.argsort(-gaps.min(1))[:2]
    return int(first), int(second)


def shown(chromium):
    """Return the code that is shown."""
    return np.array(chromium.run("atlas.shown()"))


def same_picture(chromium, page, z, selector="#picture"):
    """Hold a canvas to the picture of a code, as Python makes it: a level of 8 bits may round either way."""
    true = page.content.decoder.decode(np.asarray(z)[None])[0]
    pixels = canvas(chromium, selector)
    assert pixels.shape[:2] == true.shape[:2]
    assert (pixels[..., 3] == 255).all()
    np.testing.assert_allclose(pixels[..., :3] - 255 * np.clip(true, 0, 1), 0, atol=0.5 + 1e-9)
