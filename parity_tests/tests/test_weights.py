"""Initial weights are bit-equal, and a weights file goes through both twins without changing a bit."""

from dataclasses import replace

import jax
import numpy as np
import pytest

import ae_jax
import ae_torch
from ae_core.files.weights import load_weights
from ae_core.spec.presets import PRESETS
from parity_tests.cases import CASES

PARAMETERS = {"foster-ae": 343_043, "foster-vae": 347_141}


def bits(tensors):
    return {name: (tensor.dtype, tensor.shape, tensor.tobytes()) for name, tensor in tensors.items()}


def in_precision(spec, precision):
    return replace(spec, training=replace(spec.training, precision=precision))


@pytest.mark.parametrize("precision", ["float32", "float64"])
@pytest.mark.parametrize("name", CASES)
def test_initial_weights(name, precision):
    spec = in_precision(CASES[name], precision)
    with jax.enable_x64(precision == "float64"):
        ours = ae_jax.to_tensors(ae_jax.build(spec).init(seed=3))
    theirs = ae_torch.to_tensors(ae_torch.build(spec).init(seed=3))
    assert bits(ours) == bits(theirs)
    assert bits(ours) != bits(ae_torch.to_tensors(ae_torch.build(spec).init(seed=4)))
    assert all(tensor.dtype == precision for tensor in ours.values())
    assert all(tensor_name.startswith(("encoder.", "bottleneck.", "decoder.")) for tensor_name in ours)


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameter_counts(name):
    for model in (ae_jax.build(PRESETS[name]), ae_torch.build(PRESETS[name])):
        assert sum(int(np.prod(shape)) for shape in model.shapes.values()) == PARAMETERS[name]


@pytest.mark.parametrize("precision", ["float32", "float64"])
@pytest.mark.parametrize("name", CASES)
def test_round_trip(name, precision, tmp_path):
    """PyTorch writes, JAX reads and writes, PyTorch reads: the bits are those of the start, also of the state."""
    spec = in_precision(CASES[name], precision)
    rng = np.random.default_rng(7)
    first = ae_torch.build(spec)
    random = {n: rng.standard_normal(shape).astype(precision) for n, shape in first.shapes.items()}
    ae_torch.save(tmp_path / "torch.safetensors", ae_torch.from_tensors(first, random))
    with jax.enable_x64(precision == "float64"):
        model, variables = ae_jax.load(tmp_path / "torch.safetensors")
        ae_jax.save(tmp_path / "jax.safetensors", model, variables)
    last = ae_torch.load(tmp_path / "jax.safetensors")
    assert model.spec == last.spec == spec
    assert bits(ae_torch.to_tensors(last)) == bits(random)
    assert bits(load_weights(tmp_path / "jax.safetensors").tensors) == bits(random)
    assert (tmp_path / "jax.safetensors").read_bytes() == (tmp_path / "torch.safetensors").read_bytes()


def test_file_loads_with_pytorch_alone(tmp_path):
    from safetensors.torch import load_file

    spec = CASES["conv batch norm"]
    model = ae_torch.build(spec).init(seed=9)
    ae_torch.save(tmp_path / "w.safetensors", model)
    other = ae_torch.build(spec)
    other.load_state_dict(load_file(tmp_path / "w.safetensors"))
    assert bits(ae_torch.to_tensors(other)) == bits(ae_torch.to_tensors(model))
