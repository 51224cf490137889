from collections.abc import Iterator

import pytest
import torch

import ae_jax
import ae_torch

TWINS = {"jax": ae_jax, "torch": ae_torch}


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Let PyTorch work with one thread: on arrays as small as a test's, a second one only waits."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(params=TWINS)
def twin(request: pytest.FixtureRequest) -> object:
    """Each twin's package."""
    return TWINS[request.param]
