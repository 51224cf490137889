"""Two models compared: outputs, intermediates, state, gradients and a short training, in float64 and in float32."""

import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from parity_tests.check import IDENTITY_LIMIT, Check
from parity_tests.pair.both import Both, Layer
from parity_tests.pair.calls import Change
from parity_tests.pair.optimizers import OPTIMIZERS, optimizer_trap
from parity_tests.pair.pair import Pair, PairError
from parity_tests.pair.rounding import fast_variance
from parity_tests.pair.search import Finding, Search
from parity_tests.pair.sides import Optimizer

Say = Callable[[str], None]


class PairResult(NamedTuple):
    """What the comparison of a pair found."""

    checks: list[Check]
    layers: list[Layer]
    """In the order in which PyTorch's modules return; outputs are the last."""
    outlier: str | None
    """The first layer that stands out, by PyTorch's name."""
    findings: list[Finding]
    """Traps that explain the differences."""
    mended: bool
    """Whether outputs, state, gradients and training all agree once everything in ``findings`` is mended."""
    unused: tuple[str, ...]
    """Arrays of JAX that no tensor of PyTorch takes."""
    own: tuple[str, ...]
    """Buffers of PyTorch that JAX has nothing of."""
    unnamed: tuple[str, ...]
    """PyTorch's intermediates that have no partner in JAX."""
    still: tuple[str, ...]
    """Parameters whose gradient is 0 but for rounding, which stay as they are in the training."""
    tried: int
    """How many mends were tried."""
    seconds: float

    @property
    def passed(self) -> bool:
        """Whether both are the same model."""
        return all(check.passed for check in self.checks)

    @property
    def sentence(self) -> str:
        """The result in one sentence."""
        if self.passed:
            return f"The same model: all {len(self.checks):,} checks passed"
        failed = sum(not check.passed for check in self.checks)
        where = f"; the first layer that stands out is {self.outlier}" if self.outlier else ""
        return f"Not the same model: {failed:,} of {len(self.checks):,} checks failed{where}"


def compare_pair(
    jax_apply: Any,
    jax_params: Any,
    torch_module: Any,
    inputs: Any,
    *,
    steps: int = 5,
    optimizer: str = "adam",
    seed: int = 0,
    progress: Say = lambda line: None,
    **others: Any,
) -> PairResult:
    """Compare a JAX function with a PyTorch module, and say which trap a difference looks like.

    Args:
        jax_apply: ``jax_apply(params, *inputs)`` returns an array or a tree of arrays.
        jax_params: tree of arrays.
        torch_module: the same model; a copy of it gets the weights of ``jax_params``.
        inputs: NumPy arrays.
        steps: of training after which both must still have the same parameters.
        optimizer: sgd, momentum, adam or adamw.
        seed: of the noise on weights that are one number throughout.
        progress: called with a line before each part.
        others: fields of `Pair`: ``names``, ``torch_inputs``, ``jax_taps``, ``jax_loss`` and ``torch_loss``, ….

    Raises:
        PairError: the two cannot be compared.
    """
    pair = Pair(jax_apply=jax_apply, jax_params=jax_params, torch_module=torch_module, inputs=inputs, **others)
    return run_pair(pair, steps, optimizer, seed, progress)


def run_pair(
    pair: Pair, steps: int = 5, optimizer: str = "adam", seed: int = 0, progress: Say = lambda line: None
) -> PairResult:
    """Compare a pair; see `compare_pair`."""
    started = time.perf_counter()
    if optimizer not in OPTIMIZERS:
        raise PairError(f"optimizer: given {optimizer}; expected one of {', '.join(OPTIMIZERS)}")
    chosen, own = OPTIMIZERS[optimizer], pair.jax_optimizer is not None and pair.torch_optimizer is not None
    if own:
        chosen = Optimizer(pair.jax_optimizer, pair.torch_optimizer)  # type: ignore[arg-type]
    progress("1/4  float64: outputs, intermediates, state …")
    both = Both(pair, seed)
    search = Search(both.torch, both.difference, both.shapes, both.names, IDENTITY_LIMIT)
    checks, outlier = both.forward_checks(), search.first()
    if outlier is not None:
        progress(f"     {outlier} stands out: trying what the other side may have meant …")
        search.forward()
    search.state(both.wrong_state)
    progress("2/4  float64: gradients …")
    checks += both.gradient_checks({})
    if search.first() is None:
        _explain_gradients(both, search)
    progress(f"3/4  float64: {steps} steps of {'their own optimisers' if own else optimizer} …")
    trained = both.training_checks(chosen, steps, {})
    checks += trained
    agrees = both.agrees(search.changes)
    if agrees and _failed(both.training_checks(chosen, steps, search.changes) if search.changes else trained):
        found, tried = optimizer_trap(both, chosen, steps, search.changes)
        search.tried += tried
        agrees = found is not None
        search.findings += [found] if found is not None else []
    progress("4/4  float32: each side beside its own float64 run …")
    layers = both.layers()
    rounding = both.rounding_checks(layers)
    if _failed(rounding) and not search.findings:
        found = fast_variance(both, layers)
        search.findings += [found] if found is not None else []
        agrees = agrees and found is not None
    return PairResult(
        checks + rounding,
        layers,
        outlier,
        search.findings,
        bool(search.findings) and agrees,
        both.matches.unused,
        both.matches.own,
        both.unnamed,
        tuple(sorted(both.still(search.changes))),
        search.tried,
        time.perf_counter() - started,
    )


def _explain_gradients(both: Both, search: Search) -> None:
    """Find out why gradients differ where the function does not."""

    def failing(changes: Mapping[int, Change]) -> list[str]:
        return [check.place for check in both.gradient_checks(changes) if not check.passed]

    wrong = failing(search.changes)
    if not wrong:
        return
    factor = both.factor(search.changes)
    if factor is not None and factor != 1:
        both.torch.factor = factor
        search.findings.append(Finding("reduction", ("loss",), "the loss", _factor_sentence(both, factor)))
        return
    ours = both.slopes.parameters
    stopped = any(
        not slope.any() and both.torch_slopes.parameters[name].any()
        for name, slope in ours.items()
        if name in both.torch_slopes.parameters
    )
    search.gradients(failing, stopped)


def _factor_sentence(both: Both, factor: float) -> str:
    """Say what a factor between the losses could be."""
    output = next(iter(both.torch_outputs.values()))
    batch, each = len(output), max(output[0].size, 1)
    known = {
        "the numbers of one sample: a mean over all beside a sum per sample": float(each),
        "the batch: a mean over samples beside a sum": float(batch),
        "all numbers: a mean beside a sum": float(output.size),
        "2: a square beside half a square": 2.0,
        "the last axis: a mean over it beside a sum": float(output.shape[-1]),
    }
    for label, value in known.items():
        for shown, number in ((label, value), (f"1 over {label}", 1 / value)):
            if abs(factor / number - 1) < 1e-9:
                return f"multiply PyTorch's loss by {factor:.6g}, {shown}"
    return f"multiply PyTorch's loss by {factor:.6g}"


def _failed(checks: list[Check]) -> bool:
    return any(not check.passed for check in checks)
