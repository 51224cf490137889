"""How a page decodes: steps that are the decoder, a limit that wrong steps do not pass, and a grid in their place."""

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

import ae_torch
from ae_core import atlas
from ae_core.atlas import content as contents
from ae_core.atlas import decoder as decoders
from ae_core.atlas import page_decoder as page_decoders
from ae_core.commands import cli
from ae_core.data.cans import cans
from ae_core.data.digits import digits
from ae_core.errors import DataError
from ae_core.rng import normal
from ae_core.spec import DenseBackbone, PlainBottleneck, Spec
from ae_core.spec.backbone import Backbone
from ae_core.spec.bottleneck import Bottleneck
from ae_core.spec.likelihood import Likelihood
from ae_core.spec.norm import Norm
from ae_core.spec.presets import PRESETS
from ae_core.tests.atlas.atlas_models import CONV, DECODERS, SMALL, WIDE, float64, made, tensors_of


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def registered():
    """Register steps for a class in a door, and take them away again after the test."""
    added = []

    def register(door, kind, function):
        before = door.registry.get(kind)
        door.register(kind)(function)
        added.append((door, kind, before))

    yield register
    for door, kind, before in reversed(added):
        door.register(kind)(before or (lambda *given: pytest.fail("left over from another test")))


def model_and_codes(spec):
    tensors = tensors_of(spec)
    codes = normal((21, spec.bottleneck.latent), 0, "z")
    return tensors, cli.load_engine("torch").infer(spec, tensors).decode(codes), codes


@pytest.mark.parametrize("name", DECODERS)
def test_the_steps_are_the_decoder(name):
    tensors, true, z = model_and_codes(float64(DECODERS[name]))
    ours = atlas.decoder_steps(float64(DECODERS[name]), tensors).decode(z)
    assert ours.shape == true.shape
    assert np.std(true, axis=0).max() > 0.01
    # the limit to which the twins are held to each other, from which this is a third
    assert np.linalg.norm(ours - true) <= 1e-11 * np.linalg.norm(true)


def _faulty(steps):
    """Yield decoders that are wrong in one step, with a name for what is wrong."""
    for i, step in enumerate(steps):
        without = (*steps[:i], *steps[i + 1 :])
        if isinstance(step, atlas.Activate | atlas.Normalise | atlas.Scale):
            yield f"no {step.op} at {i}", without
        if isinstance(step, atlas.Spread):
            taps = len(step.weight)
            other = (step.before + 1) % max(taps, 2)
            yield f"padding at {i}", (*steps[:i], replace(step, before=other), *steps[i + 1 :])
            if taps > 1:
                turned = replace(step, weight=step.weight[::-1, ::-1])
                yield f"kernel turned at {i}", (*steps[:i], turned, *steps[i + 1 :])
        if isinstance(step, atlas.Linear) and step.bias.any():
            yield f"no bias at {i}", (*steps[:i], replace(step, bias=0 * step.bias), *steps[i + 1 :])


@pytest.mark.parametrize("name", DECODERS)
def test_the_limit_lies_between_the_right_decoder_and_wrong_ones(name):
    """Of float32 weights, rounding is a thousandth of the limit; a fault in any one step is beyond it."""
    spec = DECODERS[name]
    tensors, true, z = model_and_codes(spec)
    right = atlas.decoder_steps(spec, tensors)
    assert page_decoders._distance(right.stored("float32").decode(z), true).largest < atlas.LIMIT / 1000
    faults = dict(_faulty(right.steps))
    assert len(faults) >= 1
    for fault, steps in faults.items():
        assert page_decoders._distance(atlas.DecoderSteps(steps).decode(z), true).largest > atlas.LIMIT, fault


@pytest.mark.parametrize("name", [name for name in PRESETS if name != "residual"])  # no page can run its decoder
def test_trained_presets_are_in_the_page(name):
    """Adam moves a weight by about its rate in each step: after 24 of 3e-3 they are 0.07 from where they started."""
    spec = PRESETS[name]
    data = cans(32, spec.input_shape[:2])
    model = ae_torch.fit(spec, data.images, epochs=6, batch_size=8, learning_rate=3e-3)
    content = atlas.make_content(spec, model.tensors, model.inference, data, 32)
    assert content.decoder.is_exact
    if name != "denoising":  # whose numbers have no room in float32
        assert content.values["decoder"]["storage"] == "float32"
        assert content.decoder.distance.largest < atlas.LIMIT / 1000
    z = model.encode(data.images)
    half = atlas.decoder_steps(spec, model.tensors).stored("float16").decode(z.reshape(len(z), -1))
    assert page_decoders._distance(half, model.inference.decode(z)).largest < atlas.LIMIT


def test_work_counts_every_product():
    steps = atlas.decoder_steps(CONV, tensors_of(CONV))
    # latents to 4·6 pixels of 6 channels; there 9 taps of 6·6; there at stride 2 9 of 6·4; on 8·12 pixels 9 of 4·1
    assert steps.work() == 2 * 144 + 24 * 9 * 36 + 24 * 9 * 24 + 96 * 9 * 4


@pytest.mark.parametrize("spec", [SMALL, WIDE], ids=["plane", "wide"])
@pytest.mark.parametrize("means", ["page", "grid"])
def test_the_distance_is_that_at_the_spots(spec, means):
    content, model = made(spec, cans(300, (8, 8)), means=means)
    codes = model.encode(cans(300, (8, 8)).images[content.indices]).astype(np.float32)
    spots, points = page_decoders.spots_to_measure(codes, content.plane, content.view)
    z = content.plane.codes(points) if means == "grid" else spots
    difference = content.decoder.decode(points if means == "grid" else spots) - model.decode(z)
    said = content.values["distance"]
    assert said["spots"] == len(z) == 96
    assert said["largest"] == pytest.approx(np.abs(difference).max(), rel=1e-12)
    assert said["rms"] == pytest.approx(np.sqrt(np.mean(difference**2)), rel=1e-12)
    # a picture of 8 bits is half a level off at most, and usually; float32 numbers are off by their rounding
    assert 1e-9 < said["rms"] < said["largest"] < (0.2 if means == "grid" else 1e-5)


def test_distances_are_those_of_a_screen():
    """A mean beyond black or white is shown as black or white."""
    far = page_decoders._distance(np.full((2, 1, 1, 2), [1.5, 0.25]), np.full((2, 1, 1, 2), [1.0, 0.5]))
    assert far == (0.25, np.sqrt(0.25**2 / 2), 2)


def test_spots_reach_wherever_the_page_does():
    codes = normal((40, 4), 0, "codes").astype(np.float32)
    plane = contents.data_plane(codes)
    view = contents._view(plane.points(codes))
    spots, points = page_decoders.spots_to_measure(codes, plane, view)
    assert np.isin(spots[:32], codes.astype(np.float64)).all()
    np.testing.assert_allclose(plane.codes(plane.points(spots[32:64])), spots[32:64], atol=1e-5)
    assert (spots[64:] >= codes.min(0)).all()
    assert (spots[64:] <= codes.max(0)).all()
    for axis, (low, high) in enumerate((view[:2], view[2:])):
        assert low < points[:, axis].min() < low + 0.2 * (high - low)
        assert high - 0.2 * (high - low) < points[:, axis].max() < high


def test_a_decoder_is_stored_as_finely_as_there_is_room():
    def storage(hidden):
        spec = Spec((28, 28, 1), DenseBackbone((hidden,)), PlainBottleneck(2))
        content, _ = made(spec, digits()._replace(images=np.zeros((9, 28, 28, 1), np.float32), labels=None))
        return content.values["decoder"].get("storage", "grid"), content.values["distance"]

    # 4 bytes for each of about 784 numbers a hidden unit, up to 2.1 MB; then 2 bytes; then none
    made_of = {hidden: storage(hidden) for hidden in (600, 1000, 1600)}
    assert {hidden: kind for hidden, (kind, _) in made_of.items()} == {600: "float32", 1000: "float16", 1600: "grid"}
    assert made_of[600][1]["rms"] < 1e-6 < made_of[1000][1]["rms"]
    assert made_of[1000][1]["largest"] <= atlas.LIMIT
    spec = Spec((28, 28, 1), DenseBackbone((1600,)), PlainBottleneck(2))
    said = r"^--decoder: given page; expected grid: a decoder of 1,259,984 numbers and 1,257,600 products a picture is"
    with pytest.raises(DataError, match=said):
        made(spec, cans(9, (28, 28)), means="page")


def test_numbers_beyond_half_precision_stay_whole():
    spec = Spec((28, 28, 1), DenseBackbone((1000,)), PlainBottleneck(2))
    tensors = tensors_of(spec)
    tensors["decoder.output.bias"] = np.full_like(tensors["decoder.output.bias"], 1e5)
    content, _ = made(spec, cans(9, (28, 28)), tensors)
    assert content.values["decoder"]["kind"] == "grid"
    assert "too large for a page" in content.decoder.reason


def test_half_precision_that_shows_is_not_in_the_page():
    """Weights a hundred times as large make differences of logits that 11 bits of a weight cannot hold."""
    spec = Spec((28, 28, 1), DenseBackbone((1000,)), PlainBottleneck(2))
    tensors = {
        name: tensor * (100 if name == "decoder.output.weight" else 1) for name, tensor in tensors_of(spec).items()
    }
    content, _ = made(spec, cans(9, (28, 28)), tensors)
    assert content.values["decoder"]["kind"] == "grid"
    assert "with its weights as float16, its steps make pictures that are up to" in content.decoder.reason


def test_a_slow_decoder_is_not_in_the_page(monkeypatch):
    monkeypatch.setattr(page_decoders, "WORK", atlas.decoder_steps(CONV, tensors_of(CONV)).work() - 1)
    content, _ = made(CONV, cans(9, (8, 12)))
    assert content.values["decoder"]["kind"] == "grid"


def test_a_diverged_model_is_refused():
    tensors = {name: np.full_like(tensor, 1e30) for name, tensor in tensors_of(SMALL).items()}
    for means in ("page", "grid"):
        with pytest.raises(DataError, match="numbers that are not finite"):
            made(SMALL, cans(9, (8, 8)), tensors, means=means)


def _without_activation(backbone, spec, tensors):
    return [step for step in decoders._dense(backbone, spec, tensors) if not isinstance(step, atlas.Activate)]


def _without_reshape(backbone, spec, tensors):
    return decoders._dense(backbone, spec, tensors)[:-1]


def _unknown_activation(backbone, spec, tensors):
    return [*decoders._dense(backbone, spec, tensors), atlas.activation_step("mish")]


def _unknown_tensor(backbone, spec, tensors):
    return [atlas.linear_step(tensors, "decoder.hidden")]


def _unfit(backbone, spec, tensors):
    return [atlas.linear_step(tensors, "decoder.output"), atlas.Reshape(spec.input_shape[:2])]


WRONG: dict[str, tuple[Any, str]] = {
    "an activation is missing": (
        _without_activation,
        "up to 0.* off the model's; expected at most 0.0039, a step",
    ),
    "other pictures": (_without_reshape, r"its steps make pictures \[1, 1, 64\]; expected the model's, \[8, 8, 1\]"),
    "no such activation": (_unknown_activation, 'activation "mish" has no step for a page; expected one of relu, '),
    "no such tensor": (_unknown_tensor, "its steps cannot be made: KeyError: 'decoder.hidden.weight'"),
    "sizes that do not fit": (_unfit, "its steps cannot be carried out: ValueError: "),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_steps_are_found_and_the_grid_is_taken(registered, name):
    function, why = WRONG[name]
    right, _ = made(SMALL, cans(90, (8, 8)), means="grid")
    registered(atlas.backbone_steps, DenseBackbone, function)
    content, _ = made(SMALL, cans(90, (8, 8)))
    assert not content.decoder.is_exact
    assert pytest.approx(right.values["distance"]) == content.values["distance"]
    assert content.values["decoder"] == right.values["decoder"]
    page = atlas.render(content, "a model")
    assert "Blended: in place of the decoder" in page
    assert "Why not the decoder itself: " in page
    with pytest.raises(DataError, match=rf"^--decoder: given page; expected grid: .*{why}") as refused:
        made(SMALL, cans(90, (8, 8)), means="page")
    assert "\n" not in str(refused.value)
    assert str(refused.value).removeprefix("--decoder: given page; expected grid: ") == content.decoder.reason
    assert content.decoder.reason.split('"')[0] in page.replace("&#x27;", "'")


class _Backbone(Backbone):
    """One for which nothing is registered."""

    def feature_shape(self, input_shape):
        return (6,)


class _Norm(Norm):
    """One for which nothing is registered."""


class _Likelihood(Likelihood):
    """One for which nothing is registered."""


class _Child(DenseBackbone):
    """A subclass, which may compute something else."""


def _with(spec, **parts):
    """Replace parts of a frozen spec, whatever their types."""
    changed = replace(spec)
    for name, part in parts.items():
        object.__setattr__(changed, name, part)
    return changed


UNREGISTERED = {
    "backbone": (_with(SMALL, backbone=_Backbone()), 'no backbone_steps for "_Backbone"'),
    "likelihood": (_with(SMALL, likelihood=_Likelihood()), 'no output_steps for "_Likelihood"'),
    "norm": (_with(SMALL, backbone=_with(SMALL.backbone, norm=_Norm())), 'no norm_steps for "_Norm"'),
    "subclass": (_with(SMALL, backbone=_Child((6,))), 'no backbone_steps for "dense"'),
}


@pytest.mark.parametrize("name", UNREGISTERED)
def test_a_part_without_steps_takes_the_grid(name):
    spec, why = UNREGISTERED[name]
    tensors = tensors_of(SMALL)
    model = cli.load_engine("torch").infer(SMALL, tensors)
    content = atlas.make_content(spec, tensors, model, cans(90, (8, 8)), 50)
    assert not content.decoder.is_exact
    assert why in content.decoder.reason
    assert content.values["distance"]["largest"] < 0.2
    with pytest.raises(DataError, match=f"^--decoder: given page; expected grid: ae_core has {why}"):
        atlas.make_content(spec, tensors, model, cans(90, (8, 8)), 50, "page")


def test_a_plugin_brings_steps_of_its_own(registered):
    registered(atlas.backbone_steps, _Backbone, lambda backbone, *rest: decoders._dense(SMALL.backbone, *rest))
    tensors = tensors_of(SMALL)
    model = cli.load_engine("torch").infer(SMALL, tensors)
    content = atlas.make_content(_with(SMALL, backbone=_Backbone()), tensors, model, cans(90, (8, 8)), 50)
    assert content.decoder.is_exact


@dataclass(frozen=True)
class _Map(Bottleneck):
    """Codes with a shape."""

    kind: ClassVar[str] = "map of six numbers"

    def latent_shape(self, features):
        return _Mapped.SHAPE


class _Mapped:
    """A model whose codes are maps, [N, 2, 1, 3]: those of another with its six numbers in another order."""

    SHAPE, ORDER = (2, 1, 3), np.array([3, 0, 5, 1, 4, 2])

    def __init__(self, model):
        self.model = model

    def encode(self, images):
        return self.model.encode(images)[:, self.ORDER].reshape(-1, *self.SHAPE)

    def decode(self, z):
        assert z.shape[1:] == self.SHAPE
        return self.model.decode(z.reshape(-1, 6)[:, np.argsort(self.ORDER)])

    # what an atlas does not ask for
    posterior = reconstruct = evaluate = encode


def test_codes_with_a_shape_are_rows_of_numbers():
    spec = replace(SMALL, bottleneck=PlainBottleneck(6))
    tensors = tensors_of(spec)
    model = _Mapped(cli.load_engine("torch").infer(spec, tensors))
    spec = replace(spec, bottleneck=_Map())
    steps = tensors | {"decoder.blocks.0.linear.weight": tensors["decoder.blocks.0.linear.weight"][:, _Mapped.ORDER]}
    content = atlas.make_content(spec, steps, model, cans(90, (8, 8)), 50)
    assert content.decoder.is_exact
    assert content.values["latent"] == content.values["width"] == 6
    assert "a code has 2 × 1 × 3 = 6 numbers." in atlas.render(content, "")
    # in the order of the other model's code they make other pictures
    content = atlas.make_content(spec, tensors, model, cans(90, (8, 8)), 50)
    assert not content.decoder.is_exact
    assert content.values["distance"]["largest"] < 0.2


@pytest.mark.parametrize(("latent", "said"), [(1, "1 number"), (5, "5 numbers")])
def test_the_page_says_how_many_numbers_a_code_has(latent, said):
    content, _ = made(replace(SMALL, bottleneck=PlainBottleneck(latent)), cans(20, (8, 8)))
    assert f"a code has {said}. Point anywhere" in atlas.render(content, "")
