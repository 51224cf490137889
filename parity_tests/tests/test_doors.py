"""Components have doors: outside a family's own files nothing asks of which kind one is; what is unknown refuses."""

import ast
import dataclasses
import importlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

import ae_jax
import ae_torch
from ae_core import spec as specs
from ae_core.errors import MissingError, SpecError
from ae_core.spec import DenseBackbone, PlainBottleneck, Spec, families, kinds, spec_from_json, spec_to_json
from parity_tests.cases import own_kinds

ROOT = Path(__file__).parents[2]
PACKAGES = ("ae_core", "ae_jax", "ae_torch", "parity_tests", "benchmarks")
MAY_ASK = (
    "ae_core/spec/presets.py",  # names them
    "parity_tests/cases.py",
    "parity_tests/drawn.py",
    "benchmarks/race/workloads.py",
    "benchmarks/race/sides/peer_keras.py",  # adapters to other people's code, which knows some kinds alone
    "benchmarks/race/sides/peer_pythae.py",
    "benchmarks/race/sides/plain_flax.py",
)
"""Files that may ask for concrete kinds; tests may too."""


def _concrete() -> set[str]:
    return {kind.__name__ for family in families() for kind in own_kinds(family).values()}


def _names(node: ast.AST) -> Iterator[str]:
    for inner in ast.walk(node):
        if isinstance(inner, ast.Name):
            yield inner.id
        elif isinstance(inner, ast.Attribute) and not ast.unparse(inner).startswith("torch."):
            yield inner.attr


def questions(source: str, concrete: set[str]) -> list[str]:
    """Return the places at which a source asks of which kind a component is: line and code."""
    found = []
    for node in ast.walk(ast.parse(source)):
        asked: set[str] = set()
        match node:
            case ast.Call(func=ast.Name(id="isinstance" | "issubclass"), args=[_, classes]):
                asked = set(_names(classes)) & concrete
            case ast.MatchClass(cls=cls):
                asked = set(_names(cls)) & concrete
            case ast.Compare(left=left, comparators=others):
                parts = [left, *others]
                # of NumPy's dtypes, whose kinds are letters, one may ask
                kinds_of = any(
                    isinstance(part, ast.Attribute) and part.attr == "kind" and "dtype" not in set(_names(part))
                    for part in parts
                )
                if kinds_of and any(isinstance(part, ast.Constant) for part in parts):
                    asked = {"kind"}
                if any(isinstance(part, ast.Call) and "type" in set(_names(part.func)) for part in parts):
                    asked |= {name for part in parts for name in _names(part)} & concrete
        if asked:
            found.append(f"{node.lineno if hasattr(node, 'lineno') else node.cls.lineno}: {ast.unparse(node)}")
    return found


@pytest.mark.parametrize(
    "source",
    [
        "isinstance(spec.backbone, ConvBackbone)",
        "isinstance(b, specs.DenseBackbone | ConvBackbone)",
        "isinstance(b, (int, PlainBottleneck))",
        "match spec.bottleneck:\n    case GaussianBottleneck(latent):\n        pass",
        "match spec.bottleneck:\n    case specs.PlainBottleneck():\n        pass",
        "x = spec.backbone.kind == 'conv'",
        "x = type(spec.backbone) is DenseBackbone",
        "issubclass(cls, Adam)",
    ],
)
def test_a_question_is_seen(source):
    assert len(questions(source, _concrete())) == 1


@pytest.mark.parametrize(
    "source",
    ["isinstance(value, Schedule)", "x = a.kind == b.kind", "x.dtype.kind == 'f'", "isinstance(x, torch.optim.Adam)"],
)
def test_what_is_no_question_is_not_seen(source):
    assert questions(source, _concrete()) == []


@pytest.mark.parametrize("package", PACKAGES)
def test_nothing_asks_of_which_kind_a_component_is(package):
    concrete, found, read = _concrete(), [], 0
    assert {"ConvBackbone", "GaussianBottleneck", "BernoulliLikelihood", "BatchNorm", "AdamW", "Cosine"} <= concrete
    for path in sorted((ROOT / package).rglob("*.py")):
        name = path.relative_to(ROOT).as_posix()
        if "/tests/" in name or name in MAY_ASK:
            continue
        read += 1
        found += [f"{name}:{place}" for place in questions(path.read_text(encoding="utf-8"), concrete)]
    assert read > 10
    assert not found, "\n".join(found)


@dataclass(frozen=True)
class _Backbone(specs.Backbone):
    kind: ClassVar[str] = "unknown to the twins"
    width: int = 3

    def feature_shape(self, input_shape):
        return (self.width,)


@dataclass(frozen=True)
class _Bottleneck(specs.Bottleneck):
    kind: ClassVar[str] = "unknown to the twins"

    def latent_shape(self, features):
        return (2,)


@dataclass(frozen=True)
class _Likelihood(specs.Likelihood):
    kind: ClassVar[str] = "unknown to the twins"
    weight: float = 1.0


@dataclass(frozen=True)
class _Norm(specs.Norm):
    kind: ClassVar[str] = "unknown to the twins"


@dataclass(frozen=True)
class _Optimizer(specs.Optimizer):
    kind: ClassVar[str] = "unknown to the twins"
    learning_rate: float = 0.1


@dataclass(frozen=True)
class _Corruption(specs.Corruption):
    kind: ClassVar[str] = "unknown to the twins"
    distribution: ClassVar[str] = "uniform"


@dataclass(frozen=True)
class _Penalty(specs.Penalty):
    kind: ClassVar[str] = "unknown to the twins"
    weight: float = 1.0


_SPEC = Spec((4, 4, 1), DenseBackbone((3,)), PlainBottleneck(2))
_UNKNOWN = {
    "backbone": (_Backbone(), "make_encoder"),
    "bottleneck": (_Bottleneck(), "make_bottleneck"),
    "likelihood": (_Likelihood(), "make_likelihood"),
    "corruption": (_Corruption(), "corrupt"),
    "penalties": ((_Penalty(),), "penalty"),
    "norm": (_Norm(), "make_norm"),
    "optimizer": (_Optimizer(), "make_"),
}


def _with(field: str) -> Spec:
    part = _UNKNOWN[field][0]
    if field == "norm":
        return dataclasses.replace(_SPEC, backbone=DenseBackbone((3,), norm=part))
    if field == "optimizer":
        return dataclasses.replace(_SPEC, training=dataclasses.replace(_SPEC.training, optimizer=part))
    return dataclasses.replace(_SPEC, **{field: part})


@pytest.mark.parametrize("twin", ["jax", "torch"])
@pytest.mark.parametrize("field", _UNKNOWN)
def test_what_a_twin_does_not_know_is_refused_by_name(twin, field):
    spec = _with(field)
    assert spec_from_json(spec_to_json(spec)) == spec
    package = {"jax": ae_jax, "torch": ae_torch}[twin]
    images = np.zeros((2, 4, 4, 1), np.float32)
    with pytest.raises(MissingError) as caught:
        package.fit(spec, images, heldout=images, epochs=1)
    line = str(caught.value)
    assert "\n" not in line
    assert line.startswith(f"ae_{twin} has no {_UNKNOWN[field][1]}")
    assert 'for "unknown to the twins"; expected @' in line


def test_a_kind_is_one_class_and_no_class_stands_in_for_another():
    with pytest.raises(TypeError, match=r'given the kind "dense" as its base; expected one without a kind'):
        type("_Other", (DenseBackbone,), {"kind": "another dense"})
    with pytest.raises(TypeError, match=r'the backbone "dense" is ae_core\.spec\.backbone\.DenseBackbone already'):
        type("_Same", (specs.Backbone,), {"kind": "dense"})
    assert "another dense" not in kinds("backbone")


def test_what_two_components_name_alike_is_refused():
    with pytest.raises(SpecError, match=r'given two components with the coefficient "unknown to the twins"'):
        dataclasses.replace(_SPEC, penalties=(_Penalty(), _Penalty(2.0)))


_DOORS = {
    "model.backbone": ("make_encoder", "make_decoder"),
    "model.bottleneck": ("make_bottleneck",),
    "model.likelihood": ("make_likelihood",),
    "model.norm": ("make_norm",),
    "model.corruption": ("corrupt",),
    "model.penalty": ("penalty",),
}


@pytest.mark.parametrize(("module", "door"), [(module, door) for module, doors in _DOORS.items() for door in doors])
def test_the_twins_know_the_same_kinds(module, door):
    ours, theirs = (
        {kind for kind in getattr(importlib.import_module(f"{twin}.{module}"), door).registry if kind is not object}
        for twin in ("ae_jax", "ae_torch")
    )
    assert ours == theirs
