"""Handwritten digits: real scans that are installed with scikit-learn, so that they need no download."""

import numpy as np

from ae_core.data.dataset import Dataset
from ae_core.data.validate import validate_images
from ae_core.errors import DataError
from ae_core.system.extras import missing_extra


def digits() -> Dataset:
    """Return the 1,797 digits of the UCI optical recognition test set (Alpaydin & Kaynak, 1998).

    ``images`` are ``[1797, 8, 8, 1]``, ink counts of 0 to 16 divided by 16; ``labels`` are 0 to 9.

    Raises ``DataError`` when scikit-learn is not installed.
    """
    missing = missing_extra("sklearn")
    if missing is not None:
        raise DataError(f"digits: {missing}")
    from sklearn.datasets import load_digits

    scans = load_digits()
    images = validate_images(scans.images / 16, "digits")
    return Dataset("digits", images, labels=scans.target.astype(np.int64))
