"""The commands that show a latent space and walk through it."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from ae_core import latent
from ae_core.commands.opening import as_data_error, check_between, open_model
from ae_core.commands.run import Flat
from ae_core.data import DataOptions, Dataset, load
from ae_core.errors import DataError, nearest
from ae_core.figures import latent as latent_figures
from ae_core.figures.charts import latent_scatter, save_figure
from ae_core.files.output import check_file, write_json
from ae_core.spec import Spec
from ae_core.training.engine import Engine, Inference

MAX_STEPS, MAX_SIZE, MAX_ROWS = 30, 40, 10
"""The most images in a row, along a side of a grid map, and rows, that can still be told apart."""


@dataclass(frozen=True)
class _Figure:
    weights: Path
    """Weights file."""
    data: str
    """Images: a .npy, .npz, IDX or picture file, a folder of pictures, or the name of a data set."""
    out: Path
    """Figure to write, .png."""
    data_options: Flat = field(default_factory=DataOptions)
    """How the images are brought to the spec's shape."""
    force: bool = False
    """Overwrite the output file."""

    def _opened(self, engine: Engine) -> tuple[Spec, Inference, Dataset]:
        check_file(self.out, (".png",), self.force)
        spec, model = open_model(engine, self.weights)
        return spec, model, load(self.data, spec.input_shape, self.data_options)


@dataclass(frozen=True)
class Scatter(_Figure):
    """Draw the codes of images in the plane, coloured by label or factor; of wide codes their PCA."""

    colour: str | None = None
    """"label" or the name of a factor; the label where there is one, else the first factor."""

    def run(self, engine: Engine) -> int:
        """Encode and draw."""
        _, model, data = self._opened(engine)
        name = self.colour
        if name is None:
            name = "label" if data.labels is not None else (data.factor_names or ("",))[0]
        values = _attribute(data, name) if name else None
        codes = {data.name: model.encode(data.images)}
        save_figure(self.out, latent_scatter(codes, values, name, name == "label", data.label_names))
        return _said(self.out, f"{len(data.images):,} codes")


@dataclass(frozen=True)
class Grid(_Figure):
    """Decode a grid of codes over the plane: a map of the latent space."""

    span: Literal["data", "prior"] = "data"
    """data: evenly over the range of the images' codes, of wide codes in the plane of their PCA; prior: at quantiles
    of N(0, 1), other latents 0."""
    size: int = 12
    """Images along each side."""
    dimensions: tuple[int, int] = (1, 2)
    """The two latents that a map over the prior shows."""

    def run(self, engine: Engine) -> int:
        """Decode and draw."""
        spec, model, data = self._opened(engine)
        check_between("--size", self.size, 2, MAX_SIZE)
        wide = spec.bottleneck.latent
        if self.span == "prior":
            chosen = _dimensions(list(self.dimensions) if wide > 1 else [1, 1], wide)
            plane = latent.latent_plane(wide, (chosen[0], chosen[1]))
            x = latent.prior_quantiles(self.size)
            y = x if wide > 1 else np.zeros(1)
            title = "decoded at quantiles of the prior"
        else:
            codes = model.encode(data.images)
            plane, x, y = latent.data_grid(codes, self.size)
            title = f"decoded over the range of {len(codes):,} codes of {data.name}"
        shown = latent_figures.decoded_map(model.decode, plane, x, y)
        save_figure(self.out, latent_figures.grid_maps({title: shown}))
        return _said(self.out, f"{len(y)} × {len(x)} codes, decoded")


@dataclass(frozen=True)
class Walk(_Figure):
    """Go from one image to another through the latent space."""

    start: int = 0
    """Number of the first image, from 0."""
    end: int = 1
    """Number of the last."""
    steps: int = 10
    """Images on the way, both ends included."""
    path: Literal["straight", "spherical", "both"] = "both"
    """straight: the line; spherical: about the origin, where most of a wide prior is far from it."""

    def run(self, engine: Engine) -> int:
        """Walk and draw."""
        _, model, data = self._opened(engine)
        check_between("--steps", self.steps, 2, MAX_STEPS)
        ends = data.images[[_index("--start", self.start, data), _index("--end", self.end, data)]]
        codes = model.encode(ends)
        rows = {"images": np.full((self.steps, *ends.shape[1:]), np.nan)}
        rows["images"][[0, -1]] = ends
        for name, way in (("straight", latent.straight), ("spherical", latent.spherical)):
            if self.path in (name, "both"):
                with as_data_error():
                    rows[name] = model.decode(way(codes[0], codes[1], self.steps))
        texts = [latent_figures.number(t) for t in np.linspace(0, 1, self.steps)]
        title = f"from image {self.start} to image {self.end} of {data.name}"
        save_figure(self.out, latent_figures.labelled_rows(rows, texts, title))
        return _said(self.out, f"a walk of {self.steps} steps")


@dataclass(frozen=True)
class Traverse(_Figure):
    """Change one latent of an image at a time, over the range that the codes of the images have."""

    image: int = 0
    """Number of the image, from 0."""
    steps: int = 9
    """Images in a row."""
    dimensions: tuple[int, ...] = ()
    """Latents to change, from 1; the ten that vary most where absent."""

    def run(self, engine: Engine) -> int:
        """Traverse and draw."""
        spec, model, data = self._opened(engine)
        check_between("--steps", self.steps, 2, MAX_STEPS)
        codes = model.encode(data.images)
        code = codes[_index("--image", self.image, data)]
        chosen = _dimensions(list(self.dimensions), spec.bottleneck.latent)
        chosen = chosen or sorted(np.argsort(-codes.std(0), kind="stable")[:MAX_ROWS].tolist())
        check_between("--dimensions", len(chosen), 1, MAX_ROWS, "latents")
        values = np.linspace(codes[:, chosen].min(0), codes[:, chosen].max(0), self.steps, axis=1).astype(np.float64)
        walks = latent.traversal(code, values, chosen)
        images = model.decode(walks.reshape(-1, len(code))).reshape(*walks.shape[:2], *spec.input_shape)
        rows = {f"latent {d + 1}": row for d, row in zip(chosen, images, strict=True)}
        texts = {name: [latent_figures.number(v) for v in row] for name, row in zip(rows, values, strict=True)}
        title = f"image {self.image} of {data.name}, one latent changed at a time"
        save_figure(self.out, latent_figures.labelled_rows(rows, texts, title))
        return _said(self.out, f"{len(rows)} latents, {self.steps} steps each")


@dataclass(frozen=True)
class Attribute(_Figure):
    """Give images an attribute, or take it: add to their codes the way from images without it to those with it."""

    of: str = "label"
    """A factor's name: having it is to be above its median. Or label=3: the images with that label."""
    images: tuple[int, ...] = (0, 1, 2, 3)
    """Numbers of the images, from 0."""
    strength: float = 1.0
    """The largest multiple of the way that is added and taken away."""
    steps: int = 9
    """Multiples from −strength to strength."""

    def run(self, engine: Engine) -> int:
        """Find the way, go it and draw."""
        spec, model, data = self._opened(engine)
        check_between("--steps", self.steps, 2, MAX_STEPS)
        check_between("--images", len(self.images), 1, MAX_ROWS, "images")
        if not np.isfinite(self.strength):
            raise DataError(f"--strength: given {self.strength}; expected a finite number")
        chosen = [_index("--images", i, data) for i in self.images]
        name, _, label = self.of.partition("=")
        values = _attribute(data, name)
        if name == "label":
            has = values.astype(str) == label
            if not has.any():
                raise DataError(
                    f'--of: no image has the label "{label}"; {nearest(label, map(str, np.unique(values)))}'
                )
        else:
            has = values > np.median(values)
        codes = model.encode(data.images)
        with as_data_error():
            way = latent.attribute_vector(codes, has)
        multiples = np.linspace(-self.strength, self.strength, self.steps)
        spots = codes[chosen][:, None] + multiples[:, None] * way
        images = model.decode(spots.reshape(-1, len(way))).reshape(*spots.shape[:2], *spec.input_shape)
        rows = {f"image {i}": row for i, row in zip(chosen, images, strict=True)}
        texts = [latent_figures.number(m) for m in multiples]
        title = f"plus so many times the way to {self.of if label else f'a larger {name}'}"
        save_figure(self.out, latent_figures.labelled_rows(rows, texts, title))
        return _said(self.out, f"{len(rows)} images, {self.steps} steps each")


@dataclass(frozen=True)
class Neighbours(_Figure):
    """Recreate what hangs at a spot of the latent space, beside the real images that hang nearest."""

    spot: tuple[float, ...] = ()
    """The code, as many numbers as the model has latents."""
    nearest: int = 9
    """Number of neighbours."""

    def run(self, engine: Engine) -> int:
        """Decode, look around and draw."""
        spec, model, data = self._opened(engine)
        check_between("--nearest", self.nearest, 1, MAX_STEPS)
        if len(self.spot) != spec.bottleneck.latent or not np.isfinite(self.spot).all():
            given = " ".join(f"{value:g}" for value in self.spot) or "none"
            raise DataError(f"--spot: given {given}; expected {spec.bottleneck.latent} finite numbers")
        spot = np.array(self.spot)
        found, distances = latent.neighbours(spot, model.encode(data.images), self.nearest)
        rows = {"the spot": model.decode(spot[None]), "nearest": data.images[found]}
        texts = [latent_figures.number(d) for d in distances]
        place = ", ".join(latent_figures.number(value) for value in spot[:6]) + (", …" if len(spot) > 6 else "")
        title = f"decoded at ({place}), and the nearest of {data.name} with their distances"
        save_figure(self.out, latent_figures.labelled_rows(rows, texts, title))
        return _said(self.out, f"{len(found)} neighbours: images {', '.join(map(str, found))}")


@dataclass(frozen=True)
class Outliers(_Figure):
    """Score how unlike known images others are; leaves a .png of the strangest, or a .json of all."""

    known: str = "cans"
    """Images that are as they should be, best not those of the training; thresholds are quantiles of their scores."""
    quantile: float = 0.99
    """Of the known images' scores; 1 less it is the share of false alarms of each score."""

    def run(self, engine: Engine) -> int:
        """Score and write."""
        check_file(self.out, (".png", ".json"), self.force)
        spec, model = open_model(engine, self.weights)
        data, known = (load(name, spec.input_shape, self.data_options) for name in (self.data, self.known))
        with as_data_error():
            detector = latent.fit_detector(model.encode, model.decode, known.images, self.quantile)
        scores = detector.scores(model.encode, model.decode, data.images)
        strange = detector.strange(scores)
        if self.out.suffix == ".json":
            names = ("reconstruction", "distance", "pixel")
            thresholds = {name: getattr(detector, name) for name in names}
            listed = {
                "reconstruction": scores.reconstruction.tolist(),
                "distance": scores.distance.tolist(),
                "strange": strange.tolist(),
            }
            write_json(self.out, {"quantile": self.quantile, "thresholds": thresholds, **listed})
        else:
            beyond = np.maximum(scores.reconstruction / detector.reconstruction, scores.distance / detector.distance)
            order = np.argsort(-beyond, kind="stable")[:10]
            images = data.images[order]
            rows = {
                "image": images,
                "recreated": model.decode(model.encode(images)),
                "strange\npixels": np.minimum(scores.pixels[order, ..., None] / detector.pixel, 1),
            }
            texts = {"image": [f"no. {i}" for i in order], "strange\npixels": [f"{beyond[i]:.1f} ×" for i in order]}
            title = f"the strangest of {data.name}, in multiples of the threshold; framed where above"
            framed = {"image": [i for i, place in enumerate(order) if strange[place]]}
            save_figure(self.out, latent_figures.labelled_rows(rows, texts, title, framed))
        return _said(self.out, f"{int(strange.sum()):,} of {len(strange):,} images are strange")


def _attribute(data: Dataset, name: str) -> np.ndarray:
    known = {} if data.labels is None else {"label": data.labels}
    if data.factors is not None:
        known |= dict(zip(data.factor_names, data.factors.T, strict=True))
    if name not in known:
        right = nearest(name, known) if known else "it has neither labels nor factors"
        raise DataError(f'{data.name}: nothing called "{name}" is known of its images; {right}')
    return known[name]


def _index(flag: str, given: int, data: Dataset) -> int:
    check_between(flag, given, 0, len(data.images) - 1)
    return given


def _dimensions(given: list[int], wide: int) -> list[int]:
    for dimension in given:
        check_between("--dimensions", dimension, 1, wide)
    return [dimension - 1 for dimension in given]


def _said(path: Path, what: str) -> int:
    print(f"{what}: {path}")
    return 0
