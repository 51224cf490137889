"""The bytes of files, right and wrong."""

import io
import json
import math
import struct

import numpy as np

from ae_core.spec import spec_to_json
from ae_core.tests.commands.command_line import PLAIN


def npy(array):
    """Return an array as a .npy file."""
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def npz(**arrays):
    """Return arrays as an .npz file."""
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def spec_file(spec=PLAIN, **changes):
    """Return a spec as a JSON file, with keys of its own choice."""
    return json.dumps(spec_to_json(spec) | changes).encode()


def idx(shape=(3, 8, 8), magic=b"\0\0\x08\x03"):
    """Return black images as an IDX file."""
    return magic + struct.pack(">3I", *shape) + bytes(math.prod(shape))


GOOD = np.full((3, 8, 8, 1), 0.5, np.float32)
