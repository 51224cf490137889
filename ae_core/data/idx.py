"""The IDX format of MNIST: two zero bytes, a type code, the rank, big-endian sizes, then big-endian values.

Source: "THE IDX FILE FORMAT", Y. LeCun, C. Cortes, C. Burges, The MNIST database of handwritten digits.
"""

import gzip
import math
import zlib
from pathlib import Path

import numpy as np
from jaxtyping import Shaped

from ae_core.errors import DataError

_DTYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_GZIP = b"\x1f\x8b"


def read_idx(path: Path) -> Shaped[np.ndarray, "..."]:
    """Return the array of one IDX file, whose content tells, not its name, whether it is gzipped.

    Raises ``DataError`` that names the file, for one that cannot be read, is not IDX, or has bytes too few or too many.
    """
    data = _read(path)
    if len(data) < 4:
        raise DataError(f"{path}: has {len(data)} bytes, an IDX file begins with 4: 00 00, a type code, the rank")
    code, rank = data[2], data[3]
    if data[:2] != b"\0\0" or code not in _DTYPES or not 1 <= rank <= 8:
        codes = ", ".join(f"{known:02x}" for known in _DTYPES)
        raise DataError(
            f"{path}: begins with {data[:4].hex(' ')}, an IDX file with 00 00, one of {codes}, and a rank of 1 to 8"
        )
    header = 4 + 4 * rank
    if len(data) < header:
        raise DataError(f"{path}: has {len(data)} bytes, the header of an IDX file of rank {rank} has {header}")
    dtype = np.dtype(_DTYPES[code])
    shape = tuple(np.frombuffer(data, ">u4", rank, offset=4).tolist())
    expected = header + math.prod(shape) * dtype.itemsize
    if len(data) != expected:
        text = "×".join(map(str, shape))
        fault = "truncated" if len(data) < expected else "over-long"
        raise DataError(f"{path}: {fault}: has {len(data)} bytes, {text} values of {dtype.name} need {expected}")
    return np.frombuffer(data, dtype, math.prod(shape), offset=header).reshape(shape)


def _read(path: Path) -> bytes:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    if not data.startswith(_GZIP):
        return data
    try:
        return gzip.decompress(data)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: has {len(data)} bytes of gzip that are damaged or truncated: {error}") from error
