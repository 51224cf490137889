"""What goes into and comes out of every layer of a twin, forward and backward, in one training-mode pass."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import torch
from flax import linen
from jaxtyping import Float

import ae_jax
import ae_torch
import ae_torch.engine
from ae_core.spec import GaussianBottleneck, Spec
from ae_core.training.engine import Tensors
from ae_jax.model import bottleneck as jax_bottleneck
from ae_jax.model import layers as jax_layers
from ae_torch.model import bottleneck as torch_bottleneck
from ae_torch.model import layers as torch_layers

Images = Float[np.ndarray, "B H W C"]
Noise = Float[np.ndarray, "B L"]
Arrays = dict[str, np.ndarray]

LEAVES = ("Linear", "Conv", "ConvTranspose", "BatchNorm", "GroupNorm", "LayerNorm")
HEAD = "encoder.bottleneck"


class Captured(NamedTuple):
    """One layer in one pass: numbers of the twin's own precision; images are [B, H, W, C]."""

    x: np.ndarray
    y: np.ndarray
    dy: np.ndarray
    """Gradient of the loss by y."""
    dx: np.ndarray
    """Gradient of the loss by x, as far as it goes through this layer."""
    gradients: Arrays
    """By the layer's parameters, in PyTorch's layout."""


class _Traces(NamedTuple):
    """Values and their gradients under the names ``MODULE:in`` and ``MODULE:out``; of a block only ``out``."""

    values: Arrays
    gradients: Arrays
    parameters: Arrays
    """Gradients by parameters."""
    terms: Arrays


def capture_jax(spec: Spec, tensors: Tensors, images: Images, noise: Noise) -> dict[str, Captured]:
    """Run the JAX twin, compiled as a whole, and return every layer's part by name.

    A zero is added to each value, and the loss differentiated by it.
    """
    precision = spec.training.precision
    kinds = tuple(getattr(jax_layers, name) for name in LEAVES)
    with jax.enable_x64(precision == "float64"):
        model = ae_jax.build(spec)
        variables = ae_jax.from_tensors(tensors, precision)
        x, eps = jnp.asarray(images, precision), jnp.asarray(noise, precision)

        def loss(params: Any, zeros: dict[str, Any]) -> Any:
            values: dict[str, Any] = {}

            def see(name: str, value: Any) -> Any:
                values[name] = value + zeros[name] if name in zeros else value
                return values[name]

            def intercept(call: Callable[..., Any], args: Any, kwargs: Any, context: Any) -> Any:
                module = context.module
                if context.method_name != "__call__":
                    return call(*args, **kwargs)
                name = _dotted(module.path)
                if isinstance(module, kinds):
                    return see(f"{name}:out", call(see(f"{name}:in", args[0]), *args[1:], **kwargs))
                result = call(*args, **kwargs)
                if isinstance(module, jax_bottleneck.GaussianHead):
                    return result._replace(z=see(f"{name}:out", result.z))
                return see(f"{name}:out", result) if _is_block(name) or name == "decoder" else result

            with linen.intercept_methods(intercept):
                result = model.loss({**variables, "params": params}, x, eps)
            return result.total, (values, {"loss": result.total, **result.terms})

        params = variables["params"]
        shapes = jax.eval_shape(lambda params: loss(params, {})[1][0], params)
        zeros = {name: jnp.zeros(shape.shape, shape.dtype) for name, shape in shapes.items()}
        run = jax.jit(jax.grad(loss, (0, 1), has_aux=True))
        (by_params, by_values), (values, terms) = run(params, zeros)
        numpy = lambda tree: {name: np.asarray(value) for name, value in tree.items()}  # noqa: E731
        parameters = ae_jax.to_tensors({"params": by_params})
    return _assemble(spec, _Traces(numpy(values), numpy(by_values), parameters, numpy(terms)))


def _dotted(path: tuple[str, ...]) -> str:
    """Return PyTorch's name of a Linen path: ``blocks.0`` for ``blocks_0``."""
    parts = (key.rpartition("_") if key.rpartition("_")[2].isdigit() else ("", "", key) for key in path)
    return ".".join(f"{stem}.{last}" if stem else last for stem, _, last in parts)


def capture_torch(spec: Spec, tensors: Tensors, images: Images, noise: Noise) -> dict[str, Captured]:
    """Run the PyTorch twin and return every layer's part by name."""
    kinds = tuple(getattr(torch_layers, name) for name in LEAVES)
    device = ae_torch.engine._device()  # where the twin trains
    model = ae_torch.from_tensors(ae_torch.build(spec), tensors).train().to(device)
    values: Arrays = {}
    gradients: Arrays = {}

    def see(target: Arrays, name: str, value: torch.Tensor) -> None:
        # the decoder's own output is [B, H, W, C] already
        inner = value.ndim == 4 and name != "decoder:out"
        target[name] = (value.detach().movedim(1, -1) if inner else value.detach()).cpu().numpy()

    def watch(name: str, module: torch.nn.Module) -> None:
        leaf = isinstance(module, kinds)

        def forward(module: torch.nn.Module, inputs: Any, output: Any) -> None:
            if leaf:
                see(values, f"{name}:in", inputs[0])
            see(values, f"{name}:out", output)

        def backward(module: torch.nn.Module, by_input: Any, by_output: Any) -> None:
            if leaf:
                see(gradients, f"{name}:in", by_input[0])
            see(gradients, f"{name}:out", by_output[0])

        module.register_forward_hook(forward)
        module.register_full_backward_hook(backward)

    def watch_code(module: torch.nn.Module, inputs: Any, output: torch_bottleneck.GaussianCode) -> None:
        see(values, f"{HEAD}:out", output.z)
        output.z.register_hook(lambda gradient: see(gradients, f"{HEAD}:out", gradient))

    for name, module in model.named_modules():
        if isinstance(module, kinds) or _is_block(name) or name == "decoder":
            watch(name, module)
        elif isinstance(module, torch_bottleneck.GaussianHead):
            module.register_forward_hook(watch_code)
    precision = getattr(torch, spec.training.precision)
    x, eps = (torch.from_numpy(array).to(device, precision) for array in (images, noise))
    # a hook on the first layer sees no gradient by an input that wants none
    result = model.loss(x.requires_grad_(), eps)
    result.total.backward()
    parameters = {name: p.grad.cpu().numpy() for name, p in model.named_parameters() if p.grad is not None}
    terms = {name: value.detach().cpu().numpy() for name, value in {"loss": result.total, **result.terms}.items()}
    return _assemble(spec, _Traces(values, gradients, parameters, terms))


def _is_block(name: str) -> bool:
    return name.rpartition(".")[0].endswith(".blocks")


def _assemble(spec: Spec, traces: _Traces) -> dict[str, Captured]:
    """Return the layers of the oracle from what was seen at the modules."""
    values, gradients, parameters, terms = traces
    layers = {}
    for name in [key.removesuffix(":in") for key in values if key.endswith(":in")]:
        own = {key.removeprefix(f"{name}."): g for key, g in parameters.items() if key.startswith(f"{name}.")}
        before, after = f"{name}:in", f"{name}:out"
        layers[name] = Captured(values[before], values[after], gradients[after], gradients[before], own)
    for block in [key.removesuffix(":out") for key in values if _is_block(key.removesuffix(":out"))]:
        # the activation is no module: it lies between the block's last module and the block's end
        last = [name for name in layers if name.startswith(f"{block}.")][-1]
        before, after = f"{last}:out", f"{block}:out"
        layers[block] = Captured(values[before], values[after], gradients[after], gradients[before], {})
    if isinstance(spec.bottleneck, GaussianBottleneck):
        inputs = [f"{HEAD}.mean:out", f"{HEAD}.logvar:out"]
        x, dx = (np.concatenate([seen[name] for name in inputs], -1) for seen in (values, gradients))
        y = np.append(values[f"{HEAD}:out"], terms["kl"])
        # KL enters the loss times its weight: that is the gradient by it, and no twin need compute it
        dy = np.append(gradients[f"{HEAD}:out"], np.asarray(spec.bottleneck.kl_weight, x.dtype))
        layers[HEAD] = Captured(x, y, dy, dx, {})
    seed = np.array([spec.likelihood.weight], values["decoder:out"].dtype)
    reconstruction = terms["reconstruction"].reshape(1)
    layers["loss"] = Captured(values["decoder:out"], reconstruction, seed, gradients["decoder:out"], {})
    return layers
