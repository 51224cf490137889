"""A small convolutional classifier, written with Flax NNX and ported to PyTorch by hand."""

import numpy as np
import torch
from flax import nnx


class JaxNet(nnx.Module):
    def __init__(self, rngs):
        self.conv1 = nnx.Conv(3, 8, (3, 3), strides=(2, 2), rngs=rngs)
        self.norm1 = nnx.GroupNorm(8, num_groups=4, rngs=rngs)
        self.conv2 = nnx.Conv(8, 16, (3, 3), strides=(2, 2), rngs=rngs)
        self.head = nnx.Linear(16 * 4 * 4, 10, rngs=rngs)

    def __call__(self, x):
        x = nnx.silu(self.norm1(self.conv1(x)))
        x = nnx.silu(self.conv2(x))
        return self.head(x.reshape(len(x), -1))


class Same(torch.nn.Conv2d):
    """Pads as JAX's "SAME" does: with an even side and stride 2, one row below and one column to the right."""

    def forward(self, x):
        return super().forward(torch.nn.functional.pad(x, (0, 1, 0, 1)))


class TorchNet(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = Same(3, 8, 3, stride=2)
        self.norm1 = torch.nn.GroupNorm(4, 8, eps=1e-6)
        self.conv2 = Same(8, 16, 3, stride=2)
        self.head = torch.nn.Linear(16 * 4 * 4, 10)

    def forward(self, x):
        x = torch.nn.functional.silu(self.norm1(self.conv1(x)))
        x = torch.nn.functional.silu(self.conv2(x))
        return self.head(x.permute(0, 2, 3, 1).flatten(1))


graph, jax_params = nnx.split(JaxNet(nnx.Rngs(0)))


def jax_apply(params, x):
    return nnx.merge(graph, params)(x)


torch_module = TorchNet()
inputs = (np.random.default_rng(0).random((4, 16, 16, 3), dtype=np.float32),)
torch_inputs = (np.ascontiguousarray(inputs[0].transpose(0, 3, 1, 2)),)
