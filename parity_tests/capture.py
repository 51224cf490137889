"""What goes into and comes out of every layer of a twin, forward and backward, in one training-mode pass.

Layers are those of the oracle. Most are modules, which are watched by name; what comes to the others is what the layers
before them gave, and the oracle says where their output shows.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import torch
from flax import linen

import ae_jax
import ae_torch
import ae_torch.engine
from ae_core.spec import Spec
from ae_core.training.engine import Tensors
from ae_jax.execution.compiler import compiler_options
from parity_tests.oracle import bottleneck
from parity_tests.oracle.model import LOSS, PENALTY, Net, flows, net_of, parameters_of
from parity_tests.twins import Arrays, Images, Noise, flat, jax_noise, outside, torch_tensor

BOTTLENECK = bottleneck.NAME


class Start(NamedTuple):
    """Weights and one batch, as both twins and the oracle start from them."""

    spec: Spec
    tensors: Tensors
    images: Images
    noise: Noise


class Captured(NamedTuple):
    """One layer in one pass: numbers of the twin's own precision; images are [B, H, W, C]."""

    x: np.ndarray
    y: np.ndarray
    dy: np.ndarray
    """Gradient of the loss by y."""
    dx: np.ndarray | None
    """Gradient of the loss by x, as far as it goes through this layer; None where the twin does not tell it apart."""
    gradients: Arrays
    """By the layer's parameters, in PyTorch's layout."""


class _Traces(NamedTuple):
    """Values and their gradients under ``MODULE:in`` and ``MODULE``, or ``bottleneck:FIELD``.

    What goes in is there of modules that are a layer, and of the encoder.
    """

    values: Arrays
    gradients: Arrays
    parameters: Arrays
    """Gradients by parameters."""
    terms: Arrays


def _watched(net: Net) -> tuple[set[str], set[str]]:
    """Return the names of modules that are a layer, and of all whose output is shown."""
    whole = {leaf.name for leaf in net.leaves if leaf.output is None}
    return whole, whole | {leaf.shown for leaf in net.leaves if ":" not in leaf.shown} | {"encoder", "decoder"}


def _weights(spec: Spec, net: Net) -> dict[str, float]:
    """Return the coefficients of the loss whose gradient is taken.

    What a penalty that calls the encoder adds to it comes from a pass of its own, and is no layer's; it is left out.
    """
    return {name: 0.0 if name in net.of_encoder else weight for name, weight in spec.last_coefficients.items()}


def capture_jax(spec: Spec, tensors: Tensors, images: Images, noise: Noise) -> dict[str, Captured]:
    """Run the JAX twin, compiled as a whole, and return every layer's part by name.

    A zero is added to each value, and the loss differentiated by it.
    """
    precision, net = spec.training.precision, net_of(spec)
    whole, shown = _watched(net)
    with jax.enable_x64(precision == "float64"):
        model = ae_jax.build(spec)
        variables = ae_jax.from_tensors(tensors, precision)
        x, eps = jnp.asarray(images, precision), jax_noise(noise, precision)

        def loss(params: Any, zeros: dict[str, Any]) -> Any:
            values: dict[str, Any] = {}

            def see(name: str, value: Any) -> Any:
                if name in values:  # a penalty calls the encoder again
                    return value
                values[name] = value + zeros[name] if name in zeros else value
                return values[name]

            def intercept(call: Callable[..., Any], args: Any, kwargs: Any, context: Any) -> Any:
                if context.method_name != "__call__":
                    return call(*args, **kwargs)
                name = _dotted(context.module.path)
                if name in whole or name == "encoder":
                    args = (see(f"{name}:in", args[0]), *args[1:])
                result = call(*args, **kwargs)
                if name == BOTTLENECK:
                    return result._replace(**{f: see(f"{name}:{f}", v) for f, v in result._asdict().items()})
                return see(name, result) if name in shown else result

            with linen.intercept_methods(intercept):
                result = model.loss({**variables, "params": params}, x, eps, _weights(spec, net))
            return result.total, (values, {"loss": result.total, **result.terms})

        params = variables["params"]
        shapes = jax.eval_shape(lambda params: loss(params, {})[1][0], params)
        zeros = {name: jnp.zeros(shape.shape, shape.dtype) for name, shape in shapes.items()}
        run = jax.jit(jax.grad(loss, (0, 1), has_aux=True), compiler_options=compiler_options())
        (by_params, by_values), (values, terms) = run(params, zeros)
        numpy = lambda tree: {name: np.asarray(value) for name, value in tree.items()}  # noqa: E731
        parameters = ae_jax.to_tensors({"params": by_params})
    return _assemble(
        Start(spec, tensors, images, noise), net, _Traces(numpy(values), numpy(by_values), parameters, numpy(terms))
    )


def _dotted(path: tuple[str, ...]) -> str:
    """Return PyTorch's name of a Linen path: ``blocks.0`` for ``blocks_0``."""
    parts = (key.rpartition("_") if key.rpartition("_")[2].isdigit() else ("", "", key) for key in path)
    return ".".join(f"{stem}.{last}" if stem else last for stem, _, last in parts)


def capture_torch(spec: Spec, tensors: Tensors, images: Images, noise: Noise) -> dict[str, Captured]:
    """Run the PyTorch twin and return every layer's part by name."""
    net = net_of(spec)
    whole, shown = _watched(net)
    model = ae_torch.from_tensors(ae_torch.build(spec), tensors).train().to(ae_torch.engine.device_of_training())
    values: Arrays = {}
    gradients: Arrays = {}

    def see(target: Arrays, name: str, place: str, value: torch.Tensor) -> None:
        target[place] = outside(name, value.detach()).cpu().numpy()

    def watch(name: str, module: torch.nn.Module) -> None:
        def forward(module: torch.nn.Module, inputs: Any, output: Any) -> None:
            for handle in handles:  # a penalty may call the encoder again
                handle.remove()
            if name in whole:
                see(values, name, f"{name}:in", inputs[0])
            see(values, name, name, output)

        def backward(module: torch.nn.Module, by_input: Any, by_output: Any) -> None:
            if name in whole:
                see(gradients, name, f"{name}:in", by_input[0])
            see(gradients, name, name, by_output[0])

        handles = module.register_forward_hook(forward), module.register_full_backward_hook(backward)

    def watch_images(module: torch.nn.Module, inputs: Any, output: Any) -> None:
        if "encoder:in" in values:
            return
        see(values, "encoder", "encoder:in", inputs[0])
        inputs[0].register_hook(lambda gradient: see(gradients, "encoder", "encoder:in", gradient))

    def watch_code(module: torch.nn.Module, inputs: Any, output: Any) -> None:
        if f"{BOTTLENECK}:z" in values:
            return
        for place, value in flat(BOTTLENECK, output):
            see(values, BOTTLENECK, place, value)
        output.z.register_hook(lambda gradient: see(gradients, BOTTLENECK, f"{BOTTLENECK}:z", gradient))

    for name, module in model.named_modules():
        if name in shown:
            watch(name, module)
    model.encoder.register_forward_hook(watch_images)
    model.bottleneck.register_forward_hook(watch_code)
    # a hook on the first layer sees no gradient by an input that wants none
    x = torch_tensor(spec, images).requires_grad_()
    eps = {site: torch_tensor(spec, array) for site, array in noise.items()}
    result = model.loss(x, eps, _weights(spec, net))
    result.total.backward()
    parameters = {name: p.grad.cpu().numpy() for name, p in model.named_parameters() if p.grad is not None}
    terms = {name: value.detach().cpu().numpy() for name, value in {"loss": result.total, **result.terms}.items()}
    return _assemble(Start(spec, tensors, images, noise), net, _Traces(values, gradients, parameters, terms))


def _assemble(start: Start, net: Net, traces: _Traces) -> dict[str, Captured]:
    """Return the layers of the oracle from what was seen at the modules."""
    spec, images = start.spec, start.images.astype(start.spec.training.precision)
    values, gradients, by_parameters, terms = traces
    constants = {name: parameters_of(name, *start[1:]) for name in net.layers}
    coming = flows(net, constants, values, images)
    looked_at = {net.code.fields[t.source] for t in net.penalties.values() if t.source in net.code.fields}
    layers = {}
    for leaf in net.leaves:
        name, shown, own = leaf.name, leaf.shown, f"{leaf.name}."
        if leaf.output is None:
            x, dx = values[f"{name}:in"], gradients[f"{name}:in"]
            by_own = {key.removeprefix(own): g for key, g in by_parameters.items() if key.startswith(own)}
            layers[name] = Captured(x, values[name], gradients[name], dx, by_own)
            continue
        x, ends = coming[name]
        # nobody takes a gradient by images, and where a penalty looks at a value too, its gradient is the sum of both
        apart = ends and not looked_at & set(ends)
        by_input = np.concatenate([gradients[end] for end in ends], -1) if apart else None
        layers[name] = Captured(x, values[shown], gradients[shown], by_input, {})
    if BOTTLENECK in layers:
        layers[BOTTLENECK] = _with_terms(spec, net, terms, layers[BOTTLENECK])
    output, dtype = values["decoder"], values["decoder"].dtype

    def weight(name: str) -> np.ndarray:
        return np.array([spec.last_coefficients[name]], dtype)

    # where a penalty looks at the decoder's output too, its gradient is the sum of both
    shared = any(term.source == "output" for term in net.penalties.values())
    by_output = None if shared else gradients["decoder"]
    layers[LOSS] = Captured(output, terms["reconstruction"].reshape(1), weight("reconstruction"), by_output, {})
    for kind, term in net.penalties.items():
        x = output if term.source == "output" else values[f"{BOTTLENECK}:{term.source}"]
        layers[f"{PENALTY}.{kind}"] = Captured(x, terms[kind].reshape(1), weight(kind), None, {})
    return layers


def _with_terms(spec: Spec, net: Net, terms: Arrays, seen: Captured) -> Captured:
    if not net.code.terms:
        return seen
    # a term enters the loss times its weight: that is the gradient by it, and no twin need compute it
    weights = [spec.last_coefficients.get(name, 0.0) for name in net.code.terms]
    y = np.append(seen.y, [terms[name] for name in net.code.terms])
    return seen._replace(y=y, dy=np.append(seen.dy, np.asarray(weights, seen.dy.dtype)))
