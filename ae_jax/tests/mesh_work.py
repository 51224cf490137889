"""Run in a process of its own with eight devices: prints JSON for test_mesh.py."""

import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import jax

jax.config.update("jax_num_cpu_devices", 8)

import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402

from ae_core.rng import generator, normal  # noqa: E402
from ae_core.spec import (  # noqa: E402
    SGD,
    ConvBackbone,
    DenseBackbone,
    GaussianBottleneck,
    GroupNorm,
    PlainBottleneck,
    Spec,
    Training,
)
from ae_core.training.initial import initial_weights  # noqa: E402
from ae_core.training.steps import make_steps  # noqa: E402
from ae_jax import engine  # noqa: E402
from ae_jax.engine import ENGINE, Inference  # noqa: E402
from ae_jax.execution.gradients import Inputs, whole_batch  # noqa: E402
from ae_jax.execution.plan import Plan  # noqa: E402
from ae_jax.model.autoencoder import build  # noqa: E402
from ae_jax.tensors import from_tensors, to_tensors  # noqa: E402

_CONV = ConvBackbone((3, 4), (2, 2), norm=GroupNorm(1))
SPECS = {
    "conv": Spec((8, 4, 1), _CONV, GaussianBottleneck(2), training=Training(SGD(0.1), precision="float64")),
    "dense": Spec((3, 2, 2), DenseBackbone((5,)), PlainBottleneck(2), training=Training(SGD(0.1), precision="float64")),
}
PLANS = [Plan(1, 3), Plan(2, 1), Plan(2), Plan(4, 3), Plan(8), Plan(8, 1)]


def gradients():
    """Largest distances of gradients, and for some plans of an epoch's state and terms, from those of whole batches."""
    rows = []
    for name, spec in SPECS.items():
        for batch in (7, 16):
            rows += [{"spec": name, "batch": batch, **row} for row in _distances(spec, batch)]
    return rows


def _distances(spec, batch):
    training = replace(spec.training, batch_size=batch)
    spec, count = replace(spec, training=training), 3 * batch + batch // 2
    images = generator(0, "images").random((count, *spec.input_shape)).astype(np.float32)
    tensors = initial_weights(ENGINE.shapes(spec), spec, 0)
    steps = make_steps(spec, count, 0, 0, 0, -(-count // batch))
    right = _trained(spec, tensors, images, steps, Plan(1, batch))
    model = build(spec)
    with jax.enable_x64(True):
        variables = from_tensors(tensors, "float64")
        x, noise = jnp.asarray(images[:batch], "float64"), jnp.asarray(normal((batch, 2), 0, "noise"))
        noise = {"bottleneck": noise} if spec.noise_sites else {}
        grads, _ = jax.jit(lambda v: whole_batch(model, v, Inputs(x, noise)))(variables)
        right_grads = to_tensors({"params": grads})
    for plan in PLANS:
        row = {"devices": plan.devices, "micro_batch": plan.micro_batch}
        if plan == PLANS[batch % len(PLANS)]:
            found = _trained(spec, tensors, images, steps, plan)
            row |= {"state": max(_apart(found[0], right[0])), "terms": max(_apart(found[1], right[1]))}
        yield row | {"gradient": max(_apart(_gradient(spec, variables, plan, x, noise), right_grads))}


def _gradient(spec, variables, plan, x, noise):
    """The gradient that a trainer's program works out: what one step of SGD at rate 1 takes off the weights."""
    spec = replace(spec, training=replace(spec.training, optimizer=SGD(1.0, momentum=0.0)))
    trainer = ENGINE.train(spec, to_tensors(variables), np.asarray(x), plan)
    steps = make_steps(spec, len(x), 0, 0, 0, 1)
    own = {site: np.asarray(values)[None] for site, values in noise.items()}
    steps = steps._replace(indices=np.arange(len(x))[None], noise=own, learning_rates=np.ones(1))
    trainer.advance(steps)
    after = trainer.tensors()
    return {name: before - after[name] for name, before in to_tensors(variables).items()}


def _trained(spec, tensors, images, steps, plan):
    trainer = ENGINE.train(spec, tensors, images, plan)
    terms = trainer.advance(steps)
    assert len(trainer.state.step.sharding.device_set) == plan.devices
    return trainer.tensors(), terms


def _apart(ours, theirs):
    assert ours.keys() == theirs.keys()
    for name, right in theirs.items():
        yield float(np.abs(ours[name] - right).max() / max(np.abs(right).max(), 1e-300))


def inference():
    """Largest distance of each function's results on a mesh from those of single images."""
    spec = SPECS["conv"]
    model = Inference(spec, initial_weights(ENGINE.shapes(spec), spec, 0))
    images = generator(0, "images").random((300, *spec.input_shape)).astype(np.float32)
    found = {}
    original = engine.divide
    for devices in (1, 2, 8):
        engine.divide = lambda spec, rows, plan=None, train=True, n=devices: original(spec, rows, Plan(n), train)
        z = model.encode(images)
        found[devices] = [z, model.decode(z), model.reconstruct(images), np.array([*model.evaluate(images).values()])]
    return [float(np.abs(a - b).max()) for n in (2, 8) for a, b in zip(found[n], found[1], strict=True)]


def stress(devices, steps):
    """Take so many steps on so many devices, and return seconds and the last loss."""
    spec = replace(SPECS["dense"], training=Training(batch_size=16))
    images = generator(0, "images").random((16 * 64, *spec.input_shape)).astype(np.float32)
    tensors = initial_weights(ENGINE.shapes(spec), spec, 0)
    trainer, began, done = ENGINE.train(spec, tensors, images, Plan(devices)), time.perf_counter(), 0
    while done < steps:
        number = min(1 + done % 64, steps - done)  # dispatches of all lengths
        loss = trainer.advance(make_steps(spec, len(images), 0, 0, 0, number))["loss"][-1]
        done += number
    return {"devices": devices, "steps": done, "loss": float(loss), "seconds": time.perf_counter() - began}


def threads(steps):
    """Train in two threads while images are encoded in this one, and then once more, one training after the other.

    Return the last losses of both ways, how often images were encoded, and the most programs that ever ran at once.
    """
    running, most = [], []

    def watched(compiled):
        def make(*arguments):
            def run(*inputs):
                running.append(None)
                most.append(len(running))
                try:
                    return jax.block_until_ready(compiled(*arguments)(*inputs))
                finally:
                    running.pop()

            return run

        return make

    engine.compiled_steps, engine.compiled_inference = map(watched, (engine.compiled_steps, engine.compiled_inference))
    spec = SPECS["conv"]
    model = Inference(spec, initial_weights(ENGINE.shapes(spec), spec, 0))
    images = generator(0, "images").random((300, *spec.input_shape)).astype(np.float32)
    original, encoded = engine.divide, 0
    with ThreadPoolExecutor(2) as pool:
        trainings = [pool.submit(stress, devices, steps) for devices in (4, 8)]
        engine.divide = lambda spec, rows, plan=None, train=True: original(spec, rows, plan or Plan(8), train)
        while not all(training.done() for training in trainings):
            model.encode(images)
            encoded += 1
    together = [training.result()["loss"] for training in trainings]
    alone = [stress(devices, steps)["loss"] for devices in (4, 8)]
    return {"together": together, "alone": alone, "encoded": encoded, "most": max(most)}


if __name__ == "__main__":
    work = {"gradients": gradients, "inference": inference, "stress": stress, "threads": threads}[sys.argv[1]]
    print(json.dumps(work(*map(int, sys.argv[2:]))))
