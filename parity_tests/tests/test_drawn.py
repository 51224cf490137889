"""The identity gate over specs drawn at random, always the same ones; PARITY_EXAMPLES raises their number.

Shrinking is left out: each attempt costs a compilation, and drawn specs are small as they are.
"""

import os
from functools import cache
from typing import get_args

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from ae_core.spec import Activation, ConvBackbone, Initializer, components_of, families
from ae_core.training.loop import check_batches
from parity_tests.cases import own_kinds
from parity_tests.check import IDENTITY_LIMIT
from parity_tests.drawn import Drawn, drawn_specs
from parity_tests.gates.identity import check_forward, check_training

# the type checker looks at a random item of each tuple; what is drawn does not depend on that
pytestmark = pytest.mark.filterwarnings("ignore:Do not use the `random` module inside strategies")

EXAMPLES = int(os.environ.get("PARITY_EXAMPLES", "100"))
"""Of these, each is run forward and backward, and a quarter is trained."""

PARTS = 10
"""In which the cases are dealt out to processes."""


def drawn(draws):
    return settings(
        max_examples=draws,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )


@cache
def cases(examples):
    """Return as many different cases, always the same ones."""
    seen = {}

    # a tenth or two of what is drawn was drawn before
    @drawn(2 * examples)
    @given(drawn_specs())
    def each(case):
        seen[case] = None

    each()
    assert len(seen) >= examples
    return list(seen)[:examples]


def run(examples, part, gate):
    """Hold one part of the cases to a gate and return its checks."""
    checks = []
    for case in cases(examples)[part::PARTS]:
        found = gate(case.spec, case.images)
        assert found
        checks += [check._replace(place=f"{case}, {check.place}") for check in found]
        failed = [str(check) for check in found if not check.passed]
        assert not failed, f"{case}:\n" + "\n".join(failed)
    return checks


@pytest.mark.usefixtures("unoptimised")
@pytest.mark.parametrize("part", range(PARTS))
def test_forward_loss_gradients(part, hold):
    hold(run(EXAMPLES, part, lambda spec, images: check_forward(spec, images, 1, IDENTITY_LIMIT, "float64")))


@pytest.mark.usefixtures("unoptimised")
@pytest.mark.parametrize("part", range(PARTS))
def test_training(part, hold):
    """Three steps: shorter last batches and epoch borders are among them."""
    hold(run(EXAMPLES // 4, part, lambda spec, images: check_training(spec, images, 2, marks=(3,))))


def test_no_case_is_left_out():
    assert EXAMPLES >= 100
    for examples in (EXAMPLES, EXAMPLES // 4):
        dealt = [case for part in range(PARTS) for case in cases(examples)[part::PARTS]]
        assert len(dealt) == len(set(dealt)) == examples


@pytest.mark.quick
def test_draws_reach_every_kind():
    seen = []

    @drawn(1000)
    @given(drawn_specs())
    def each(case):
        assert isinstance(case, Drawn)
        check_batches(case.spec, case.number)
        seen.append(case)

    each()
    specs = [case.spec for case in seen]
    convs = [spec.backbone for spec in specs if isinstance(spec.backbone, ConvBackbone)]
    found = {(part.family, part.kind) for spec in specs for part in components_of(spec)}
    blocks = [spec.backbone for spec in specs if hasattr(spec.backbone, "norm")]  # a norm and an activation each
    norms = {(type(backbone), kind_of(backbone.norm)) for backbone in blocks}
    reached = {
        "component": (found, {(family, kind) for family in families() for kind in own_kinds(family)}),
        "norm": (norms, {(backbone, kind) for backbone, _ in norms for kind in (None, *own_kinds("norm"))}),
        "activation": ({backbone.activation for backbone in blocks}, set(get_args(Activation))),
        "reduction": (
            {(s.likelihood.kind, s.likelihood.reduction) for s in specs},
            {(kind, reduction) for kind in own_kinds("likelihood") for reduction in ("mean", "sum")},
        ),
        "KL weight": (
            {kind_of(s.bottleneck.kl_weight) for s in specs if s.bottleneck.has_posterior},
            {None, *own_kinds("schedule")},
        ),
        "initialiser": ({s.initializer for s in specs}, set(get_args(Initializer))),
        "clipping": ({s.training.clip_norm is None for s in specs}, {True, False}),
        "kernel": ({(b.padding, b.kernel) for b in convs}, {("same", k) for k in range(1, 9)} | ODD),
        "strides": ({stride for b in convs for stride in b.strides}, {1, 2, 3}),
        "channels": ({channels for b in convs for channels in b.channels}, set(range(1, 7))),
        "depth": ({len(b.strides) for b in convs}, {1, 2, 3}),
        "channels of images": ({s.input_shape[2] for s in specs}, {1, 2, 3}),
        "square": ({s.input_shape[0] == s.input_shape[1] for s in specs}, {True, False}),
        "last batch is shorter": ({number % s.training.batch_size == 0 for s, number in seen}, {True, False}),
    }
    missed = {name: all_of_them - some for name, (some, all_of_them) in reached.items() if some != all_of_them}
    assert missed == {}


def kind_of(value):
    return getattr(value, "kind", None)


ODD = {("torch", kernel) for kernel in (1, 3, 5, 7)}
