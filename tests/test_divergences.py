"""Divergences by hand, in NumPy, and what the model makes of them."""

import keras
import numpy as np
import pytest
from keras import ops
from scipy.special import logsumexp
from scipy.stats import norm

from aelib import VariationalAutoencoder, blocks, divergences, objectives, priors

RNG = np.random.default_rng(0)
MEAN, LOG_VAR = RNG.normal(size=(2, 8, 3)).astype("float32")
CODE = (MEAN + np.exp(LOG_VAR / 2) * RNG.normal(size=MEAN.shape)).astype("float32")
OUT = {"code": CODE, "mean": MEAN, "log_var": LOG_VAR, "condition": None}
X = RNG.random((12, 6), dtype="float32")


def vae(**options):
    model = VariationalAutoencoder(blocks.dense_encoder(6, 4), blocks.dense_decoder(6, 2), **options)
    model.compile("adam")
    return model


def by_hand():
    return 0.5 * (np.exp(LOG_VAR) + MEAN**2 - 1 - LOG_VAR)


def test_the_kl_divergence():
    found = divergences.KL()(priors.Prior(), OUT)
    np.testing.assert_allclose(found["kl"], by_hand().sum(axis=1), rtol=1e-5)
    freed = divergences.KL(free_bits=0.7)(priors.Prior(), OUT)
    assert float(freed["kl"]) == pytest.approx(np.maximum(by_hand().mean(axis=0), 0.7).sum(), rel=1e-5)


def test_free_bits_need_a_divergence_by_unit():
    class Estimated(priors.Prior):
        def kl_by_unit(self, mean, log_var, condition=None):
            return None

    found = divergences.KL()(Estimated(), OUT)["kl"]
    expected = norm.logpdf(CODE, MEAN, np.exp(LOG_VAR / 2)) - norm.logpdf(CODE)
    np.testing.assert_allclose(found, expected.sum(axis=1), rtol=1e-4, atol=1e-4)
    with pytest.raises(ValueError, match=r"free_bits=0.7 .* Estimated has no divergence by unit"):
        divergences.KL(free_bits=0.7)(Estimated(), OUT)


def test_total_correlation_by_loops():
    """Chen et al. (2018), appendix C.1, one sample at a time."""
    n, rows = 50, range(len(CODE))
    joint, units = np.empty(len(CODE)), np.empty(len(CODE))
    for i in rows:
        each = np.array([norm.logpdf(CODE[i], MEAN[j], np.exp(LOG_VAR[j] / 2)) for j in rows])  # (B, K)
        joint[i] = logsumexp(each.sum(axis=1)) - np.log(n * len(CODE))
        units[i] = sum(logsumexp(each[:, k]) - np.log(n * len(CODE)) for k in range(3))
    given = norm.logpdf(CODE, MEAN, np.exp(LOG_VAR / 2)).sum(axis=1)
    expected = given - joint, joint - units, units - norm.logpdf(CODE).sum(axis=1)
    found = objectives.total_correlation(CODE, MEAN, LOG_VAR, n)
    np.testing.assert_allclose(np.array(found), expected, rtol=1e-4, atol=1e-4)
    weighed = divergences.TotalCorrelation(n, alpha=2, beta=3, gamma=0.5)(priors.Prior(), OUT)
    names = "mutual_information", "total_correlation", "units"
    for name, weight, term in zip(names, (2, 3, 0.5), expected, strict=True):
        np.testing.assert_allclose(weighed[name], weight * term, rtol=1e-4, atol=1e-4)


def test_units_that_go_together_have_a_total_correlation():
    """One code repeated: two units that say the same, against two that say different things."""
    mean = np.random.default_rng(0).normal(size=(500, 2)).astype("float32")
    same = np.repeat(mean[:, :1], 2, axis=1)
    narrow = np.full(mean.shape, -4.0, "float32")
    apart, together = (
        float(ops.mean(objectives.total_correlation(m, m, narrow, 500)[1])) for m in (mean, same)
    )
    assert together > apart + 1


def test_the_mean_discrepancy():
    mmd = divergences.MMD(2.0, seed=1)
    far = OUT | {"code": CODE + 5}
    assert float(mmd(priors.Prior(), far)["mmd"]) > 3 * abs(float(mmd(priors.Prior(), OUT)["mmd"]))


@pytest.mark.parametrize(
    ("divergence", "names"),
    [
        (divergences.KL(0.2), {"kl"}),
        (divergences.TotalCorrelation(12), {"mutual_information", "total_correlation", "units"}),
        (divergences.MMD(3.0, seed=2), {"mmd"}),
    ],
)
def test_a_model_weighs_trains_and_saves_them(divergence, names, tmp_path):
    model = vae(divergence=divergence, beta=0.5, seed=0)
    history = model.fit(X, epochs=2, verbose=0).history
    assert set(history) == names | {"loss", "reconstruction"}
    assert history["loss"] == pytest.approx(sum(np.array(history[name]) for name in set(history) - {"loss"}))
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras").divergence
    assert again.get_config() == divergence.get_config()


def test_only_a_divergence_is_one():
    with pytest.raises(ValueError, match=r"must be an aelib.divergences.Divergence or None, got 'mmd'"):
        vae(divergence="mmd")
    with pytest.raises(ValueError, match=r"free_bits=0.1 belongs to the KL divergence"):
        vae(divergence=divergences.MMD(), free_bits=0.1)
