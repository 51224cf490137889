"""An autoencoder as a scikit-learn estimator, on rows of numbers. Each twin brings its engine."""

import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from os import PathLike
from typing import Any, ClassVar, Literal, NamedTuple, TypeVar

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from ae_core.data import steps_per_epoch
from ae_core.errors import UserError
from ae_core.fitted import Fitted
from ae_core.latent.codes import VectorCodes
from ae_core.metrics.reconstruction import log_probability
from ae_core.metrics.variational import kl_divergence
from ae_core.rng import generator
from ae_core.spec import (
    Activation,
    DenseBackbone,
    GaussianLikelihood,
    PlainBottleneck,
    Precision,
    Spec,
    Training,
)
from ae_core.spec.changes import changed, chosen
from ae_core.system.extras import require
from ae_core.training.engine import Snapshot, Trainer
from ae_core.training.initial import check_size, initial_weights
from ae_core.training.loop import Silence, check_batches, train
from ae_core.training.steps import make_steps

require("sklearn")

from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin  # noqa: E402
from sklearn.exceptions import ConvergenceWarning  # noqa: E402
from sklearn.utils import check_array, check_random_state  # noqa: E402
from sklearn.utils.validation import check_is_fitted, validate_data  # noqa: E402

Estimator = TypeVar("Estimator", bound="AutoencoderEstimator")
Rows = Float[np.ndarray, "N F"]


class _Past(NamedTuple):
    """What `partial_fit` goes on from."""

    seed: int
    calls: int = 0
    snapshot: Snapshot | None = None


class AutoencoderEstimator(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """An autoencoder of rows of numbers: `transform` encodes them, `inverse_transform` decodes.

    Without a ``spec`` the rows are features of any range, best scaled to unit variance, and the model is dense:
    one hidden layer of 64, two latent numbers, a Gaussian likelihood of variance ½, Adam at 1e-3, 50 epochs of
    batches of 64, float32. With a spec, or the name of a preset, the rows are flattened images, ``height × width ×
    channels`` numbers each, and everything is as the spec says. A parameter that is not None replaces what either says.

    Parameters:
        latent_size: number of latent dimensions: columns of `transform`.
        hidden_sizes: widths of the encoder's hidden layers; the decoder has them in reverse. Of dense models only.
        activation: after each hidden layer.
        likelihood: ``gaussian``, or ``bernoulli`` for rows in [0, 1]; its terms are summed over a row.
        beta: makes the autoencoder variational, with this weight of its KL term.
        epochs: passes over the rows.
        batch_size: rows a step.
        learning_rate: peak learning rate.
        precision: ``float32`` or ``float64``, of the model and of all that it returns.
        spec: a `Spec` or the name of a preset, in place of the dense model above.
        random_state: of initial weights, order and noise. An integer is the seed itself; None draws one.

    Attributes:
        model_: the trained model, with its weights, its spec and, after `fit`, its history; see `ae_core.fitted`.
        n_features_in_: number of columns of X.
        feature_names_in_: their names, where X had them all as strings.
    """

    _model_class: ClassVar[type[Fitted]]

    def __init__(
        self,
        latent_size: int | None = None,
        *,
        hidden_sizes: Sequence[int] | None = None,
        activation: Activation | None = None,
        likelihood: Literal["gaussian", "bernoulli"] | None = None,
        beta: float | None = None,
        epochs: int | None = None,
        batch_size: int | None = None,
        learning_rate: float | None = None,
        precision: Precision | None = None,
        spec: Spec | str | None = None,
        random_state: int | np.random.RandomState | None = 0,
    ) -> None:
        self.latent_size = latent_size
        self.hidden_sizes = hidden_sizes
        self.activation = activation
        self.likelihood = likelihood
        self.beta = beta
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.precision = precision
        self.spec = spec
        self.random_state = random_state

    def fit(self: Estimator, X: ArrayLike, y: object = None) -> Estimator:
        """Train on rows and keep the weights of the epoch after which their loss was lowest.

        A loss that is not finite ends the training, with a `ConvergenceWarning`. ``y`` is not used.

        Args:
            X: rows, [N, F].
            y: not used.

        Raises:
            ValueError: rows or parameters cannot be used; the message says why, in one line.
        """
        rows = self._rows(X, reset=True)
        with _as_value_error():
            spec = self._spec(rows.shape[1])
            images = _images(rows, spec)
            _check_range(images, spec)
            engine = self._model_class.engine
            check_size(engine.shapes(spec))
            seed = self._seed()
            result = train(engine, spec, images, images, seed, Silence(), lambda tensors: None)
        if result.status == "interrupted":
            raise KeyboardInterrupt
        if result.status == "diverged":
            warnings.warn(f"training diverged: {result.message}", ConvergenceWarning, stacklevel=2)
        self.model_, self._past = self._model_class(spec, result.tensors, result), _Past(seed)
        return self

    def partial_fit(self: Estimator, X: ArrayLike, y: object = None) -> Estimator:
        """Go through rows once, in batches, from where the last `partial_fit` or `fit` left off.

        The optimiser remembers from one call to the next; after `fit` it begins anew. The learning rate is the peak
        one, for no schedule knows how many calls will come. What the first call says of the model stays.

        Args:
            X: rows, [N, F].
            y: not used.

        Raises:
            ValueError: rows or parameters cannot be used; the message says why, in one line.
        """
        rows = self._rows(X, reset=not hasattr(self, "model_"))
        with _as_value_error():
            model, past = self._begun(rows.shape[1])
            images = _images(rows, model.spec)
            _check_range(images, model.spec)
            check_batches(model.spec, len(rows))
        trainer = model.engine.train(model.spec, model.tensors, images)
        if past.snapshot is not None:
            trainer.restore(past.snapshot)
        _go_through(trainer, model.spec, len(rows), past)
        snapshot = trainer.snapshot()
        if not all(np.isfinite(tensor).all() for tensor in snapshot.tensors.values()):
            rate = model.spec.training.optimizer.learning_rate
            raise ValueError(f"partial_fit: training diverged at learning_rate {rate:g}; expected a lower one")
        self.model_ = self._model_class(model.spec, trainer.tensors())
        self._past = _Past(past.seed, past.calls + 1, snapshot)
        return self

    def transform(self, X: ArrayLike) -> Float[np.ndarray, "N L"]:
        """Return the codes of rows, [N, latent_size]; of a variational model, the means."""
        check_is_fitted(self)
        return self._inference.encode(_images(self._rows(X, reset=False), self.model_.spec))

    def inverse_transform(self, X: ArrayLike) -> Rows:
        """Return the rows that codes, [N, latent_size], stand for: probabilities or means."""
        check_is_fitted(self)
        codes = check_array(X, dtype=[np.float64, np.float32], input_name="X")
        latent = self.model_.spec.latent_size
        if codes.shape[1] != latent:
            raise ValueError(f"inverse_transform: given {codes.shape[1]} columns; expected {latent}, the latent_size")
        return self._inference.decode(codes).reshape(len(codes), -1)

    def score_samples(self, X: ArrayLike) -> Float[np.ndarray, " N"]:
        """Return log p(x|z) − KL of each row, in nats, at the code z that `transform` gives; greater is better.

        log p(x|z) is summed over the row, with all its constants (`ae_core.metrics`); KL is that of a variational
        model's posterior to its prior, else 0. Neither ``beta`` nor a weight or reduction of the spec changes it, so
        that models of one likelihood can be compared.
        """
        check_is_fitted(self)
        spec = self.model_.spec
        with _as_value_error():
            images = _images(self._rows(X, reset=False), spec)
            _check_range(images, spec)
        model = self._inference
        penalty: Any = 0.0
        if spec.bottleneck.has_posterior:
            codes, logvar = model.posterior(images)
            penalty = kl_divergence(codes, logvar).sum(1)
        else:
            codes = model.encode(images)
        scores = log_probability(spec.likelihood, images, model.decode(codes)) - penalty
        return scores.astype(spec.training.precision)

    def score(self, X: ArrayLike, y: object = None) -> float:
        """Return the mean of `score_samples`: nats a row, greater is better. ``y`` is not used."""
        return float(self.score_samples(X).mean(dtype=np.float64))

    def save(self, path: str | PathLike[str]) -> None:
        """Write the model as a weights file that either twin and its command line open; no pickle.

        Raises:
            OutputError: the path cannot be written.
        """
        check_is_fitted(self)
        self.model_.save(path)

    @classmethod
    def load(cls: type[Estimator], path: str | PathLike[str]) -> Estimator:
        """Return the fitted estimator of a weights file; its ``spec`` is the file's, and its features have no names.

        Raises:
            WeightsError: the file is not there, damaged, or not a weights file.
        """
        model = cls._model_class.load(path)
        estimator = cls(spec=model.spec)
        estimator.n_features_in_ = math.prod(model.spec.input_shape)
        estimator.model_, estimator._past = model, _Past(0)
        return estimator

    @property
    def _inference(self) -> VectorCodes:
        return VectorCodes(self.model_.inference, self.model_.spec)

    @property
    def _n_features_out(self) -> int:
        return self.model_.spec.latent_size

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        of_spec = self.spec.training.precision if isinstance(self.spec, Spec) else "float32"
        tags.transformer_tags.preserves_dtype = [self.precision or of_spec]
        return tags

    def _rows(self, X: ArrayLike, reset: bool) -> Rows:
        rows: np.ndarray = validate_data(self, X, reset=reset, dtype=[np.float64, np.float32])
        return rows

    def _seed(self) -> int:
        if isinstance(self.random_state, int | np.integer):
            return int(self.random_state)
        return int(check_random_state(self.random_state).randint(2**31 - 1))

    def _spec(self, features: int) -> Spec:
        """Return the spec that the parameters describe.

        Raises:
            SpecError: they describe none.
        """
        base = _dense(features) if self.spec is None else chosen(self.spec)
        likelihood = None if self.likelihood is None else {"kind": self.likelihood, "reduction": "sum"}
        latent = base.latent_size
        variational = None if self.beta is None else {"kind": "gaussian", "latent": latent, "kl_weight": self.beta}
        changes = {
            "likelihood": likelihood,
            "bottleneck": variational,
            "bottleneck.latent": self.latent_size,
            "backbone.hidden": self.hidden_sizes,
            "backbone.activation": self.activation,
            "training.epochs": self.epochs,
            "training.batch_size": self.batch_size,
            "training.optimizer.learning_rate": self.learning_rate,
            "training.precision": self.precision,
        }
        return changed(base, changes)

    def _begun(self, features: int) -> tuple[Fitted, _Past]:
        """Return the model so far, or one with initial weights."""
        if hasattr(self, "model_"):
            return self.model_, self._past
        spec, seed = self._spec(features), self._seed()
        shapes = check_size(self._model_class.engine.shapes(spec))
        return self._model_class(spec, initial_weights(shapes, spec, seed)), _Past(seed)


def _dense(features: int) -> Spec:
    return Spec(
        (1, 1, features),
        DenseBackbone((64,)),
        PlainBottleneck(2),
        GaussianLikelihood(variance=0.5, reduction="sum"),
        training=Training(batch_size=64, epochs=50),
    )


def _go_through(trainer: Trainer, spec: Spec, count: int, past: _Past) -> None:
    """Train on all rows once, with an order and noise of this call's own, whatever the other calls had."""
    seed = int(generator(past.seed, "partial_fit", past.calls).integers(2**63))
    per_epoch = steps_per_epoch(count, spec.training.batch_size)
    for first in range(0, per_epoch, trainer.capacity):
        steps = make_steps(spec, count, seed, 0, first, min(trainer.capacity, per_epoch - first))
        rates = np.full(len(steps.sizes), spec.training.optimizer.learning_rate)
        trainer.advance(steps._replace(learning_rates=rates))


def _images(rows: Rows, spec: Spec) -> Float[np.ndarray, "N H W C"]:
    """Return rows as the images that a model takes.

    Raises:
        ValueError: their numbers are not those of an image, or too large.
    """
    height, width, channels = spec.input_shape
    if rows.shape[1] != height * width * channels:
        right = f"{height * width * channels}, those of the spec's {height}×{width}×{channels} images"
        raise ValueError(f"X: given {rows.shape[1]} features; expected {right}")
    if not max(-rows.min(), rows.max()) <= np.finfo(spec.training.precision).max:
        raise ValueError(f"X: given numbers beyond {spec.training.precision}, the model's precision")
    return rows.reshape(-1, height, width, channels)


def _check_range(rows: np.ndarray, spec: Spec) -> None:
    if spec.likelihood.takes_unit_interval and not (rows.min() >= 0 and rows.max() <= 1):
        given = f"numbers from {rows.min():g} to {rows.max():g}"
        raise ValueError(f"X: given {given}; expected 0 to 1 where the likelihood is {spec.likelihood.kind}")


@contextmanager
def _as_value_error() -> Iterator[None]:
    """Say as a ValueError, as scikit-learn has it, what the project's own parts found wrong."""
    try:
        yield
    except UserError as error:
        raise ValueError(str(error)) from None
