"""What XLA makes of a training step on a CPU: every convolution in the one layout that is fast there."""

import re

import jax
import numpy as np
import pytest

from ae_core.spec import ConvBackbone, DenseBackbone
from ae_core.spec.presets import PRESETS, preset
from ae_core.training.initial import initial_weights
from ae_core.training.loop import make_steps
from ae_jax.engine import ENGINE
from ae_jax.execution.compiler import _ON_A_CPU, compiler_options, known
from ae_jax.execution.dispatch import compiled_steps
from ae_jax.execution.plan import Plan

_FAST = "b01f_01io->b01f"


def _hlo(spec, plan):
    """The compiled program of many steps: a loop over steps, and in it one over parts of a batch."""
    images = np.zeros((spec.training.batch_size, *spec.input_shape), np.float32)
    trainer = ENGINE.train(spec, initial_weights(ENGINE.shapes(spec), spec, 0), images, plan)
    return trainer.compiled(make_steps(spec, len(images), 0, 0, 0, 1)).as_text()


def _convolutions(hlo):
    return re.findall(r"= \S+ convolution\(.*dim_labels=(\S+?),?(?: |$)(.*)", hlo)


def _copies(hlo):
    return re.findall(r"= \w+\[([\d,]+)\]\S* copy\(", hlo)


def _slow(hlo):
    return [labels for labels, rest in _convolutions(hlo) if labels != _FAST or "rhs_reversal" in rest]


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("micro_batch", [4, 64], ids=["inner loop", "whole"])
def test_no_convolution_on_the_slow_path(name, micro_batch):
    spec = preset(name)
    hlo = _hlo(spec, Plan(1, None if spec.couples_samples else micro_batch))
    assert _slow(hlo) == []
    if isinstance(spec.backbone, ConvBackbone):
        # three layers forward, the output's gradient by input, and weight gradients that are no matrix products
        assert len(_convolutions(hlo)) >= 3 + 1 + 2
        assert "while(" in hlo


def test_this_test_can_fail():
    assert len(_slow(_hlo(preset("foster-ae"), Plan(1, 64, plain_convolutions=True)))) >= 7


@pytest.mark.parametrize("name", [name for name in PRESETS if isinstance(preset(name).backbone, DenseBackbone)])
def test_weights_are_not_copied(name, monkeypatch):
    spec = preset(name)
    weights = {",".join(map(str, shape[::-1])) for shape in ENGINE.shapes(spec).values() if len(shape) == 2}
    assert len(weights) >= 2
    assert not weights & set(_copies(_hlo(spec, Plan(1, 64))))
    monkeypatch.setattr("ae_jax.training.after", lambda number, tree: number)
    compiled_steps.cache_clear()
    try:
        assert weights & set(_copies(_hlo(spec, Plan(1, 64))))  # they would be: the search does find copies
    finally:
        compiled_steps.cache_clear()


def test_an_unknown_option_is_left_out():
    assert not known("xla_cpu_no_such_option", True)
    assert known("xla_cpu_prefer_vector_width", 256)
    assert compiler_options() == _ON_A_CPU


def test_these_tests_run_on_a_cpu():
    assert jax.default_backend() == "cpu"
