"""The identity gate: in float64 the twins are the same function, the same gradient and the same training."""

from dataclasses import replace

import numpy as np
from jaxtyping import Float

import ae_jax.engine
import ae_torch
import ae_torch.engine
from ae_core.errors import UserError
from ae_core.rng import generator, normal
from ae_core.spec import Precision, Spec
from ae_core.training.engine import Engine, Trainer
from ae_core.training.initial import initial_weights
from ae_core.training.steps import make_steps
from parity_tests.batches import first_batch, one_step
from parity_tests.check import IDENTITY_LIMIT, Check, compare
from parity_tests.twins import jax_pass, jax_stepper, torch_pass, torch_stepper

Images = Float[np.ndarray, "N H W C"]
ENGINES: tuple[Engine, Engine] = (ae_jax.engine.ENGINE, ae_torch.engine.ENGINE)


def with_precision(spec: Spec, precision: Precision) -> Spec:
    """Return the spec, to be trained in that precision."""
    return replace(spec, training=replace(spec.training, precision=precision))


def check_names(spec: Spec) -> None:
    """Refuse halves of which one has tensors that the other has not: no weights fit both, so no gate can begin.

    Raises:
        UserError: names the first tensors that differ.
    """
    sides = {f"ae_{engine.name}": engine.shapes(spec) for engine in ENGINES}
    if sides["ae_jax"] == sides["ae_torch"]:
        return
    told = []
    for (side, own), other in zip(sides.items(), reversed(sides.values()), strict=True):
        alone = [f"{name} {list(shape)}" for name, shape in sorted(own.items()) if other.get(name) != shape]
        further = f" and {len(alone) - 1} more" if len(alone) > 1 else ""
        told += [f"{alone[0]}{further} in {side} alone"] if alone else []
    raise UserError(f"spec: given {', '.join(told)}; expected tensors of the same names and shapes in both twins")


def weights_of(spec: Spec, seed: int) -> dict[str, np.ndarray]:
    """Return the initial weights of a spec, with biases and norms off their starting points.

    At the start every bias is 0 and every norm weight 1, which would hide a bias that is left out or a weight that is
    not applied.
    """
    shapes = ae_torch.build(spec).shapes
    tensors = initial_weights(shapes, spec, seed)
    moved = {n: generator(seed, "identity", n).uniform(0.05, 0.1, t.shape) for n, t in tensors.items() if t.ndim == 1}
    return {n: t + moved[n] if n in moved else t for n, t in tensors.items()}


def check_forward(spec: Spec, images: Images, seed: int, limit: float, precision: Precision) -> list[Check]:
    """Compare one training-mode pass: every module's output, loss terms, gradients and state."""
    spec = with_precision(spec, precision)
    tensors = weights_of(spec, seed)
    batch = first_batch(spec, images, seed)
    ours, theirs = jax_pass(spec, tensors, *batch), torch_pass(spec, tensors, *batch)
    checks = compare("forward", ours.taps, theirs.taps, limit, precision)
    checks += compare("loss", ours.terms, theirs.terms, limit, precision)
    checks += compare("gradient", ours.gradients, theirs.gradients, limit, precision)
    if ours.state or theirs.state:
        checks += compare("state", ours.state, theirs.state, limit, precision)
    return checks


def check_training(spec: Spec, images: Images, seed: int, marks: tuple[int, ...] = (1, 20)) -> list[Check]:
    """Train both twins in float64 and compare parameters, state and moments after so many steps each.

    The batches are those of the real training, with its order, its shorter last batches and its epoch borders.
    """
    spec = with_precision(spec, "float64")
    tensors = initial_weights(ae_torch.build(spec).shapes, spec, seed)
    twins = [stepper(spec, tensors, images) for stepper in (jax_stepper, torch_stepper)]
    checks: list[Check] = []
    for step in range(max(marks)):
        steps = one_step(spec, len(images), seed, step)
        terms = [twin.advance(steps) for twin in twins]
        if step + 1 in marks:
            name = f"after {step + 1} step{'s' if step else ''}"
            checks += compare(f"loss {name}", terms[0], terms[1], IDENTITY_LIMIT, "float64")
            checks += compare(f"training {name}", twins[0].export(), twins[1].export(), IDENTITY_LIMIT, "float64")
    return checks


def check_evaluation(spec: Spec, images: Images, seed: int) -> list[Check]:
    """Compare codes, images and held-out loss in float64: without noise, with the state of three steps of training.

    A trainer that evaluates keeps its weights and state as they are.
    """
    spec = with_precision(spec, "float64")
    tensors = weights_of(spec, seed)
    trainer: Trainer = ae_torch.engine.ENGINE.train(spec, tensors, images)
    trainer.advance(make_steps(spec, len(images), seed, 0, 0, min(3, trainer.capacity)))
    tensors = trainer.tensors()
    z = normal((7, *spec.latent_shape), seed, "identity")
    heldout = images[:64]  # of a whole data set a few are enough: float64 is slow
    answers, checks = [], []
    for engine in ENGINES:
        model = engine.infer(spec, tensors)
        terms = {name: np.array(value) for name, value in model.evaluate(heldout).items()}
        arrays = {"encode": model.encode(heldout), "decode": model.decode(z), "reconstruct": model.reconstruct(heldout)}
        if spec.bottleneck.has_posterior:
            arrays |= dict(zip(("mean", "logvar"), model.posterior(heldout), strict=True))
        trainer = engine.train(spec, tensors, images)
        arrays |= {f"{name} while training": np.array(v) for name, v in trainer.evaluate(heldout).items()}
        kept = trainer.tensors()
        checks += compare(f"evaluation, {engine.name}, kept", kept, tensors, IDENTITY_LIMIT, "float64")
        answers.append(arrays | terms)
    return checks + compare("evaluation", answers[0], answers[1], IDENTITY_LIMIT, "float64")


def check_resumed(spec: Spec, images: Images, seed: int) -> list[Check]:
    """Have either twin go on in float64 from the other's snapshot after two steps, and compare two steps later.

    What it is compared with is the training that was never interrupted.
    """
    spec = with_precision(spec, "float64")
    tensors = initial_weights(ae_torch.build(spec).shapes, spec, seed)
    steps = [one_step(spec, len(images), seed, step) for step in range(4)]
    checks = []
    for first, second in (ENGINES, ENGINES[::-1]):
        whole, resumed = (engine.train(spec, tensors, images) for engine in (first, second))
        for step in steps[:2]:
            whole.advance(step)
        resumed.restore(whole.snapshot())
        for step in steps[2:]:
            whole.advance(step)
            resumed.advance(step)
        ends = whole.snapshot(), resumed.snapshot()
        counts = ({"step": np.array(end.step, np.float64)} for end in ends)
        ours, theirs = (dict(end.tensors) | count for end, count in zip(ends, counts, strict=True))
        checks += compare(f"resumed by {second.name}", ours, theirs, IDENTITY_LIMIT, "float64")
    return checks


def check_identity(spec: Spec, images: Images, seed: int) -> list[Check]:
    """Hold a spec to the whole gate on these images: one pass, evaluation, 20 steps of training, and going on."""
    checks = check_forward(spec, images, seed, IDENTITY_LIMIT, "float64") + check_evaluation(spec, images, seed)
    return checks + check_training(spec, images, seed) + check_resumed(spec, images, seed)
