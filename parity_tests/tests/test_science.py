"""Oracles that know neither twin: two twins can share one wrong formula, and no comparison between them would tell.

Losses and slopes come from the definitions in 60 decimal digits, the KL from quadrature, optimisers from the papers'
algorithms, the optimum of a linear autoencoder from PCA.
"""

import math
from dataclasses import replace
from decimal import Decimal, localcontext

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from jax.test_util import check_grads
from scipy.integrate import quad
from scipy.linalg import subspace_angles

import ae_jax
import ae_jax.engine
import ae_jax.model.bottleneck
import ae_jax.model.likelihood
import ae_jax.optim
import ae_torch
import ae_torch.engine
import ae_torch.model.bottleneck
import ae_torch.model.likelihood
import ae_torch.optim
from ae_core.rng import generator, normal
from ae_core.spec import (
    SGD,
    Adam,
    AdamW,
    BatchNorm,
    BernoulliLikelihood,
    ConvBackbone,
    Cosine,
    DenseBackbone,
    GaussianBottleneck,
    GaussianLikelihood,
    LayerNorm,
    PlainBottleneck,
    Spec,
    Training,
)
from ae_core.training.initial import initial_weights
from ae_core.training.loop import train

TWINS = ["jax", "torch"]

LOSS_LIMIT = 1e-14
"""Of the largest value: a loss of one pixel is some ten float64 operations, of 2⁻⁵³ = 1.1e-16 each; 90 times that."""


@pytest.fixture(autouse=True)
def _float64(request):
    mode = jax.enable_x64(True)
    mode.__enter__()
    request.addfinalizer(lambda: mode.__exit__(None, None, None))  # noqa: PT021 (as in the twins' own tests)


@pytest.fixture(autouse=True)
def _one_thread(request):
    # for arrays this small a second thread only waits
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    request.addfinalizer(lambda: torch.set_num_threads(threads))  # noqa: PT021


# Losses and their slopes


def value_and_slope(twin, function, *arguments):
    """Value at and slope by the first arguments of a function that is summed; NumPy in and out."""
    if twin == "torch":
        tensors = [torch.from_numpy(a.copy()).requires_grad_() for a in arguments]
        values = function(*tensors)
        values.sum().backward()
        return values.detach().numpy(), *(t.grad.numpy() for t in tensors)
    arrays = [jnp.asarray(a) for a in arguments]
    slopes = jax.grad(lambda *a: function(*a).sum(), tuple(range(len(arrays))))(*arrays)
    return np.asarray(function(*arrays)), *(np.asarray(s) for s in slopes)


def exactly(function, *arguments):
    """Value and slopes of a scalar function in 60 digits; slopes by central differences with h = 10⁻²⁰.

    Their error is h²·f‴/6, beyond the 39th digit; rounding takes 20 of the 60 digits.
    """
    with localcontext() as context:
        context.prec, h = 60, Decimal("1e-20")
        numbers = [Decimal(float(a)) for a in arguments]

        def moved(i, by):
            return function(*(n + by if i == j else n for j, n in enumerate(numbers)))

        slopes = [(moved(i, h) - moved(i, -h)) / (2 * h) for i in range(len(numbers))]
        return [float(function(*numbers)), *map(float, slopes)]


def bernoulli(logit, x):
    """−log(pˣ·(1 − p)¹⁻ˣ), p = 1 / (1 + exp(−logit)): Kingma & Welling (2014), appendix C.1."""
    p = 1 / (1 + (-logit).exp())
    return -(x * p.ln() + (1 - x) * (1 - p).ln())


def squared(mean, x, variance):
    """−log N(x; mean, variance) without its constant."""
    return (x - mean) * (x - mean) / (2 * variance)


def gaussian_kl(mean, logvar):
    """log(σ₂/σ₁) + (σ₁² + (μ₁ − μ₂)²) / (2σ₂²) − ½ with σ₂ = 1, μ₂ = 0: the KL of two normal distributions."""
    std = (logvar / 2).exp()
    return (1 / std).ln() + (std * std + mean * mean) / 2 - Decimal("0.5")


def assert_near(measured, expected, limit):
    for value, wanted in zip(measured, expected, strict=True):
        np.testing.assert_allclose(value, wanted, rtol=0, atol=limit * np.abs(wanted).max())


@pytest.mark.quick
@pytest.mark.parametrize("twin", TWINS)
@pytest.mark.parametrize("scale", [0.5, 5.0, 30.0])
@pytest.mark.parametrize("likelihood", [BernoulliLikelihood("sum"), GaussianLikelihood(0.3, "sum")])
def test_likelihood(likelihood, scale, twin):
    package = ae_jax.model if twin == "jax" else ae_torch.model
    rng = generator(0, "pixels")
    output, x = rng.uniform(-scale, scale, (12, 1, 1, 1)), rng.random((12, 1, 1, 1))
    output[:3], x[:6] = [[[[0]]], [[[scale]]], [[[-scale]]]], np.arange(6).reshape(6, 1, 1, 1) % 2
    convert = jnp.asarray if twin == "jax" else torch.from_numpy
    module = package.likelihood.make_likelihood(likelihood)
    measured = value_and_slope(twin, lambda output: module.negative_log_likelihood(output, convert(x)), output)
    variance = Decimal(float(np.float64(0.3)))
    rows = []
    for logit, pixel in zip(output.flat, map(Decimal, x.ravel().tolist()), strict=True):
        if isinstance(likelihood, BernoulliLikelihood):
            rows.append(exactly(lambda o, pixel=pixel: bernoulli(o, pixel), logit))
        else:
            rows.append(exactly(lambda o, pixel=pixel: squared(o, pixel, variance), logit))
    assert_near([m.ravel() for m in measured], np.transpose(rows), LOSS_LIMIT)


@pytest.mark.quick
@pytest.mark.parametrize("twin", TWINS)
def test_kl_and_its_slopes(twin):
    package = ae_jax.model if twin == "jax" else ae_torch.model
    mean, logvar = (2 * normal((12, 1), 0, name) for name in ("mean", "logvar"))
    bottleneck = GaussianBottleneck(1)
    kl = lambda m, v: package.bottleneck.GaussianCode(m, v, m).penalties(bottleneck, bottleneck.coefficients)["kl"][1]  # noqa: E731
    measured = value_and_slope(twin, kl, mean, logvar)
    expected = np.transpose([exactly(gaussian_kl, *pair) for pair in zip(mean.flat, logvar.flat, strict=True)])
    assert_near([m.ravel() for m in measured], expected, LOSS_LIMIT)


KL_LIMIT = 1e-10
"""Of a KL, absolute: the quadrature is asked for 1e-12, and cuts off what lies beyond 12 standard deviations, 1e-32."""


@pytest.mark.quick
@pytest.mark.parametrize("twin", TWINS)
@pytest.mark.parametrize(
    ("mean", "logvar"), [(0.0, 0.0), (1.5, 0.0), (0.0, -3.0), (-0.7, 1.2), (3.0, -6.0), (2.0, 2.0)]
)
def test_kl_against_quadrature(mean, logvar, twin):
    """∫ q(z)·(log q(z) − log p(z)) dz over the densities themselves."""
    package, array = (ae_jax.model, jnp.full) if twin == "jax" else (ae_torch.model, torch.full)
    std = math.exp(logvar / 2)

    def integrand(z):
        log_q = -0.5 * ((z - mean) / std) ** 2 - math.log(std * math.sqrt(2 * math.pi))
        log_p = -0.5 * z**2 - math.log(math.sqrt(2 * math.pi))
        return math.exp(log_q) * (log_q - log_p)

    expected, _ = quad(integrand, mean - 12 * std, mean + 12 * std, epsabs=1e-12, epsrel=1e-12, limit=200)
    dtype = {"dtype": jnp.float64 if twin == "jax" else torch.float64}
    m, v = array((1, 1), mean, **dtype), array((1, 1), logvar, **dtype)
    _, values = package.bottleneck.GaussianCode(m, v, m).penalties(GaussianBottleneck(1), {"kl": 1.0})["kl"]
    assert abs(float(values[0]) - expected) <= KL_LIMIT


@pytest.mark.quick
@pytest.mark.parametrize("twin", TWINS)
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_whole_loss_is_the_negative_elbo(reduction, twin):
    """weight·E[−log p(x|z)] + β·KL, the mean over the batch, pixel by pixel from what the decoder returns."""
    likelihood, bottleneck = BernoulliLikelihood(reduction, weight=3.0), GaussianBottleneck(2, kl_weight=0.4)
    spec = Spec((2, 3, 2), DenseBackbone((4,), "silu"), bottleneck, likelihood, training=Training(precision="float64"))
    x, noise = generator(0, "x").random((5, 2, 3, 2)), normal((5, 2), 0, "noise")
    if twin == "jax":
        model = ae_jax.build(spec)
        bound = model.init(7)
        code = model.encode(bound, jnp.asarray(x), {"bottleneck": jnp.asarray(noise)})
        p = np.asarray(model.decode(bound, code.z))
        total = model.loss(bound, jnp.asarray(x), {"bottleneck": jnp.asarray(noise)}).total
        mean, logvar = np.asarray(code.mean), np.asarray(code.logvar)
    else:
        model = ae_torch.build(spec).init(7)
        code = model.encode(torch.from_numpy(x), {"bottleneck": torch.from_numpy(noise)})
        p = model.decode(code.z).detach().numpy()
        total = model.loss(torch.from_numpy(x), {"bottleneck": torch.from_numpy(noise)}).total.detach()
        mean, logvar = code.mean.detach().numpy(), code.logvar.detach().numpy()
    nll = -(x * np.log(p) + (1 - x) * np.log(1 - p)).reshape(5, -1)
    kl = [
        sum(exactly(gaussian_kl, *pair)[0] for pair in zip(*row, strict=True)) for row in zip(mean, logvar, strict=True)
    ]
    expected = (3.0 * getattr(nll, reduction)(1) + 0.4 * np.array(kl)).mean()
    assert float(total) == pytest.approx(expected, rel=LOSS_LIMIT)


# Gradients against differences

DIFFERENCE, GRADIENT_LIMIT = 1e-5, 1e-7
"""Central differences with h = 1e-5 are off by h²·f‴/6, 1e-10 for third derivatives of order 1, and by the rounding of
a loss of order 1 over h, 1e-11; the limit leaves three orders for derivatives that are larger."""
SMOOTH = {
    "silu, batch norm": Spec(
        (4, 6, 1),
        ConvBackbone((2, 3), (2, 1), activation="silu", norm=BatchNorm(1e-2)),
        GaussianBottleneck(2, 0.5),
        training=Training(precision="float64"),
    ),
    "gelu_tanh, layer norm": Spec(
        (4, 4, 2),
        ConvBackbone((3,), (2,), padding="torch", activation="gelu_tanh", norm=LayerNorm(1e-2)),
        GaussianBottleneck(2),
        GaussianLikelihood(),
        training=Training(precision="float64"),
    ),
    "gelu_erf": Spec(
        (4, 2, 1),
        ConvBackbone((3,), (2,), kernel=2, activation="gelu_erf"),
        GaussianBottleneck(2),
        training=Training(precision="float64"),
    ),
}


def inputs_of(spec):
    shapes = ae_torch.build(spec).shapes
    start = initial_weights(shapes, replace(spec, initializer="he_normal"), 0)
    tensors = {name: t + 0.1 * normal(t.shape, 0, name) for name, t in start.items()}
    tensors |= {name: np.ones(shape) for name, shape in shapes.items() if name.endswith(".running_var")}
    return tensors, generator(0, "x").random((5, *spec.input_shape)), normal((5, spec.latent_size), 0, "noise")


@pytest.mark.parametrize("name", SMOOTH)
def test_gradients_of_the_jax_twin(name):
    spec = SMOOTH[name]
    tensors, x, noise = inputs_of(spec)
    model, variables = ae_jax.build(spec), ae_jax.from_tensors(tensors, "float64")
    inputs = jnp.asarray(x), {"bottleneck": jnp.asarray(noise)}
    loss = jax.jit(lambda params: model.loss({**variables, "params": params}, *inputs).total)
    limits = {"atol": GRADIENT_LIMIT, "rtol": GRADIENT_LIMIT, "eps": DIFFERENCE}
    check_grads(loss, (variables["params"],), order=1, modes=("rev",), **limits)
    with pytest.raises(AssertionError):
        check_grads(lambda params: _wrong(loss(params)), (variables["params"],), order=1, modes=("rev",), **limits)


@jax.custom_vjp
def _wrong(x):
    """The identity, with a slope that is off by 1e-5."""
    return x


_wrong.defvjp(lambda x: (x, None), lambda _, dy: (dy * (1 + 1e-5),))


class _Wrong(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, dy):
        return dy * (1 + 1e-5)


@pytest.mark.parametrize("name", SMOOTH)
def test_gradients_of_the_torch_twin(name):
    spec = SMOOTH[name]
    tensors, x, noise = inputs_of(spec)
    model = ae_torch.from_tensors(ae_torch.build(spec), tensors).train()
    names, values = zip(*((n, p.detach().clone().requires_grad_()) for n, p in model.named_parameters()), strict=True)

    class Loss(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self):
            return self.model.loss(torch.from_numpy(x), {"bottleneck": torch.from_numpy(noise)}).total

    def loss(*values):
        named = {f"model.{n}": v for n, v in zip(names, values, strict=True)}
        return torch.func.functional_call(Loss(), named, ())

    limits = {"atol": GRADIENT_LIMIT, "rtol": GRADIENT_LIMIT, "eps": DIFFERENCE}
    # fast: along random directions, as JAX's check goes
    assert torch.autograd.gradcheck(loss, values, fast_mode=True, **limits)
    wrong = lambda *values: _Wrong.apply(loss(*values))  # noqa: E731
    assert not torch.autograd.gradcheck(wrong, values, fast_mode=True, raise_exception=False, **limits)


# The optimum of a linear autoencoder

LATENT = 3
LOSS_EXCESS = 1e-7
"""Of the least squared error: what a training may end above it and count as converged."""
ANGLE_LIMIT = 1e-3
"""Of the largest principal angle, in radians. To turn a direction of variance λ by an angle a into the noise costs
a²·λ: at the excess above, of an error of 0.08 in all and λ of at least 0.35, it is √(1e-7·0.08/0.35) = 2e-4 at most."""


def plane_and_noise():
    """64 images of 4 × 3 pixels: three directions of variance 1, 0.7 and 0.5, and noise of variance 0.01 in all."""
    rng = generator(0, "pca")
    directions, _ = np.linalg.qr(rng.standard_normal((12, LATENT)))
    x = rng.standard_normal((64, LATENT)) * np.sqrt([1.0, 0.7, 0.5]) @ directions.T
    x += 0.1 * rng.standard_normal((64, 12)) + rng.uniform(-1, 1, 12)
    return x.reshape(64, 4, 3, 1)


class Silent:
    def progress(self, epoch, step, total_steps, loss, images_per_second):
        pass

    def epoch(self, epoch, best):
        pass


@pytest.mark.parametrize("twin", TWINS)
def test_linear_autoencoder_finds_the_principal_subspace(twin):
    """Baldi & Hornik (1989): at the least squared error the decoder spans the first principal directions."""
    engine = (ae_jax if twin == "jax" else ae_torch).engine.ENGINE
    training = Training(Adam(0.1, b2=0.9), Cosine(), batch_size=64, epochs=1000, precision="float64")
    spec = Spec(
        (4, 3, 1), DenseBackbone(()), PlainBottleneck(LATENT), GaussianLikelihood(0.5, "sum"), training=training
    )
    x = plane_and_noise()
    result = train(engine, spec, x, x, 0, Silent(), lambda tensors: None)
    flat = x.reshape(64, 12)
    _, spread, directions = np.linalg.svd(flat - flat.mean(0), full_matrices=False)
    least = (spread[LATENT:] ** 2).sum() / 64
    loss = result.epochs[-1].heldout["loss"]
    assert least * (1 - 1e-12) <= loss <= least * (1 + LOSS_EXCESS)
    assert result.epochs[0].heldout["loss"] > 10 * least
    angles = subspace_angles(result.tensors["decoder.output.weight"], directions[:LATENT].T)
    assert angles.max() < ANGLE_LIMIT
    # one principal direction exchanged for the next is a right angle: the gate can fail
    others = directions[[0, 1, 3]].T
    assert subspace_angles(result.tensors["decoder.output.weight"], others).max() > 1.5


# Optimisers

OPTIMISER_LIMIT = 1e-12
"""Of the largest parameter: ten steps of some twenty float64 operations of 1.1e-16 each come to 2e-14 at worst; fifty
times that."""
OPTIMISERS = {
    "sgd": Training(SGD(momentum=0.8)),
    "sgd without momentum": Training(SGD(momentum=0.0)),
    "adam": Training(Adam(b1=0.8, b2=0.99, eps=1e-3)),
    "adam without moments": Training(Adam(b1=0.0, b2=0.0, eps=1e-2)),
    "adamw": Training(AdamW(b1=0.9, b2=0.95, eps=1e-4, weight_decay=0.3)),
    "clipped sgd": Training(SGD(momentum=0.5), clip_norm=1.5),
    "clipped adamw": Training(AdamW(weight_decay=0.1, eps=1e-2), clip_norm=1.5),
    "clipping that never bites": Training(SGD(), clip_norm=1e6),
}
SHAPES = {"a.weight": (2, 3), "a.bias": (3,)}


def drawn(name, steps, scale):
    """Gradients, of which every other step is small enough not to be clipped, and learning rates."""
    grads = [{n: scale**t * normal(s, t, name, n) for n, s in SHAPES.items()} for t in range(steps)]
    return grads, [0.1 / (1 + t) for t in range(steps)]


def steps_of(twin, training, start, grads, rates, dtype):
    """Take steps with given gradients, as the twin's own training does, and return the parameters after the last."""
    if twin == "torch":
        parameters = {n: torch.nn.Parameter(torch.from_numpy(t.astype(dtype))) for n, t in start.items()}
        optimizer = ae_torch.optim.make_optimizer(training.optimizer, parameters.values())
        for grad, rate in zip(grads, rates, strict=True):
            for name, parameter in parameters.items():
                parameter.grad = torch.from_numpy(grad[name].astype(dtype))
            ae_torch.optim.clip_by_global_norm(parameters.values(), training.clip_norm)
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.step()
        return {n: p.detach().numpy() for n, p in parameters.items()}, ae_torch_moments(parameters, optimizer)
    optimizer = ae_jax.optim.make_optimizer(training)
    parameters = {n: jnp.asarray(t, dtype) for n, t in start.items()}
    state, update = optimizer.init(parameters), jax.jit(optimizer.update)
    for grad, rate in zip(grads, rates, strict=True):
        direction, state = update({n: jnp.asarray(g, dtype) for n, g in grad.items()}, state, parameters)
        parameters = {n: p - jnp.asarray(rate, dtype) * direction[n] for n, p in parameters.items()}
    moments = [s for s in jax.tree.leaves(state, is_leaf=lambda s: hasattr(s, "nu")) if hasattr(s, "nu")]
    found = {n: (np.asarray(moments[0].mu[n]), np.asarray(moments[0].nu[n])) for n in start} if moments else {}
    return {n: np.asarray(p) for n, p in parameters.items()}, found


def ae_torch_moments(parameters, optimizer):
    states = {n: optimizer.state[p] for n, p in parameters.items()}
    return {n: (s["exp_avg"].numpy(), s["exp_avg_sq"].numpy()) for n, s in states.items() if "exp_avg" in s}


def by_the_papers(training, start, grads, rates):
    """Pascanu et al. (2013), algorithm 1; Polyak (1964); Kingma & Ba (2015) and Loshchilov & Hutter (2019), 1 and 2."""
    optimizer, theta = training.optimizer, {n: t.copy() for n, t in start.items()}
    m, v = ({n: np.zeros_like(t) for n, t in start.items()} for _ in range(2))
    for t, (grad, rate) in enumerate(zip(grads, rates, strict=True), start=1):
        norm = math.sqrt(sum((g**2).sum() for g in grad.values()))
        scale = training.clip_norm / norm if training.clip_norm is not None and norm > training.clip_norm else 1.0
        for n in theta:
            g = scale * grad[n]
            if isinstance(optimizer, SGD):
                m[n] = optimizer.momentum * m[n] + g
                theta[n] = theta[n] - rate * m[n]
                continue
            m[n] = optimizer.b1 * m[n] + (1 - optimizer.b1) * g
            v[n] = optimizer.b2 * v[n] + (1 - optimizer.b2) * g**2
            m_hat, v_hat = m[n] / (1 - optimizer.b1**t), v[n] / (1 - optimizer.b2**t)
            decay = optimizer.weight_decay * theta[n] if isinstance(optimizer, AdamW) else 0.0
            theta[n] = theta[n] - rate * (m_hat / (np.sqrt(v_hat) + optimizer.eps) + decay)
    return theta


@pytest.mark.quick
@pytest.mark.parametrize("twin", TWINS)
@pytest.mark.parametrize("name", OPTIMISERS)
def test_optimiser(name, twin):
    training = OPTIMISERS[name]
    start = {n: normal(s, 0, "start", n) for n, s in SHAPES.items()}
    grads, rates = drawn(name, 10, 0.8)
    norms = [math.sqrt(sum((g**2).sum() for g in grad.values())) for grad in grads]
    assert min(norms) < 1.5 < max(norms)
    ends, _ = steps_of(twin, training, start, grads, rates, "float64")
    expected = by_the_papers(training, start, grads, rates)
    for n in start:
        assert np.abs(ends[n] - expected[n]).max() <= OPTIMISER_LIMIT * np.abs(expected[n]).max()
        assert np.abs(expected[n] - start[n]).max() > 1e-3


CORRECTION_LIMIT = 10.5 * 2.0**-24
"""Each correction may be off by two units in the last place, 4·2⁻²⁴, and that of the second moment stands under a root:
6·2⁻²⁴. The quotients by the corrections, the root, the sum and the last quotient add 1, ½, 1, 1 and 1 roundings."""


@pytest.mark.quick
@pytest.mark.parametrize("twin", TWINS)
@pytest.mark.parametrize("b2", [0.999, 0.9999])
@pytest.mark.parametrize("steps", [1, 2, 10])
def test_bias_correction_in_float32(steps, b2, twin):
    """The direction from the moments as they are after so many steps, against the same in float64.

    With a learning rate of 0 before and 1 at the last step, a parameter that starts at 0 is the direction itself.
    """
    training = Training(Adam(b1=0.9, b2=b2, eps=1e-8))
    start = {n: np.zeros(s) for n, s in SHAPES.items()}
    grads, _ = drawn("correction", steps, 1.0)
    with jax.enable_x64(False):
        ends, moments = steps_of(twin, training, start, grads, [0.0] * (steps - 1) + [1.0], "float32")
    for name, (m, v) in moments.items():
        assert m.dtype == v.dtype == ends[name].dtype == np.float32
        m_hat, v_hat = m.astype(float) / (1 - 0.9**steps), v.astype(float) / (1 - b2**steps)
        expected = m_hat / (np.sqrt(v_hat) + 1e-8)
        assert np.abs(-ends[name] / expected - 1).max() <= CORRECTION_LIMIT
    # the naive form is what this test is there to catch
    naive = 1 - np.float32(b2) ** np.float32(steps)
    assert abs(math.sqrt(naive / (1 - b2**steps)) - 1) > 4 * CORRECTION_LIMIT
