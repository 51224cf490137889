"""The weights file: bit-equal both ways, written whole or not at all, refused when anything in it has changed."""

import ast
import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load as deserialize
from safetensors.numpy import save as serialize

import ae_core
from ae_core.errors import OutputError, WeightsError
from ae_core.files.weights import FORMAT, check_tensors, checksum, load_weights, save_weights
from ae_core.rng import normal
from ae_core.spec import DenseBackbone, PlainBottleneck, Spec
from ae_core.spec.presets import PRESETS

_SPEC = Spec((1, 2, 1), DenseBackbone(()), PlainBottleneck(1))
_TENSORS = {
    "encoder.code.weight": np.array([[0.5, -1.25]], np.float32),
    "encoder.code.bias": np.array([3.0], np.float32),
    "decoder.output.weight": np.array([[0.1], [-0.2]], np.float32),
}
_SHAPES = {name: tensor.shape for name, tensor in _TENSORS.items()}


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "w.safetensors"
    save_weights(path, _SPEC, _TENSORS)
    return path


def _refused(path):
    with pytest.raises(WeightsError) as caught:
        load_weights(path)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(f"{path}: ")
    return message


def _array(dtype, layout):
    whole = normal((4, 6, 3), 0, "tensor").astype(dtype)
    return {
        "contiguous": whole,
        "transposed": whole.transpose(2, 0, 1),
        "sliced": whole[::2, 1:, ::-1],
        "broadcast": np.broadcast_to(whole[:1], (5, 6, 3)),
        "fortran": np.asfortranarray(whole),
        "empty": whole[:0],
        "special": np.array([np.nan, np.inf, -0.0, np.finfo(dtype).smallest_subnormal], dtype),
        "big-endian": whole.astype(whole.dtype.newbyteorder(">")),
    }[layout]


@pytest.mark.parametrize(
    "layout",
    [
        "contiguous",
        "transposed",
        "sliced",
        "broadcast",
        "fortran",
        "empty",
        "special",
        "big-endian",
    ],
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_tensors_come_back_bit_equal(tmp_path, dtype, layout):
    array = _array(dtype, layout)
    save_weights(tmp_path / "w", _SPEC, {"a": array, "b": array[..., :1]})
    tensors = load_weights(tmp_path / "w").tensors
    assert set(tensors) == {"a", "b"}
    for name, expected in (("a", array), ("b", array[..., :1])):
        assert tensors[name].dtype == np.dtype(dtype)
        assert tensors[name].shape == expected.shape
        assert tensors[name].tobytes() == expected.astype(dtype).tobytes()


@pytest.mark.parametrize("name", PRESETS)
def test_spec_comes_back_equal(tmp_path, name):
    save_weights(tmp_path / "w", PRESETS[name], _TENSORS)
    assert load_weights(tmp_path / "w").spec == PRESETS[name]


def test_equal_weights_are_equal_files(tmp_path, path):
    save_weights(tmp_path / "again", _SPEC, dict(reversed(_TENSORS.items())))
    assert (tmp_path / "again").read_bytes() == path.read_bytes()


def test_any_safetensors_reader_reads_it(path):
    tensors = deserialize(path.read_bytes())
    assert tensors.keys() == _TENSORS.keys()
    for name, tensor in _TENSORS.items():
        np.testing.assert_array_equal(tensors[name], tensor)


def test_checksum_tells_dtype_shape_and_every_bit():
    a = np.arange(6, dtype=np.float32).reshape(2, 3)
    different = [a.reshape(3, 2), a.ravel(), a.view(np.int32), a.astype(np.float64), np.nextafter(a, np.float32(9)), -a]
    assert len({checksum(array) for array in (a, *different)}) == 1 + len(different)
    assert checksum(np.zeros(1)) != checksum(-np.zeros(1))
    assert checksum(a) == checksum(np.asfortranarray(a)) == checksum(a.astype(">f4"))


def test_a_write_that_fails_leaves_the_old_file(tmp_path, path, monkeypatch):
    before = path.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OutputError, match="cannot be written: No space left on device"):
        save_weights(path, _SPEC, {"encoder.code.bias": np.zeros(1)})
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_every_flipped_bit_is_refused(path):
    good = path.read_bytes()
    accepted = []
    with path.open("r+b", buffering=0) as file:
        for bit in range(8 * len(good)):
            place, value = bit // 8, good[bit // 8]
            file.seek(place)
            file.write(bytes([value ^ 1 << bit % 8]))
            try:
                load_weights(path)
                accepted.append(bit)
            except WeightsError:
                pass
            file.seek(place)
            file.write(bytes([value]))
    assert accepted == []
    assert path.read_bytes() == good
    load_weights(path)


def test_random_flipped_bits_in_a_large_payload_are_refused(tmp_path):
    path = tmp_path / "w"
    save_weights(path, _SPEC, {"a": normal((100, 100), 0, "large"), "b": np.zeros(50, np.float32)})
    good = path.read_bytes()
    payload = 8 + int.from_bytes(good[:8], "little")
    rng = np.random.default_rng(0)
    for bit in rng.integers(8 * payload, 8 * len(good), 200).tolist():
        bad = bytearray(good)
        bad[bit // 8] ^= 1 << bit % 8
        path.write_bytes(bad)
        assert "is damaged: its checksum is not the one written with it" in _refused(path)


def test_every_truncation_is_refused(path):
    good = path.read_bytes()
    for length in range(len(good)):
        path.write_bytes(good[:length])
        _refused(path)


@pytest.mark.parametrize("extra", [b"\0", b"\n", bytes(8), bytes(4096), "itself"])
def test_appended_bytes_are_refused(path, extra):
    good = path.read_bytes()
    path.write_bytes(good + (good if extra == "itself" else extra))
    _refused(path)


def _rewritten(path, tensors=None, **metadata):
    """Write the file again with other tensors or metadata, and leave the checksums as they are; None takes away."""
    good = path.read_bytes()
    header = json.loads(good[8 : 8 + int.from_bytes(good[:8], "little")])
    metadata = {key: value for key, value in (header["__metadata__"] | metadata).items() if value is not None}
    path.write_bytes(serialize(_TENSORS if tensors is None else tensors, metadata))


def _signed(spec):
    text = spec if isinstance(spec, str) else json.dumps(spec)
    return {"spec": text, "spec_sha256": hashlib.sha256(text.encode()).hexdigest()}


_WITHOUT_BIAS = {name: tensor for name, tensor in _TENSORS.items() if not name.endswith("bias")}


@pytest.mark.parametrize(
    ("tensors", "metadata", "message"),
    [
        (_WITHOUT_BIAS, {}, 'tensor "encoder.code.bias" is missing'),
        (_TENSORS | {"encoder.more": np.zeros(2)}, {}, 'tensor "encoder.more" is extra: it has no checksum'),
        (_TENSORS | {"encoder.code.bias": np.ones(1, np.float32)}, {}, 'tensor "encoder.code.bias" is damaged'),
        (_TENSORS | {"encoder.code.bias": np.full(1, 3.0)}, {}, 'tensor "encoder.code.bias" is damaged'),
        (
            _TENSORS | {"encoder.code.weight": _TENSORS["encoder.code.weight"].T.copy()},
            {},
            'tensor "encoder.code.weight" is damaged',
        ),
        (None, {"format": None}, f'foreign file: its format is "none"; expected "{FORMAT}"'),
        (None, {"format": "twin-autoencoders/0"}, 'foreign file: its format is "twin-autoencoders/0"'),
        (None, {"spec": None}, "damaged: the metadata has no spec"),
        (None, {"spec_sha256": None}, "damaged: the metadata has no spec_sha256"),
        (None, {"sha256": None}, "damaged: the metadata has no sha256"),
        (None, {"sha256": "{}"}, 'tensor "decoder.output.weight" is extra'),
        (None, {"sha256": "{"}, "damaged: the metadata is not JSON"),
        (None, {"sha256": "3"}, "damaged: the metadata is not JSON"),
        (None, {"sha256": "[" * 100_000}, "damaged: the metadata is not JSON"),
        (None, {"spec": "{}"}, "the spec is damaged: its checksum is not the one written with it"),
        (None, _signed("{"), "damaged: the metadata is not JSON"),
        (None, _signed({}), 'foreign spec: spec: the key "input_shape" is missing'),
        (None, _signed({"transformer": 12}), 'foreign spec: spec: unknown key "transformer"'),
        (None, _signed([1]), "foreign spec: spec: given [1]"),
    ],
)
def test_changed_content_is_refused(path, tensors, metadata, message):
    _rewritten(path, tensors, **metadata)
    assert message in _refused(path)


@pytest.mark.parametrize("dtype", ["BF16", "F8_E4M3", "F8_E5M2"])
@pytest.mark.parametrize("ours", [False, True])
def test_dtypes_that_numpy_does_not_have_are_refused(path, dtype, ours):
    good = path.read_bytes()
    metadata = json.loads(good[8 : 8 + int.from_bytes(good[:8], "little")])["__metadata__"] if ours else {}
    size = 2 if dtype == "BF16" else 1
    tensor = {"dtype": dtype, "shape": [1], "data_offsets": [0, size]}
    header = json.dumps({"__metadata__": metadata, "encoder.code.bias": tensor}).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(size))
    _refused(path)


@pytest.mark.parametrize("content", [b"", b"x" * 100, b"PK\x03\x04" + bytes(60), b"\x80\x04\x95" + bytes(60)])
def test_other_files_are_refused(path, content):
    path.write_bytes(content)
    assert "truncated, damaged, or not a safetensors file" in _refused(path)


def test_foreign_safetensors_are_refused(path):
    path.write_bytes(serialize(_TENSORS))
    assert 'foreign file: its format is "none"' in _refused(path)


def test_no_file(tmp_path):
    assert "no such file" in _refused(tmp_path / "none")
    assert "not a safetensors file" in _refused(tmp_path)


# Signed anew, so that every checksum is right and only the comparison with the model can notice.
@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        (_WITHOUT_BIAS, 'tensor "encoder.code.bias" is missing; the spec wants it with shape (1,)'),
        (_TENSORS | {"encoder.more": np.zeros(2)}, 'tensor "encoder.more" is extra; the spec has none of that name'),
        (
            _TENSORS | {"encoder.code.weight": np.zeros((2, 1))},
            'tensor "encoder.code.weight" has shape (2, 1); the spec wants (1, 2)',
        ),
        ({}, 'tensor "decoder.output.weight" is missing'),
    ],
)
def test_tensors_that_do_not_fit_their_spec(path, tensors, message):
    save_weights(path, _SPEC, tensors)
    with pytest.raises(WeightsError) as caught:
        check_tensors(load_weights(path).tensors, _SHAPES, str(path))
    assert str(caught.value).startswith(f"{path}: {message}")
    assert "\n" not in str(caught.value)


def test_tensors_that_fit(path):
    check_tensors(load_weights(path).tensors, _SHAPES, str(path))


_PICKLERS = {"pickle", "cPickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}


def _unsafe(source):
    """Name what could run code from a file: an import of a pickler, or ``allow_pickle`` that is not False."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from {alias.name.partition(".")[0] for alias in node.names} & _PICKLERS
        elif isinstance(node, ast.ImportFrom):
            yield from {(node.module or "").partition(".")[0]} & _PICKLERS
        elif isinstance(node, ast.keyword) and node.arg == "allow_pickle":
            if not (isinstance(node.value, ast.Constant) and node.value.value is False):
                yield "allow_pickle"
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "load":
            owner = getattr(node.func.value, "id", "")
            if owner == "torch" or (owner == "np" and not any(k.arg == "allow_pickle" for k in node.keywords)):
                yield f"{owner}.load"


@pytest.mark.parametrize("package", ["ae_core", "ae_jax", "ae_torch"])
def test_no_pickle(package):
    files = [f for f in (Path(ae_core.__file__).parents[1] / package).rglob("*.py") if "tests" not in f.parts]
    assert len(files) > 10
    assert {f.name: found for f in files if (found := list(_unsafe(f.read_text(encoding="utf-8"))))} == {}


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from joblib import load",
        "np.load(path)",
        "np.load(path, allow_pickle=True)",
        "np.save(path, a, allow_pickle=x)",
        "torch.load(path)",
    ],
)
def test_no_pickle_can_fail(source):
    assert list(_unsafe(source))
