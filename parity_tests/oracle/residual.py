"""The residual autoencoder: blocks whose input is added to their output, and attention at the narrowest map."""

import math
from dataclasses import dataclass

import numpy as np

from ae_core.spec import Spec
from ae_core.spec.residual import ResidualBackbone
from parity_tests.oracle.activation import Activation
from parity_tests.oracle.backbone import layers_of_decoder, layers_of_encoder
from parity_tests.oracle.layer import Array, Arrays, Tensors, Values
from parity_tests.oracle.linear import Conv, Linear
from parity_tests.oracle.norm import GroupNorm
from parity_tests.oracle.rounding import ELEMENTARY
from parity_tests.oracle.tree import Chain, Fork, Leaf, Module, Node, Residual, Shape

Side = tuple[int, int]
"""Height and width of a map."""


@dataclass(frozen=True)
class Enlarge:
    """Every pixel as a square of ``factor`` by ``factor`` pixels."""

    factor: int

    def forward(self, p: Tensors, x: Array) -> Array:
        """Repeat rows and columns."""
        return x.repeat(self.factor, 1).repeat(self.factor, 2)

    def backward(self, p: Tensors, x: Array, dy: Array) -> tuple[Array, Arrays]:
        """Return the sum over each square."""
        return self._sum(x, dy), {}

    def units(self, p: Tensors, x: Array, dy: Array, u: float) -> Values:
        """Return √K·u·scale: repeating rounds nothing, and a square's sum has factor² terms."""
        return Values(0 * self.forward(p, x), self.factor * u * self._sum(x, np.abs(dy)), {})

    def _sum(self, x: Array, dy: Array) -> Array:
        count, height, width, channels = x.shape
        squares = dy.reshape(count, height, self.factor, width, self.factor, channels)
        return squares.sum((2, 4))


@dataclass(frozen=True)
class Scale:
    """y = α·x, with one number α. Source: Bachlechner et al. (2020), eq. 3."""

    def forward(self, p: Tensors, x: Array) -> Array:
        """Return α·x."""
        return p["weight"] * x

    def backward(self, p: Tensors, x: Array, dy: Array) -> tuple[Array, Arrays]:
        """Return α·dy, and the sum of dy·x."""
        return p["weight"] * dy, {"weight": (dy * x).sum().reshape(1)}


@dataclass(frozen=True)
class Attention:
    """y = softmax(q·kᵀ/√C)·v over the positions of an image, from rows x = (q | k | v), [B·positions, 3·C].

    Source: Vaswani et al. (2017), eq. 1.
    """

    positions: int

    def forward(self, p: Tensors, x: Array) -> Array:
        """Return the rows [B·positions, C]."""
        q, k, v = self._parts(x)
        return self._rows(self._shares(q, k) @ v)

    def backward(self, p: Tensors, x: Array, dy: Array) -> tuple[Array, Arrays]:
        """Return dv = Pᵀ·dy, dq = dS·k/√C and dk = dSᵀ·q/√C, with dS = P∘(dP − Σ dP∘P) and dP = dy·vᵀ."""
        q, k, v = self._parts(x)
        shares, dy = self._shares(q, k), self._images(dy)
        by_shares = dy @ v.swapaxes(1, 2)
        scores = shares * (by_shares - (by_shares * shares).sum(-1, keepdims=True)) / math.sqrt(q.shape[-1])
        parts = scores @ k, scores.swapaxes(1, 2) @ q, shares.swapaxes(1, 2) @ dy
        return np.concatenate([self._rows(part) for part in parts], -1), {}

    def units(self, p: Tensors, x: Array, dy: Array, u: float) -> Values:
        """Return √K·u times the formulas on absolute values, with sums for differences.

        A score s = q·k/√C takes C + 2 roundings at scale t = |q|·|k|/√C; as an exponent its error multiplies the share,
        directly and through the sum that the share is divided by: the scale of a share P is Q = P·(1 + t + Σ P·t). It
        takes the score's roundings, the difference from the largest score, an elementary function, a sum of n and a
        quotient. y and dv are sums of n products more; dP is a sum of C, and dS takes a sum of n, a difference, a
        product and a quotient, before the last sum of n.
        """
        q, k, v = (np.abs(part) for part in self._parts(x))
        n, width = self.positions, q.shape[-1]
        shares, dy = self._shares(*self._parts(x)[:2]), np.abs(self._images(dy))
        t = q @ k.swapaxes(1, 2) / math.sqrt(width)
        scale = shares * (1 + t + (shares * t).sum(-1, keepdims=True))
        share_roundings = width + 2 + 1 + ELEMENTARY + n + 1
        by_shares = dy @ v.swapaxes(1, 2)
        scores = scale * (by_shares + (by_shares * scale).sum(-1, keepdims=True)) / math.sqrt(width)
        score_roundings = 2 * share_roundings + width + n + 4
        forward = math.sqrt(share_roundings + n) * u * self._rows(scale @ v)
        parts = [
            math.sqrt(score_roundings + n) * u * self._rows(scores @ k),
            math.sqrt(score_roundings + n) * u * self._rows(scores.swapaxes(1, 2) @ q),
            math.sqrt(share_roundings + n) * u * self._rows(scale.swapaxes(1, 2) @ dy),
        ]
        return Values(forward, np.concatenate(parts, -1), {})

    def _images(self, rows: Array) -> Array:
        return rows.reshape(-1, self.positions, rows.shape[-1])

    def _rows(self, images: Array) -> Array:
        return images.reshape(-1, images.shape[-1])

    def _parts(self, x: Array) -> tuple[Array, Array, Array]:
        q, k, v = np.split(self._images(x), 3, -1)
        return q, k, v

    def _shares(self, q: Array, k: Array) -> Array:
        scores = q @ k.swapaxes(1, 2) / math.sqrt(q.shape[-1])
        powers = np.exp(scores - scores.max(-1, keepdims=True))
        shares: Array = powers / powers.sum(-1, keepdims=True)
        return shares


@layers_of_encoder.register
def _encoder(backbone: ResidualBackbone, spec: Spec) -> Node:
    sides = _sides(backbone, spec)
    nodes: list[Node] = [Leaf("encoder.input", _conv(sides[0]))]
    widths = (backbone.channels[0], *backbone.channels)
    for i, stride in enumerate(backbone.strides):
        nodes.append(_block(f"encoder.blocks.{i}", widths[i], widths[i + 1], sides[i], backbone))
        nodes.append(Leaf(f"encoder.down.{i}", _conv(sides[i], stride)))
    middle = _middle("encoder.middle", backbone.channels[-1], sides[-1], backbone)
    end = Leaf("encoder.norm", _norm(backbone)), Leaf("encoder.silu", _SILU, output="encoder")
    return Chain((*nodes, middle, *end))


@layers_of_decoder.register
def _decoder(backbone: ResidualBackbone, spec: Spec) -> Node:
    sides, channels = _sides(backbone, spec)[::-1], backbone.channels[::-1]
    nodes: list[Node] = [Shape((spec.latent_size,)), Leaf("decoder.inner", Linear())]
    nodes.append(Shape(backbone.feature_shape(spec.input_shape)))
    nodes.append(_middle("decoder.middle", channels[0], sides[0], backbone))
    widths = (*channels, channels[-1])
    for i, stride in enumerate(backbone.strides[::-1]):
        name = f"decoder.up.{i}"
        nodes += [Leaf(f"{name}.larger", Enlarge(stride), output=f"{name}:in"), Leaf(name, _conv(sides[i + 1]))]
        nodes.append(_block(f"decoder.blocks.{i}", widths[i], widths[i + 1], sides[i + 1], backbone))
    end = Leaf("decoder.norm", _norm(backbone)), Leaf("decoder.silu", _SILU, output="decoder.output:in")
    return Chain((*nodes, *end, Leaf("decoder.output", _conv(sides[-1]))))


_SILU = Activation("silu", 0.0)


def _norm(backbone: ResidualBackbone) -> GroupNorm:
    return GroupNorm(backbone.eps, backbone.groups)


def _conv(side: Side, stride: int = 1, kernel: int = 3) -> Conv:
    return Conv(side, kernel, stride, "torch")


def _block(name: str, inputs: int, outputs: int, side: Side, backbone: ResidualBackbone) -> Module:
    branch = Chain(
        (
            Leaf(f"{name}.norm1", _norm(backbone)),
            Leaf(f"{name}.silu1", _SILU, output=f"{name}.conv1:in"),
            Leaf(f"{name}.conv1", _conv(side)),
            Leaf(f"{name}.norm2", _norm(backbone)),
            Leaf(f"{name}.silu2", _SILU, output=f"{name}.conv2:in"),
            Leaf(f"{name}.conv2", _conv(side)),
            *([Leaf(f"{name}.scale", Scale())] if backbone.learned_scale else []),
        )
    )
    skip = Chain() if inputs == outputs else Leaf(f"{name}.skip", _conv(side, kernel=1))
    return Module(name, Residual(branch, skip))


def _middle(name: str, width: int, side: Side, backbone: ResidualBackbone) -> Module:
    first, second = (_block(f"{name}.block{i}", width, width, side, backbone) for i in (1, 2))
    between = (_attention(f"{name}.attention", width, side, backbone),) if backbone.attention else ()
    return Module(name, Chain((first, *between, second)))


def _attention(name: str, width: int, side: Side, backbone: ResidualBackbone) -> Module:
    three = tuple(Leaf(f"{name}.{part}", Linear()) for part in ("query", "key", "value"))
    branch = Chain(
        (
            Leaf(f"{name}.norm", _norm(backbone)),
            Shape((width,)),
            Fork(three, (width,) * 3),
            Leaf(f"{name}.shares", Attention(math.prod(side)), output=f"{name}.output:in"),
            Leaf(f"{name}.output", Linear()),
            Shape((*side, width)),
        )
    )
    return Module(name, Residual(branch))


def _sides(backbone: ResidualBackbone, spec: Spec) -> list[Side]:
    """Return height and width of the map before each level of the encoder, and of the narrowest."""
    sides = [spec.input_shape[:2]]
    for stride in backbone.strides:
        sides.append((sides[-1][0] // stride, sides[-1][1] // stride))
    return sides
