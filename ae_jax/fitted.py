"""Train on arrays, and use what came of it; see `ae_core.fitted`."""

from ae_core import fitted
from ae_jax.engine import ENGINE


class Fitted(fitted.Fitted):
    """A trained model of the JAX twin; see `ae_core.fitted.Fitted`."""

    engine = ENGINE


fit = Fitted.fit
