"""Both twins, asked the same questions, answering in NumPy under the same names."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import torch
from jaxtyping import Float

import ae_jax
import ae_jax.engine
import ae_jax.model.autoencoder
import ae_torch
import ae_torch.engine
from ae_core.files.weights import is_state
from ae_core.spec import Spec
from ae_core.training.engine import Steps, Tensors
from ae_jax.execution.compiler import compiler_options
from ae_jax.tensors import STATE
from ae_jax.training import export_state as export_jax
from ae_torch.training import export_state as export_torch

Images = Float[np.ndarray, "B H W C"]
Noise = Mapping[str, Float[np.ndarray, "B ..."]]
"""By site."""
Arrays = dict[str, np.ndarray]


@contextmanager
def one_thread() -> Iterator[None]:
    """Let PyTorch work with one thread for a while: on arrays as small as a case's, a second one only waits."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


class Pass(NamedTuple):
    """One training-mode forward and backward pass."""

    taps: Arrays
    """Output of every module, images as [B, H, W, C]."""
    terms: Arrays
    """The loss and its terms."""
    gradients: Arrays
    """Gradient of the loss by every parameter, in PyTorch's layout."""
    state: Arrays
    """State, such as running statistics, after the pass."""


def jax_pass(spec: Spec, tensors: Tensors, images: Images, noise: Noise) -> Pass:
    """Run the JAX twin forward and backward."""
    precision = spec.training.precision
    with jax.enable_x64(precision == "float64"):
        variables = ae_jax.from_tensors(tensors, precision)
        x, eps = jnp.asarray(images, precision), jax_noise(noise, precision)
        (gradients, result), taken = compiled_pass(spec)(variables, x, eps)
        taps = dict(_jax_taps(taken, ""))
        return Pass(
            {name: np.asarray(value) for name, value in taps.items()},
            {name: np.asarray(value) for name, value in {"loss": result.total, **result.terms}.items()},
            ae_jax.to_tensors({"params": gradients}),
            ae_jax.to_tensors({"params": {}, STATE: result.state}),
        )


def jax_noise(noise: Noise, precision: str) -> dict[str, Any]:
    """Return noise as the JAX twin takes it."""
    return {site: jnp.asarray(values, precision) for site, values in noise.items()}


@lru_cache(maxsize=64)
def compiled_pass(spec: Spec) -> Callable[..., Any]:
    """Return the JAX twin's gradient, with its loss, and every module's output, compiled as one program.

    What both have in common is compiled once.
    """
    model = ae_jax.build(spec)

    def loss(params: Any, state: Any, x: Any, noise: Any) -> Any:
        result = model.loss({"params": params, STATE: state}, x, noise)
        return result.total, result

    def forward(variables: Any, x: Any, noise: Any) -> Any:
        mask = jnp.ones(len(x), x.dtype)
        collections = ["intermediates", STATE]
        # as in the model's own functions
        with jax.default_matmul_precision(ae_jax.model.autoencoder.PRODUCT_PRECISION):
            _, updated = model.network.apply(variables, x, noise, mask, capture_intermediates=True, mutable=collections)
        return updated["intermediates"]

    def both(variables: Any, x: Any, noise: Any) -> Any:
        gradients = jax.grad(loss, has_aux=True)(variables["params"], variables[STATE], x, noise)
        return gradients, forward(variables, x, noise)

    return jax.jit(both, compiler_options=compiler_options())


def _jax_taps(node: Any, path: str) -> Iterator[tuple[str, Any]]:
    for key, value in node.items():
        if not path and key == "__call__":
            continue  # the whole model's output is that of its parts
        if key != "__call__":
            # as in the weights file: PyTorch's blocks.0 is Linen's blocks_0
            stem, _, number = key.rpartition("_")
            yield from _jax_taps(value, f"{path}.{stem}.{number}" if number.isdigit() else f"{path}.{key}")
        else:
            yield from flat(path.removeprefix("."), value[0])


def flat(name: str, output: Any) -> Iterator[tuple[str, Any]]:
    """Yield a module's output under its name, one of several under ``NAME:FIELD`` or ``NAME:NUMBER``."""
    if isinstance(output, tuple):
        fields = getattr(output, "_fields", map(str, range(len(output))))
        for field, value in zip(fields, output, strict=True):
            yield f"{name}:{field}", value
    else:
        yield name, output


def outside(name: str, value: torch.Tensor) -> torch.Tensor:
    """Return what a module of the PyTorch twin takes or gives, images as [B, H, W, C].

    Encoder, bottleneck and decoder have them so; the modules within have [B, C, H, W].
    """
    return value.movedim(1, -1) if value.ndim == 4 and "." in name else value


def torch_pass(spec: Spec, tensors: Tensors, images: Images, noise: Noise) -> Pass:
    """Run the PyTorch twin forward and backward."""
    device = ae_torch.engine.device_of_training()
    model = ae_torch.from_tensors(ae_torch.build(spec), tensors).train().to(device)
    taps: dict[str, Any] = {}

    def tap(name: str) -> Callable[..., None]:
        def hook(module: torch.nn.Module, inputs: Any, output: Any) -> None:
            for place, value in flat(name, output):
                if place not in taps:  # a penalty may call the encoder again
                    taps[place] = outside(name, value.detach())

        return hook

    for name, module in model.named_modules():
        if name:
            module.register_forward_hook(tap(name))
    result = model.loss(
        torch_tensor(spec, images), {site: torch_tensor(spec, values) for site, values in noise.items()}
    )
    result.total.backward()
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    return Pass(
        {name: value.cpu().numpy() for name, value in taps.items()},
        {name: value.detach().cpu().numpy() for name, value in {"loss": result.total, **result.terms}.items()},
        {name: gradient.cpu().numpy() for name, gradient in gradients.items()},
        {name: value for name, value in ae_torch.to_tensors(model).items() if is_state(name)},
    )


def torch_tensor(spec: Spec, array: np.ndarray) -> torch.Tensor:
    """Return an array as the PyTorch twin takes it, where it trains."""
    return torch.from_numpy(array.astype(spec.training.precision)).to(ae_torch.engine.device_of_training())


class Stepper(NamedTuple):
    """A twin's own training, as the command line runs it."""

    advance: Callable[[Steps], dict[str, np.ndarray]]
    """Take steps and return loss terms."""
    export: Callable[[], Arrays]
    """Return parameters, state and moments."""


def jax_stepper(spec: Spec, tensors: Tensors, images: Images) -> Stepper:
    """Begin a training of the JAX twin."""
    trainer = ae_jax.engine.ENGINE.train(spec, tensors, images)
    return Stepper(trainer.advance, lambda: export_jax(spec, trainer.state))


def torch_stepper(spec: Spec, tensors: Tensors, images: Images) -> Stepper:
    """Begin a training of the PyTorch twin."""
    trainer = ae_torch.engine.ENGINE.train(spec, tensors, images)
    return Stepper(trainer.advance, lambda: export_torch(spec, trainer.state))
