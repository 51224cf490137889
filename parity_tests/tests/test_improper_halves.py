"""Halves of a plugin that do not fit their component, or each other: refused in one line, before anything is run."""

import json
from dataclasses import dataclass, replace
from typing import ClassVar

import pytest
import torch
from flax import linen

import ae_jax
import ae_jax.model.backbone
import ae_torch
import ae_torch.model.backbone
from ae_core.commands.cli import load_engine
from ae_core.errors import SpecError, UserError
from ae_core.spec import Backbone, DenseBackbone, PlainBottleneck, Spec, component, spec_to_json
from ae_jax.model.layers import Linear
from benchmarks.main_job.job import MainJob, run_main_job
from parity_tests.curve import Curve, run_curve
from parity_tests.gates.identity import check_names
from parity_tests.report import Report, run_report

WIDE = 16


@pytest.fixture
def spec():
    """Return a spec whose backbone takes the sizes that its halves really have; afterwards nothing knows it."""
    known = dict(component._FAMILIES["backbone"])

    @dataclass(frozen=True)
    class Stranger(Backbone):
        kind: ClassVar[str] = "stranger"
        features: int = WIDE
        side: int = 4
        jax_name: str = "output"
        torch_name: str = "output"

        def feature_shape(self, input_shape):
            return (self.features,)

    class LinenEncoder(linen.Module):
        @linen.compact
        def __call__(self, x, noise=None, mask=None):
            return Linear(16, WIDE, name="inner")(x.reshape(len(x), -1))

    class LinenDecoder(linen.Module):
        side: int
        name_of_layer: str

        @linen.compact
        def __call__(self, z, noise=None, mask=None):
            return Linear(2, self.side**2, name=self.name_of_layer)(z).reshape(len(z), self.side, self.side, 1)

    class TorchEncoder(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = torch.nn.Linear(16, WIDE)

        def forward(self, x, noise=None):
            return self.inner(x.flatten(1))

    class TorchDecoder(torch.nn.Module):
        def __init__(self, side, name):
            super().__init__()
            self.side, self.name = side, name
            self.add_module(name, torch.nn.Linear(2, side**2))

        def forward(self, z, noise=None):
            return getattr(self, self.name)(z).unflatten(1, (self.side, self.side, 1))

    doors = ae_jax.model.backbone, ae_torch.model.backbone
    doors[0].make_encoder.register(Stranger, lambda backbone, spec: LinenEncoder())
    doors[0].make_decoder.register(Stranger, lambda backbone, spec: LinenDecoder(backbone.side, backbone.jax_name))
    doors[1].make_encoder.register(Stranger, lambda backbone, spec: TorchEncoder())
    doors[1].make_decoder.register(Stranger, lambda backbone, spec: TorchDecoder(backbone.side, backbone.torch_name))
    yield Spec((4, 4, 1), Stranger(), PlainBottleneck(2))
    component._FAMILIES["backbone"].clear()
    component._FAMILIES["backbone"].update(known)


def _with(spec, **fields):
    return replace(spec, backbone=replace(spec.backbone, **fields))


UNFIT = {
    "features": ({"features": 17}, "features [16]; expected [17], as feature_shape says"),
    "images": ({"side": 5}, "images [5, 5, 1]; expected [4, 4, 1], as input_shape says"),
}


@pytest.mark.parametrize("twin", ["jax", "torch"])
@pytest.mark.parametrize("case", UNFIT)
def test_layers_that_are_not_what_the_component_says(spec, twin, case):
    fields, told = UNFIT[case]
    engine = load_engine(twin)
    assert engine.shapes(spec)
    with pytest.raises(SpecError) as caught:
        engine.shapes(_with(spec, **fields))
    assert str(caught.value) == f'ae_{twin}: the backbone "stranger" gives {told}'


def test_a_model_is_refused_when_it_is_built(spec):
    unfit = _with(spec, features=17)
    with pytest.raises(SpecError, match=r"gives features \[16\]; expected \[17\]"):
        ae_torch.build(unfit)
    with pytest.raises(SpecError, match=r"gives features \[16\]; expected \[17\]"):
        ae_jax.build(unfit).init()


def test_codes_that_are_not_what_the_bottleneck_says(monkeypatch):
    """Named by the bottleneck: the layers of its backbone are in order."""
    spec = Spec((4, 4, 1), DenseBackbone((7,)), PlainBottleneck(3))
    monkeypatch.setattr(PlainBottleneck, "latent_shape", lambda self, features: (self.latent, 1))
    for build in (lambda: ae_jax.build(spec).shapes, lambda: ae_torch.build(spec).shapes):
        with pytest.raises(
            SpecError, match=r'the bottleneck "plain" gives codes \[3\]; expected \[3, 1\], as latent_sh'
        ):
            build()


DIFFERING = (
    "spec: given decoder.output.bias [16] and 1 more in ae_jax alone, decoder.out.bias [16] and 1 more in ae_torch "
    "alone; expected tensors of the same names and shapes in both twins"
)


def test_names_that_differ(spec):
    check_names(spec)
    with pytest.raises(UserError) as caught:
        check_names(_with(spec, torch_name="out"))
    assert str(caught.value) == DIFFERING


def test_shapes_that_differ(spec, monkeypatch):
    shapes = load_engine("jax").shapes(spec)
    monkeypatch.setattr(type(load_engine("jax")), "shapes", lambda self, spec: shapes | {"encoder.inner.bias": (3,)})
    with pytest.raises(UserError, match=r"^spec: given encoder\.inner\.bias \[3\] in ae_jax alone, encoder\."):
        check_names(spec)


@pytest.mark.parametrize("job", ["report", "curve", "benchmarks"])
def test_every_proof_refuses_names_that_differ(spec, tmp_path, monkeypatch, job):
    file, out = tmp_path / "spec.json", tmp_path / "out"
    file.write_text(json.dumps(spec_to_json(_with(spec, torch_name="out"))))
    run = {
        "report": lambda: run_report(Report(spec=file)),
        "curve": lambda: run_curve(Curve(spec=file)),
        "benchmarks": lambda: run_main_job(MainJob(spec=file, out=out)),
    }[job]
    with pytest.raises(UserError) as caught:
        run()
    assert str(caught.value) == DIFFERING
    assert not out.exists()
