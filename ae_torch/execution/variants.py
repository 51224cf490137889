"""How PyTorch runs a model: memory layout, optimiser kernels, compilation. None of it changes what is computed.

`Variant` says one way; `VARIANTS` is the published grid from which the race takes PyTorch's best. The model and the
training step know nothing of it: a variant is laid over them here.
"""

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor

from ae_core.errors import SpecError, UserError
from ae_core.spec import Penalty, Spec
from ae_torch.execution.mirror import convolutions, mirror
from ae_torch.model.autoencoder import Autoencoder, Loss
from ae_torch.model.bottleneck import NO_NOISE, Coefficients, Noise

Mode = Literal["default", "reduce-overhead", "max-autotune"]

COMPILE_STEPS = 8_000
"""Training steps from which the engine compiles a convolutional model by itself.

Compiling takes 12 to 15 s on two cores and saves a twentieth to a tenth of a step of 55 ms: it has paid for itself
after 2,300 to 8,000 steps, which differs from run to run. Steps of a dense model are too short to earn it back.
"""
WHOLE_BATCH = 128
"""On a CPU, longer batches of a convolutional model are trained on in parts: their activations leave the cache. At 512
images parts of 32 take two thirds of the time, at 128 as long as the whole. Inference is in such parts always: decoding
256 images takes little more than half the time."""


@dataclass(frozen=True)
class Variant:
    """One way to run the same model."""

    channels_last: bool = True
    """Keep images and kernels of convolutions in NHWC memory; in NCHW otherwise."""
    fused: bool = True
    """Update all parameters in one kernel of the optimiser; one operation after the other otherwise."""
    compile: Mode | None = None
    """Mode of `torch.compile`, for model and loss together; None runs them eagerly."""
    compile_optimizer: bool = False
    """Compile the optimiser's step too, in place of its fused kernel."""
    micro_batch: int | None = None
    """Images that go through the model at once; in training gradients are summed over the parts of a batch."""
    mirrored: bool = True
    """Turn images by 180° and all kernels too, where that spares PyTorch a copy; see `ae_torch.execution.mirror`."""

    def __str__(self) -> str:
        layout = "channels_last" if self.channels_last else "contiguous"
        parts = ["eager" if self.compile is None else f"compiled ({self.compile})", layout]
        if self.channels_last and not self.mirrored:
            parts.append("copies for padding")
        if self.micro_batch is not None:
            parts.append(f"parts of {self.micro_batch}")
        if self.compile_optimizer:
            return ", ".join([*parts, "compiled optimiser"])
        return ", ".join([*parts, "fused optimiser" if self.fused else "plain optimiser"])


VARIANTS: dict[str, Variant] = {
    "eager": Variant(channels_last=False, fused=False, mirrored=False),
    "padded": Variant(mirrored=False),
    "channels_last": Variant(),
    "compile": Variant(compile="default"),
    "compile+optimizer": Variant(compile="default", compile_optimizer=True),
    "reduce-overhead": Variant(compile="reduce-overhead"),
    "max-autotune": Variant(compile="max-autotune"),
    "micro-batches": Variant(micro_batch=32),
    "compile+micro-batches": Variant(compile="default", micro_batch=32),
}


def choose(model: Autoencoder, steps: int) -> Variant:
    """Return the engine's choice for a training of so many steps; for inference of 0.

    Channels last and fused always; of a model that convolves, compiled where it pays, see `COMPILE_STEPS`, and there is
    a compiler to do it with; on a CPU mirrored, and in parts, see `WHOLE_BATCH`, where samples do not depend on each
    other.
    """
    spec, convolves, on_cpu = model.spec, bool(convolutions(model)), not torch.cuda.is_available()
    pays = convolves and steps >= COMPILE_STEPS and _compiler() is not None and not _calling(spec)
    apart = spec.training.batch_size > WHOLE_BATCH and not spec.couples_samples if steps else True
    if convolves and on_cpu and apart:
        return VARIANTS["compile+micro-batches" if pays else "micro-batches"]
    return replace(VARIANTS["compile" if pays else "channels_last"], mirrored=on_cpu)


def laid_out(model: Autoencoder, variant: Variant) -> Autoencoder:
    """Lay the model out in memory as the variant says, in place; images that come in are laid out alike."""
    if variant.mirrored:
        mirror(model)
    if not variant.channels_last:
        model.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]  # PyTorch's stubs lack it
        for layer in convolutions(model):
            # what comes in may be a view of NHWC memory, which would decide the layout of all that follows
            layer.register_forward_pre_hook(lambda _, inputs: (inputs[0].contiguous(), *inputs[1:]))
    return model


def with_variant(model: Autoencoder, optimizer: torch.optim.Optimizer, variant: Variant) -> None:
    """Lay the variant over a model in training and its optimiser, in place.

    The compiled program serves batches as long as the first one; a shorter last batch runs eagerly, for it would cost
    a compilation of its own.

    Raises:
        SpecError: the variant cuts batches, and the samples of a batch depend on each other.
    """
    coupling = [component for component in model.spec.components if component.couples_samples]
    if variant.micro_batch is not None and coupling:
        raise SpecError(
            f'variant {variant}: the {coupling[0].family} "{coupling[0].kind}" couples the samples of a batch; '
            "expected a variant without parts"
        )
    if variant.compile is not None and _calling(model.spec):
        raise SpecError(
            f'variant {variant}: the penalty "{_calling(model.spec)[0].kind}" calls the encoder within the loss; '
            "expected a variant that runs eagerly"
        )
    if variant.compile_optimizer:
        _compile_optimizer(optimizer, variant)
    elif not variant.fused:
        for group in optimizer.param_groups:
            group["fused"] = group["foreach"] = False
    if variant.compile is not None:
        plain, fast = model.loss, compiled(model.loss, variant)

        def loss(x: Tensor, noise: Noise = NO_NOISE, coefficients: Coefficients | None = None) -> Any:
            if not model.training:
                return plain(x, noise, coefficients)
            numbers = model.spec.last_coefficients if coefficients is None else coefficients
            # a float would be part of the program, and another one a program of its own
            return fast(x, dict(noise), {name: x.new_tensor(value) for name, value in numbers.items()})

        model.loss = loss  # type: ignore[method-assign]
    if variant.micro_batch is not None:
        model.loss = _in_parts(model, variant.micro_batch)  # type: ignore[method-assign]


def _calling(spec: Spec) -> list[Penalty]:
    """Return penalties that may take a gradient within the loss; compiled, that is not held to any gate."""
    return [penalty for penalty in spec.penalties if penalty.needs_encoder]


def _in_parts(model: Autoencoder, size: int) -> Callable[..., Loss]:
    """Return the model's loss, worked out part by part in training; each part's gradient is added up at once.

    The mean over a batch is the sum of its parts' means, each times its share of the samples.
    """
    whole = model.loss

    def loss(x: Tensor, noise: Noise = NO_NOISE, coefficients: Coefficients | None = None) -> Loss:
        if not model.training or len(x) <= size:
            return whole(x, noise, coefficients)
        found: dict[str, Tensor] = {}
        for first in range(0, len(x), size):
            rows = slice(first, first + size)
            result = whole(x[rows], {site: values[rows] for site, values in noise.items()}, coefficients)
            share = len(x[rows]) / len(x)
            (share * result.total).backward()  # what it held is free for the next part
            for name, value in {"": result.total, **result.terms}.items():
                found[name] = found.get(name, 0) + share * value.detach()
        # the gradients are there: going backward from a leaf adds nothing to them
        return Loss(found.pop("").requires_grad_(), found)

    return loss


def compiled(function: Callable[..., Any], variant: Variant) -> Callable[..., Any]:
    """Return the function as the variant runs it; inputs with another number of rows than the first run eagerly.

    Raises:
        UserError: the variant compiles, and there is no C++ compiler.
    """
    if variant.compile is None:
        return function
    if _compiler() is None:
        raise UserError(f"variant {variant}: no C++ compiler found; expected one on the path, or named by CXX")
    fast = torch.compile(function, mode=variant.compile, dynamic=False)
    first: int | None = None

    def run(x: torch.Tensor, *rest: Any) -> Any:
        nonlocal first
        first = first or len(x)
        return (fast if len(x) == first else function)(x, *rest)

    return run


def _compile_optimizer(optimizer: torch.optim.Optimizer, variant: Variant) -> None:
    """Put a compiled step in place of the optimiser's own.

    The learning rate becomes a tensor, so that a new one is no new program. Adam's counter becomes one in float64: in
    float32, where compiled code keeps it, 1 − b2ᵗ is off by 1e-5 in the first steps.
    """
    for group in optimizer.param_groups:
        group.update(fused=False, foreach=False)
        if isinstance(optimizer, torch.optim.Adam):
            group["capturable"] = True
            for parameter in group["params"]:
                optimizer.state[parameter] = {
                    "step": torch.zeros((), dtype=torch.float64, device=parameter.device),
                    "exp_avg": torch.zeros_like(parameter),
                    "exp_avg_sq": torch.zeros_like(parameter),
                }
    rates = [torch.zeros((), dtype=torch.float64) for _ in optimizer.param_groups]
    fast = torch.compile(optimizer.step, mode=variant.compile, dynamic=False)

    def step() -> None:
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            rate.fill_(group["lr"])
            group["lr"] = rate
        fast()

    optimizer.step = step  # type: ignore[method-assign, assignment]


def _compiler() -> str | None:
    return shutil.which(os.environ.get("CXX", "g++"))
