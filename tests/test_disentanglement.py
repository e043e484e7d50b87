"""MIG and DCI on codes whose answer is known."""

import numpy as np
import pytest
from scipy.stats import entropy
from sklearn.ensemble import RandomForestClassifier

from aelib import disentanglement

GRID = np.stack(np.meshgrid(np.arange(10), np.arange(10), np.arange(3), indexing="ij"), axis=-1).reshape(
    -1, 3
)


def turned(codes, degrees):
    """Turn the first two units."""
    angle = np.deg2rad(degrees)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    return np.hstack([(codes[:, :2] - 4.5) @ turn, codes[:, 2:]])


def test_the_factors_themselves_have_a_mig_of_1():
    np.testing.assert_allclose(disentanglement.mig(GRID, GRID, bins=30), 1, atol=1e-9)


def test_a_turn_by_45_degrees_takes_the_gap_of_the_turned_factors_and_no_other():
    gaps = disentanglement.mig(turned(GRID, 45), GRID, bins=30)
    np.testing.assert_allclose(gaps, [0, 0, 1], atol=1e-9)


def test_mig_does_not_depend_on_scale_shift_sign_and_order():
    codes = np.random.default_rng(0).normal(size=(500, 4))
    factors = (codes[:, :2] + 0.5 * codes[:, 2:] > 0).astype(int)
    one = disentanglement.mig(codes, factors, bins=8)
    np.testing.assert_allclose(disentanglement.mig(3 * codes[:, ::-1] + 2, factors, bins=8), one)


def test_mutual_information_is_that_of_the_table_in_closed_form():
    unit = np.array([0.0, 0.0, 0.0, 1.0])[:, None]
    factor = np.array([0, 0, 1, 1])[:, None]
    half, told = np.log(2), 0.5 * np.log(4 / 3) + 0.25 * np.log(2 / 3) + 0.25 * np.log(2)
    np.testing.assert_allclose(
        disentanglement.mutual_information(unit, factor, bins=2), [[told / half]], rtol=1e-12
    )


def test_a_constant_unit_tells_nothing():
    codes = np.hstack([GRID, np.zeros((len(GRID), 1))])
    np.testing.assert_allclose(disentanglement.mutual_information(codes, GRID)[-1], 0, atol=1e-12)


def test_dci_of_the_factors_is_1_and_of_a_turned_code_lower():
    best = disentanglement.dci((GRID, GRID), (GRID, GRID))
    assert min(best[:3]) > 0.95
    assert best.importance.shape == (3, 3)
    worse = disentanglement.dci((turned(GRID, 45), GRID), (turned(GRID, 45), GRID))
    assert worse.disentanglement < best.disentanglement - 0.2
    assert worse.completeness < best.completeness - 0.2


def test_dci_is_that_of_scipy_s_entropies_of_the_importance():
    codes = np.hstack([turned(GRID, 20), np.random.default_rng(0).normal(size=(len(GRID), 1))])
    figures = disentanglement.dci((codes[::2], GRID[::2]), (codes[1::2], GRID[1::2]), trees=5, seed=3)
    forests = [
        RandomForestClassifier(5, random_state=3, max_features=None).fit(codes[::2], factor)
        for factor in GRID[::2].T
    ]
    rights = [forest.score(codes[1::2], factor) for forest, factor in zip(forests, GRID[1::2].T, strict=True)]
    r = np.stack([forest.feature_importances_ for forest in forests], axis=1)
    np.testing.assert_allclose(figures.importance, r)
    share = r.sum(axis=1) / r.sum()
    expected = share @ (1 - entropy(r, base=3, axis=1)), np.mean(1 - entropy(r, base=4, axis=0))
    np.testing.assert_allclose(figures[:3], [*expected, np.mean(rights)])
    assert len(set(np.round(figures[:3], 3))) == 3


def test_dci_tells_disentanglement_from_completeness():
    doubled = np.hstack([GRID, GRID])  # each unit knows one factor, each factor has two units
    figures = disentanglement.dci((doubled, GRID), (doubled, GRID), trees=100)
    assert figures.disentanglement > 0.95
    assert figures.completeness < 0.9


def test_a_constant_code_is_not_disentangled():
    nothing = np.zeros((len(GRID), 3))
    figures = disentanglement.dci((nothing, GRID), (nothing, GRID))
    assert figures.disentanglement == 0


@pytest.mark.parametrize(
    ("codes", "factors", "message"),
    [
        (GRID[:5], GRID, "shapes"),
        (GRID[:, 0], GRID, "shapes"),
        (GRID, GRID * [1, 1, 0], "factor 2 has one value"),
        (GRID * np.nan, GRID, "finite|NaN"),
    ],
)
def test_bad_input_is_refused(codes, factors, message):
    with pytest.raises(ValueError, match=message):
        disentanglement.mig(codes, factors)


def test_one_unit_has_no_gap():
    with pytest.raises(ValueError, match="two units"):
        disentanglement.mig(GRID[:, :1], GRID)
