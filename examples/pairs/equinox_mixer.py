"""A net that mixes patches and channels in turn, written with Equinox and ported to PyTorch by hand."""

import equinox as eqx
import jax
import numpy as np
import torch


class Block(eqx.Module):
    norm1: eqx.nn.LayerNorm
    norm2: eqx.nn.LayerNorm
    patches: eqx.nn.MLP
    channels: eqx.nn.MLP

    def __init__(self, patches, channels, key):
        one, two = jax.random.split(key)
        self.norm1, self.norm2 = eqx.nn.LayerNorm(channels), eqx.nn.LayerNorm(channels)
        self.patches = eqx.nn.MLP(patches, patches, 24, depth=1, activation=jax.nn.gelu, key=one)
        self.channels = eqx.nn.MLP(channels, channels, 48, depth=1, activation=jax.nn.gelu, key=two)

    def __call__(self, x):
        x = x + jax.vmap(self.patches, in_axes=1, out_axes=1)(jax.vmap(self.norm1)(x))
        return x + jax.vmap(self.channels)(jax.vmap(self.norm2)(x))


class JaxMixer(eqx.Module):
    embed: eqx.nn.Linear
    blocks: list
    head: eqx.nn.Linear

    def __init__(self, key):
        one, two, three, four = jax.random.split(key, 4)
        self.embed = eqx.nn.Linear(27, 16, key=one)
        self.blocks = [Block(9, 16, two), Block(9, 16, three)]
        self.head = eqx.nn.Linear(16, 5, key=four)

    def __call__(self, patches):
        x = jax.vmap(self.embed)(patches)
        for block in self.blocks:
            x = block(x)
        return self.head(x.mean(0))


class Mlp(torch.nn.Module):
    def __init__(self, width, hidden):
        super().__init__()
        self.layers = torch.nn.ModuleList([torch.nn.Linear(width, hidden), torch.nn.Linear(hidden, width)])

    def forward(self, x):
        return self.layers[1](torch.nn.functional.gelu(self.layers[0](x), approximate="tanh"))


class TorchBlock(torch.nn.Module):
    def __init__(self, patches, channels):
        super().__init__()
        self.norm1, self.norm2 = torch.nn.LayerNorm(channels), torch.nn.LayerNorm(channels)
        self.patches, self.channels = Mlp(patches, 24), Mlp(channels, 48)

    def forward(self, x):
        x = x + self.patches(self.norm1(x).transpose(1, 2)).transpose(1, 2)
        return x + self.channels(self.norm2(x))


class TorchMixer(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = torch.nn.Linear(27, 16)
        self.blocks = torch.nn.ModuleList([TorchBlock(9, 16), TorchBlock(9, 16)])
        self.head = torch.nn.Linear(16, 5)

    def forward(self, patches):
        x = self.embed(patches)
        for block in self.blocks:
            x = block(x)
        return self.head(x.mean(1))


jax_params, static = eqx.partition(JaxMixer(jax.random.key(0)), eqx.is_array)


def jax_apply(params, patches):
    return jax.vmap(eqx.combine(params, static))(patches)


torch_module = TorchMixer()
inputs = (np.random.default_rng(0).random((4, 9, 27), dtype=np.float32),)
