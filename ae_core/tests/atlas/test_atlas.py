"""The atlas before a browser sees it: what is shown, what is claimed, and the command."""

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
from ae_core.atlas import page_decoder as page_decoders
from ae_core.atlas.write import MAX_BYTES, MAX_SHOWN
from ae_core.commands import cli
from ae_core.data import Dataset
from ae_core.data.cans import cans
from ae_core.data.digits import digits
from ae_core.data.garments import garments
from ae_core.errors import DataError
from ae_core.files.weights import save_weights
from ae_core.spec import DenseBackbone, PlainBottleneck, Spec
from ae_core.tests.atlas.atlas_models import SMALL, WIDE, made, tensors_of

TWINS = ("jax", "torch")


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


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
    """What is in a page by its own limit, as base64, leaves room for the script and a few short texts."""
    beside = 4 * MAX_SHOWN * (contents.MAX_COLOURS + 1)
    parts = (
        max(page_decoders.WEIGHT_BYTES, page_decoders.GRID_BYTES) + contents.SHEET_BYTES + contents.CODE_BYTES + beside
    )
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
