"""One weights file for both twins: safetensors, with PyTorch's names and layouts.

The metadata holds the spec as JSON and a SHA-256 of the spec and of each tensor, verified on load: the formats in use
do not notice a flipped bit by themselves. Loading runs no code.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as _serialize

from ae_core.errors import SpecError, WeightsError
from ae_core.files.output import write_bytes
from ae_core.spec import Spec, spec_from_json, spec_to_json

FORMAT = "twin-autoencoders/2"


class Weights(NamedTuple):
    """What a weights file holds."""

    spec: Spec
    tensors: dict[str, np.ndarray]


def is_state(name: str) -> bool:
    """Say whether a tensor is state, which training changes without a gradient, by its name: the last part of it begins
    with ``running_``, as batch norm's ``running_mean`` does."""
    return name.rpartition(".")[2].startswith("running_")


def checksum(tensor: np.ndarray) -> str:
    """Return the SHA-256 of a tensor's dtype, shape and little-endian bytes."""
    tensor = np.ascontiguousarray(tensor)
    little = tensor.astype(tensor.dtype.newbyteorder("<"), copy=False)
    return hashlib.sha256(f"{tensor.dtype.name}{tensor.shape}".encode() + little.tobytes()).hexdigest()


def save_weights(path: Path, spec: Spec, tensors: Mapping[str, np.ndarray]) -> None:
    """Write a weights file atomically.

    Raises:
        OutputError: the path cannot be written.
    """
    # safetensors stores the buffer of an array as it lies, whatever its strides say
    contiguous = {name: np.ascontiguousarray(tensors[name]) for name in sorted(tensors)}
    text = json.dumps(spec_to_json(spec))
    sums = {name: checksum(tensor) for name, tensor in contiguous.items()}
    metadata = {
        "format": FORMAT,
        "spec": text,
        "spec_sha256": hashlib.sha256(text.encode()).hexdigest(),
        "sha256": json.dumps(sums),
    }
    write_bytes(path, _canonical(_serialize(contiguous, metadata)))


def _canonical(data: bytes) -> bytes:
    """Sort the header, which safetensors writes in no particular order: equal weights are equal files."""
    end = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:end])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(dict(sorted(header.items()))).encode()
    text += b" " * (-len(text) % 8)  # tensors begin at a multiple of 8 bytes
    return len(text).to_bytes(8, "little") + text + data[end:]


def load_weights(path: Path) -> Weights:
    """Read a weights file and verify every checksum.

    Raises:
        WeightsError: the file is not there, truncated, not of this project, or a tensor or the spec is not what was
            written; the message names it.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            spec, sums = _metadata(path, file.metadata() or {})
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except FileNotFoundError:
        reason = "may not be read" if path.exists() else "no such file"
        raise WeightsError(f"{path}: {reason}; expected a weights file written by train") from None
    except (OSError, SafetensorError, UnicodeDecodeError, AttributeError, TypeError) as error:
        # the last two are what safetensors raises for a dtype that NumPy does not have
        reason = " ".join(str(error).split())
        raise WeightsError(f"{path}: truncated, damaged, or not a safetensors file ({reason})") from None
    for name in sorted(sums.keys() | tensors.keys()):
        if name not in tensors:
            raise WeightsError(f'{path}: tensor "{name}" is missing')
        if name not in sums:
            raise WeightsError(f'{path}: tensor "{name}" is extra: it has no checksum')
        if checksum(tensors[name]) != sums[name]:
            raise WeightsError(f'{path}: tensor "{name}" is damaged: its checksum is not the one written with it')
    return Weights(spec, tensors)


def _metadata(path: Path, metadata: Mapping[str, str]) -> tuple[Spec, dict[str, str]]:
    if metadata.get("format") != FORMAT:
        given = metadata.get("format", "none")
        raise WeightsError(f'{path}: foreign file: its format is "{given}"; expected "{FORMAT}"')
    missing = {"spec", "spec_sha256", "sha256"} - metadata.keys()
    if missing:
        raise WeightsError(f"{path}: damaged: the metadata has no {', '.join(sorted(missing))}")
    text = metadata["spec"]
    if hashlib.sha256(text.encode()).hexdigest() != metadata["spec_sha256"]:
        raise WeightsError(f"{path}: the spec is damaged: its checksum is not the one written with it")
    try:
        sums = json.loads(metadata["sha256"])
        return spec_from_json(json.loads(text)), dict(sums)
    except (ValueError, TypeError, RecursionError):
        raise WeightsError(f"{path}: damaged: the metadata is not JSON") from None
    except SpecError as error:
        raise WeightsError(f"{path}: foreign spec: {error}") from None


def check_tensors(tensors: Mapping[str, np.ndarray], shapes: Mapping[str, tuple[int, ...]], where: str) -> None:
    """Hold tensors against the names and shapes that a model has.

    Raises:
        WeightsError: a missing, extra or misshapen tensor, or one that does not hold finite floats, named.
    """
    for name in sorted(shapes.keys() | tensors.keys()):
        if name not in tensors:
            raise WeightsError(f'{where}: tensor "{name}" is missing; the spec wants it with shape {shapes[name]}')
        if name not in shapes:
            raise WeightsError(f'{where}: tensor "{name}" is extra; the spec has none of that name')
        if tensors[name].shape != shapes[name]:
            given = tensors[name].shape
            raise WeightsError(f'{where}: tensor "{name}" has shape {given}; the spec wants {shapes[name]}')
        if tensors[name].dtype not in (np.float32, np.float64) or not np.isfinite(tensors[name]).all():
            dtype = tensors[name].dtype
            raise WeightsError(f'{where}: tensor "{name}" holds {dtype}; expected finite float32 or float64 numbers')
