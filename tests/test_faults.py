"""Faults of 0.1 and what happens now: a test for each case, and a property for each kind of them.

Kind by kind: data that the likelihood cannot explain, NaN, targets of another shape, dtypes, masks, hidden
assumptions, data outside of memory, and forms of arguments. What is named "core" runs on every backend.
"""

import contextlib
import json
import math

import keras
import numpy as np
import pandas as pd
import pytest
import scipy.sparse
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from keras import ops
from types_table import BATCH, CODE, SHAPE, TYPES, D, X, compiled, dense, table_model

from aelib import (
    Autoencoder,
    ContractiveAutoencoder,
    ImportanceWeightedAutoencoder,
    SparseAutoencoder,
    VariationalAutoencoder,
    autodiff,
    batches,
    blocks,
    bounds,
    checks,
    layers,
)
from aelib.likelihoods import Gaussian, Laplace, Masked

few, fewer = settings(max_examples=25), settings(max_examples=8)
ROWS = 8
random = np.random.default_rng(0)
TABLE = random.normal(size=(ROWS, D)).astype("float32")  # a standardised table
UNIT = random.random((ROWS, D), dtype="float32")
LENGTH, FEATURES, PAD = 5, 2, -9.0


def net(likelihood="gaussian", kind=Autoencoder, *, encoder=None, decoder=None, **options):
    """A small net for tables of D columns; it runs eagerly, since what is refused takes no step."""
    keras.utils.set_random_seed(0)
    width = 2 * CODE if issubclass(kind, VariationalAutoencoder | ImportanceWeightedAutoencoder) else CODE
    encoder = blocks.dense_encoder(D, width, hidden=(4,)) if encoder is None else encoder
    decoder = blocks.dense_decoder(D, CODE, hidden=()) if decoder is None else decoder
    model = kind(encoder, decoder, likelihood=likelihood, **options)
    model.compile(keras.optimizers.Adam(0.01), run_eagerly=True)
    return model


@pytest.fixture(scope="module")
def bernoulli():
    return net("bernoulli")


@pytest.fixture(scope="module")
def gaussian():
    return net("gaussian")


@pytest.fixture(scope="module")
def variational():
    return net("gaussian", VariationalAutoencoder)


def steps_of(model):
    return int(ops.convert_to_numpy(model.optimizer.iterations))


@contextlib.contextmanager
def refused(model, message, error=ValueError):
    """The block must raise, and the model must not have taken a step."""
    before = steps_of(model)
    with pytest.raises(error, match=message):
        yield
    assert steps_of(model) == before


class Batches(keras.utils.PyDataset):
    """An array in batches of four."""

    def __init__(self, x):
        super().__init__()
        self.x = x

    def __len__(self):
        return -(-len(self.x) // BATCH)

    def __getitem__(self, i):
        return self.x[i * BATCH : (i + 1) * BATCH]


# 1. Data that the likelihood cannot explain.


def test_core_pixels_up_to_255_are_refused(bernoulli):
    message = (
        r"must be in \[0, 1\] .* Bernoulli, got numbers from .* to 2\d\d.*: divide by 255, or .*'gaussian'"
    )
    pixels = np.concatenate([255 * UNIT[:-1], np.full((1, D), 255.0, "float32")])
    for x in (pixels, pixels.astype("uint8"), pixels.astype("float64")):
        for method in (bernoulli.fit, bernoulli.evaluate, bernoulli.train_on_batch, bernoulli.test_on_batch):
            with refused(bernoulli, message):
                method(x)
        with refused(bernoulli, message):
            bernoulli.fit(UNIT, x)
        with refused(bernoulli, "the validation data " + message):
            bernoulli.fit(UNIT, validation_data=x)
        for pipeline in (Batches(x), (x[i : i + BATCH] for i in range(0, ROWS, BATCH))):
            with refused(bernoulli, message):
                bernoulli.fit(pipeline)


def test_core_a_standardised_table_is_refused(bernoulli):
    with refused(bernoulli, "got numbers from -.*: choose likelihood='gaussian', or bring them to"):
        bernoulli.fit(TABLE)


def test_core_a_bound_refuses_them_too():
    model = net("bernoulli", VariationalAutoencoder)
    for estimate in (model.elbo, lambda x: bounds.log_likelihood(model, x)):
        with pytest.raises(ValueError, match=r"x must be in \[0, 1\] .* got numbers from"):
            estimate(TABLE)


def bounded(activation, form):
    """A decoder that ends in an activation, written in one of the ways in which people write it."""
    code = keras.Input((CODE,))
    plain = keras.layers.Dense(D)
    if form == "argument":
        return keras.Sequential([code, keras.layers.Dense(D, activation)])
    if form == "layer":
        return keras.Sequential(
            [code, plain, keras.layers.Activation(activation), keras.layers.Reshape((D,))]
        )
    if form == "nested":
        return keras.Sequential([code, keras.Sequential([keras.layers.Dense(D, activation)])])
    if form == "functional":
        return keras.Model(code, keras.layers.Activation(activation)(plain(code)))
    return keras.Model(code, getattr(ops, activation)(plain(code)))


FORMS = ["argument", "layer", "nested", "functional", "operation"]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("activation", ["sigmoid", "tanh", "softplus", "relu", "softmax"])
def test_core_nothing_is_squashed_twice(activation, form):
    decoder = bounded(activation, form)
    for likelihood in ("bernoulli", "poisson"):
        with pytest.raises(
            ValueError, match=f"ends in a {activation}, but .* squashed twice: use a linear last"
        ):
            net(likelihood, decoder=decoder)
    model = net("gaussian", decoder=decoder)
    by_hand = ops.convert_to_numpy(decoder(model.encode(UNIT)))
    np.testing.assert_allclose(model.reconstruct(UNIT), by_hand, atol=1e-6)


def test_core_linear_decoders_are_taken():
    code = keras.Input((CODE,))
    share = keras.layers.Dense(D, "sigmoid")(code)
    logit = keras.Model(code, ops.log(share) - ops.log(1 - share))
    linear = keras.Model(code, keras.layers.Dense(D, "linear")(code))
    for decoder in (logit, linear, keras.Sequential([code, keras.layers.Dense(D), keras.layers.LeakyReLU()])):
        assert net("bernoulli", decoder=decoder).fit(UNIT, verbose=0)


def test_core_a_bounded_decoder_cannot_reach_a_table():
    model = net("gaussian", decoder=bounded("sigmoid", "argument"))
    with refused(
        model, "ends in a sigmoid, which gives 0 to 1; the data has numbers from -.* linear last layer"
    ):
        model.fit(TABLE)
    assert model.fit(UNIT, verbose=0)
    marked = net(Masked("gaussian", value=-1, fill=0), decoder=bounded("sigmoid", "argument"))
    assert marked.fit(np.where(UNIT > 0.8, -1, UNIT), verbose=0), "a mark is no number to be reached"


@pytest.mark.parametrize("activation", ["linear", "relu", "tanh"])
def test_core_a_rate_needs_codes_that_are_shares(activation):
    encoder = blocks.dense_encoder(D, CODE, hidden=(), code_activation=activation)
    with pytest.raises(
        ValueError, match=rf"rate=0.05 .* \[0, 1\]; the encoder ends in {activation}: use code_"
    ):
        net(kind=SparseAutoencoder, encoder=encoder, strength=1, rate=0.05)
    assert net(kind=SparseAutoencoder, encoder=encoder, strength=1)


def test_core_a_rate_is_checked_on_codes_where_layers_do_not_tell():
    code = keras.Input((D,))
    encoder = keras.Model(code, 3 * keras.layers.Dense(CODE, "sigmoid", bias_initializer="ones")(code))
    model = net(kind=SparseAutoencoder, encoder=encoder, strength=1, rate=0.05)
    with refused(model, r"rate=0.05 needs codes in \[0, 1\], got .* to .*: use code_activation='sigmoid'"):
        model.fit(TABLE)


def test_noise_does_not_cut_a_standardised_table():
    model = net(corrupt=layers.GaussianNoise(0.3, seed=0))
    seen = ops.convert_to_numpy(model.visible(TABLE, training=True))
    assert seen.min() < -0.5
    assert seen.max() > 1.2
    assert abs(seen - TABLE).std() < 0.5


@few
@given(
    st.sampled_from([("bernoulli", 0, 1), ("poisson", 0, math.inf)]),
    st.floats(-1e6, 1e6, width=32),
    st.integers(0, ROWS * D - 1),
)
def test_core_any_number_outside_the_support_is_named(case, number, position):
    name, low, high = case
    x = np.zeros((ROWS, D), "float32")
    x.ravel()[position] = number
    model = of_kind(name)
    if low <= number <= high and (name == "bernoulli" or number == math.floor(number)):
        model.likelihood.check(x)
    else:
        extent = f"got numbers from {min(number, 0):g} to {max(number, 0):g}: "
        before = steps_of(model)
        with pytest.raises(ValueError) as error:  # noqa: PT011
            model.fit(x)
        assert extent in str(error.value)
        assert steps_of(model) == before


_models = {}


def of_kind(name):
    """One model a likelihood for all examples of a property."""
    if name not in _models:
        _models[name] = net(name)
    return _models[name]


# 2. NaN and divergence.

WAYS = ["fit", "evaluate", "train_on_batch", "test_on_batch", "encode", "reconstruct", "elbo"]


@pytest.mark.parametrize("way", WAYS)
def test_core_one_nan_in_a_table_is_refused(variational, way):
    x = TABLE.copy()
    x[5, 2] = np.nan
    message = (
        r"must be finite: 1 of its 48 numbers are NaN or infinite, the first in row 5; .*likelihood=Masked"
    )
    with refused(variational, message):
        getattr(variational, way)(x)


def test_core_nan_is_refused_in_targets_codes_weights_and_validation(gaussian):
    bad = np.where(TABLE[3, 1] == TABLE, np.nan, TABLE)
    with refused(gaussian, "the target of the data must be finite: 1 of"):
        gaussian.fit(TABLE, bad)
    with refused(gaussian, "the data must be finite: 1 of"):
        gaussian.fit(bad, TABLE)
    with refused(gaussian, "the validation data must be finite: 1 of"):
        gaussian.fit(TABLE, validation_data=bad)
    with refused(gaussian, "sample_weight must be finite: 1 of its 8"):
        gaussian.fit(TABLE, sample_weight=np.where(np.arange(ROWS) == 2, np.nan, 1))
    with refused(gaussian, "sample_weight must be in .* got -1 to -1"):
        gaussian.fit(TABLE, sample_weight=-np.ones(ROWS))
    with pytest.raises(ValueError, match="the codes must be finite: 1 of"):
        gaussian.decode(np.array([[0, np.inf, 0]]))
    with refused(gaussian, "the data must be finite"):
        gaussian.fit(Batches(bad))


def test_core_rows_are_counted_through_all_parts(gaussian, monkeypatch):
    monkeypatch.setattr(checks, "PART_BYTES", 2 * D * 4)  # two rows
    x = TABLE.copy()
    x[7, 0] = np.inf
    with pytest.raises(ValueError, match="the first in row 7"):
        gaussian.encode(x, batch_size=1)


@few
@given(
    hnp.arrays("float32", (ROWS, D), elements=st.sampled_from([0.5, 1.0, np.nan, np.inf, -np.inf])),
    st.sampled_from(["fit", "evaluate", "encode", "reconstruct"]),
)
def test_core_nan_anywhere_is_counted(x, way):
    bad = ~np.isfinite(x)
    model = of_kind("gaussian")
    if not bad.any():
        return
    first = int(np.argmax(bad.any(axis=1)))
    with refused(model, f"{bad.sum()} of its 48 numbers are NaN or infinite, the first in row {first};"):
        getattr(model, way)(x)


def diverging(eagerly):
    """A VAE whose first log-variances are beyond what an exponential can give."""
    model = net("gaussian", VariationalAutoencoder)
    kernel, bias = model.encoder.layers[-1].get_weights()
    model.encoder.layers[-1].set_weights([kernel, bias + 1000])
    model.compile("adam", run_eagerly=eagerly)
    return model


@pytest.mark.parametrize("eagerly", [True, False])
def test_core_a_loss_that_is_not_finite_stops_the_run_and_names_the_term(eagerly):
    ended = []
    note = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: ended.append(epoch))
    with pytest.raises(FloatingPointError, match=r"no longer finite .* epoch 1: .*'kl' is .*learning rate"):
        diverging(eagerly).fit(TABLE, batch_size=BATCH, epochs=5, verbose=0, callbacks=note)
    assert len(ended) <= 1


# 3. Targets that would be broadcast.


def test_core_labels_are_no_targets(gaussian):
    labels = np.arange(ROWS) % 3
    message = (
        r"the target of the data has the shape .*, the decoder's output \(n, 6\).* no label; .* fit\(x\)"
    )
    for y in (labels, labels[:, None], np.eye(3)[labels], TABLE[:, :1], TABLE[..., None]):
        with refused(gaussian, message):
            gaussian.fit(TABLE, y)
        with refused(gaussian, message):
            gaussian.evaluate(TABLE, y)


def test_core_colour_in_and_grey_out():
    encoder, decoder = blocks.dense_encoder((4, 4, 3), CODE, hidden=()), blocks.dense_decoder((4, 4, 1), CODE)
    model = net(encoder=encoder, decoder=decoder)
    x = random.random((ROWS, 4, 4, 3), dtype="float32")
    with refused(model, r"has the shape \(8, 4, 4, 3\), the decoder's output \(n, 4, 4, 1\)"):
        model.fit(x)
    grey = x.mean(axis=-1)
    with refused(model, r"has the shape \(8, 4, 4\), the decoder's output"):
        model.fit(x, grey)
    assert model.fit(x, grey[..., None], verbose=0)


def test_core_another_number_of_rows(gaussian):
    with refused(gaussian, "the data has 8 samples, its target 7"):
        gaussian.fit(TABLE, TABLE[:7])


def test_core_a_pipeline_of_labels(gaussian):
    labels = np.arange(ROWS, dtype="float32")
    pairs = ((TABLE[i : i + BATCH], labels[i : i + BATCH]) for i in range(0, ROWS, BATCH))
    with refused(gaussian, r"the target of the data has the shape \(4,\)"):
        gaussian.fit(pairs)
    with refused(gaussian, "the data is a pipeline: let its batches be"):
        gaussian.fit(Batches(TABLE), TABLE)


class Silent(keras.Model):
    """A decoder that does not say what it gives before it has been asked."""

    def __init__(self):
        super().__init__()
        self.layer = keras.layers.Dense(D)

    def call(self, code):
        return self.layer(code)


def test_core_a_decoder_that_does_not_say_is_asked_in_training():
    model = net(decoder=Silent())
    with refused(
        model, r"has the shape \(8, 1\), the decoder's output \(n, 6\), which Gaussian cannot compare"
    ):
        model.fit(TABLE, TABLE[:, :1])
    assert model.fit(TABLE, verbose=0)


@few
@given(hnp.array_shapes(min_dims=1, max_dims=3, min_side=1, max_side=7))
def test_core_only_the_right_shape_is_a_target(shape):
    model = of_kind("gaussian")
    target = np.zeros((ROWS, *shape[1:]), "float32")
    if target.shape == TABLE.shape:
        assert model.evaluate(TABLE, target, verbose=0)
    else:
        with refused(model, "the target of the data has the shape"):
            model.fit(TABLE, target)


# 4. Types of numbers: every pair of them stands in test_autoencoder's columns.


@fewer
@given(
    hnp.arrays("uint8", (ROWS, D), elements=st.integers(0, 1)),
    st.sampled_from(["bernoulli", "gaussian", "laplace"]),
    st.sampled_from(["bool", "int32", "int64", "float16", "float64", "uint16"]),
)
def test_core_a_dtype_changes_no_loss(x, name, dtype):
    model = of_kind(name)
    expected = model.evaluate(x.astype("float32"), verbose=0)
    assert model.evaluate(x.astype(dtype), verbose=0) == pytest.approx(expected, rel=1e-6)
    np.testing.assert_allclose(model.encode(x.astype(dtype)), model.encode(x), atol=1e-6)


@pytest.mark.parametrize("way", WAYS)
def test_core_sparse_matrices_are_refused_by_name(variational, way):
    with refused(
        variational, r"is a sparse matrix of shape \(8, 6\): give .*toarray\(\), or batches", TypeError
    ):
        getattr(variational, way)(scipy.sparse.csr_matrix(TABLE))


@pytest.mark.parametrize("way", WAYS)
def test_core_masked_arrays_are_refused_by_name(variational, way):
    x = np.ma.masked_greater(TABLE, 1)
    with refused(
        variational, r"is a masked array, .*filled\(np.nan\), and the model likelihood=Masked", TypeError
    ):
        getattr(variational, way)(x)
    model = net(Masked("gaussian"))
    assert model.fit(x.astype(float).filled(np.nan), verbose=0)


def test_core_batches_of_a_sparse_matrix_are_dense_ones(gaussian):
    sparse = scipy.sparse.csr_matrix(TABLE)
    rows = (sparse[i : i + BATCH].toarray() for i in range(0, ROWS, BATCH))
    np.testing.assert_allclose(gaussian.encode(rows), gaussian.encode(TABLE), atol=1e-6)


# 5. One mask, for steps, cells or features.


@pytest.fixture(scope="module")
def padded():
    """A net for padded sequences: the encoder skips steps, so the likelihood must leave them out."""
    keras.utils.set_random_seed(0)
    encoder = blocks.recurrent_encoder((LENGTH, FEATURES), CODE, units=(3,), cell="gru", mask_value=PAD)
    decoder = blocks.recurrent_decoder((LENGTH, FEATURES), CODE, units=(3,), cell="gru")
    model = Autoencoder(encoder, decoder, likelihood="gaussian")
    model.compile("adam", run_eagerly=True)
    return model


def sequences(lengths):
    x = np.random.default_rng(1).normal(size=(len(lengths), LENGTH, FEATURES)).astype("float32")
    steps = np.arange(LENGTH) < np.asarray(lengths)[:, None]
    return np.where(steps[..., None], x, np.float32(PAD)), steps


def test_core_padded_steps_cost_nothing(padded):
    x, steps = sequences([5, 2, 3, 1])
    raw = ops.convert_to_numpy(padded.decoder(padded.encoder(x)))
    squares = np.where(steps[..., None], (x - raw) ** 2, 0).sum(axis=(1, 2))
    found = padded.evaluate(x, verbose=0, return_dict=True)["reconstruction"]
    assert found == pytest.approx(squares.mean(), rel=1e-5)
    np.testing.assert_array_equal(padded.likelihood.observed(x), np.broadcast_to(steps[..., None], x.shape))


def test_core_noise_does_not_wake_padded_steps():
    keras.utils.set_random_seed(0)
    encoder = blocks.recurrent_encoder((LENGTH, FEATURES), CODE, units=(3,), cell="gru", mask_value=PAD)
    decoder = blocks.recurrent_decoder((LENGTH, FEATURES), CODE, units=(3,), cell="gru")
    model = Autoencoder(encoder, decoder, likelihood="gaussian", corrupt=layers.GaussianNoise(1, clip=False))
    x, steps = sequences([5, 2])
    seen = ops.convert_to_numpy(model.visible(x, training=True))
    np.testing.assert_array_equal((seen == PAD).all(axis=-1), ~steps)


def test_core_an_encoder_and_a_likelihood_must_mean_the_same_steps():
    inner = keras.Sequential([keras.layers.Masking(PAD), keras.layers.GRU(3)])
    nested = keras.Sequential([keras.Input((LENGTH, FEATURES)), inner, keras.layers.Dense(CODE)])
    decoder = blocks.recurrent_decoder((LENGTH, FEATURES), CODE, units=(3,))
    assert Autoencoder(nested, decoder, likelihood="gaussian").likelihood.value == PAD
    own = Masked("gaussian", steps=True, fill=PAD)
    assert Autoencoder(nested, decoder, likelihood=own).likelihood is own
    with pytest.raises(ValueError, match=r"skips steps of -9, .* shows it 0 .*: Masked\(..., fill=-9\)"):
        Autoencoder(nested, decoder, likelihood=Masked("gaussian", steps=True))
    nan = keras.Sequential(
        [keras.Input((LENGTH, FEATURES)), keras.layers.Masking(math.nan), keras.layers.GRU(3)]
    )
    with pytest.raises(ValueError, match="Masking of NaN, which skips nothing"):
        Autoencoder(nan, decoder, likelihood="gaussian")


@fewer
@given(st.lists(st.integers(1, LENGTH), min_size=1, max_size=3))
def test_core_what_pads_a_sequence_changes_nothing(lengths):
    """NaN marks the padding here; what stands in the decoder's answer there is free."""
    if "padded by NaN" not in _models:
        encoder = blocks.dense_encoder((LENGTH, FEATURES), CODE, hidden=())
        decoder = blocks.dense_decoder((LENGTH, FEATURES), CODE, hidden=())
        _models["padded by NaN"] = net(Masked("laplace", steps=True), encoder=encoder, decoder=decoder)
    model = _models["padded by NaN"]
    x, steps = sequences(lengths)
    marked = np.where(steps[..., None], x, np.nan)
    raw = ops.convert_to_numpy(model.decoder(model.encoder(np.where(steps[..., None], x, 0))))
    expected = np.where(steps[..., None], abs(x - raw), 0).sum(axis=(1, 2))
    found = model.evaluate(marked, verbose=0, return_dict=True)["loss"]
    assert found == pytest.approx(expected.mean(), rel=1e-5)
    np.testing.assert_allclose(model.reconstruct(marked), raw, atol=1e-6)


@fewer
@given(
    hnp.arrays("bool", (ROWS, D)),
    st.sampled_from(
        [(Gaussian, {}), (lambda: Gaussian("learned"), {}), (Laplace, {"value": -99.0, "fill": 0})]
    ),
)
def test_core_missing_cells_change_nothing(missing, case):
    """Neither loss nor code nor bound depends on what stood in a missing cell; the gaps are filled."""
    build, options = case
    key = f"{build} {options}"
    if key not in _models:
        _models[key] = net(Masked(build(), **options), VariationalAutoencoder)
    model = _models[key]
    mark = options.get("value", np.nan)
    x = np.where(missing, np.float32(mark), TABLE)
    filled = np.where(missing, np.float32(0), TABLE)
    mean, _ = ops.split(model.encoder(filled), 2, axis=-1)
    np.testing.assert_allclose(model.encode(x), ops.convert_to_numpy(mean), atol=1e-6)
    assert np.isfinite(model.reconstruct(x)).all()
    by_cell = ops.convert_to_numpy(model.likelihood.likelihood.feature_nll(filled, model.reconstruct(x)))
    expected = np.where(missing, 0, by_cell).sum(axis=1)
    found = model.likelihood.nll(ops.convert_to_tensor(x), ops.convert_to_tensor(model.reconstruct(x)))
    np.testing.assert_allclose(ops.convert_to_numpy(found), expected, rtol=1e-4, atol=1e-5)
    assert np.isfinite(model.elbo(x).each).all()
    assert np.isfinite(list(model.train_on_batch(x, return_dict=True).values())).all()


def test_core_missing_cells_reach_no_penalty():
    """The Jacobian is taken where the encoder stands, not at NaN."""
    x = np.where(TABLE > 1, np.nan, TABLE)
    model = net(Masked("gaussian"), ContractiveAutoencoder, strength=1.0)
    found = model.evaluate(x, verbose=0, return_dict=True)["contraction"]
    exact = autodiff.jacobian_norm(model.encoder, np.nan_to_num(x))
    assert found == pytest.approx(float(ops.mean(exact)), rel=1e-5)


# 6. Hidden assumptions.


def sigmoid_encoder(*before):
    return keras.Sequential([keras.Input((D,)), *before, keras.layers.Dense(CODE, "sigmoid")])


@pytest.mark.parametrize(
    ("before", "closed"),
    [
        ((), True),
        ((keras.layers.Reshape((3, 2)), keras.layers.Permute((2, 1)), keras.layers.Flatten()), True),
        ((keras.layers.Rescaling(2.0),), False),
        ((keras.layers.Activation("tanh"),), False),
        ((keras.layers.LeakyReLU(),), False),
        ((keras.layers.Dense(4),), False),
    ],
    ids=["alone", "moves", "scale", "activation", "layer", "dense"],
)
def test_core_the_closed_form_is_taken_only_where_it_is_one(before, closed, monkeypatch):
    encoder = sigmoid_encoder(*before)
    model = net(kind=ContractiveAutoencoder, encoder=encoder, strength=1.0)
    found = model.evaluate(TABLE, verbose=0, return_dict=True)["contraction"]
    exact = float(ops.mean(autodiff.jacobian_norm(encoder, TABLE)))
    assert found == pytest.approx(exact, rel=1e-5)
    asked = []
    monkeypatch.setattr(autodiff, "jacobian_norm", lambda *_, **__: asked.append(1) or ops.zeros(ROWS))
    model.evaluate(TABLE, verbose=0)
    assert bool(asked) is not closed


def test_core_options_that_have_no_effect_are_refused():
    with pytest.raises(ValueError, match=r"variance=0.1 belongs to likelihood='gaussian', got .*'laplace'"):
        net("laplace", VariationalAutoencoder, variance=0.1)
    with pytest.raises(ValueError, match=r"warmup must be a whole number >= 0, got 10\.7"):
        net("gaussian", VariationalAutoencoder, warmup=10.7)
    with pytest.raises(ValueError, match=r"Unrecognized keyword arguments .*'warmup': 5"):
        net("gaussian", ImportanceWeightedAutoencoder, warmup=5)


def test_core_weights_of_validation_data_count(gaussian):
    weight = np.arange(ROWS, dtype="float32")
    expected = gaussian.evaluate(TABLE, sample_weight=weight, verbose=0, return_dict=True)["loss"]
    gaussian.optimizer.learning_rate = 0.0
    history = gaussian.fit(TABLE, validation_data=(TABLE, None, weight), verbose=0).history
    gaussian.optimizer.learning_rate = 0.01
    assert history["val_loss"][0] == pytest.approx(expected, rel=1e-5)


def test_core_another_likelihood_set_later_is_the_one_that_is_saved():
    encoder, decoder = blocks.dense_encoder(D, 2 * CODE), blocks.dense_decoder(D, CODE)
    model = VariationalAutoencoder(encoder, decoder, likelihood="gaussian", variance=0.5)
    model.likelihood = Gaussian(0.1)
    again = VariationalAutoencoder.from_config(json.loads(json.dumps(model.get_config())))
    assert again.likelihood.variance == 0.1


def test_core_data_of_a_small_scale_have_a_variance_of_their_own():
    model = net("gaussian", VariationalAutoencoder)
    model.fit(0.1 * TABLE, verbose=0)
    spread = math.exp(10 * float(ops.convert_to_numpy(model.likelihood.tenth)))
    assert spread == pytest.approx(np.mean((0.1 * TABLE) ** 2), rel=0.3)


# 7. Data outside of memory.


def sources(x, folder):
    """What `fit` takes, each with the rows of x."""
    np.save(folder / "x.npy", x)
    yield np.load(folder / "x.npy", mmap_mode="r")
    yield x.tolist()
    yield Batches(x)
    yield (x[i : i + 3] for i in range(0, len(x), 3))
    yield ((x[i : i + 3], x[i : i + 3]) for i in range(0, len(x), 3))
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        yield tf.data.Dataset.from_tensor_slices(x).batch(3)
        yield tf.data.Dataset.from_tensor_slices((x, x)).batch(3).prefetch(1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("sources")


@settings(max_examples=4)
@given(st.integers(1, 20))
def test_core_every_source_gives_the_same_codes(folder, rows):
    model, x = of_kind("gaussian"), np.resize(TABLE, (rows, D))
    codes, again = model.encode(x), model.reconstruct(x)
    for source in sources(x, folder):
        np.testing.assert_allclose(model.encode(source), codes, atol=1e-6)
    for source in sources(x, folder):
        np.testing.assert_allclose(model.reconstruct(source), again, atol=1e-6)


def test_core_every_source_can_be_trained_on_evaluated_and_bounded(folder):
    for source in sources(TABLE, folder):
        model = net("gaussian", VariationalAutoencoder)
        assert np.isfinite(model.fit(source, verbose=0, shuffle=False).history["loss"]).all()
    for source in sources(TABLE, folder):
        assert np.isfinite(model.evaluate(source, verbose=0)).all()
    for source in sources(TABLE, folder):
        assert model.elbo(source, samples=50).each.shape == (ROWS,)


def test_core_memory_holds_a_part_at_a_time(monkeypatch, folder):
    monkeypatch.setattr(checks, "PART_BYTES", 10 * D * 4)
    np.save(folder / "long.npy", np.resize(TABLE, (200, D)))
    x = np.load(folder / "long.npy", mmap_mode="r")
    sizes = []
    for model in (of_kind("gaussian"), net("gaussian", VariationalAutoencoder)):
        plain = model.encoder
        monkeypatch.setattr(model, "visible", lambda x, **_: sizes.append(len(x)) or ops.convert_to_tensor(x))
        for method in (model.encode, model.reconstruct, *([model.elbo] if hasattr(model, "elbo") else [])):
            method(x, **({} if method == getattr(model, "elbo", None) else {"batch_size": 10}))
        assert model.encoder is plain
    assert max(sizes) == 10
    assert sum(sizes) == 5 * 200
    assert len(list(batches.parts("x", x))) == 20


# 8. Forms of arguments, and errors that hide their cause.


def test_core_fit_takes_its_arguments_as_keras_does(gaussian):
    ended = []
    one = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: ended.append(epoch))
    for callbacks in (None, one, [one], (one,), []):
        assert len(gaussian.fit(TABLE, epochs=1, verbose=0, callbacks=callbacks).history["loss"]) == 1
    assert len(ended) == 3
    assert len(gaussian.fit(TABLE, TABLE, 4, 2, 0).history["loss"]) == 2
    assert gaussian.fit(TABLE, None, np.int64(4), verbose=0)
    assert gaussian.fit(TABLE, sample_weight=[1.0] * ROWS, verbose=0)
    assert gaussian.fit(TABLE, sample_weight=None, validation_data=None, class_weight=None, verbose=0)
    history = gaussian.fit(TABLE, validation_split=0.25, verbose=0).history
    assert set(history) == {"loss", "reconstruction", "val_loss", "val_reconstruction"}
    for validation in (TABLE, (TABLE,), (TABLE, TABLE), (TABLE, None, np.ones(ROWS)), Batches(TABLE)):
        assert "val_loss" in gaussian.fit(TABLE, validation_data=validation, verbose=0).history


def test_core_what_fit_does_not_take_is_named(gaussian):
    with refused(gaussian, "an autoencoder has no classes: weigh samples by sample_weight="):
        gaussian.fit(TABLE, class_weight={0: 1})
    with refused(gaussian, r"sample_weight must be one number a sample, \(8,\), got shape \(7,\)"):
        gaussian.fit(TABLE, sample_weight=np.ones(7))
    with refused(gaussian, r"sample_weight must be one number a sample, \(8,\), got shape \(8, 6\)"):
        gaussian.fit(TABLE, sample_weight=np.ones((8, 6)))
    with refused(gaussian, "the data must be an array, a pipeline or .*, got dict", TypeError):
        gaussian.fit({"x": "table.csv"})
    with refused(gaussian, "a dict of 'x': say by a target what to give back"):
        gaussian.fit({"x": TABLE})
    with refused(gaussian, r"the encoder reads the data of shape \(n >= 1, 6\), got \(2, 8, 6\)"):
        gaussian.fit((TABLE, TABLE))
    with pytest.raises(ValueError, match="batch_size must be a whole number >= 1, got 0"):
        gaussian.encode(TABLE, batch_size=0)
    fresh = Autoencoder(blocks.dense_encoder(D, CODE), blocks.dense_decoder(D, CODE))
    for method in (fresh.fit, fresh.evaluate):
        with pytest.raises(ValueError, match=r"no optimizer yet: call model.compile\('adam'\) first"):
            method(UNIT)
    with pytest.raises(ValueError, match=r"encoder must be a keras.Model or a layer, got 'dense'"):
        Autoencoder("dense", fresh.decoder)
    with pytest.raises(ValueError, match=r"decoder must be a keras.Model or a layer, got None"):
        Autoencoder(fresh.encoder, None)


@few
@given(
    st.sampled_from([np.int8, np.int32, np.int64, np.uint8, int]),
    st.integers(1, 5),
    st.sampled_from([bool, np.bool_, float, np.float64, str, None]),
)
def test_core_numbers_of_numpy_are_numbers(kind, n, wrong):
    model = of_kind("gaussian")
    assert model.encode(TABLE, batch_size=kind(n)).shape == (ROWS, CODE)
    with pytest.raises(
        ValueError, match=r"batch_size must be a whole number >= 1, got [^n]|got None"
    ) as error:
        model.encode(TABLE, batch_size=None if wrong is None else wrong(n))
    assert "np." not in str(error.value)


def test_core_numpy_s_numbers_in_models():
    model = net(
        "gaussian", VariationalAutoencoder, warmup=np.int64(3), beta=np.float32(0.5), seed=np.int32(1)
    )
    assert (model.warmup, model.beta, model.seed) == (3, 0.5, 1)
    json.dumps(model.get_config())
    model = net("gaussian", ImportanceWeightedAutoencoder, samples=np.uint8(4))
    assert model.samples == 4
    assert model.sample(np.int64(2)).shape == (2, D)


@fewer
@given(st.lists(st.sampled_from(["float32", "float64", "int64", "bool", "uint8"]), min_size=D, max_size=D))
def test_core_frames_of_mixed_numbers_are_taken(dtypes):
    numbers = (TABLE > 0).astype(float)
    frame = pd.DataFrame({f"column {i}": numbers[:, i].astype(dtype) for i, dtype in enumerate(dtypes)})
    model = of_kind("bernoulli")
    np.testing.assert_allclose(model.encode(frame), model.encode(numbers), atol=1e-6)
    assert model.evaluate(frame, verbose=0) == pytest.approx(model.evaluate(numbers, verbose=0), rel=1e-6)
    with refused(model, "has columns that are no numbers: name", TypeError):
        model.fit(frame.assign(name="text"))


def test_core_weights_go_into_a_fresh_model(tmp_path):
    model = net("gaussian", VariationalAutoencoder)
    model.fit(TABLE, verbose=0)
    model.save_weights(tmp_path / "model.weights.h5")
    fresh = table_model(Gaussian("learned"), VariationalAutoencoder)
    fresh.load_weights(tmp_path / "model.weights.h5")
    np.testing.assert_array_equal(fresh.reconstruct(TABLE), model.reconstruct(TABLE))
    for ending in ("h5", "hdf5"):
        with pytest.raises(
            ValueError, match=r"cannot hold this model: save it as 'model.keras', or its weights"
        ):
            model.save(tmp_path / f"model.{ending}")


def test_core_a_loss_can_be_computed_before_compiling():
    model = Autoencoder(blocks.dense_encoder(D, CODE), blocks.dense_decoder(D, CODE), likelihood="gaussian")
    out = model(TABLE)
    found = model.compute_loss(TABLE, None, out)
    raw = ops.convert_to_numpy(out["reconstruction"])
    assert float(found) == pytest.approx(np.mean(np.sum((TABLE - raw) ** 2, axis=1)), rel=1e-5)


@keras.saving.register_keras_serializable("stranger")
class OwnEncoder(keras.Model):
    """A subclassed encoder, which knows no input shape before it has been called."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.layer = keras.layers.Dense(CODE)

    def call(self, x):
        return self.layer(x)

    def build(self, shape):
        self.layer.build(shape)

    def get_config(self):
        return {}


def test_core_subclassed_encoders_are_taken(tmp_path):
    model = net(encoder=OwnEncoder())
    history = model.fit(TABLE, epochs=2, verbose=0).history["loss"]
    assert history[1] < history[0]
    assert model.encode(TABLE).shape == (ROWS, CODE)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(loaded.reconstruct(TABLE), model.reconstruct(TABLE), atol=1e-6)
    fresh = net(encoder=OwnEncoder())
    with pytest.raises(ValueError, match=r"does not say what shape it reads: .* model\(x\[:1\]\)"):
        Autoencoder(OwnEncoder(), blocks.dense_decoder(D, CODE)).load_weights("any.weights.h5")
    with refused(fresh, "NaN or infinite"):
        fresh.fit(np.full((ROWS, D), np.nan))


def test_core_one_number_is_a_tuple_of_one():
    assert blocks.dense_encoder(784, 32, hidden=64).count_params() == 784 * 64 + 64 + 64 * 32 + 32
    assert blocks.dense_decoder(np.int64(784), 32, hidden=()).output_shape == (None, 784)


def test_core_channels_are_asked_for(bernoulli):
    images = compiled(lambda: dense())
    with refused(images, r"got \(10, 6, 5\); images need an axis of channels: x\[..., None\]"):
        images.fit(X[..., 0])
    with refused(images, r"got \(6, 5, 1\); that is one sample: take x\[None\]"):
        images.fit(X[0])
    with refused(bernoulli, r"got \(6,\); that is one sample"):
        bernoulli.fit(UNIT[0])
    assert TYPES
    assert SHAPE == (6, 5, 1)
