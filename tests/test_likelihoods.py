"""Every likelihood against SciPy's distributions, and what a mixture or a mask of them must be."""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass

import keras
import numpy as np
import pytest
import scipy.special
import scipy.stats
import tensorflow as tf
from keras import ops

from aelib import Autoencoder, blocks, likelihoods, metrics
from aelib.likelihoods import (
    Bernoulli,
    Categorical,
    Gaussian,
    Laplace,
    Likelihood,
    Masked,
    Mixed,
    NegativeBinomial,
    Poisson,
)

random = np.random.default_rng(0)
ROWS, STEPS, D = 5, 3, 4  # the last axis holds the features, and there may be others before it


def normal(*, scale=1.0, width=D):
    return random.normal(0, scale, (ROWS, STEPS, width))


def learned(log_var):
    likelihood = Gaussian("learned")
    likelihood.tenth.assign(0.1 * log_var)
    return likelihood


def two(raw):
    """The first and the second raw number of every feature."""
    return raw[..., :D], raw[..., D:]


def negative_binomial(raw):
    mean, r = (np.exp(part) for part in two(raw))
    return scipy.stats.nbinom(r, r / (r + mean))


def spread_of_counts(raw):
    mean, r = (np.exp(part) for part in two(raw))
    return mean + mean**2 / r


@dataclass(frozen=True)
class Case:
    """A likelihood, data it can explain, raw output, and what SciPy says of them."""

    build: Callable
    target: np.ndarray
    raw: np.ndarray
    log_p: Callable  # (target, raw) -> of every feature
    mean: Callable
    variance: Callable
    constant: Callable | None = None  # target -> of every feature; 0 where it is None


coins = (random.random((ROWS, STEPS, D)) > 0.5).astype(float)
one_hot = np.eye(D)[random.integers(0, D, (ROWS, STEPS))]
counts = random.integers(0, 12, (ROWS, STEPS, D)).astype(float)
softmax = scipy.special.softmax


def bernoulli_log_p(x, raw):
    return scipy.stats.bernoulli.logpmf(x, scipy.special.expit(raw))


CASES = {
    "bernoulli": Case(
        Bernoulli,
        coins,
        normal(scale=3),
        bernoulli_log_p,
        scipy.special.expit,
        lambda raw: scipy.special.expit(raw) * scipy.special.expit(-raw),
    ),
    "gaussian": Case(
        Gaussian,
        normal(),
        normal(),
        lambda x, raw: scipy.stats.norm.logpdf(x, raw, math.sqrt(0.5)),
        np.array,
        lambda raw: np.full(raw.shape, 0.5),
        lambda x: np.full(x.shape, 0.5 * math.log(math.pi)),
    ),
    "gaussian, fixed": Case(
        lambda: Gaussian(0.02),
        normal(),
        normal(),
        lambda x, raw: scipy.stats.norm.logpdf(x, raw, math.sqrt(0.02)),
        np.array,
        lambda raw: np.full(raw.shape, 0.02),
        lambda x: np.full(x.shape, 0.5 * math.log(2 * math.pi * 0.02)),
    ),
    "gaussian, learned": Case(
        lambda: learned(-1.5),  # a tenth of it is no round number in float32, so the tolerance is float32's
        normal(),
        normal(),
        lambda x, raw: scipy.stats.norm.logpdf(x, raw, math.exp(-0.75)),
        np.array,
        lambda raw: np.full(raw.shape, math.exp(-1.5)),
        lambda x: np.full(x.shape, 0.5 * math.log(2 * math.pi)),
    ),
    "gaussian, predicted": Case(
        lambda: Gaussian("predicted"),
        normal(),
        normal(width=2 * D),
        lambda x, raw: scipy.stats.norm.logpdf(x, two(raw)[0], np.exp(two(raw)[1] / 2)),
        lambda raw: two(raw)[0],
        lambda raw: np.exp(two(raw)[1]),
        lambda x: np.full(x.shape, 0.5 * math.log(2 * math.pi)),
    ),
    "laplace": Case(
        lambda: Laplace(0.3),
        normal(),
        normal(),
        lambda x, raw: scipy.stats.laplace.logpdf(x, raw, 0.3),
        np.array,
        lambda raw: np.full(raw.shape, 2 * 0.3**2),
        lambda x: np.full(x.shape, math.log(0.6)),
    ),
    "categorical": Case(
        Categorical,
        one_hot,
        normal(scale=2),
        # SciPy gives one figure a step; it stands at the class that was drawn.
        lambda x, raw: x * scipy.stats.multinomial.logpmf(x, 1, softmax(raw, axis=-1))[..., None],
        lambda raw: softmax(raw, axis=-1),
        lambda raw: softmax(raw, axis=-1) * (1 - softmax(raw, axis=-1)),
    ),
    "poisson": Case(
        Poisson,
        counts,
        normal(),
        lambda x, raw: scipy.stats.poisson.logpmf(x, np.exp(raw)),
        np.exp,
        np.exp,
        lambda x: scipy.special.gammaln(x + 1),
    ),
    "negative binomial": Case(
        NegativeBinomial,
        counts,
        normal(width=2 * D),
        lambda x, raw: negative_binomial(raw).logpmf(x),
        lambda raw: np.exp(two(raw)[0]),
        spread_of_counts,
        lambda x: scipy.special.gammaln(x + 1),
    ),
}
each_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


def per_sample(figures):
    return figures.reshape(len(figures), -1).sum(axis=1)


def gradient(likelihood, target, raw):
    raw = tf.Variable(raw)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(likelihood.nll(tf.constant(target), raw))
    return tape.gradient(loss, raw).numpy()


@each_case
def test_the_term_and_its_constant_are_minus_the_log_density(case):
    likelihood = case.build()
    tolerance = 1e-6 if getattr(likelihood, "variance", None) == "learned" else 1e-10
    expected = -case.log_p(case.target, case.raw)
    constant = np.zeros(case.target.shape) if case.constant is None else case.constant(case.target)
    by_feature = np.asarray(likelihood.feature_nll(case.target, case.raw))
    assert by_feature.shape == case.target.shape
    np.testing.assert_allclose(likelihood.feature_constant(case.target), constant, rtol=1e-10)
    np.testing.assert_allclose(by_feature, expected - constant, rtol=tolerance, atol=tolerance)
    assert likelihood.nll(case.target, case.raw).shape == (ROWS,)
    np.testing.assert_allclose(
        np.add(likelihood.nll(case.target, case.raw), likelihood.constant(case.target)),
        per_sample(expected),
        rtol=tolerance,
    )


@each_case
def test_the_gradient_is_the_slope(case):
    likelihood = case.build()
    slope = gradient(likelihood, case.target, case.raw).ravel()
    step = 1e-5
    for i in range(0, case.raw.size, 7):
        ends = []
        for sign in (1, -1):
            moved = case.raw.copy()
            moved.ravel()[i] += sign * step
            ends.append(-case.log_p(case.target, moved).sum())
        assert slope[i] == pytest.approx((ends[0] - ends[1]) / (2 * step), rel=1e-4, abs=1e-5)


@each_case
def test_means_and_draws_are_the_distribution_s(case):
    likelihood = case.build()
    np.testing.assert_allclose(likelihood.mean(case.raw), case.mean(case.raw), rtol=1e-6)
    draws, raw = 4000, case.raw[:1, :1].astype("float32")
    many = np.repeat(raw, draws, axis=0)
    drawn = np.asarray(likelihood.sample(ops.convert_to_tensor(many), seed=1), np.float64)
    assert drawn.shape == (draws, 1, D)
    mean, variance = case.mean(raw.astype(float)), case.variance(raw.astype(float))
    assert (abs(drawn.mean(axis=0) - mean) < 4 * np.sqrt(variance / draws)).all()
    squares = (drawn - mean) ** 2
    assert (abs(squares.mean(axis=0) - variance) < 4 * squares.std(axis=0) / math.sqrt(draws)).all()
    likelihood.check(drawn)  # what is drawn could have been data


@each_case
def test_the_seed_decides_the_draw(case):
    likelihood, raw = case.build(), ops.convert_to_tensor(case.raw.astype("float32"))

    def draw(seed=None):
        return np.asarray(likelihood.sample(raw, seed))

    np.testing.assert_array_equal(draw(3), draw(3))
    assert (draw(3) != draw(4)).any()
    generator = keras.random.SeedGenerator(0)
    assert (draw(generator) != draw(generator)).any()
    assert (draw() != draw()).any(), "without a seed each draw is its own"


@each_case
def test_shapes_of_data_and_of_output_belong_together(case):
    likelihood = case.build()
    assert likelihood.raw_shape(case.target.shape) == case.raw.shape
    assert likelihood.data_shape(case.raw.shape) == case.target.shape
    assert likelihood.raw_shape((None, D)) == (None, case.raw.shape[-1])
    assert likelihood.data_shape(likelihood.raw_shape((None, None))) == (None, None)
    for bad in (case.raw[..., :-1], case.raw[:, 0], case.raw[:, :, None]):
        with pytest.raises(ValueError, match=rf"{type(likelihood).__name__} expects an output of shape"):
            likelihood.nll(case.target, bad)


ALL = {name: case.build for name, case in CASES.items()} | {
    "mixed": lambda: Mixed([(2, "gaussian"), (3, "categorical"), (1, Poisson())]),
    "masked": lambda: Masked("laplace"),
    "masked by a value": lambda: Masked(Gaussian("learned"), value=-9, fill=1, steps=True),
    "masked mixture": lambda: Masked(Mixed([(2, Laplace(2)), (2, Gaussian("predicted"))])),
}


@pytest.mark.parametrize("build", ALL.values(), ids=ALL)
def test_a_likelihood_comes_back_from_its_configuration(build):
    likelihood = build()
    text = json.dumps(keras.saving.serialize_keras_object(likelihood), allow_nan=False)
    again = likelihoods.get(json.loads(text))
    assert type(again) is type(likelihood)
    assert again.get_config() == likelihood.get_config()
    assert again.support == likelihood.support
    assert again.reads_logits == likelihood.reads_logits
    assert (
        again.raw_shape((None, 6)) == likelihood.raw_shape((None, 6)) if "mix" not in text.lower() else True
    )
    again.set_weights(likelihood.get_weights())
    if isinstance(likelihood, Masked):
        np.testing.assert_equal(
            (again.value, again.fill, again.steps), (likelihood.value, likelihood.fill, likelihood.steps)
        )


@pytest.mark.parametrize("name", ["bernoulli", "gaussian", "laplace", "categorical", "poisson"])
def test_a_name_is_short_for_the_plain_one(name):
    case = CASES[name]
    plain = likelihoods.get(name)
    assert likelihoods.get(plain) is plain
    if name != "laplace":  # its case has a scale
        np.testing.assert_array_equal(
            plain.nll(case.target, case.raw), case.build().nll(case.target, case.raw)
        )
    assert isinstance(likelihoods.get("negative_binomial"), NegativeBinomial)


@pytest.mark.parametrize("name", ["exponential", "", None, ["bernoulli"], Bernoulli])
def test_unknown_likelihood_is_shown(name):
    with pytest.raises(ValueError, match="bernoulli, gaussian, laplace, categorical, poisson") as error:
        likelihoods.get(name)
    assert repr(name) in str(error.value)


@pytest.mark.parametrize("size", [100, 1e4, 1e30])
def test_large_logits_stay_finite(size):
    raw = np.float32([[size, -size, size, -size]])
    right, wrong = np.float32([[1, 0, 1, 0]]), np.float32([[0, 1, 0, 1]])
    np.testing.assert_allclose(Bernoulli().nll(right, raw), [0], atol=1e-30)
    np.testing.assert_allclose(Bernoulli().nll(wrong, raw), [4 * size], rtol=1e-6)
    assert np.isfinite(gradient(Bernoulli(), wrong, raw)).all()


@pytest.mark.parametrize("build", [NegativeBinomial, lambda: Gaussian("predicted")])
def test_extreme_raw_numbers_have_finite_losses_and_gradients(build):
    sizes = [-1e4, -1e2, 0, 1e2, 1e4]
    ends = np.float32([[a, b] for a in sizes for b in sizes for _ in range(3)])
    data = np.resize(np.float32([0, 3, 1e4]), (len(ends), 1))
    assert np.isfinite(build().nll(data, ends)).all()
    assert np.isfinite(gradient(build(), data, ends)).all()


@pytest.mark.parametrize("log_r", [-15, 0, 2.5, 2.8, 5, 8, 12, 19])
@pytest.mark.parametrize("log_mean", [-2.0, 3.0])
def test_the_negative_binomial_keeps_its_digits_in_float32(log_mean, log_r):
    """With large r it is Poisson's, and the difference of two large log-gammas would be noise."""
    x = np.arange(0, 120, 7.0)[:, None]
    raw = np.repeat([[log_mean, log_r]], len(x), axis=0)
    likelihood = NegativeBinomial()
    found = np.add(likelihood.nll(np.float32(x), np.float32(raw)), likelihood.constant(np.float32(x)))
    mean, r = math.exp(log_mean), math.exp(log_r)
    expected = (
        scipy.stats.nbinom.logpmf if log_r < 15 else lambda x, r, p: scipy.stats.poisson.logpmf(x, mean)
    )
    np.testing.assert_allclose(found, -expected(x[:, 0], r, r / (r + mean)), rtol=2e-5, atol=2e-5)
    # ∂/∂log r, in closed form, which tends to 0.
    slope = gradient(likelihood, np.float32(x), np.float32(raw))[:, 1]
    digamma = scipy.special.digamma
    exact = -r * (digamma(r + x) - digamma(r) - np.log1p(mean / r) + 1 - (r + x) / (r + mean))[:, 0]
    np.testing.assert_allclose(slope, exact if log_r < 15 else 0, rtol=1e-4, atol=5e-5)


def test_floor_is_reached_at_the_pixels_themselves():
    grey = np.random.default_rng(1).random((4, 3, 2, 2))
    at_floor = Bernoulli().nll(grey, np.log(grey / (1 - grey)))
    np.testing.assert_allclose(np.mean(at_floor) / grey[0].size, metrics.bce_floor(grey), rtol=1e-10)


def test_terms_over_pixels_are_the_metrics():
    grey, raw = (
        np.random.default_rng(1).random((4, 3, 2, 2)),
        np.random.default_rng(2).normal(size=(4, 3, 2, 2)),
    )
    figure = metrics.bce(grey, 1 / (1 + np.exp(-raw)), clip=1e-12)
    np.testing.assert_allclose(np.mean(Bernoulli().nll(grey, raw)) / grey[0].size, figure, rtol=1e-10)
    squares = np.mean(Gaussian().nll(grey, raw)) / grey[0].size
    np.testing.assert_allclose(squares, metrics.mse(grey, raw), rtol=1e-10)
    absolute = np.mean(Laplace().nll(grey, raw)) / grey[0].size
    np.testing.assert_allclose(absolute, np.abs(grey - raw).mean(), rtol=1e-10)


# A learned variance.


def test_a_learned_variance_starts_at_the_errors_of_zeros_and_ends_at_the_net_s():
    x = np.random.default_rng(0).normal(0, 3, (400, 2)).astype("float32") + np.array([100, -100])
    likelihood = Gaussian("learned")
    likelihood.adapt(x)
    assert math.exp(10 * float(likelihood.tenth)) == pytest.approx(np.mean(x**2), rel=1e-5)
    # Its best value is the mean square of the errors, where its gradient is 0.
    raw = np.broadcast_to([100.0, -100], x.shape)
    likelihood.tenth.assign(0.1 * math.log(np.mean((x - raw) ** 2)))
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(likelihood.nll(tf.constant(x), tf.constant(raw, x.dtype)))
    assert abs(float(tape.gradient(loss, likelihood.tenth.value))) < 1e-3


@pytest.mark.parametrize("variance", [0.25, "learned", "predicted"])
def test_a_gaussian_tells_its_variances(variance):
    likelihood = Gaussian(variance)
    raw = np.random.default_rng(0).normal(size=(5, 6)).astype("float32")
    wanted = np.full((5, 6), 0.25)
    if variance == "learned":
        likelihood.tenth.assign(0.1 * math.log(0.25))
    if variance == "predicted":
        wanted = np.exp(raw[:, 3:])
    np.testing.assert_allclose(likelihood.variances(ops.convert_to_tensor(raw)), wanted, rtol=1e-5)


@pytest.mark.parametrize(
    "x", [np.zeros((1, 3)), np.zeros((9, 3)), np.full((9, 3), np.nan)], ids=["row", "zeros", "missing"]
)
def test_data_without_numbers_do_not_start_a_variance_at_certainty(x):
    likelihood = Gaussian("learned")
    likelihood.adapt(x)
    assert float(likelihood.tenth) == 0


def test_a_column_that_is_missing_has_no_part_in_the_start():
    x = np.random.default_rng(0).normal(0, 2, (50, 3))
    x[:, 1] = np.nan
    likelihood = Masked(Gaussian("learned"))
    likelihood.adapt(x)
    expected = np.mean(x[:, [0, 2]] ** 2)
    assert math.exp(10 * float(likelihood.likelihood.tenth)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("variance", [0, -1, float("nan"), "large", True, None])
def test_wrong_variance_is_shown(variance):
    with pytest.raises(
        ValueError, match=r"variance must be > 0, got .*; or 'learned', or 'predicted'"
    ) as error:
        Gaussian(variance)
    assert repr(variance) in str(error.value)


@pytest.mark.parametrize("scale", [0, float("inf")])
def test_wrong_scale_is_shown(scale):
    with pytest.raises(ValueError, match=f"scale must be > 0, got {scale}"):
        Laplace(scale)


# What a likelihood can explain.

SUPPORTS = [
    (
        Bernoulli,
        np.array([[0, 255]]),
        r"in \[0, 1\] .* Bernoulli, got .* 0 to 255: divide by 255, or .*gaussian",
    ),
    (
        Bernoulli,
        np.array([[-2.0, 3]]),
        r"from -2 to 3: choose likelihood='gaussian', or bring them to \[0, 1\]",
    ),
    (Categorical, np.array([[3.0, 4]]), r"one-hot\) .* got numbers from 3 to 4: .*np.eye\(K\)\[y\]"),
    (Categorical, np.array([[0.5, 0.4]]), "add up to 1"),
    (Categorical, np.array([[1.5, -0.5]]), "from -0.5 to 1.5"),
    (Poisson, np.array([[1.0, 2.5]]), "whole numbers >= 0 .* Poisson, got numbers from 1 to 2.5: round them"),
    (Poisson, np.array([[-1, 2]]), "from -1 to 2"),
    (NegativeBinomial, np.array([[0.5, 2]]), "whole numbers >= 0 .* NegativeBinomial.* from 0.5 to 2: round"),
    (lambda: Masked("bernoulli", value=-1), np.array([[-1.0, 7]]), "from 7 to 7: divide by 255"),
    (
        lambda: Mixed([(1, "gaussian"), (1, "poisson")]),
        np.array([[-3, -4]]),
        "whole numbers >= 0 .* -4 to -4",
    ),
    (Gaussian, np.array([[1.0, np.nan]]), "must be finite: 1 of its 2 numbers are NaN"),
    (lambda: Masked("gaussian"), np.array([[np.nan, np.inf]]), "must be finite where it counts"),
]


@pytest.mark.parametrize(("build", "x", "message"), SUPPORTS)
def test_data_that_a_likelihood_cannot_explain_are_refused(build, x, message):
    with pytest.raises(ValueError, match=message) as error:
        build().check(x, name="the table")
    assert str(error.value).startswith("columns 1 to 1 of the table" if "-3" in str(x) else "the table")


@pytest.mark.parametrize(
    ("build", "x"),
    [
        (Bernoulli, np.array([[False, True]])),
        (Bernoulli, np.uint8([[0, 1]])),
        (Gaussian, np.array([[-1e30, 1e30]])),
        (Categorical, np.array([[0.25, 0.75], [1, 0]])),
        (Categorical, np.array([[[0, 1, 0], [1, 0, 0]]])),
        (Poisson, np.uint8([[0, 255]])),
        (Poisson, np.float64([[0, 3e9]])),
        (Masked, np.array([[np.nan, np.nan]])),
        (lambda likelihood=None: Masked("categorical"), np.array([[np.nan] * 3, [0, 1, 0]])),
        (lambda likelihood=None: Masked("bernoulli", value=255), np.uint8([[0, 1, 255]])),
    ],
)
def test_data_that_a_likelihood_can_explain_are_taken(build, x):
    (build("gaussian") if build is Masked else build()).check(x)


def test_a_support_that_nobody_knows_is_shown():
    class Wrong(Likelihood):
        support = "anything"

    with pytest.raises(ValueError, match=r"unit interval, real, .*; got 'anything'"):
        Wrong().check(np.ones((2, 2)))


@pytest.mark.parametrize("method", ["feature_nll", "mean", "sample"])
def test_what_a_likelihood_must_define_is_said(method):
    class Empty(Likelihood):
        pass

    arguments = [np.ones((2, 2))] * (2 if method == "feature_nll" else 1)
    with pytest.raises(NotImplementedError, match=f"Empty .*define {method}\\("):
        getattr(Empty(), method)(*arguments)


def test_a_decoder_of_the_wrong_width_is_shown_at_once():
    model = Autoencoder(
        blocks.dense_encoder(4, 2, hidden=()),
        blocks.dense_decoder(5, 2, hidden=()),
        likelihood="negative_binomial",
    )
    with pytest.raises(ValueError, match="NegativeBinomial expects an output of shape"):
        model.compile("adam")
    with pytest.raises(ValueError, match=r"2 raw numbers a feature: .* got shape \(3, 5\)"):
        NegativeBinomial().split(np.ones((3, 5)))


# Mixtures and masks.

PARTS = [
    ("bernoulli", Bernoulli),
    ("gaussian, predicted", lambda: Gaussian("predicted")),
    ("poisson", Poisson),
]
MIXED = {
    "target": np.concatenate([CASES[name].target for name, _ in PARTS], axis=-1),
    "raw": np.concatenate([CASES[name].raw for name, _ in PARTS], axis=-1),
}


def mixture():
    return Mixed([(D, build()) for _, build in PARTS])


def test_a_mixture_is_the_sum_of_its_parts():
    likelihood = mixture()
    cases = [CASES[name] for name, _ in PARTS]
    assert likelihood.raw_shape((None, STEPS, 3 * D)) == (None, STEPS, 4 * D)
    assert likelihood.data_shape((7, 4 * D)) == (7, 3 * D)
    for method in ("nll", "constant"):
        arguments = ("target", "raw") if method == "nll" else ("target",)
        found = getattr(likelihood, method)(*[MIXED[name] for name in arguments])
        parts = [getattr(c.build(), method)(*[getattr(c, name) for name in arguments]) for c in cases]
        np.testing.assert_allclose(found, np.sum(parts, axis=0), rtol=1e-10)
    means = np.concatenate([case.mean(case.raw) for case in cases], axis=-1)
    np.testing.assert_allclose(likelihood.mean(MIXED["raw"]), means, rtol=1e-6)
    assert likelihood.support == "unit interval, real, counts"
    assert likelihood.reads_logits
    assert not Mixed([(1, "gaussian")]).reads_logits


def test_a_mixture_draws_every_part_by_itself():
    likelihood = Mixed([(2, "gaussian"), (2, "gaussian"), (1, "poisson"), (1, "poisson")])
    raw = ops.convert_to_tensor(np.zeros((500, 6), "float32"))
    drawn = np.asarray(likelihood.sample(raw, seed=0))
    assert drawn.shape == (500, 6)
    apart = np.corrcoef(drawn.T) - np.eye(6)
    assert abs(apart).max() < 4 / math.sqrt(500), "equal noise in two parts would be a correlation of 1"
    np.testing.assert_array_equal(likelihood.sample(raw, seed=0), drawn)
    np.testing.assert_allclose(drawn[:, 2:4].var(axis=0), 0.5, rtol=0.3)


def test_the_parts_of_a_mixture_learn_their_own_variances():
    x = np.random.default_rng(0).normal(0, [1, 1, 10], (500, 3))
    likelihood = Mixed([(2, Gaussian("learned")), (1, Gaussian("learned"))])
    likelihood.adapt(x)
    found = [math.exp(10 * float(part.tenth)) for part in likelihood.likelihoods]
    assert found == pytest.approx([np.mean(x[:, :2] ** 2), np.mean(x[:, 2] ** 2)], rel=1e-5)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ([], r"pairs \(columns, likelihood\), at least one, got \[\]"),
        (["gaussian"], "pairs"),
        ([(0, "gaussian")], "the columns of a part must be a whole number >= 1, got 0"),
        ([(1, "normal")], "got 'normal'"),
        ([(1, Masked("gaussian"))], r"Masked\(Mixed\(\.\.\.\)\)"),
    ],
)
def test_wrong_parts_are_shown(parts, message):
    with pytest.raises(ValueError, match=message):
        Mixed(parts)


def test_a_mixture_of_another_width_is_shown():
    with pytest.raises(ValueError, match=r"cover 3 columns, \[1, 2\]; the data have 4"):
        Mixed([(1, "gaussian"), (2, "poisson")]).raw_shape((None, 4))


MASKABLE = {"mixed": Case(mixture, MIXED["target"], MIXED["raw"], *[None] * 3)} | {
    name: case for name, case in CASES.items() if name != "categorical"
}


@pytest.mark.parametrize("mark", [math.nan, -77.0])
@pytest.mark.parametrize("name", MASKABLE)
def test_a_mask_leaves_the_likelihood_of_what_is_observed(name, mark):
    case = MASKABLE[name]
    inner = case.build()
    seen = np.random.default_rng(0).random(case.target.shape) < 0.6
    target = np.where(seen, case.target, mark)
    likelihood = Masked(inner, value=mark)
    whole = np.asarray(inner.feature_nll(case.target, case.raw))
    np.testing.assert_allclose(
        likelihood.nll(target, case.raw), per_sample(np.where(seen, whole, 0)), rtol=1e-10
    )
    constant = np.asarray(inner.feature_constant(case.target))
    np.testing.assert_allclose(
        likelihood.constant(target), per_sample(np.where(seen, constant, 0)), rtol=1e-10
    )
    np.testing.assert_array_equal(likelihood.mean(case.raw), inner.mean(case.raw))
    np.testing.assert_array_equal(likelihood.observed(target), seen)
    slope = gradient(likelihood, target, case.raw)
    assert np.isfinite(slope).all()
    if case.raw.shape == seen.shape:
        full = gradient(inner, case.target, case.raw)
        np.testing.assert_allclose(slope, np.where(seen, full, 0), rtol=1e-10, atol=1e-15)
    assert likelihood.raw_shape(target.shape) == case.raw.shape
    assert likelihood.data_shape(case.raw.shape) == target.shape
    likelihood.check(target)


def test_a_mask_of_steps_needs_the_mark_in_every_feature():
    x = np.array([[[1.0, -1], [-1, -1], [2, 3]]])
    by_step, by_cell = (Masked("gaussian", value=-1, fill=0, steps=steps) for steps in (True, False))
    np.testing.assert_array_equal(by_step.observed(x)[0], [[True, True], [False, False], [True, True]])
    np.testing.assert_array_equal(by_cell.observed(x)[0], [[True, False], [False, False], [True, True]])
    np.testing.assert_array_equal(by_step.hide(x)[0], [[1, -1], [0, 0], [2, 3]])
    raw = np.zeros_like(x)
    np.testing.assert_allclose(by_step.nll(x, raw), [1 + 1 + 4 + 9])
    np.testing.assert_allclose(by_cell.nll(x, raw), [1 + 4 + 9])
    np.testing.assert_array_equal(by_step.hide(x, 7 * np.ones_like(x))[0], [[7, 7], [0, 0], [7, 7]])


def test_what_fills_the_gaps():
    assert Masked("gaussian").fill == 0
    assert Masked("gaussian", value=-5).fill == -5
    assert Masked("gaussian", value=np.float32(-5), fill=2).fill == 2
    np.testing.assert_array_equal(Masked("gaussian").hide(np.array([[np.nan, 2.0]])), [[0, 2]])


def test_whole_numbers_have_no_gap_that_is_nan():
    assert Masked("poisson").observed(np.array([[1, 2]])).all()
    assert Gaussian().observed(np.ones((2, 2))) is None
    np.testing.assert_array_equal(
        Masked("poisson", value=255).observed(np.uint8([[1, 255]])), [[True, False]]
    )


def test_a_mask_draws_as_the_likelihood_within():
    raw = ops.convert_to_tensor(np.zeros((3, 4), "float32"))
    np.testing.assert_array_equal(Masked("laplace").sample(raw, seed=2), Laplace().sample(raw, seed=2))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Masked(Masked("gaussian")), "masked already"),
        (lambda: Masked("gaussian", value="none"), "value must be a finite number, got 'none'"),
        (lambda: Masked("gaussian", fill=math.nan), "fill must be a finite number, got nan"),
        (lambda: Masked("gaussian", steps=1), "steps must be True or False, got 1"),
        (lambda: Masked("normal"), "got 'normal'"),
    ],
)
def test_wrong_masks_are_shown(build, message):
    with pytest.raises(ValueError, match=message):
        build()
