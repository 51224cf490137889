"""The spec: JSON both ways, every refusal with the path of its field, and Foster's numbers."""

import copy
import dataclasses
import json
import math

import pytest

from ae_core import spec as specs
from ae_core.errors import SpecError, nearest
from ae_core.spec import (
    SGD,
    Adam,
    AdamW,
    BatchNorm,
    BernoulliLikelihood,
    ConvBackbone,
    Cosine,
    DenseBackbone,
    GaussianBottleneck,
    GaussianLikelihood,
    GroupNorm,
    LayerNorm,
    PlainBottleneck,
    Spec,
    Training,
    load_spec,
    spec_from_json,
    spec_to_json,
)
from ae_core.spec.corruption import GaussianNoise, SaltAndPepper
from ae_core.spec.penalty import L1
from ae_core.spec.presets import PRESETS, preset
from ae_core.spec.schedule import Cyclical

_CONV = ConvBackbone((4, 8), (2, 1), 5, "torch", "leaky_relu", 0.2, GroupNorm(2, 1e-3))
_FULL = Spec(
    (6, 4, 3),
    _CONV,
    GaussianBottleneck(3, 0.5, 1.5),
    GaussianLikelihood(0.1, "sum", 2.0),
    "he_normal",
    Training(AdamW(0.01, 0.8, 0.99, 1e-6, 0.1), Cosine(5, 0.1), 1.5, 7, 4, "float64"),
)
SPECS = {
    **PRESETS,
    "everything": _FULL,
    "batch norm, sgd": Spec(
        (2, 2, 1),
        DenseBackbone((3,), "gelu_tanh", 0.3, BatchNorm(1e-4, 0.3)),
        PlainBottleneck(1),
        BernoulliLikelihood("sum", 3.0),
        training=Training(SGD(0.1, 0.5)),
    ),
    "layer norm, adam": Spec(
        (2, 2, 1), DenseBackbone((3,), norm=LayerNorm(1e-4)), PlainBottleneck(1), training=Training(Adam(0.1, 0.0, 0.5))
    ),
    "no hidden layer": Spec((1, 1, 1), DenseBackbone(()), PlainBottleneck(1)),
    "gaussian noise": Spec((1, 1, 1), DenseBackbone(()), PlainBottleneck(1), corruption=GaussianNoise(0.2)),
    "salt and pepper, cycles": Spec(
        (1, 1, 1), DenseBackbone(()), GaussianBottleneck(1, Cyclical(2.0)), corruption=SaltAndPepper(0.2)
    ),
    "L1": Spec((1, 1, 1), DenseBackbone(()), PlainBottleneck(1), penalties=(L1(0.5),)),
}


def _parts(value):
    yield type(value)
    for field in dataclasses.fields(value):
        held = getattr(value, field.name)
        for part in held if isinstance(held, tuple) else (held,):
            if dataclasses.is_dataclass(part):
                yield from _parts(part)


def test_every_dataclass_is_in_the_table():
    defined = {Spec, Training} | {
        kind
        for family in specs.families()
        for kind in specs.kinds(family).values()
        if kind.__module__.startswith("ae_core.spec.")
    }
    assert {part for spec in SPECS.values() for part in _parts(spec)} == defined


@pytest.mark.parametrize("name", SPECS)
def test_json_both_ways(tmp_path, name):
    spec = SPECS[name]
    text = json.dumps(spec_to_json(spec), allow_nan=False)
    assert spec_from_json(json.loads(text)) == spec
    assert hash(spec_from_json(json.loads(text))) == hash(spec)
    (tmp_path / "spec.json").write_text(text)
    assert load_spec(tmp_path / "spec.json") == spec


def test_defaults_may_be_left_out_and_whole_numbers_are_floats():
    value = {
        "input_shape": [8, 8, 1],
        "backbone": {"kind": "dense", "hidden": [4], "negative_slope": 1},
        "bottleneck": {"kind": "plain", "latent": 2},
    }
    spec = spec_from_json(value)
    assert spec == Spec((8, 8, 1), DenseBackbone((4,), negative_slope=1.0), PlainBottleneck(2))
    assert type(spec.backbone.negative_slope) is float


# Foster, "Generative Deep Learning", 2nd ed., chapter 3, number by number.
_FOSTER = {
    "input_shape": [32, 32, 1],
    "backbone": {
        "kind": "conv",
        "channels": [32, 64, 128],
        "strides": [2, 2, 2],
        "kernel": 3,
        "padding": "same",
        "activation": "relu",
        "negative_slope": 0.01,
        "norm": None,
        "dropout": 0.0,
    },
    "bottleneck": {"kind": "plain", "latent": 2},
    "likelihood": {"kind": "bernoulli", "reduction": "mean", "weight": 1.0},
    "initializer": "glorot_uniform",
    "training": {
        "optimizer": {"kind": "adam", "learning_rate": 1e-3, "b1": 0.9, "b2": 0.999, "eps": 1e-7},
        "schedule": {"kind": "constant", "warmup_steps": 0},
        "clip_norm": None,
        "batch_size": 100,
        "epochs": 3,
        "precision": "float32",
    },
    "corruption": None,
    "penalties": [],
}
_FOSTER_VAE = {
    **_FOSTER,
    "bottleneck": {"kind": "gaussian", "latent": 2, "kl_weight": 1.0, "capacity": None},
    "likelihood": {"kind": "bernoulli", "reduction": "mean", "weight": 500.0},
    "training": {
        **_FOSTER["training"],
        "optimizer": {**_FOSTER["training"]["optimizer"], "learning_rate": 5e-4},
        "epochs": 5,
    },
}


@pytest.mark.parametrize(("name", "expected"), [("foster-ae", _FOSTER), ("foster-vae", _FOSTER_VAE)])
def test_fosters_numbers(name, expected):
    assert spec_to_json(preset(name)) == expected


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("foster-ea", 'unknown preset "foster-ea"; did you mean "foster-ae"? valid: foster-ae, foster-vae, '),
        ("dense-digit", 'did you mean "dense-digits"?'),
        ("xyz", 'unknown preset "xyz"; valid: foster-ae'),
    ],
)
def test_unknown_preset(name, message):
    with pytest.raises(SpecError) as caught:
        preset(name)
    assert message in _line(caught)


def _line(caught):
    message = str(caught.value)
    assert "\n" not in message
    return message


def _edited(path, value):
    """Return the JSON of the full spec with the value at ``path`` (keys and indices) replaced."""
    result = copy.deepcopy(spec_to_json(_FULL))
    node = result
    for key in path[:-1]:
        node = node[key]
    node[path[-1]] = value
    return result


def _walk(value, path=()):
    """Yield the path and value of every node below the root."""
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in entries:
        yield (*path, key), item
        yield from _walk(item, (*path, key))


def _text(path):
    return "spec" + "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in path)


_WRONG = (True, False, 1, 1.5, "1", [], [1], {}, {"a": 1})
_NO_NUMBERS = (math.nan, math.inf, -math.inf, 10**400)


@pytest.mark.parametrize("path", [path for path, _ in _walk(spec_to_json(_FULL)) if path[-1] != "kind"], ids=_text)
def test_wrong_types_are_refused_where_they_stand(path):
    value = next(item for known, item in _walk(spec_to_json(_FULL)) if known == path)
    right = (float, int) if type(value) is float else (type(value),)
    wrong = [item for item in _WRONG if type(item) not in right] + list(_NO_NUMBERS if type(value) is float else ())
    for item in wrong:
        with pytest.raises(SpecError) as caught:
            spec_from_json(_edited(path, item))
        assert _line(caught).startswith(f"{_text(path)}: given ")


@pytest.mark.parametrize("path", [(), *(p for p, v in _walk(spec_to_json(_FULL)) if isinstance(v, dict))], ids=_text)
def test_unknown_key(path):
    node = spec_to_json(_FULL)
    for key in path:
        node = node[key]
    for key in [key for key in node if key != "kind"]:
        wrong = {**node, f"{key}x": 1}
        with pytest.raises(SpecError) as caught:
            spec_from_json(_edited(path, wrong) if path else wrong)
        assert _line(caught).startswith(f'{_text(path)}: unknown key "{key}x"; did you mean "{key}"? valid: ')


@pytest.mark.parametrize(
    ("path", "key"),
    [
        ((), "input_shape"),
        ((), "backbone"),
        ((), "bottleneck"),
        (("backbone",), "channels"),
        (("backbone",), "strides"),
        (("backbone", "norm"), "groups"),
        (("bottleneck",), "latent"),
    ],
)
def test_missing_key(path, key):
    whole = spec_to_json(_FULL)
    node = whole
    for step in path:
        node = node[step]
    del node[key]
    with pytest.raises(SpecError) as caught:
        spec_from_json(whole)
    assert _line(caught) == f'{_text(path)}: the key "{key}" is missing'


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (
            ("backbone", "kind"),
            "convv",
            'spec.backbone: unknown backbone "convv"; did you mean "conv"?',
        ),
        (("backbone", "kind"), 3, "spec.backbone: given {'kind': 3"),
        (("backbone", "norm", "kind"), "bach", 'spec.backbone.norm: unknown norm "bach"; did you mean "batch"?'),
        (("bottleneck", "kind"), "gauss", 'spec.bottleneck: unknown bottleneck "gauss"; did you mean "gaussian"?'),
        (("likelihood",), {"weight": 1.0}, "spec.likelihood: given {'weight': 1.0}, without a known kind; valid: "),
        (("likelihood",), None, "spec.likelihood: given None"),
        (
            ("training", "optimizer", "kind"),
            "adamax",
            'spec.training.optimizer: unknown optimizer "adamax"; did you mean "adam',
        ),
        (
            ("backbone", "padding"),
            "sam",
            "spec.backbone.padding: given 'sam'; did you mean \"same\"? valid: same, torch",
        ),
        (("initializer",), "he_norm", 'did you mean "he_normal"? valid: glorot_uniform'),
        (("training", "precision"), "float16", "spec.training.precision: given 'float16'; did you mean"),
        (("input_shape",), [8, 8], "spec.input_shape: given 2 entries; expected 3"),
        (("input_shape",), [8, 8, 1, 1], "spec.input_shape: given 4 entries; expected 3"),
        (("input_shape",), [0, 8, 1], "spec: input_shape: given [0, 8, 1]; expected [height, width, channels]"),
        (
            ("input_shape",),
            [7, 4, 1],
            "spec: backbone.strides[0]: given 2; expected a divisor of both sides of the 7×4",
        ),
        (("input_shape",), [6, 3, 1], "spec: backbone.strides[0]: given 2"),
        (
            ("backbone", "strides"),
            [2, 4],
            "spec: backbone.strides[1]: given 4; expected a divisor of both sides of the 3×2",
        ),
        (
            ("backbone", "strides"),
            [2],
            "spec.backbone: strides: given [2]; expected one entry for each of the 2 channels",
        ),
        (("backbone", "strides"), [0, 1], "spec.backbone: strides: given [0, 1]; expected integers from 1 to"),
        (("backbone", "channels"), [], "spec.backbone: channels: given []; expected at least one entry"),
        (("backbone", "channels"), [4, 0], "spec.backbone: channels: given [4, 0]; expected integers from 1 to"),
        (("backbone", "kernel"), 4, 'spec.backbone: kernel: given 4; expected odd where padding is "torch"'),
        (("backbone", "kernel"), 0, "spec.backbone: kernel: given 0; expected an integer from 1 to"),
        (
            ("backbone", "norm", "groups"),
            3,
            "spec.backbone: norm.groups: given 3; expected a divisor of all channels [4, 8]",
        ),
        (("backbone", "norm", "groups"), 0, "spec.backbone.norm: groups: given 0"),
        (("backbone", "norm", "eps"), 0, "spec.backbone.norm: eps: given 0.0; expected a number above 0"),
        (("bottleneck", "latent"), 0, "spec.bottleneck: latent: given 0; expected an integer from 1 to"),
        (("bottleneck", "kl_weight"), -1, "spec.bottleneck: kl_weight: given -1.0"),
        (("bottleneck",), {"kind": "plain", "latent": 0}, "spec.bottleneck: latent: given 0"),
        (("likelihood", "variance"), 0, "spec.likelihood: variance: given 0.0; expected a number above 0"),
        (("likelihood", "weight"), 0, "spec.likelihood: weight: given 0.0"),
        (("training", "optimizer", "learning_rate"), 0, "spec.training.optimizer: learning_rate: given 0.0"),
        (("training", "optimizer", "b1"), 1, "spec.training.optimizer: b1: given 1.0; expected a number in [0, 1)"),
        (("training", "optimizer", "b2"), -0.1, "spec.training.optimizer: b2: given -0.1"),
        (("training", "optimizer", "eps"), 0, "spec.training.optimizer: eps: given 0.0"),
        (("training", "optimizer", "weight_decay"), -1, "spec.training.optimizer: weight_decay: given -1.0"),
        (("training", "optimizer"), {"kind": "sgd", "momentum": 1.0}, "spec.training.optimizer: momentum: given 1.0"),
        (("training", "schedule", "warmup_steps"), -1, "spec.training.schedule: warmup_steps: given -1"),
        (("training", "schedule", "final"), 1.1, "spec.training.schedule: final: given 1.1"),
        (("training", "clip_norm"), 0, "spec.training: clip_norm: given 0.0; expected a number above 0, or null"),
        (("training", "batch_size"), 0, "spec.training: batch_size: given 0"),
        (("training", "epochs"), 0, "spec.training: epochs: given 0"),
        (
            ("backbone",),
            {"kind": "dense", "hidden": [4, 0]},
            "spec.backbone: hidden: given [4, 0]; expected integers from 1 to",
        ),
        (
            ("backbone",),
            {"kind": "dense", "hidden": [], "norm": {"kind": "layer"}},
            "expected null where there is no hidden layer",
        ),
        (
            ("backbone",),
            {"kind": "dense", "hidden": [4, 6], "norm": {"kind": "group", "groups": 4}},
            "spec.backbone: norm.groups: given 4; expected a divisor of all hidden [4, 6]",
        ),
        (
            ("backbone", "norm"),
            {"kind": "batch", "momentum": 0},
            "spec.backbone.norm: momentum: given 0.0; expected a number in (0, 1]",
        ),
    ],
)
def test_bad_value(path, value, message):
    with pytest.raises(SpecError) as caught:
        spec_from_json(_edited(path, value))
    assert message in _line(caught)


@pytest.mark.parametrize("value", [None, [], 3, "foster-ae"])
def test_not_an_object(value):
    with pytest.raises(SpecError) as caught:
        spec_from_json(value)
    assert _line(caught) == f"spec: given {value!r}; expected an object with the fields of Spec"


@pytest.mark.parametrize(
    "make",
    [
        lambda: Training(clip_norm=math.inf),
        lambda: Adam(learning_rate=math.inf),
        lambda: Adam(eps=math.nan),
        lambda: SGD(learning_rate=math.nan),
        lambda: SGD(learning_rate=math.inf),
        lambda: GaussianBottleneck(2, kl_weight=math.inf),
        lambda: GaussianLikelihood(variance=math.inf),
        lambda: BatchNorm(eps=math.inf),
    ],
)
def test_numbers_that_are_not_finite_are_refused_in_python_too(make):
    with pytest.raises(SpecError) as caught:
        make()
    assert "given" in _line(caught)


def test_unknown_names_are_refused_in_python_too():
    # below the dataclasses, whose annotations the tests check before they come this far
    with pytest.raises(SpecError) as caught:
        specs.check_name("padding", "valid", specs.Padding)
    assert _line(caught) == 'padding: given "valid"; valid: same, torch'


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read as a spec: No such file or directory"),
        (b"", "not JSON: Expecting value in line 1, column 1"),
        (b'{\n "a": 1,\n}', "not JSON: "),
        (b"\xff\xfe{}", "cannot be read as a spec: not UTF-8 text"),
        (b"[" * 100_000, "not JSON that can be read: "),
        (b"1" * 5000, "not JSON that can be read: "),
        (b"[]", "given []; expected an object"),
        (b'{"input_shap": [8, 8, 1]}', 'unknown key "input_shap"; did you mean "input_shape"?'),
    ],
)
def test_bad_file(tmp_path, content, message):
    path = tmp_path / "spec.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SpecError) as caught:
        load_spec(path)
    assert _line(caught).startswith(f"{path}: ")
    assert message in _line(caught)


def test_folder_in_place_of_a_file(tmp_path):
    with pytest.raises(SpecError, match="cannot be read as a spec: Is a directory"):
        load_spec(tmp_path)


def test_nearest():
    assert nearest("conf", ["conv", "dense"]) == 'did you mean "conv"? valid: conv, dense'
    assert nearest("zzz", ["conv", "dense"]) == "valid: conv, dense"


@pytest.mark.parametrize(
    ("path", "value", "told"),
    [
        (("bottleneck", "latent"), 10**30, "latent: given"),
        (("backbone", "kernel"), 10**9, "kernel: given"),
        (("input_shape",), [10**6, 10**6, 1], "input_shape: given"),
        (("training", "warmup_steps"), 10**400, "warmup_steps: given"),
        (("backbone", "negative_slope"), -1e300, "negative_slope: given"),
        (("backbone", "kind"), [], "without a known kind"),
        (("backbone", "kind"), {}, "without a known kind"),
    ],
)
def test_absurd_value(path, value, told):
    spec = spec_to_json(PRESETS["foster-ae"])
    node = spec
    for key in path[:-1]:
        node = node.setdefault(key, {}) if key != "schedule" else node[key]
    node[path[-1]] = value
    if path[-1] == "warmup_steps":
        del node["warmup_steps"]
        node["schedule"]["warmup_steps"] = value
    with pytest.raises(SpecError, match=told):
        spec_from_json(spec)


def test_a_key_that_stands_twice(tmp_path):
    text = json.dumps(spec_to_json(PRESETS["foster-ae"])).replace('"kernel": 3', '"kernel": 3, "kernel": 5')
    (tmp_path / "spec.json").write_text(text)
    with pytest.raises(SpecError, match='"kernel" stands twice'):
        load_spec(tmp_path / "spec.json")
