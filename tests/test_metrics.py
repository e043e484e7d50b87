import numpy as np
import pytest
from scipy import linalg
from skimage import color

from aelib import metrics

RANDOM = np.random.default_rng(0)
X = RANDOM.random((5, 8, 9, 2))
Y = RANDOM.random((5, 8, 9, 2))


def test_mse_by_hand():
    assert metrics.mse([[0, 1], [2, 3]], [[0, 3], [1, 3]]) == pytest.approx((0 + 4 + 1 + 0) / 4)


def test_squared_error_per_image_by_hand():
    assert metrics.squared_error_per_image([[0, 1], [2, 3]], [[0, 3], [1, 3]]) == pytest.approx((4 + 1) / 2)
    expected = np.mean([np.sum((x - y) ** 2) for x, y in zip(X, Y, strict=True)])
    assert metrics.squared_error_per_image(X, Y) == pytest.approx(expected)


def test_integers_do_not_wrap():
    assert metrics.mse(np.uint8([[0]]), np.uint8([[255]])) == 255**2


def test_bce_by_hand():
    expected = -(0.25 * np.log(0.5) + 0.75 * np.log(0.5) + np.log(0.8)) / 2
    assert metrics.bce([[0.25, 1]], [[0.5, 0.8]]) == pytest.approx(expected)


def test_bce_clips():
    assert metrics.bce([[0.0]], [[1.0]], clip=1e-3) == pytest.approx(-np.log(1e-3))
    assert metrics.bce([[1.0]], [[-2.0]], clip=1e-3) == pytest.approx(-np.log(1e-3))
    assert metrics.bce([[1.0]], [[0.0]]) == pytest.approx(-np.log(1e-7))


@pytest.mark.parametrize("clip", [0, 0.5, -1, float("nan")])
def test_bad_clip_is_shown(clip):
    with pytest.raises(ValueError, match=rf"clip must be in \(0, 0.5\), got {clip}"):
        metrics.bce(X, Y, clip=clip)


def test_floor_is_attained_at_the_pixels():
    assert metrics.bce_floor(X) == pytest.approx(metrics.bce(X, X), rel=1e-10)
    assert metrics.bce_floor(X) < metrics.bce(X, np.clip(X + 0.01, 0, 1))
    assert metrics.bce_floor([[0.5, 0.0, 1.0]]) == pytest.approx(np.log(2) / 3)
    assert metrics.bce_floor([[0, 1]]) == 0


@pytest.mark.parametrize(
    ("x", "message"),
    [
        ([[0, 1.5]], r"x must be in \[0, 1\], got 0 to 1.5: divide images on 0 to 255 by 255"),
        ([[-0.5]], r"x must be in \[0, 1\], got -0.5 to -0.5"),
        ([[float("nan")]], "x must be finite: 1 of its 1 numbers are NaN"),
        ([], r"x must have the shape .* not be empty, got \(0,\)"),
    ],
)
def test_floor_wants_pixels(x, message):
    with pytest.raises(ValueError, match=message):
        metrics.bce_floor(x)


@pytest.mark.parametrize("offset", [1.0, 0.1, 0.003])
def test_psnr_of_a_constant_offset(offset):
    assert metrics.psnr(X, X + offset) == pytest.approx(-20 * np.log10(offset))


def test_psnr_is_the_mean_over_images_not_of_the_pool():
    x = np.zeros((2, 4))
    assert metrics.psnr(x, [[0.1] * 4, [0.001] * 4]) == pytest.approx((20 + 60) / 2)


def test_psnr_of_an_exact_copy_is_refused():
    with pytest.raises(ValueError, match=r"^2 images are reproduced exactly"):
        metrics.psnr(X, np.concatenate([X[:2], Y[2:]]))


def test_ssim_of_identical_images_is_one():
    assert metrics.ssim(X, X) == pytest.approx(1)
    assert metrics.ssim(X, Y) < 0.5
    assert metrics.ssim(X, X + 0.1) < 1


def test_ssim_is_the_mean_of_the_formula():
    """Wang et al. (2004), equation 13, over the one window of 7 pixels that fits, with unbiased variances."""
    x, y = X[:2, :7, :7, :1], Y[:2, :7, :7, :1]
    expected = []
    for a, b in zip(x, y, strict=True):
        (va, cov), (_, vb) = np.cov(a.ravel(), b.ravel())
        ma, mb = a.mean(), b.mean()
        c1, c2 = 0.01**2, 0.03**2
        expected += [(2 * ma * mb + c1) * (2 * cov + c2) / ((ma**2 + mb**2 + c1) * (va + vb + c2))]
    assert metrics.ssim(x, y) == pytest.approx(np.mean(expected))


def test_ssim_wants_images():
    with pytest.raises(ValueError, match=r"\(n, height, width, channels\), got \(5, 8, 9\)"):
        metrics.ssim(X[..., 0], Y[..., 0])


@pytest.mark.parametrize(
    "metric", [metrics.mse, metrics.squared_error_per_image, metrics.bce, metrics.psnr, metrics.ssim]
)
def test_shapes_must_match(metric):
    with pytest.raises(ValueError, match=r"\(5, 8, 9, 2\).*\(5, 8, 9\)"):
        metric(X, X[..., 0])
    with pytest.raises(ValueError, match="empty"):
        metric(X[:0], X[:0])


COMPARING = [metrics.mse, metrics.squared_error_per_image, metrics.bce, metrics.psnr, metrics.ssim]


@pytest.mark.parametrize("metric", COMPARING)
def test_what_is_not_observed_does_not_count(metric):
    mask = np.ones(X.shape, bool)
    mask[:, :, 7:] = False  # what is left has the shape of whole images
    x, y = (np.where(mask, part, np.nan) for part in (X, Y))
    per_image = metric is metrics.squared_error_per_image
    assert metric(x, y, mask=mask) == pytest.approx(metric(X[:, :, :7], Y[:, :, :7]))
    assert metric(X, Y, mask=mask[:1, :1]) == metric(x, y, mask=mask), "a mask is broadcast"
    assert metric(X, Y, mask=np.array(True)) == pytest.approx(metric(X, Y))
    assert per_image or metric(X, Y, mask=mask) != pytest.approx(metric(X, Y))


def test_masked_figures_by_hand():
    x, y = np.array([[0.0, 1, np.nan], [1, np.nan, np.nan]]), np.array([[0.5, 1, 9], [0.9, 9, 9.0]])
    mask = ~np.isnan(x)
    assert metrics.mse(x, y, mask=mask) == pytest.approx((0.25 + 0 + 0.01) / 3)
    assert metrics.squared_error_per_image(x, y, mask=mask) == pytest.approx((0.25 + 0.01) / 2)
    assert metrics.bce(x, y, mask=mask) == pytest.approx(-(np.log(0.5) + 0 + np.log(0.9)) / 3, abs=1e-6)
    assert metrics.psnr(x, y, mask=mask) == pytest.approx(-5 * (np.log10(0.125) + np.log10(0.01)))


@pytest.mark.parametrize("metric", COMPARING)
def test_wrong_masks_are_shown(metric):
    with pytest.raises(ValueError, match=r"mask must be bool, .* got float64: ~np.isnan\(x\)"):
        metric(X, Y, mask=np.ones(X.shape))
    with pytest.raises(ValueError, match=r"mask must have the shape \(5, 8, 9, 2\) of x, .* got \(3,\)"):
        metric(X, Y, mask=np.ones(3, bool))
    with pytest.raises(ValueError, match="mask must be True somewhere, got none of 720"):
        metric(X, Y, mask=np.zeros(X.shape, bool))


def test_every_image_needs_something_observed():
    mask = np.ones(X.shape, bool)
    mask[3] = False
    with pytest.raises(ValueError, match="in each image, got none in image 3"):
        metrics.psnr(X, Y, mask=mask)
    mask[3, :6] = True
    with pytest.raises(ValueError, match="one whole window of 7 pixels in each image, not in 3"):
        metrics.ssim(X, Y, mask=mask)


@pytest.mark.parametrize("metric", COMPARING)
def test_one_nan_is_counted_and_placed(metric):
    for pair in ((X, np.where(np.arange(5)[:, None, None, None] == 3, np.nan, Y)), (X.copy(), Y)):
        if pair[1] is Y:
            pair[0][3] = np.nan
        with pytest.raises(ValueError, match=r"must be finite: 144 of its 720 .* row 3; .* mask="):
            metric(*pair)


@pytest.mark.parametrize("metric", [metrics.psnr, metrics.ssim])
def test_images_of_bytes_need_their_range(metric):
    x, y = np.uint8(255 * X), np.uint8(255 * Y)
    remedy = r"x must be in \[0, 1\], got 0 to 25\d: divide images on 0 to 255 by 255, .* data_range=255"
    with pytest.raises(ValueError, match=remedy):
        metric(x, y)
    assert metric(x, y, data_range=255) == pytest.approx(metric(x / 255, y / 255))
    assert metric(2 * X, 2 * Y, data_range=2) == pytest.approx(metric(X, Y))
    with pytest.raises(ValueError, match=r"data_range must be at least as wide as x, .* got 100"):
        metric(x, y, data_range=100)
    with pytest.raises(ValueError, match="data_range must be > 0, got 0"):
        metric(x, y, data_range=0)


@pytest.mark.parametrize(
    "call",
    [
        lambda x: metrics.bce(x, x),
        lambda x: metrics.delta_e(x, x),
        lambda x: metrics.colorfulness(x),
        lambda x: metrics.bce_floor(x),
    ],
)
def test_colours_and_probabilities_are_in_the_unit_interval(call):
    with pytest.raises(ValueError, match=r"x must be in \[0, 1\], got 0 to 255: divide .* by 255"):
        call(np.uint8([[[[0, 255, 7]]]]))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: metrics.ssim(X[:, :5], Y[:, :5]), r"at least 7 x 7 pixels, got shape \(5, 5, 9, 2\)"),
        (lambda: metrics.delta_e(X, Y), r"RGB images of shape \(n >= 1, H, W, 3\), got \(5, 8, 9, 2\)"),
        (lambda: metrics.pca_reconstruct(X, X, 0), "components must be a whole number >= 1, got 0"),
        (lambda: metrics.pca_reconstruct(X, X[:, :4], 2), "samples of one shape"),
        (lambda: metrics.pca_reconstruct(X * np.nan, X, 2), "x_train must be finite: 720 of its 720"),
        (lambda: metrics.activity([[np.nan, 1]]), "codes must be finite: 1 of its 2 .* row 0"),
        (lambda: metrics.activity([[1.0, 1]], tolerance=-1), "tolerance must be >= 0, got -1"),
        (lambda: metrics.active_units([[1], [np.inf]]), "means must be finite: 1 of its 2 .* row 1"),
        (lambda: metrics.active_units([[1.0]], threshold="a"), "threshold must be >= 0, got 'a'"),
        (
            lambda: metrics.frechet_distance([[0], [np.nan]], [[0], [1]]),
            "features must be finite: 1 of its 2",
        ),
        (lambda: metrics.singular_values(np.full((1, 2, 2), np.nan)), "jacobians must be finite: 4 of its 4"),
        (lambda: metrics.linear_probe(*[([[np.nan]], [0])] * 3), "the codes of train must be finite: 1"),
        (
            lambda: metrics.linear_probe(*[([[0]], [0])] * 3, penalties=[0]),
            "every penalty must be > 0, got 0",
        ),
        (lambda: metrics.linear_probe(*[([[0]], [0])] * 3, max_iter=0), "max_iter must be a whole number"),
    ],
)
def test_errors_show_the_value(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_pca_reconstruct_takes_numpys_numbers():
    x = X[..., :1]
    np.testing.assert_array_equal(
        metrics.pca_reconstruct(x, x, np.int64(2)), metrics.pca_reconstruct(x, x, 2)
    )


def test_pca_is_the_svd():
    train, test = RANDOM.normal(3, 1, (40, 4, 3, 1)), RANDOM.normal(3, 1, (7, 4, 3, 1))
    mean = train.reshape(40, 12).mean(axis=0)
    _, singular, V = np.linalg.svd(train.reshape(40, 12) - mean, full_matrices=False)
    by_hand = (test.reshape(7, 12) - mean) @ V[:5].T @ V[:5] + mean
    reconstruction = metrics.pca_reconstruct(train, test, 5)
    assert reconstruction.shape == test.shape
    np.testing.assert_allclose(reconstruction.reshape(7, 12), by_hand, rtol=1e-8)
    discarded = np.sum(singular[5:] ** 2) / 40
    error = metrics.squared_error_per_image(train, metrics.pca_reconstruct(train, train, 5))
    assert error == pytest.approx(discarded, rel=1e-8)
    np.testing.assert_allclose(metrics.pca_reconstruct(train, test, 12), test, rtol=1e-8)


def test_activity_of_codes_that_can_be_counted():
    codes = np.array([[2.0, 0, 0, 7], [0, 0, 0, 7], [0, -1, 0, 7]])
    figures = metrics.activity(codes)
    assert figures["active"] == pytest.approx(5 / 12)
    assert figures["mean"] == pytest.approx(22 / 12)
    assert figures["dead"] == 2, "silent and stuck units alike"
    ratios = np.array([9 / np.sqrt(53), 1, 8 / np.sqrt(50)])
    assert figures["hoyer"] == pytest.approx(np.mean((2 - ratios) / (2 - 1)))


def test_hoyer_runs_from_nothing_to_everything():
    assert metrics.activity(np.eye(5))["hoyer"] == pytest.approx(1)
    assert metrics.activity(-np.ones((2, 9)))["hoyer"] == pytest.approx(0)
    assert metrics.activity(np.zeros((2, 9)))["hoyer"] == pytest.approx(1)


def test_active_units_are_those_whose_mean_varies():
    spread = np.array([0.0, 0.05, 0.2, 3.0])  # ± these: variances 0, 0.0025, 0.04 and 9
    means = 5 + np.array([[1.0], [-1.0]]) * spread
    assert metrics.active_units(means) == 2
    assert metrics.active_units(means, threshold=1) == 1
    with pytest.raises(ValueError, match=r"got \(4,\)"):
        metrics.active_units(spread)


def test_frechet_distance_of_cases_worked_by_hand():
    cloud = RANDOM.normal(size=(200, 4)) @ RANDOM.normal(size=(4, 4))
    assert metrics.frechet_distance(cloud, cloud) == pytest.approx(0, abs=1e-9)
    assert metrics.frechet_distance(cloud, cloud + np.array([1, 2, 0, 2])) == pytest.approx(9)  # ‖Δμ‖²
    total = np.trace(np.cov(cloud.T))  # S₂ = 9 S₁ with the mean held: (3 - 1)² tr S₁
    centred = cloud - cloud.mean(axis=0)
    assert metrics.frechet_distance(centred, 3 * centred) == pytest.approx(4 * total)


def test_frechet_distance_is_that_of_the_matrix_root():
    one, two = RANDOM.normal(size=(50, 3)), RANDOM.normal(1, 2, size=(70, 3)) @ RANDOM.normal(size=(3, 3))
    s, t = np.cov(one.T), np.cov(two.T)
    root = linalg.sqrtm(s @ t).real
    wanted = np.sum((one.mean(0) - two.mean(0)) ** 2) + np.trace(s + t - 2 * root)
    assert metrics.frechet_distance(one, two) == pytest.approx(wanted)
    assert metrics.frechet_distance(two, one) == pytest.approx(wanted)


@pytest.mark.parametrize("shapes", [((5, 2), (5, 3)), ((1, 2), (5, 2)), ((5,), (5,))])
def test_frechet_distance_wants_two_sets_of_features(shapes):
    with pytest.raises(ValueError, match="n >= 2, d"):
        metrics.frechet_distance(*map(np.zeros, shapes))


def test_bits_per_pixel():
    assert metrics.bits_per_pixel(b"abcd", np.zeros((2, 4, 4, 1))) == 1.0


def test_delta_e_of_published_pairs():
    """Sharma, Wu & Dalal (2005), table 1, pairs 1 and 17, and the mean of the two."""
    pairs = [([50, 2.6772, -79.7751], [50, 0, -82.7485]), ([50, 2.5, 0], [73, 25, -18])]
    figures = [2.0425, 27.1492]
    lab = np.array(pairs)  # (2, 2, 3)
    assert color.deltaE_ciede2000(lab[:, 0], lab[:, 1]) == pytest.approx(figures, abs=1e-4)
    visible = np.array([[60, 20, -10], [40, -20, 30.0]])  # both are colours of a screen
    x, y = (color.lab2rgb(part.reshape(1, 1, 1, 3)) for part in visible)
    assert metrics.delta_e(x, y) == pytest.approx(color.deltaE_ciede2000(*visible), abs=0.01)
    both, other = np.concatenate([x, x]), np.concatenate([x, y])
    assert metrics.delta_e(both, other) == pytest.approx(metrics.delta_e(x, y) / 2)


def test_colorfulness_by_hand():
    grey = np.full((2, 3, 3, 3), 0.4)
    assert metrics.colorfulness(grey) == pytest.approx(0)
    red = np.zeros((1, 2, 2, 3))
    red[..., 0] = 1  # r - g = 255 and (r + g) / 2 - b = 127.5 everywhere: no spread
    assert metrics.colorfulness(red) == pytest.approx(0.3 * np.hypot(255, 127.5))
    red[0, :, 0] = 0  # half of it black: spread and offset are half of the former offsets
    assert metrics.colorfulness(red) == pytest.approx(1.3 * np.hypot(255, 127.5) / 2)
    with pytest.raises(ValueError, match=r"got \(2, 3, 3\)"):
        metrics.colorfulness(grey[..., 0])


def test_activity_has_a_tolerance():
    assert metrics.activity(np.array([[0.1, 0.3]]), tolerance=0.2)["active"] == 0.5


@pytest.mark.parametrize("shape", [(3,), (0, 4), (3, 1), (2, 2, 2)])
def test_wrong_codes_are_shown(shape):
    with pytest.raises(ValueError, match=r"codes must have shape .* got") as error:
        metrics.activity(np.ones(shape))
    assert str(error.value).endswith(str(shape))


def test_singular_values_are_averaged():
    one, two = np.diag([3.0, 1])[:, :2], np.diag([1.0, 5])
    turn = np.array([[0, 1], [-1, 0]])
    np.testing.assert_allclose(metrics.singular_values([one @ turn, two]), [4, 1])
    assert metrics.singular_values(np.ones((2, 3, 7))).shape == (3,)
    with pytest.raises(ValueError, match=r"got \(3, 3\)"):
        metrics.singular_values(np.eye(3))


def blobs(seed, n=200):
    random = np.random.default_rng(seed)
    y = random.integers(0, 2, n)
    return random.normal(0, 1, (n, 3)) + 4 * y[:, None], y


def test_linear_probe_finds_what_is_linear_and_nothing_else():
    parts = blobs(0), blobs(1), blobs(2)
    assert metrics.linear_probe(*parts) > 0.98
    scaled = [(x * [1, 1e4, 1e-4], y) for x, y in parts]
    assert metrics.linear_probe(*scaled) == pytest.approx(metrics.linear_probe(*parts), abs=0.01)
    guess = [(x, np.random.default_rng(100 + i).integers(0, 2, len(y))) for i, (x, y) in enumerate(parts)]
    assert 0.35 < metrics.linear_probe(*guess) < 0.65


def test_linear_probe_chooses_on_validation():
    """A quarter of the labels is wrong: the weak penalty learns them by heart, and validation tells."""
    random = np.random.default_rng(0)
    y = random.integers(0, 2, 4000)
    x = random.normal(size=(4000, 50)) + 0.3 * (2 * y[:, None] - 1)
    y = np.where(random.random(4000) < 0.25, 1 - y, y)
    parts = [(x[a:b], y[a:b]) for a, b in ((0, 100), (100, 2000), (2000, 4000))]
    strong, weak = (metrics.linear_probe(*parts, penalties=[p]) for p in (1.0, 1e-6))
    assert strong > weak + 0.05
    assert metrics.linear_probe(*parts, penalties=[1e-6, 1.0]) == strong
    assert metrics.linear_probe(*parts, penalties=[1.0, 1e-6]) == strong


def test_linear_probe_shows_parts_that_do_not_match():
    x, y = blobs(0)
    with pytest.raises(ValueError, match=r"\(\(200, 3\), \(199,\)\)"):
        metrics.linear_probe((x, y), (x, y[1:]), (x, y))
