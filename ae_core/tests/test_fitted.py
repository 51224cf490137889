"""The library's face: a training from arrays, and what came of it, on both twins."""

import pickle
import re
from dataclasses import replace

import numpy as np
import pytest

import ae_jax
import ae_jax.engine
import ae_torch
from ae_core import DataError, SpecError, WeightsError, latent, preset
from ae_core.commands import cli
from ae_core.data import cans, split
from ae_core.spec import BatchNorm, DenseBackbone, GaussianBottleneck, PlainBottleneck, Spec, Training
from ae_core.spec.changes import changed, changed_training, chosen
from ae_core.training import loop
from ae_core.training.loop import Silence

TWINS = {"jax": ae_jax, "torch": ae_torch}
PLAIN = Spec((8, 8, 1), DenseBackbone((6,)), PlainBottleneck(2), training=Training(batch_size=16, epochs=3))
VAE = replace(PLAIN, bottleneck=GaussianBottleneck(3))
IMAGES = cans(60, (8, 8)).images

pytestmark = pytest.mark.usefixtures("one_thread")


def _tensors_equal(one, other):
    assert one.keys() == other.keys()
    return all(np.array_equal(one[name], other[name]) for name in one)


def test_a_fit_is_the_training_of_the_command_line(twin):
    model = twin.fit(VAE, IMAGES, seed=3)
    train, kept = split(len(IMAGES), 0.1, 3)
    result = loop.train(twin.Fitted.engine, VAE, IMAGES[train], IMAGES[kept], 3, Silence(), lambda tensors: None)
    assert _tensors_equal(model.tensors, result.tensors)
    assert model.history.step_losses == result.step_losses
    assert [epoch.epoch for epoch in model.history.epochs] == [0, 1, 2, 3]
    assert model.history.status == "finished"
    assert model.spec == VAE
    assert isinstance(model, twin.Fitted)
    assert not _tensors_equal(model.tensors, twin.fit(VAE, IMAGES, seed=4).tensors)


def test_what_a_model_does(twin):
    model = twin.fit(VAE, IMAGES)
    engine = twin.Fitted.engine.infer(VAE, model.tensors)
    np.testing.assert_array_equal(model.encode(IMAGES), engine.encode(IMAGES))
    np.testing.assert_array_equal(model.posterior(IMAGES), engine.posterior(IMAGES))
    np.testing.assert_array_equal(model.reconstruct(IMAGES), engine.reconstruct(IMAGES))
    codes = model.encode(IMAGES)
    assert (codes.shape, codes.dtype) == ((60, 3), np.float32)
    np.testing.assert_array_equal(model.decode(codes), engine.decode(codes))
    np.testing.assert_array_equal(model.decode(codes.tolist()), engine.decode(codes))
    assert model.evaluate(IMAGES) == engine.evaluate(IMAGES)
    assert repr(model) == f"<{engine_name(twin)} dense autoencoder of 8×8×1 images, 3 latent dimensions>"


def engine_name(twin):
    return twin.__name__.removeprefix("ae_")


def test_images_may_come_in_many_forms(twin):
    model = twin.fit(PLAIN, IMAGES)
    whole = np.rint(255 * IMAGES).astype(np.uint8)
    np.testing.assert_array_equal(model.encode(whole[..., 0]), model.encode(whole / np.float32(255)))
    np.testing.assert_array_equal(model.encode(IMAGES.tolist()), model.encode(IMAGES))


def test_other_numbers_of_training(twin):
    model = twin.fit(PLAIN, IMAGES, epochs=1, batch_size=7, learning_rate=1, precision="float64")
    training = replace(PLAIN.training, epochs=1, batch_size=7, precision="float64")
    assert model.spec == replace(
        PLAIN, training=replace(training, optimizer=replace(training.optimizer, learning_rate=1.0))
    )
    assert len(model.history.step_losses) == -(-54 // 7)
    assert model.encode(IMAGES).dtype == np.float64
    assert twin.fit("dense-digits", IMAGES, epochs=1).spec == changed_training(preset("dense-digits"), epochs=1)


def test_other_images_to_judge_by(twin):
    model = twin.fit(PLAIN, IMAGES[:40], heldout=IMAGES[40:])
    result = loop.train(twin.Fitted.engine, PLAIN, IMAGES[:40], IMAGES[40:], 0, Silence(), lambda tensors: None)
    assert _tensors_equal(model.tensors, result.tensors)
    assert model.evaluate(IMAGES[40:])["loss"] == model.history.epochs[model.history.best_epoch].heldout["loss"]


def test_progress_is_shown_where_it_is_asked_for(twin, capsys):
    twin.fit(PLAIN, IMAGES)
    assert capsys.readouterr() == ("", "")
    twin.fit(PLAIN, IMAGES, progress=True)
    said = capsys.readouterr()
    assert said.out == ""
    assert f"{engine_name(twin)}: epoch 3/3" in said.err


def test_samples(twin):
    plain, variational = twin.fit(PLAIN, IMAGES), twin.fit(VAE, IMAGES)
    new = variational.sample(5, seed=2)
    assert new.shape == (5, 8, 8, 1)
    np.testing.assert_array_equal(new, variational.decode(latent.Prior(3).draw(5, 2)))
    assert not np.array_equal(new, variational.sample(5, seed=3))
    codes = plain.encode(IMAGES)
    fitted = {
        None: latent.fit_gaussian(codes),
        "gaussian": latent.fit_gaussian(codes),
        "mixture": latent.fit_mixture(codes, 4, 7),
        "box": latent.fit_box(codes),
    }
    for name, sampler in fitted.items():
        new = plain.sample(6, seed=7, sampler=name, images=IMAGES, components=4)
        np.testing.assert_array_equal(new, plain.decode(sampler.draw(6, 7)))


@pytest.mark.parametrize("spec", [PLAIN, VAE], ids=["plain", "vae"])
def test_files(twin, tmp_path, spec):
    model = twin.fit(spec, IMAGES)
    model.save(tmp_path / "weights.safetensors")
    for other in TWINS.values():
        loaded = other.Fitted.load(str(tmp_path / "weights.safetensors"))
        assert type(loaded) is other.Fitted
        assert loaded.spec == spec
        assert loaded.history is None
        assert _tensors_equal(loaded.tensors, model.tensors)
    argv = ["encode", "--weights", tmp_path / "weights.safetensors", "--images", "cans", "--count", 60]
    assert cli.main(engine_name(twin), [str(a) for a in (*argv, "--out", tmp_path / "z.npy")]) == 0
    np.testing.assert_array_equal(np.load(tmp_path / "z.npy"), model.encode(IMAGES))
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.encode(IMAGES), model.encode(IMAGES))
    (tmp_path / "weights.safetensors").write_bytes(b"no")
    with pytest.raises(WeightsError, match="truncated, damaged"):
        twin.Fitted.load(tmp_path / "weights.safetensors")


def test_a_training_that_fails_says_so(twin):
    with pytest.warns(RuntimeWarning, match="training diverged: .* in epoch 1, .* the weights of epoch 0 are kept"):
        model = twin.fit(PLAIN, IMAGES, learning_rate=1e38)
    assert model.history.status == "diverged"
    assert all(np.isfinite(tensor).all() for tensor in model.tensors.values())


def test_an_atlas(twin, tmp_path):
    model = twin.fit(VAE, IMAGES)
    page = tmp_path / "atlas.html"
    labels = np.arange(60) % 3
    model.atlas(page, IMAGES, labels.tolist(), label_names=("low", "high", "strange"))
    text = page.read_text(encoding="utf-8")
    assert "60 images, each where the encoder put it" in text
    assert "strange" in text
    model.atlas(str(page), IMAGES, shown=7, decoder="grid")
    text = page.read_text(encoding="utf-8")
    assert "7 of 60 images, evenly chosen" in text
    assert "Blended: in place of the decoder" in text
    assert "strange" not in text
    wrong = {
        "labels: given int64 (59,); expected 60 integers": {"labels": labels[1:]},
        "labels: given float64 (60,); expected 60 integers": {"labels": labels / 2},
        "labels: given 0 to 2; expected 0 to 1, as there are names": {"labels": labels, "label_names": ("a", "b")},
        "shown: given 0; expected 1 to 10,000": {"shown": 0},
    }
    for message, options in wrong.items():
        with pytest.raises(DataError, match=f"^{re.escape(message)}$"):
            model.atlas(page, IMAGES, **options)


_NORM = replace(PLAIN, backbone=DenseBackbone((3,), norm=BatchNorm()))
BAD = {
    "no such preset": (SpecError, 'unknown preset "foster-ea"; did you mean "foster-ae"?', ("foster-ea", IMAGES), {}),
    "no epoch": (SpecError, "epochs: given 0; expected an integer from 1", (PLAIN, IMAGES), {"epochs": 0}),
    "a rate of 0": (SpecError, "learning_rate: given 0.0; expected", (PLAIN, IMAGES), {"learning_rate": 0}),
    "a batch of one": (SpecError, "leaves a batch of 1", (_NORM, IMAGES), {"batch_size": 53}),
    "another size": (
        DataError,
        "images: given 4×8×1 pixels and channels; expected 8×8×1",
        (PLAIN, IMAGES[:, :4]),
        {},
    ),
    "too bright": (DataError, "images: image 0 ranges from", (PLAIN, 2 * IMAGES), {}),
    "ragged": (DataError, "images: given rows of unequal length", (PLAIN, [[1.0, 2.0], [3.0]]), {}),
    "text": (DataError, r"images: shape is \(\)", (PLAIN, "cans"), {}),
    "one image": (DataError, "leaves the held-out part empty", (PLAIN, IMAGES[:1]), {}),
    "all held out": (DataError, "must be between 0 and 1", (PLAIN, IMAGES), {"heldout": 1}),
    "text for a fraction": (DataError, "heldout: given 'x'; expected a fraction", (PLAIN, IMAGES), {"heldout": "x"}),
    "others of another size": (DataError, "heldout: given 4×8×1", (PLAIN, IMAGES), {"heldout": IMAGES[:, :4]}),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_refused_in_one_line(twin, name):
    error, message, arguments, options = BAD[name]
    with pytest.raises(error, match=message) as caught:
        twin.fit(*arguments, **options)
    assert "\n" not in str(caught.value)


def test_bad_questions_are_refused_in_one_line(twin):
    plain, variational = twin.fit(PLAIN, IMAGES), twin.fit(VAE, IMAGES)
    questions = {
        "images: given 4×8×1": lambda: plain.encode(IMAGES[:, :4]),
        "images: image 0 holds NaN": lambda: plain.reconstruct(np.full((1, 8, 8), np.nan)),
        r"codes: given shape \(2, 3\); expected \[N, 2\]": lambda: plain.decode(np.zeros((2, 3))),
        "codes: given NaN or infinity": lambda: plain.decode([[0.0, np.inf]]),
        'given "plain" bottleneck'.replace("given", "given a"): lambda: plain.posterior(IMAGES),
        "count: given 0; expected 1 to 10,000,000": lambda: variational.sample(0),
        'given "prior", which a "plain" bottleneck does not have': lambda: plain.sample(sampler="prior"),
        'given "gaussian" and no images': lambda: plain.sample(),
        "mixture: given 31 components": lambda: plain.sample(sampler="mixture", images=IMAGES, components=31),
    }
    for message, ask in questions.items():
        with pytest.raises((DataError, SpecError), match=message) as caught:
            ask()
        assert "\n" not in str(caught.value)


def test_jax_is_left_as_it_is():
    import jax

    before = dict(jax.config.values)
    ae_jax.fit(PLAIN, IMAGES, precision="float64").sample(2, images=IMAGES)
    assert dict(jax.config.values) == before


def test_changes():
    assert changed(PLAIN, {"backbone.hidden": (4, np.int32(5)), "bottleneck.latent": None}) == replace(
        PLAIN, backbone=DenseBackbone((4, 5))
    )
    assert changed(PLAIN, {"training.optimizer.learning_rate": np.float32(0.5)}).training.optimizer.learning_rate == 0.5
    assert chosen("foster-ae") is preset("foster-ae")
    assert chosen(PLAIN) is PLAIN
    with pytest.raises(SpecError, match=re.escape('spec.backbone: unknown key "hiden"; did you mean "hidden"?')):
        changed(PLAIN, {"backbone.hiden": (3,)})
    with pytest.raises(SpecError, match="expected an integer"):
        changed(PLAIN, {"training.epochs": 2.5})
