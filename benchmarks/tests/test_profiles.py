"""The group of each operation, and shares of a step that add up."""

import pytest

from benchmarks.race.profiles import GROUPS, Event, group_of, profile, shares_of

OPERATIONS = {
    "products": (
        *("ynn_fusion.31", "dot.16", "convolution.3", "aten::mm", "aten::addmm", "aten::convolution_backward"),
        *("aten::mkldnn_convolution", "aten::bmm", "ConvolutionBackward0"),
    ),
    "elementwise": (
        *("multiply_subtract_fusion", "broadcast_maximum_fusion.1", "wrapped_add", "reduce_add_fusion", "aten::mul_"),
        *("aten::_fused_adam_", "aten::sigmoid", "## Call CompiledFxGraph abcmmdot ##", "concatenate_add_fusion"),
    ),
    "copies": (
        *("copy.165", "transpose_copy_fusion.3", "bitcast_concatenate_fusion.2", "pad_slice_fusion", "wrapped_copy"),
        *("dynamic-slice_bitcast_fusion", "gather_bitcast_fusion", "aten::copy_", "aten::contiguous", "aten::index"),
    ),
    "all-reduce": ("all-reduce.3", "psum"),
    None: ("while.180", "call", "conditional.2"),
}


@pytest.mark.parametrize("group", OPERATIONS)
def test_groups(group):
    assert {name: group_of(name) for name in OPERATIONS[group]} == dict.fromkeys(OPERATIONS[group], group)


def test_shares():
    """Of 10 ms on each of two devices: 12 ms of products, 4 of copies, a loop that only holds them, 4 of nothing."""
    events = [Event("dot.1", "0", 6.0), Event("dot.1", "1", 6.0), Event("copy", "0", 4.0), Event("while", "0", 10.0)]
    found = shares_of(events, 10.0)
    assert found == pytest.approx(dict.fromkeys(GROUPS, 0.0) | {"products": 0.6, "copies": 0.2, "rest": 0.2})
    beside = shares_of([Event("dot", "0", 9.0), Event("copy", "0", 3.0)], 10.0)
    assert beside == pytest.approx(dict.fromkeys(GROUPS, 0.0) | {"products": 0.75, "copies": 0.25, "rest": 0.0})
    assert shares_of([], 10.0)["rest"] == 1


def test_profiles_of_real_work():
    """In both frameworks, a product that takes nearly all the time is seen to do so."""
    import jax
    import jax.numpy as jnp
    import torch

    ours, theirs = jnp.ones((600, 600)), torch.ones(600, 600)
    product = jax.jit(lambda x: jnp.tanh(x @ x))
    product(ours).block_until_ready()
    for framework, work in (
        ("jax", lambda: [product(ours).block_until_ready() for _ in range(5)]),
        ("torch", lambda: [torch.tanh(theirs @ theirs) for _ in range(5)]),
    ):
        found = profile(framework, work)
        assert sum(found.values()) == pytest.approx(1)
        assert found["products"] > found["elementwise"] > 0
