"""The command that makes a latent space a web page."""

import sys
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

from ae_core.atlas.page_decoder import Means
from ae_core.atlas.write import MAX_SHOWN, write_atlas
from ae_core.commands.inputs import Flat
from ae_core.data import DataOptions, load
from ae_core.errors import check_between
from ae_core.files.output import check_file
from ae_core.files.weights import check_tensors, load_weights
from ae_core.training.engine import Engine


@dataclass(frozen=True)
class Atlas:
    """Make the latent space a web page to point, walk and drag in; it needs neither a server nor the network."""

    weights: Path
    """Weights file."""
    data: str
    """Images: a .npy, .npz, IDX or picture file, a folder of pictures, or the name of a data set."""
    out: Path
    """Page to write, .html; always under 5 MB."""
    data_options: Flat = field(default_factory=DataOptions)
    """How the images are brought to the spec's shape."""
    shown: int = 2000
    """The most images to show, evenly chosen; fewer where they are large."""
    colour: str | None = None
    """What to colour by at first, "label" or the name of a factor; the page can switch."""
    decoder: Means = "auto"
    """page: the decoder itself goes into the page; grid: pictures that it made, blended; auto: page where it fits."""
    force: bool = False
    """Overwrite the output file."""

    def run(self, engine: Engine) -> int:
        """Encode, measure and write."""
        check_file(self.out, (".html",), self.force)
        check_between("--shown", self.shown, 1, MAX_SHOWN)
        spec, tensors = load_weights(self.weights)
        check_tensors(tensors, engine.shapes(spec), str(self.weights))
        with Console(stderr=True).status("") as status:
            status.update(f"reading {self.data}")
            data = load(self.data, spec.input_shape, self.data_options)
            status.update(f"encoding images of {self.data}, measuring the decoder")
            model = engine.infer(spec, tensors)
            options = (self.shown, self.decoder, self.colour)
            content, size = write_atlas(self.out, spec, tensors, model, data, self.weights.name, *options)
        kind = "the decoder in it" if content.decoder.is_exact else "blended from a grid"
        if self.decoder == "auto" and not content.decoder.is_exact:
            print(f"not the decoder itself: {content.decoder.reason}", file=sys.stderr)
        shown = f"{len(content.indices):,} {content.values['noun']}s"
        said = f"atlas of {shown}, {kind}, {size / 1e6:.1f} MB"
        print(f"{said}: {self.out}")
        return 0
