"""The atlas before a browser sees it: the decoder's steps, what is shown, what is claimed, and the command."""

import base64
import io
import json
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from ae_core import atlas
from ae_core.atlas import content as contents
from ae_core.atlas import live as lives
from ae_core.atlas.write import MAX_BYTES, MAX_SHOWN
from ae_core.commands import cli
from ae_core.data import Dataset
from ae_core.data.cans import cans
from ae_core.data.digits import digits
from ae_core.data.garments import garments
from ae_core.errors import DataError
from ae_core.files.weights import save_weights
from ae_core.rng import normal
from ae_core.spec import (
    BatchNorm,
    ConvBackbone,
    DenseBackbone,
    GaussianBottleneck,
    GaussianLikelihood,
    GroupNorm,
    LayerNorm,
    PlainBottleneck,
    Spec,
)

TWINS = ("jax", "torch")


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def float64(spec):
    return replace(spec, training=replace(spec.training, precision="float64"))


def tensors_of(spec, scale=1.0):
    """Return weights of which none is 0 or 1: a forgotten one would show."""
    shapes = cli.load_engine("torch").shapes(spec)
    drawn = {name: scale * normal(shape, 3, name) / max(shape[-1:] or (1,)) ** 0.5 for name, shape in shapes.items()}
    positive = {name: np.abs(t) + 0.3 for name, t in drawn.items() if name.endswith("running_var")}
    return {name: t.astype(spec.training.precision) for name, t in (drawn | positive).items()}


_DENSE = Spec((6, 5, 1), DenseBackbone((7, 4)), PlainBottleneck(3))
_CONV = Spec((8, 12, 1), ConvBackbone((4, 6), (2, 1)), PlainBottleneck(2))
DECODERS = {
    "dense": _DENSE,
    "linear": replace(_DENSE, backbone=DenseBackbone(()), likelihood=GaussianLikelihood()),
    "dense, batch norm": replace(_DENSE, backbone=DenseBackbone((7, 4), "silu", norm=BatchNorm())),
    "dense, group norm": replace(_DENSE, backbone=DenseBackbone((8, 4), "gelu_tanh", norm=GroupNorm(2))),
    "dense, layer norm": replace(_DENSE, backbone=DenseBackbone((7, 4), "gelu_erf", norm=LayerNorm())),
    "colour": replace(_DENSE, input_shape=(4, 3, 3), bottleneck=GaussianBottleneck(1)),
    "conv": _CONV,
    "conv, padding of torch": replace(_CONV, backbone=ConvBackbone((4, 6), (2, 2), 5, "torch", "leaky_relu", 0.2)),
    "conv, even kernel": replace(_CONV, backbone=ConvBackbone((4, 6), (2, 2), 4)),
    "conv, kernel 1": replace(_CONV, backbone=ConvBackbone((4,), (2,), 1), input_shape=(8, 12, 3)),
    "conv, kernel below the stride": replace(_CONV, backbone=ConvBackbone((4,), (4,), 2)),
    "conv, batch norm": replace(_CONV, backbone=ConvBackbone((4, 6), (2, 2), norm=BatchNorm(1e-3))),
    "conv, group norm": replace(_CONV, backbone=ConvBackbone((4, 6), (2, 2), norm=GroupNorm(2))),
    "conv, layer norm": replace(_CONV, backbone=ConvBackbone((4, 6), (2, 2), norm=LayerNorm())),
}


@pytest.mark.parametrize("name", DECODERS)
def test_the_steps_are_the_decoder(name):
    spec = float64(DECODERS[name])
    tensors = tensors_of(spec)
    z = normal((21, spec.bottleneck.latent), 0, "z")
    program = atlas.decoder_program(spec, tensors, "float64")
    true = cli.load_engine("torch").infer(spec, tensors).decode(z)
    ours = program.decode(z)
    assert ours.shape == true.shape
    assert np.std(true, axis=0).max() > 0.01
    # the limit to which the twins are held to each other, from which this is a third
    assert np.linalg.norm(ours - true) <= 1e-11 * np.linalg.norm(true)


def test_work_counts_every_product():
    program = atlas.decoder_program(_CONV, tensors_of(_CONV), "float32")
    # latents to 4·6 pixels of 6 channels; there 9 taps of 6·6; there at stride 2 9 of 6·4; on 8·12 pixels 9 of 4·1
    assert program.work() == 2 * 144 + 24 * 9 * 36 + 24 * 9 * 24 + 96 * 9 * 4


def made(spec, data, tensors=None, **options):
    tensors = tensors_of(spec) if tensors is None else tensors
    model = cli.load_engine("torch").infer(spec, tensors)
    return atlas.make_content(spec, tensors, model, data, **({"most": 50} | options)), model


SMALL = Spec((8, 8, 1), DenseBackbone((6,)), PlainBottleneck(2))
WIDE = replace(SMALL, bottleneck=GaussianBottleneck(5))


@pytest.mark.parametrize("spec", [SMALL, WIDE], ids=["plane", "wide"])
@pytest.mark.parametrize("means", ["page", "grid"])
def test_the_distance_is_that_at_the_spots(spec, means):
    content, model = made(spec, cans(300, (8, 8)), means=means)
    codes = model.encode(cans(300, (8, 8)).images[content.indices]).astype(np.float32)
    spots, points = lives.spots_to_measure(codes, content.plane, content.view)
    z = content.plane.codes(points) if means == "grid" else spots
    difference = content.live.decode(points if means == "grid" else spots) - model.decode(z)
    said = content.values["distance"]
    assert said["spots"] == len(z) == 96
    assert said["largest"] == pytest.approx(np.abs(difference).max(), rel=1e-12)
    assert said["rms"] == pytest.approx(np.sqrt(np.mean(difference**2)), rel=1e-12)
    # a picture of 8 bits is half a level off at most, and usually; float32 numbers are off by their rounding
    assert 1e-9 < said["rms"] < said["largest"] < (0.2 if means == "grid" else 1e-5)


def test_spots_reach_wherever_the_page_does():
    codes = normal((40, 4), 0, "codes").astype(np.float32)
    plane = contents.data_plane(codes)
    view = contents._view(plane.points(codes))
    spots, points = lives.spots_to_measure(codes, plane, view)
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
        return content.values["live"].get("storage", "grid"), content.values["distance"]["rms"]

    # 4 bytes for each of about 784 numbers a hidden unit, up to 2.1 MB; then 2 bytes; then none
    sizes = {hidden: storage(hidden) for hidden in (600, 1000, 1600)}
    assert {hidden: kind for hidden, (kind, _) in sizes.items()} == {600: "float32", 1000: "float16", 1600: "grid"}
    assert sizes[600][1] < 1e-6 < sizes[1000][1] < 1e-3
    spec = Spec((28, 28, 1), DenseBackbone((1600,)), PlainBottleneck(2))
    with pytest.raises(DataError, match=r"--decoder: given page, for a decoder of 1,259,984 numbers"):
        made(spec, cans(9, (28, 28)), means="page")


def test_numbers_beyond_half_precision_stay_whole():
    spec = Spec((28, 28, 1), DenseBackbone((1000,)), PlainBottleneck(2))
    tensors = tensors_of(spec)
    tensors["decoder.output.bias"] = np.full_like(tensors["decoder.output.bias"], 1e5)
    assert made(spec, cans(9, (28, 28)), tensors)[0].values["live"]["kind"] == "grid"


def test_a_slow_decoder_is_not_in_the_page(monkeypatch):
    monkeypatch.setattr(lives, "WORK", atlas.decoder_program(_CONV, tensors_of(_CONV), "float32").work() - 1)
    content, _ = made(_CONV, cans(9, (8, 12)))
    assert content.values["live"]["kind"] == "grid"


def sheet_of(content):
    picture = content.values["sheet"]["picture"].removeprefix("data:image/png;base64,")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(picture))))


@pytest.mark.parametrize("channels", [1, 3])
def test_the_sheet_has_the_images(channels):
    data = garments(90, (16, 16), channels=channels)
    spec = Spec((16, 16, channels), DenseBackbone((6,)), PlainBottleneck(2))
    content, _ = made(spec, data)
    assert content.indices.tolist() == np.linspace(0, 89, 50).round().astype(int).tolist()
    sheet, columns = sheet_of(content), content.values["sheet"]["columns"]
    assert content.values["sheet"]["size"] == [16, 16]
    for place, i in enumerate(content.indices):
        row, column = divmod(place, columns)
        tile = sheet[16 * row : 16 * row + 16, 16 * column : 16 * column + 16].reshape(16, 16, channels)
        np.testing.assert_array_equal(tile, np.rint(data.images[i] * 255))


def test_large_images_are_fewer_and_smaller():
    rng = np.random.default_rng(0)
    data = Dataset("noise", rng.random((400, 96, 48, 3)).astype(np.float32))
    spec = Spec((96, 48, 3), DenseBackbone((4,)), PlainBottleneck(2))
    content, _ = made(spec, data, most=400)
    assert content.values["sheet"]["size"] == [64, 32]
    # noise cannot be compressed: 64·32·3 bytes a picture, up to 800,000
    assert 110 < content.values["shown"] == len(content.indices) < 131
    assert content.values["all"] == 400
    assert len(atlas.render(content, "")) < 5_000_000
    assert f"{content.values['shown']} of 400 images, evenly chosen" in atlas.render(content, "")


def test_wide_codes_are_fewer():
    spec = replace(SMALL, bottleneck=PlainBottleneck(3000))
    content, _ = made(spec, cans(200, (8, 8)))
    assert content.values["shown"] == 25
    assert len(content.values["sliders"]) == 32
    codes = cli.load_engine("torch").infer(spec, tensors_of(spec)).encode(cans(200, (8, 8)).images[content.indices])
    latents = [slider["latent"] for slider in content.values["sliders"]]
    assert latents == np.argsort(-codes.astype(np.float32).std(0), kind="stable")[:32].tolist()


def test_every_page_is_under_5_mb():
    """What is in a page by its own limit, as base64, leaves room for the program and a few short texts."""
    beside = 4 * MAX_SHOWN * (contents.MAX_COLOURS + 1)
    parts = max(lives.WEIGHT_BYTES, lives.GRID_BYTES) + contents.SHEET_BYTES + contents.CODE_BYTES + beside
    assert 4 / 3 * parts + 100_000 < MAX_BYTES <= 5_000_000
    assert len(atlas.render(made(SMALL, digits())[0], "")) < 100_000


KNOWN = {
    "labels": (digits(), ["label"]),
    "factors": (cans(90, (8, 8)), ["width", "height"]),
    "both": (garments(90, (8, 8)), ["label", "length", "width", "sleeve", "tone"]),
    "neither": (cans(90, (8, 8))._replace(factors=None, factor_names=()), []),
}


@pytest.mark.parametrize("name", KNOWN)
def test_colours(name):
    data, names = KNOWN[name]
    content, _ = made(SMALL, data)
    assert [colour["name"] for colour in content.values["colours"]] == names
    for colour in content.values["colours"]:
        values = np.frombuffer(base64.b64decode(colour["of"]), "<f4")
        assert len(values) == 50
        if colour["kind"] == "range":
            assert (colour["low"], colour["high"]) == pytest.approx((values.min(), values.max()))
    if names:
        first = made(SMALL, data, colour=names[-1])[0].values["colours"][0]["name"]
        assert first == names[-1]
    with pytest.raises(
        DataError, match=r'--colour: given "hue", which is not known of .*; (valid|did you|it has neither)'
    ):
        made(SMALL, data, colour="hue")


def test_labels_have_their_names():
    labels = [made(SMALL, data)[0].values["colours"][0] for data in (garments(90, (8, 8)), digits())]
    assert labels[0]["names"][9] == "ankle boot"
    assert labels[1]["names"] == [str(i) for i in range(10)]
    many = digits()._replace(labels=np.arange(len(digits().labels)))
    assert made(SMALL, many)[0].values["colours"][0]["kind"] == "range"


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("means", ["page", "grid"])
def test_one_image_is_an_atlas(count, means):
    content, _ = made(SMALL, cans(count, (8, 8)), means=means)
    assert np.isfinite(content.view).all()
    assert content.view[0] < content.view[1]
    assert content.view[2] < content.view[3]
    assert content.values["shown"] == count


def test_names_are_only_text():
    hostile = '</script><img src="https://example.org/x">'
    data = cans(9, (8, 8))._replace(name=hostile, factor_names=(hostile, "${title}"))
    page = atlas.render(made(SMALL, data)[0], hostile)
    assert hostile not in page
    assert page.count("</script") == 2
    assert "<img" not in page
    values = json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)[1])
    assert [colour["name"] for colour in values["colours"]] == [hostile, "${title}"]


def test_a_diverged_model_is_refused():
    tensors = {name: np.full_like(tensor, 1e30) for name, tensor in tensors_of(SMALL).items()}
    for means in ("page", "grid"):
        with pytest.raises(DataError, match="numbers that are not finite"):
            made(SMALL, cans(9, (8, 8)), tensors, means=means)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "w.safetensors"
    save_weights(path, WIDE, tensors_of(WIDE))
    return path


def run(twin, *argv):
    return cli.main(twin, [str(a) for a in argv])


@pytest.mark.parametrize("twin", TWINS)
def test_the_command(tmp_path, weights, capsys, twin):
    out = tmp_path / "atlas.html"
    argv = ("atlas", "--weights", weights, "--data", "garments", "--count", 60, "--out", out)
    assert run(twin, *argv, "--shown", 40, "--colour", "tone") == 0
    said = capsys.readouterr()
    assert said.err == ""
    size = out.stat().st_size / 1e6
    assert said.out == f"atlas of 40 garments, the decoder in it, {size:.1f} MB: {out}\n"
    page = out.read_text()
    # the only address is a namespace's or none: nothing is loaded from anywhere
    assert not re.search(
        r"""(src|href)\s*=\s*["']?\s*(https?:)?//|url\(|@import|\bfetch\(|XMLHttpRequest|import\(""", page
    )
    assert "40 of 60 garments, evenly chosen" in page
    far = json.loads(re.search(r'id="data">(.*?)</script>', page, re.DOTALL)[1])["distance"]
    assert "Exact: the decoder itself is in this page" in page
    assert 1e-9 < far["rms"] < far["largest"] < 1e-5
    assert f"largest {far['largest']:.1e}".split("e")[0] in page
    assert run(twin, *argv) == 2
    assert "is there already; give --force" in capsys.readouterr().err
    assert out.read_text() == page
    assert run(twin, *argv, "--force", "--decoder", "grid") == 0
    assert "Blended: in place of the decoder" in out.read_text()
    assert [path.name for path in tmp_path.iterdir()] == ["atlas.html"]


BAD = {
    "no page": (("--out", "{out}/a.png"), 'given the suffix ".png"; expected .html'),
    "no garments": (("--out", "{out}/a.html", "--shown", 0), "--shown: given 0; expected 1 to 10,000"),
    "a colour that is not known": (("--out", "{out}/a.html", "--colour", "hight"), 'did you mean "height"?'),
    "no such data": (("--out", "{out}/a.html", "--data", "can"), 'did you mean "cans"?'),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_refused_in_one_line(tmp_path, weights, capsys, name):
    argv, fragment = BAD[name]
    given = [str(a).replace("{out}", str(tmp_path)) for a in argv]
    assert run("torch", "atlas", "--weights", weights, "--data", "cans", "--count", 20, *given) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("ae-torch: ")
    assert said.err.count("\n") == 1
    assert fragment in said.err
    assert list(tmp_path.iterdir()) == []
