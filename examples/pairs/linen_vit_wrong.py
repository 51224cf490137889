"""A block of a vision transformer, written with Flax Linen and ported to PyTorch by hand.

One mistake is left.
"""

import flax.linen as nn
import jax
import numpy as np
import torch


class JaxBlock(nn.Module):
    @nn.compact
    def __call__(self, x):
        y = nn.LayerNorm(name="norm1")(x)
        x = x + nn.MultiHeadDotProductAttention(4, name="attention")(y, y)
        y = nn.LayerNorm(name="norm2")(x)
        y = nn.Dense(64, name="mlp_0")(y)
        return x + nn.Dense(32, name="mlp_1")(nn.gelu(y))


class TorchBlock(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.norm1 = torch.nn.LayerNorm(32)
        self.attention = torch.nn.MultiheadAttention(32, 4, batch_first=True)
        self.norm2 = torch.nn.LayerNorm(32)
        self.fc1 = torch.nn.Linear(32, 64)
        self.fc2 = torch.nn.Linear(64, 32)

    def forward(self, x):
        y = self.norm1(x)
        x = x + self.attention(y, y, y, need_weights=False)[0]
        y = torch.nn.functional.gelu(self.fc1(self.norm2(x)), approximate="tanh")
        return x + self.fc2(y)


model = JaxBlock()
inputs = (np.random.default_rng(0).standard_normal((2, 10, 32)).astype(np.float32),)
jax_params = model.init(jax.random.key(0), inputs[0])
jax_apply = model.apply
torch_module = TorchBlock()
names = {"fc1": "mlp_0", "fc2": "mlp_1"}
