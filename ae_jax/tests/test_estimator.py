"""A search over numbers that programs take as arguments compiles none of them again."""

import numpy as np
from sklearn.model_selection import GridSearchCV

from ae_core.rng import normal
from ae_jax import AutoencoderEstimator
from ae_jax.execution.dispatch import compiled_inference, compiled_steps


def test_a_search_compiles_once():
    compiled_steps.cache_clear()
    compiled_inference.cache_clear()
    rows = normal((60, 4), 0, "rows")
    search = GridSearchCV(
        AutoencoderEstimator(batch_size=16),
        {"learning_rate": [1e-3, 1e-2], "epochs": [1, 2], "random_state": [0, 1]},
        cv=3,
        refit=False,
    )
    search.fit(rows)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert compiled_steps.cache_info().currsize == 1
    # to judge an epoch, and to encode and decode what is scored
    assert compiled_inference.cache_info().currsize == 3
