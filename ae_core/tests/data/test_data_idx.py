"""IDX files: every type, gzipped or not, and every way in which one can be damaged."""

import gzip
import struct

import numpy as np
import pytest

from ae_core.data import load
from ae_core.data.idx import read_idx
from ae_core.errors import DataError

_CODES = {"u1": 0x08, "i1": 0x09, "i2": 0x0B, "i4": 0x0C, "f4": 0x0D, "f8": 0x0E}


def _idx(array, dtype="u1"):
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, _CODES[dtype], array.ndim, *array.shape)
    return header + array.astype(f">{dtype}").tobytes()


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
@pytest.mark.parametrize("dtype", _CODES)
def test_idx(tmp_path, dtype, pack):
    array = np.arange(24).reshape(2, 3, 4)
    path = tmp_path / "named-neither-way"
    path.write_bytes(pack(_idx(array, dtype)))
    read = read_idx(path)
    np.testing.assert_array_equal(read, array)
    assert read.dtype == np.dtype(f">{dtype}")


def test_idx_images(tmp_path):
    (tmp_path / "a").write_bytes(_idx(np.arange(24).reshape(2, 3, 4) * 10))
    images = load(str(tmp_path / "a"), (3, 4, 1)).images
    np.testing.assert_array_equal(images.ravel(), np.arange(24, dtype=np.float32) * 10 / np.float32(255))


WHOLE = _idx(np.zeros((2, 3, 4)))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "has 0 bytes, an IDX file begins with 4"),
        (b"\0\0\x08", "has 3 bytes"),
        (b"\x89PNG" + WHOLE, "begins with 89 50 4e 47, an IDX file with 00 00, one of 08, 09"),
        (b"\0\1" + WHOLE[2:], "begins with 00 01 08 03"),
        (b"\0\0\x07" + WHOLE[3:], "begins with 00 00 07 03"),
        (b"\0\0\x08\0" + WHOLE[4:], "begins with 00 00 08 00"),
        (WHOLE[:10], "has 10 bytes, the header of an IDX file of rank 3 has 16"),
        (WHOLE[:-1], "truncated: has 39 bytes, 2×3×4 values of uint8 need 40"),
        (WHOLE + b"\0", "over-long: has 41 bytes, 2×3×4 values of uint8 need 40"),
        (b"\0\0\x0e\3" + b"\xff" * 12, "truncated: has 16 bytes"),
        (gzip.compress(b"", mtime=0), "has 0 bytes"),
        (gzip.compress(WHOLE, mtime=0)[:-4], "damaged or truncated"),
        (gzip.compress(WHOLE, mtime=0)[:15], "damaged or truncated"),
        (gzip.compress(WHOLE, mtime=0)[:-8] + bytes(8), "damaged or truncated"),
        (gzip.compress(WHOLE, mtime=0)[:10] + b"\xff" * 20, "damaged or truncated"),
        (b"\x1f\x8b" + bytes(20), "damaged or truncated"),
    ],
)
def test_malformed_idx(tmp_path, content, message):
    path = tmp_path / "bad"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        load(str(path), (3, 4, 1))
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)
