"""A trained model as a library has it: made from arrays, asked with arrays. Each twin brings its engine."""

import warnings
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property
from operator import index
from os import PathLike
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar, get_args

import numpy as np
from jaxtyping import Float, Float32, Int64
from numpy.typing import ArrayLike

from ae_core.data import Dataset, split, validate_images
from ae_core.errors import DataError, SpecError, as_data_error, check_between, nearest
from ae_core.files.weights import check_tensors, load_weights, save_weights
from ae_core.latent import Sampler
from ae_core.latent.codes import VectorCodes, check_codes
from ae_core.latent.fitting import MAX_DRAWS, fit_sampler
from ae_core.spec import Precision, Spec
from ae_core.spec.changes import changed_training, chosen
from ae_core.training.engine import Codes, Engine, Inference, Tensors
from ae_core.training.initial import check_size
from ae_core.training.loop import History, Silence, Watcher, train
from ae_core.training.progress import TrainingProgress

Images = Float[np.ndarray, "N H W C"]
Model = TypeVar("Model", bound="Fitted")
SamplerName = Literal["prior", "gaussian", "mixture", "box"]
_FITTED = 'expected "gaussian", "mixture" or "box", with images to whose codes it is fitted'


class Fitted:
    """A spec with its weights: NumPy in, NumPy out.

    Images are ``[N, H, W, C]``, or ``[N, H, W]`` where there is one channel: bool, uint8 (divided by 255), or float in
    [0, 1]. Results have the precision of the spec. It may be pickled; `save` and `load` use no pickle.

    Raises:
        DataError: what a method is given cannot be used; the message says why, in one line.
    """

    engine: ClassVar[Engine]

    def __init__(self, spec: Spec, tensors: Tensors, history: History | None = None) -> None:
        self.spec = spec
        self.tensors = dict(tensors)
        """The weights, in PyTorch's names and layouts."""
        self.history = history
        """The story of the training: loss at each step, losses of each epoch, which was best; None after `load`."""

    @classmethod
    def fit(
        cls: type[Model],
        spec: Spec | str,
        images: ArrayLike,
        *,
        heldout: ArrayLike = 0.1,
        epochs: int | None = None,
        batch_size: int | None = None,
        learning_rate: float | None = None,
        precision: Precision | None = None,
        seed: int = 0,
        progress: bool = False,
    ) -> Model:
        """Train a model on images and return it, with the weights that were best on the held-out ones.

        Ctrl-C ends the training at its next safe place, and a loss that is not finite does so too: the best weights
        by then are returned, with a `RuntimeWarning`, and ``history.status`` says which it was.

        Args:
            spec: what to train: a spec, or the name of a preset.
            images: at least two, of the spec's shape; see `Fitted`.
            heldout: fraction of the images that is kept back to judge by, or other images to judge by.
            epochs: passes over the training images; the spec's where absent.
            batch_size: images a step; the spec's where absent.
            learning_rate: peak learning rate; the spec's where absent.
            precision: float32 or float64; the spec's where absent.
            seed: of the split, initial weights, batch order and noise. Equal seeds give equal models.
            progress: whether to show on standard error how it goes.

        Raises:
            SpecError: there is no such preset, a number is out of bounds, or batch norm would meet a batch of one.
            DataError: the images cannot be used.
        """
        spec = changed_training(chosen(spec), epochs, batch_size, learning_rate, precision)
        seed = _whole("seed", seed)
        given = _images(images, spec, "images")
        if np.ndim(heldout):
            chosen_images, kept = given, _images(heldout, spec, "heldout")
        else:
            chosen_images, kept = (given[part] for part in split(len(given), _fraction(heldout), seed))
        watcher: AbstractContextManager[Watcher] = nullcontext(Silence())
        if progress:
            watcher = TrainingProgress(cls.engine.name, spec.training.epochs)
        check_size(cls.engine.shapes(spec))
        with watcher as watching:
            result = train(cls.engine, spec, chosen_images, kept, seed, watching, lambda tensors: None)
        if result.status != "finished":
            text = f"training {result.status}: {result.message}; the weights of epoch {result.best_epoch} are kept"
            warnings.warn(text, RuntimeWarning, stacklevel=2)
        return cls(spec, result.tensors, result)

    @classmethod
    def load(cls: type[Model], path: str | PathLike[str]) -> Model:
        """Open a weights file that either twin wrote, by `save` or by the command line.

        Raises:
            WeightsError: it is not there, damaged, or not a weights file.
        """
        spec, tensors = load_weights(Path(path))
        check_tensors(tensors, cls.engine.shapes(spec), str(path))
        return cls(spec, tensors)

    def save(self, path: str | PathLike[str]) -> None:
        """Write a weights file that either twin opens; spec and checksums are in it. What was there is overwritten.

        Raises:
            OutputError: the path cannot be written.
        """
        save_weights(Path(path), self.spec, self.tensors)

    @cached_property
    def inference(self) -> Inference:
        """The model as the engine runs it, which takes floats of any size and checks nothing."""
        return self.engine.infer(self.spec, self.tensors)

    def encode(self, images: ArrayLike) -> Codes:
        """Return codes, [N, *latent shape]; where a code has a posterior, its mean."""
        return self.inference.encode(_images(images, self.spec, "images"))

    def posterior(self, images: ArrayLike) -> tuple[Codes, Codes]:
        """Return mean and logvar of the posterior N(mean, exp(logvar)) of each image, [N, *latent shape] each.

        Raises:
            SpecError: a code of the model has no posterior.
        """
        return self.inference.posterior(_images(images, self.spec, "images"))

    def decode(self, codes: ArrayLike) -> Images:
        """Return the images that codes, [N, *latent shape], stand for: probabilities or means."""
        return self.inference.decode(check_codes(np.asarray(codes), self.spec, "codes"))

    def reconstruct(self, images: ArrayLike) -> Images:
        """Return ``decode(encode(images))``."""
        return self.inference.reconstruct(_images(images, self.spec, "images"))

    def evaluate(self, images: ArrayLike) -> dict[str, float]:
        """Return the loss and its terms, averaged over the images, in nats, without noise."""
        return self.inference.evaluate(_images(images, self.spec, "images"))

    def sample(
        self,
        count: int = 16,
        *,
        seed: int = 0,
        sampler: SamplerName | None = None,
        images: ArrayLike | None = None,
        components: int = 10,
    ) -> Images:
        """Return images that never were: the decoded draws of a sampler.

        Args:
            count: how many; fewer of the same seed are the first of more.
            seed: of the draws, and of the mixture's fit.
            sampler: ``prior`` is the bottleneck's own, where it has one; ``gaussian``, ``mixture`` and ``box`` are
                fitted to the codes of ``images`` (`ae_core.latent`). When absent, the prior where there is one, else
                gaussian.
            images: to whose codes a sampler is fitted; those of the training, as a rule.
            components: Gaussians in the mixture.

        Raises:
            SpecError: the prior is asked for, and the bottleneck has none.
            DataError: a sampler has no images, or too few.
        """
        count, seed, components = _whole("count", count), _whole("seed", seed), _whole("components", components)
        check_between("count", count, 1, MAX_DRAWS)
        return self._vectors.decode(self._sampler(sampler, images, components, seed).draw(count, seed))

    @property
    def _vectors(self) -> VectorCodes:
        return VectorCodes(self.inference, self.spec)

    def _sampler(self, name: SamplerName | None, images: ArrayLike | None, components: int, seed: int) -> Sampler:
        prior = self.spec.bottleneck.prior(self.spec.latent_size)
        name = name or ("gaussian" if prior is None else "prior")
        if name not in get_args(SamplerName):
            raise DataError(f'sampler: given "{name}"; {nearest(str(name), get_args(SamplerName))}')
        if name == "prior":
            if prior is None:
                kind = self.spec.bottleneck.kind
                raise SpecError(f'sampler: given "prior", which a "{kind}" bottleneck does not have; {_FITTED}')
            return prior
        if images is None:
            raise DataError(f'sampler: given "{name}" and no images; {_FITTED}')
        with as_data_error():
            codes = self._vectors.encode(_images(images, self.spec, "images"))
            return fit_sampler(name, codes, components, seed)

    def atlas(
        self,
        path: str | PathLike[str],
        images: ArrayLike,
        labels: ArrayLike | None = None,
        *,
        label_names: Sequence[str] = (),
        shown: int = 2000,
        decoder: Literal["auto", "page", "grid"] = "auto",
    ) -> None:
        """Write the latent space as one web page to point, walk and drag in. What was there is overwritten.

        Args:
            path: the page, .html; always under 5 MB.
            images: whose codes are shown.
            labels: an integer for each image, by which it is coloured.
            label_names: what the labels mean, label 0 first.
            shown: the most images to show, evenly chosen; fewer where they are large.
            decoder: ``page`` puts the decoder itself into the page, ``grid`` pictures that it made, which are blended;
                ``auto`` is page where it can run the decoder.

        Raises:
            DataError: the images or labels cannot be used, or the page cannot run the decoder that it should have.
            OutputError: the page would be too large, or cannot be written.
        """
        from ae_core.atlas.write import MAX_SHOWN, write_atlas  # Matplotlib, for its colours, takes a while to import

        check_between("shown", _whole("shown", shown), 1, MAX_SHOWN)
        if decoder not in ("auto", "page", "grid"):
            raise DataError(f'decoder: given "{decoder}"; {nearest(str(decoder), ("auto", "page", "grid"))}')
        valid = _images(images, self.spec, "images")
        known = None if labels is None else _labels(labels, len(valid), len(label_names))
        data = Dataset("images", valid, known, label_names=tuple(label_names))
        write_atlas(Path(path), self.spec, self.tensors, self.inference, data, f"ae_{self.engine.name}", shown, decoder)

    def __getstate__(self) -> dict[str, Any]:
        # what runs on a device is built again where it is needed
        return {name: value for name, value in vars(self).items() if name != "inference"}

    def __repr__(self) -> str:
        backbone, latents = self.spec.backbone.kind, self.spec.latent_size
        shape = "×".join(map(str, self.spec.input_shape))
        return f"<{self.engine.name} {backbone} autoencoder of {shape} images, {latents} latent dimensions>"


def _images(images: ArrayLike, spec: Spec, where: str) -> Float32[np.ndarray, "N H W C"]:
    try:
        array = np.asarray(images)
    except ValueError:
        raise DataError(f"{where}: given rows of unequal length; expected one array") from None
    valid = validate_images(array, where)
    if valid.shape[1:] != spec.input_shape:
        given, right = ("×".join(map(str, shape)) for shape in (valid.shape[1:], spec.input_shape))
        raise DataError(f"{where}: given {given} pixels and channels; expected {right}, the spec's input_shape")
    return valid


def _labels(labels: ArrayLike, count: int, names: int) -> Int64[np.ndarray, " N"]:
    array = np.asarray(labels)
    if array.shape != (count,) or array.dtype.kind not in "iu":
        raise DataError(f"labels: given {array.dtype} {array.shape}; expected {count} integers")
    if names and not (array.min() >= 0 and array.max() < names):
        raise DataError(f"labels: given {array.min()} to {array.max()}; expected 0 to {names - 1}, as there are names")
    return array.astype(np.int64)


def _whole(name: str, value: int) -> int:
    try:
        return index(value)
    except TypeError:
        raise DataError(f"{name}: given {value!r}; expected an integer") from None


def _fraction(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        raise DataError(f"heldout: given {value!r}; expected a fraction between 0 and 1, or images") from None
