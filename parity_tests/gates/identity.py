"""The identity gate: in float64 the twins are the same function, the same gradient and the same training."""

from dataclasses import replace

import numpy as np
from jaxtyping import Float

import ae_jax.engine
import ae_torch
import ae_torch.engine
from ae_core.data import steps_per_epoch
from ae_core.rng import generator, normal
from ae_core.spec import Precision, Spec
from ae_core.training.initial import initial_weights
from ae_core.training.loop import make_steps
from parity_tests.check import IDENTITY_LIMIT, Check, compare
from parity_tests.twins import jax_pass, jax_stepper, torch_pass, torch_stepper

Images = Float[np.ndarray, "N H W C"]


def with_precision(spec: Spec, precision: Precision) -> Spec:
    """Return the spec, to be trained in that precision."""
    return replace(spec, training=replace(spec.training, precision=precision))


def weights_of(spec: Spec, seed: int) -> dict[str, np.ndarray]:
    """Return the initial weights of a spec, with biases and norms off their starting points.

    At the start every bias is 0 and every norm weight 1, which would hide a bias that is left out or a weight that is
    not applied.
    """
    shapes = ae_torch.build(spec).shapes
    tensors = initial_weights(shapes, spec.initializer, seed)
    moved = {n: generator(seed, "identity", n).uniform(0.05, 0.1, t.shape) for n, t in tensors.items() if t.ndim == 1}
    return {n: t + moved[n] if n in moved else t for n, t in tensors.items()}


def check_forward(spec: Spec, images: Images, seed: int, limit: float, precision: Precision) -> list[Check]:
    """Compare one training-mode pass: every module's output, loss terms, gradients and running statistics."""
    spec = with_precision(spec, precision)
    tensors = weights_of(spec, seed)
    steps = make_steps(spec, len(images), seed, 0, 0, 1)
    size = int(steps.sizes[0])
    batch = images[steps.indices[0, :size]], steps.noise[0, :size]
    ours, theirs = jax_pass(spec, tensors, *batch), torch_pass(spec, tensors, *batch)
    checks = compare("forward", ours.taps, theirs.taps, limit, precision)
    checks += compare("loss", ours.terms, theirs.terms, limit, precision)
    checks += compare("gradient", ours.gradients, theirs.gradients, limit, precision)
    if ours.state or theirs.state:
        checks += compare("running statistics", ours.state, theirs.state, limit, precision)
    return checks


def check_training(spec: Spec, images: Images, seed: int, marks: tuple[int, ...] = (1, 20)) -> list[Check]:
    """Train both twins in float64 and compare parameters, statistics and moments after so many steps each.

    The batches are those of the real training, with its order, its shorter last batches and its epoch borders.
    """
    spec = with_precision(spec, "float64")
    tensors = initial_weights(ae_torch.build(spec).shapes, spec.initializer, seed)
    twins = [stepper(spec, tensors, images) for stepper in (jax_stepper, torch_stepper)]
    checks: list[Check] = []
    per_epoch = steps_per_epoch(len(images), spec.training.batch_size)
    for step in range(max(marks)):
        steps = make_steps(spec, len(images), seed, step // per_epoch, step % per_epoch, 1)
        terms = [twin.advance(steps) for twin in twins]
        if step + 1 in marks:
            name = f"after {step + 1} step{'s' if step else ''}"
            checks += compare(f"loss {name}", terms[0], terms[1], IDENTITY_LIMIT, "float64")
            checks += compare(f"state {name}", twins[0].export(), twins[1].export(), IDENTITY_LIMIT, "float64")
    return checks


def check_evaluation(spec: Spec, images: Images, seed: int) -> list[Check]:
    """Compare codes, images and held-out loss in float64: without noise, with running statistics, after three steps."""
    spec = with_precision(spec, "float64")
    tensors = weights_of(spec, seed)
    trainer = ae_torch.engine.ENGINE.train(spec, tensors, images)
    trainer.advance(make_steps(spec, len(images), seed, 0, 0, min(3, trainer.capacity)))
    z = normal((7, spec.bottleneck.latent), seed, "identity")
    images = images[:64]  # of a whole data set a few are enough: float64 is slow
    answers = []
    for engine in (ae_jax.engine.ENGINE, ae_torch.engine.ENGINE):
        model = engine.infer(spec, trainer.tensors())
        heldout = {name: np.array(value) for name, value in model.evaluate(images).items()}
        arrays = {"encode": model.encode(images), "decode": model.decode(z), "reconstruct": model.reconstruct(images)}
        answers.append(arrays | heldout)
    return compare("evaluation", answers[0], answers[1], IDENTITY_LIMIT, "float64")


def check_identity(spec: Spec, images: Images, seed: int) -> list[Check]:
    """Hold a spec to the whole gate on these images: forward, loss, gradients, evaluation, and 20 steps of training."""
    checks = check_forward(spec, images, seed, IDENTITY_LIMIT, "float64")
    return checks + check_evaluation(spec, images, seed) + check_training(spec, images, seed)
