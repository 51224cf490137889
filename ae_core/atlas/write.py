"""An atlas as a file."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ae_core.atlas.content import Content, make_content
from ae_core.atlas.document import render
from ae_core.atlas.page_decoder import Means
from ae_core.data import Dataset
from ae_core.errors import OutputError
from ae_core.files.output import write_bytes
from ae_core.spec import Spec
from ae_core.training.engine import Inference

MAX_SHOWN = 10_000
"""The most images that one atlas shows."""
MAX_BYTES = 5_000_000
"""Every atlas is smaller."""


class Written(NamedTuple):
    """An atlas that was written."""

    content: Content
    size: int
    """In bytes."""


def write_atlas(
    path: Path,
    spec: Spec,
    tensors: Mapping[str, np.ndarray],
    model: Inference,
    data: Dataset,
    name: str,
    shown: int = 2000,
    decoder: Means = "auto",
    colour: str | None = None,
) -> Written:
    """Write the atlas of a model, which it calls ``name``, with at most ``shown`` images; see `make_content`.

    Raises:
        DataError: the images, or what is wanted of them, cannot be used.
        OutputError: the page would be too large, or cannot be written.
    """
    content = make_content(spec, tensors, model, data, shown, decoder, colour)
    text = render(content, f"{name}, {spec.backbone.kind}, codes of {content.values['code']}").encode()
    if len(text) >= MAX_BYTES:
        raise OutputError(f"{path}: would have {len(text):,} bytes; expected under 5 MB: show fewer images")
    write_bytes(path, text)
    return Written(content, len(text))
