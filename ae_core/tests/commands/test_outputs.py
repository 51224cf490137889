"""What the commands write that run a model, on both twins."""

import numpy as np
import pytest
from PIL import Image

from ae_core.data import cans
from ae_core.rng import normal
from ae_core.tests.commands.command_line import SPECS, TWINS, one_line, run, saved


@pytest.mark.parametrize("twin", TWINS)
@pytest.mark.parametrize(("name", "latent"), [("plain", 2), ("vae", 3)])
def test_encode_then_decode_is_reconstruct(tmp_path, weights, images, capsys, twin, name, latent):
    common = ("--weights", weights[name])
    z, x, y = (tmp_path / file for file in ("z.npy", "x.npy", "y.npy"))
    assert run(twin, "encode", *common, "--images", images, "--out", z) == 0
    assert run(twin, "decode", *common, "--codes", z, "--out", x) == 0
    assert run(twin, "reconstruct", *common, "--images", images, "--out", y) == 0
    said = capsys.readouterr()
    assert said.err == ""
    assert said.out.splitlines() == [
        f"codes [5, {latent}]: {z}",
        f"images [5, 8, 8, 1]: {x}",
        f"reconstructions [5, 8, 8, 1]: {y}",
    ]
    assert saved(z).shape == (5, latent)
    recon = saved(y)
    assert recon.shape == (5, 8, 8, 1)
    assert 0 <= recon.min() < recon.max() <= 1
    np.testing.assert_allclose(saved(x), recon, atol=1e-6)


def test_encoding_is_the_same_on_both_twins(tmp_path, weights, images):
    for name in ("plain", "vae"):
        codes = []
        for twin in TWINS:
            out = tmp_path / f"{name}-{twin}.npy"
            assert run(twin, "encode", "--weights", weights[name], "--images", images, "--out", out) == 0
            codes.append(saved(out))
        np.testing.assert_allclose(*codes, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("twin", TWINS)
@pytest.mark.parametrize(("name", "mode"), [("vae", "L"), ("colour", "RGB")])
def test_png(tmp_path, weights, twin, name, mode):
    out = tmp_path / "y.png"
    shape = SPECS[name].input_shape
    np.save(tmp_path / "x.npy", cans(5, shape[:2], channels=shape[2]).images)
    assert run(twin, "reconstruct", "--weights", weights[name], "--images", tmp_path / "x.npy", "--out", out) == 0
    with Image.open(out) as picture:
        picture.load()
        assert (picture.format, picture.mode) == ("PNG", mode)


@pytest.mark.parametrize("command", ["encode", "reconstruct", "decode", "sample"])
@pytest.mark.parametrize("twin", TWINS)
def test_outputs_are_overwritten_with_force_alone(tmp_path, weights, images, capsys, twin, command):
    out = tmp_path / "y.npy"
    np.save(tmp_path / "z.npy", np.zeros((4, 3)))
    given = {"decode": ("--codes", tmp_path / "z.npy"), "sample": ("--count", 4)}.get(command, ("--images", images))
    out.write_bytes(b"old")
    argv = (command, "--weights", weights["vae"], *given, "--out", out)
    assert run(twin, *argv) == 2
    one_line(capsys, twin, f"{out}: is there already; give --force to overwrite it, or another path")
    assert out.read_bytes() == b"old"
    assert run(twin, *argv, "--force") == 0
    assert len(saved(out)) == (4 if command in ("decode", "sample") else 5)


@pytest.mark.parametrize("twin", TWINS)
def test_sample_is_the_decoded_prior(tmp_path, weights, twin):
    outs = {}
    for name, flags in {
        "a": ("--count", 7, "--seed", 2),
        "again": ("--count", 7, "--seed", 2),
        "other": ("--count", 7, "--seed", 4),
        "default": (),
    }.items():
        out = tmp_path / f"{name}.npy"
        assert run(twin, "sample", "--weights", weights["vae"], "--out", out, *flags) == 0
        outs[name] = saved(out)
    assert outs["a"].shape == (7, 8, 8, 1)
    assert outs["default"].shape == (16, 8, 8, 1)
    np.testing.assert_array_equal(outs["a"], outs["again"])
    assert not np.allclose(outs["a"], outs["other"])
    np.save(tmp_path / "z.npy", normal((7, 3), 2, "sample"))
    assert (
        run(twin, "decode", "--weights", weights["vae"], "--codes", tmp_path / "z.npy", "--out", tmp_path / "d.npy")
        == 0
    )
    np.testing.assert_array_equal(saved(tmp_path / "d.npy"), outs["a"])


@pytest.mark.parametrize("twin", TWINS)
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int64, np.uint8])
def test_sample_of_a_plain_bottleneck_at_given_points(tmp_path, weights, twin, dtype):
    np.save(tmp_path / "z.npy", np.array([[0, 1], [2, 3], [4, 5]], dtype))
    argv = ("sample", "--weights", weights["plain"], "--points", tmp_path / "z.npy", "--out", tmp_path / "y.npy")
    assert run(twin, *argv) == 0
    assert saved(tmp_path / "y.npy").shape == (3, 8, 8, 1)
