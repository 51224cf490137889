"""Run scikit-learn's own checks on a twin's estimator and print what each came to, as JSON.

A process of its own, because scikit-learn reads SCIPY_ARRAY_API when it is imported, and because its checks give a
constructor what no annotation allows.
"""

import importlib
import json
import os
import sys
import warnings

os.environ["SCIPY_ARRAY_API"] = "1"

import numpy as np
from sklearn.utils import estimator_checks

MORE = (
    "check_transformer_get_feature_names_out",
    "check_transformer_get_feature_names_out_pandas",
    "check_set_output_transform",
    "check_set_output_transform_pandas",
    "check_global_output_transform_pandas",
    "check_dataframe_column_names_consistency",
    "check_get_feature_names_out_error",
)
"""What scikit-learn holds its own transformers to, beyond `check_estimator`."""


def main(twin: str) -> None:
    """Check the estimator as it comes, a variational one in float64, and one that is broken."""
    made = importlib.import_module(f"ae_{twin}").AutoencoderEstimator

    class Broken(made):
        def transform(self, X):
            return super().transform(X) + np.random.default_rng().random()

    instances = {"default": made(), "variational": made(3, beta=1.0, precision="float64", epochs=3)}
    results = {name: _checked(instance) for name, instance in instances.items()}
    if twin == "torch":  # one twin is enough to show that the checks can fail
        results["broken"] = _checked(Broken(epochs=1), more=())
    print(json.dumps(results))


def _checked(instance, more=MORE):
    """Return the status of each check."""
    found = estimator_checks.check_estimator(instance, on_skip=None, on_fail=None)
    result = {
        f"{number} {check['check_name']}": f"{check['status']} {check['exception'] or ''}"
        for number, check in enumerate(found)
    }
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "X (has|does not have valid) feature names")  # they give both on purpose
        for name in more:
            getattr(estimator_checks, name)(type(instance).__name__, instance)
            result[name] = "passed "
    return result


main(*sys.argv[1:])
