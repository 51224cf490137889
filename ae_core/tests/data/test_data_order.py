import numpy as np
import pytest

from ae_core.data import batch_indices, epoch_order, split, steps_per_epoch
from ae_core.errors import DataError


def _epoch(count, batch, seed, epoch):
    return [batch_indices(count, batch, seed, epoch, step) for step in range(steps_per_epoch(count, batch))]


@pytest.mark.parametrize(("count", "heldout", "kept"), [(100, 0.1, 10), (7, 0.3, 2), (2, 0.5, 1), (1797, 0.2, 359)])
def test_split_is_a_partition(count, heldout, kept):
    train, test = split(count, heldout, seed=0)
    assert len(test) == kept
    assert train.dtype == test.dtype == np.int64
    np.testing.assert_array_equal(np.sort(np.concatenate([train, test])), np.arange(count))
    assert (np.diff(train) > 0).all()
    assert (np.diff(test) > 0).all()


def test_split_depends_on_its_seed_alone():
    first, again, other = split(100, 0.2, 0), split(100, 0.2, 0), split(100, 0.2, 1)
    np.testing.assert_array_equal(first[1], again[1])
    assert not np.array_equal(first[1], other[1])


@pytest.mark.parametrize(
    ("count", "heldout", "message"),
    [
        (10, 0.0, "between 0 and 1"),
        (10, 1.0, "between 0 and 1"),
        (10, float("nan"), "between 0 and 1"),
        (10, 0.01, "leaves the held-out part empty"),
        (10, 0.99, "leaves the training part empty"),
    ],
)
def test_split_refused(count, heldout, message):
    with pytest.raises(DataError, match=message):
        split(count, heldout, 0)


@pytest.mark.parametrize(("count", "batch", "last"), [(10, 3, 1), (12, 4, 4), (5, 8, 5), (1, 1, 1)])
def test_every_image_once_per_epoch(count, batch, last):
    batches = _epoch(count, batch, seed=1, epoch=2)
    assert [len(indices) for indices in batches] == [batch] * (len(batches) - 1) + [last]
    joined = np.concatenate(batches)
    assert joined.dtype == np.int64
    np.testing.assert_array_equal(np.sort(joined), np.arange(count))
    np.testing.assert_array_equal(joined, epoch_order(count, seed=1, epoch=2))


def test_order_differs_between_epochs_and_seeds():
    orders = [epoch_order(50, seed, epoch) for seed, epoch in [(0, 0), (0, 1), (1, 0), (1, 1)]]
    assert len(np.unique(orders, axis=0)) == 4


def test_order_is_pure():
    """Neither earlier calls, nor what is done to their results, nor the kind of integer changes an order."""
    first = epoch_order(50, 0, 0)
    batch = batch_indices(50, 8, 0, 0, 3)
    kept, kept_batch = first.copy(), batch.copy()
    first[:], batch[:] = -1, -1
    for _ in range(2):
        np.testing.assert_array_equal(epoch_order(50, 0, 0), kept)
        np.testing.assert_array_equal(batch_indices(50, 8, 0, 0, 3), kept_batch)
        for epoch in range(10, 20):  # more than are remembered
            epoch_order(50, 0, epoch)
    np.testing.assert_array_equal(epoch_order(50, False, False), kept)


def test_order_is_frozen():
    """A published run can be repeated only while these numbers stay what they are."""
    assert epoch_order(8, 0, 0).tolist() == [1, 3, 6, 7, 2, 0, 4, 5]
    assert split(8, 0.25, 0)[1].tolist() == [0, 5]


@pytest.mark.parametrize("step", [-1, 4])
def test_step_outside_the_epoch(step):
    with pytest.raises(IndexError, match="has steps 0 to 3"):
        batch_indices(10, 3, 0, 0, step)


@pytest.mark.parametrize(("count", "batch", "message"), [(0, 1, "number of images is 0"), (5, 0, "batch size is 0")])
def test_batches_refused(count, batch, message):
    with pytest.raises(DataError, match=message):
        batch_indices(count, batch, 0, 0, 0)
