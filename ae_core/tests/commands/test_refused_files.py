"""Files that the command line refuses: one line, exit status 2, nothing left behind."""

import gzip
import json
import math

import numpy as np
import pytest
from safetensors.numpy import save as serialize

from ae_core.files.weights import FORMAT, load_weights, save_weights
from ae_core.spec import spec_to_json
from ae_core.tests.commands.command_line import TRAIN, TWINS, VAE
from ae_core.tests.commands.files import GOOD, idx, npy, npz, spec_file


def _with(value):
    bad = GOOD.copy()
    bad[1, 2, 3, 0] = value
    return npy(bad)


_CONV = spec_to_json(VAE)["backbone"]

BAD_SPECS = {
    "unknown key": (spec_file(backbonee=1), 'unknown key "backbonee"; did you mean "backbone"?'),
    "a key of two lines": (spec_file(**{"back\nbon": 1}), 'unknown key "back bon"; did you mean "backbone"?'),
    "unknown kind": (spec_file(bottleneck={"kind": "gausian", "latent": 2}), 'did you mean "gaussian"?'),
    "unknown deep key": (spec_file(training={"epoch": 2}), 'training: unknown key "epoch"; did you mean "epochs"?'),
    "stride that does not divide": (
        spec_file(backbone=_CONV | {"strides": [3]}),
        "backbone.strides[0]: given 3; expected a divisor of both sides of the 8×8 pixels",
    ),
    "zero latents": (
        spec_file(bottleneck={"kind": "plain", "latent": 0}),
        "latent: given 0; expected an integer from 1 to",
    ),
    "no channels": (spec_file(backbone=_CONV | {"channels": [], "strides": []}), "channels: given []"),
    "even kernel": (spec_file(backbone=_CONV | {"kernel": 4, "padding": "torch"}), "kernel: given 4; expected odd"),
    "zero height": (spec_file(input_shape=[0, 8, 1]), "input_shape: given [0, 8, 1]"),
    "NaN": (spec_file(likelihood={"kind": "gaussian", "variance": math.nan}), "variance: given nan"),
    "a number beyond all floats": (
        spec_file(likelihood={"kind": "gaussian", "variance": 10**400}),
        "variance: given 1000",
    ),
    "not JSON": (b"{", "not JSON: "),
    "nothing": (b"", "not JSON: "),
    "not text": (b"\xff\xff", "not UTF-8 text"),
}

BAD_IMAGES = {
    "too wide": ("x.npy", npy(np.zeros((3, 8, 9, 1), np.float32)), "images are 8×9×1"),
    "too many channels": ("x.npy", npy(np.zeros((3, 8, 8, 3), np.float32)), "images are 8×8×3"),
    "flat": ("x.npy", npy(np.zeros((3, 64), np.float32)), "shape is (3, 64)"),
    "none": ("x.npy", npy(np.zeros((0, 8, 8, 1), np.float32)), "there must be at least one image"),
    "integers": ("x.npy", npy(np.zeros((3, 8, 8, 1), np.int64)), "dtype is int64"),
    "complex": ("x.npy", npy(np.zeros((3, 8, 8, 1), np.complex64)), "dtype is complex64"),
    "objects": ("x.npy", npy(np.full((3, 8, 8, 1), None)), "not a .npy file"),
    "above 1": ("x.npy", _with(1.5), "image 1 ranges from 0.5 to 1.5"),
    "below 0": ("x.npy", _with(-0.1), "image 1 ranges from -0.1 to 0.5"),
    "NaN": ("x.npy", _with(np.nan), "image 1 holds NaN"),
    "infinity": ("x.npy", _with(np.inf), "image 1 holds infinity"),
    "minus infinity": ("x.npy", _with(-np.inf), "image 1 holds infinity"),
    "truncated npy": ("x.npy", npy(GOOD)[:-1], "not a .npy file"),
    "empty npy": ("x.npy", b"", "not a .npy file"),
    "truncated npz": ("x.npz", npz(images=GOOD)[:-30], "not a .npz file"),
    "npz without images": ("x.npz", npz(a=GOOD, b=GOOD), "holds a, b, images must be in one of"),
    "empty IDX": ("x-idx3-ubyte", b"", "has 0 bytes"),
    "truncated IDX": ("x-idx3-ubyte", idx()[:-1], "truncated: has 207 bytes"),
    "IDX without its header": ("x-idx3-ubyte", idx()[:9], "the header of an IDX file of rank 3 has 16"),
    "over-long IDX": ("x-idx3-ubyte", idx() + b"\0", "over-long: has 209 bytes"),
    "wrong magic": ("x-idx3-ubyte", idx(magic=b"\0\1\x08\x03"), "begins with 00 01 08 03"),
    "unknown IDX type": ("x-idx3-ubyte", idx(magic=b"\0\0\x07\x03"), "begins with 00 00 07 03"),
    "IDX of labels": ("x-idx1-ubyte", b"\0\0\x08\x01\0\0\0\x03\0\1\2", "shape is (3,)"),
    "truncated gzip": ("x.gz", gzip.compress(idx())[:-5], "damaged or truncated"),
    "no picture": ("x.png", b"\x89PNG", "x.png"),
    "nothing there": ("x.npy", None, "no data set, file or folder"),
}


def _changed(path, change):
    """Return the bytes of a weights file whose tensors are changed, with checksums that are right again."""
    spec, tensors = load_weights(path)
    out = path.with_name("changed")
    save_weights(out, spec, change(tensors))
    data = out.read_bytes()
    out.unlink()
    return data


def _flipped(data, position):
    changed = bytearray(data)
    changed[position] ^= 4
    return bytes(changed)


_BIAS = "decoder.output.bias"


def _foreign(path):
    import hashlib

    text = json.dumps({"layers": 3})
    digest = hashlib.sha256(text.encode()).hexdigest()
    metadata = {"format": FORMAT, "spec": text, "spec_sha256": digest, "sha256": "{}"}
    return serialize({}, metadata)


BAD_WEIGHTS = {
    "truncated": (lambda path: path.read_bytes()[:-1], "not a safetensors file"),
    "cut to its header": (lambda path: path.read_bytes()[:100], "not a safetensors file"),
    "empty": (lambda path: b"", "not a safetensors file"),
    "over-long": (lambda path: path.read_bytes() + b"\0", "not a safetensors file"),
    "a flipped bit in a tensor": (lambda path: _flipped(path.read_bytes(), -7), "is damaged: its checksum"),
    "a flipped bit in the spec": (
        lambda path: path.read_bytes().replace(b'\\"latent\\": 2', b'\\"latent\\": 3'),
        "the spec is damaged",
    ),
    "a missing tensor": (
        lambda path: _changed(path, lambda t: {k: v for k, v in t.items() if k != _BIAS}),
        f'tensor "{_BIAS}" is missing; the spec wants it with shape (64,)',
    ),
    "an extra tensor": (
        lambda path: _changed(path, lambda t: t | {"encoder.more": np.zeros(1)}),
        'tensor "encoder.more" is extra; the spec has none of that name',
    ),
    "a misshapen tensor": (
        lambda path: _changed(path, lambda t: t | {_BIAS: np.zeros(63)}),
        f'tensor "{_BIAS}" has shape (63,); the spec wants (64,)',
    ),
    "foreign": (lambda path: serialize({"weight": np.zeros(3)}), 'foreign file: its format is "none"'),
    "foreign spec": (lambda path: _foreign(path), 'foreign spec: spec: unknown key "layers"'),
    "nothing there": (lambda path: None, "no such file"),
}

BAD_CODES = {
    "too many latents": (npy(np.zeros((3, 4))), "given shape (3, 4); expected [N, 2], N at least 1"),
    "one axis": (npy(np.zeros(2)), "given shape (2,)"),
    "none": (npy(np.zeros((0, 2))), "given shape (0, 2)"),
    "NaN": (npy(np.full((3, 2), np.nan)), "given NaN or infinity; expected finite numbers"),
    "infinity": (npy(np.full((3, 2), np.inf)), "given NaN or infinity"),
    "complex": (npy(np.zeros((3, 2), complex)), "given dtype complex128"),
    "truth values": (npy(np.zeros((3, 2), bool)), "given dtype bool"),
    "objects": (npy(np.full((3, 2), None)), "not a .npy array"),
    "truncated": (npy(np.zeros((3, 2)))[:-1], "not a .npy array"),
    "empty": (b"", "not a .npy array"),
    "damaged zip": (b"PK\x03\x04" + bytes(30), "not a .npy array"),
    "an archive": (npz(z=np.zeros((3, 2))), "given an .npz archive"),
    "text": (b"0 1\n2 3\n", "not a .npy array"),
    "nothing there": (None, "no such file"),
}


@pytest.mark.parametrize("twin", TWINS)
@pytest.mark.parametrize("case", BAD_SPECS)
def test_bad_spec(refuse, twin, case):
    content, message = BAD_SPECS[case]
    refuse(twin, (*TRAIN, "--data", "digits", "--spec", "{in}/bad.json"), message, bad__json=content)
    refuse(twin, ("info", "--spec", "{in}/bad.json"), message)


@pytest.mark.parametrize("twin", TWINS)
@pytest.mark.parametrize("case", BAD_IMAGES)
def test_bad_images(refuse, twin, case):
    name, content, message = BAD_IMAGES[case]
    file = {name.replace(".", "__").replace("-", "_"): content}
    refuse(
        twin, ("train", "--spec", "{in}/spec.json", "--data", f"{{in}}/{name}", "--out", "{out}/run"), message, **file
    )
    for command in ("encode", "reconstruct"):
        argv = (command, "--weights", "{in}/plain", "--images", f"{{in}}/{name}", "--out", "{out}/y.npy")
        refuse(twin, argv, message)


@pytest.mark.parametrize("twin", TWINS)
@pytest.mark.parametrize("case", BAD_WEIGHTS)
def test_bad_weights(refuse, weights, twin, case):
    change, message = BAD_WEIGHTS[case]
    content = change(weights["plain"])
    assert content != weights["plain"].read_bytes()
    for argv in (
        ("encode", "--weights", "{in}/bad", "--images", "{in}/x.npy", "--out", "{out}/z.npy"),
        ("reconstruct", "--weights", "{in}/bad", "--images", "{in}/x.npy", "--out", "{out}/y.png"),
        ("decode", "--weights", "{in}/bad", "--codes", "{in}/z.npy", "--out", "{out}/y.npy"),
        ("sample", "--weights", "{in}/bad", "--points", "{in}/z.npy", "--out", "{out}/y.npy"),
        ("info", "--weights", "{in}/bad"),
        ("train", "--spec", "{in}/spec.json", "--data", "digits", "--start", "{in}/bad", "--out", "{out}/run"),
    ):
        refuse(twin, argv, message, bad=content)


@pytest.mark.parametrize("twin", TWINS)
@pytest.mark.parametrize("case", BAD_CODES)
def test_bad_codes(refuse, twin, case):
    content, message = BAD_CODES[case]
    for argv in (("decode", "--codes", "{in}/bad.npy"), ("sample", "--points", "{in}/bad.npy")):
        refuse(twin, (*argv, "--weights", "{in}/plain", "--out", "{out}/y.npy"), message, bad__npy=content)
