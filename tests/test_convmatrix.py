"""`aelib.convmatrix` against Keras, case by case."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from aelib import convmatrix
from aelib.convmatrix import convolution_matrix, insert_zeros, multiplications, output_shape, zero_inserted


def random_case(seed):
    """Draw a convolution whose every axis has its own kernel and stride, and an input of any parity."""
    rng = np.random.default_rng(seed)
    while True:
        size, kernel = rng.integers(1, 10, 2), rng.integers(1, 6, 2)
        padding = str(rng.choice(["valid", "same"]))
        if padding == "same" or (kernel <= size).all():
            break
    strides = tuple(rng.integers(1, 4, 2).tolist())
    c_in, c_out = rng.integers(1, 4, 2)
    weights = rng.normal(size=(*kernel, c_in, c_out)).astype("float32")
    x = rng.normal(size=(*size, c_in)).astype("float32")
    return x, weights, {"strides": strides, "padding": padding}


def close(actual, expected):
    """Compare to 1e-5 of the largest value."""
    expected = np.asarray(expected)
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-5 * max(np.abs(expected).max(), 1e-30))


@pytest.mark.parametrize("block", range(8))
def test_matrix_and_transpose_are_keras_layers(block):
    """400 cases: C is Conv2D, Cᵀ is Conv2DTranspose, and so are the inserted zeros."""
    restored = 0
    for seed in range(50 * block, 50 * (block + 1)):
        x, weights, options = random_case(seed)
        matrix = convolution_matrix(weights, x.shape, **options)
        y = np.asarray(ops.conv(x[None], weights, **options)[0])
        assert y.shape[:2] == output_shape(x.shape[:2], weights.shape[:2], **options)
        assert matrix.shape == (y.size, x.size)
        close(matrix @ x.ravel(), y.ravel())
        y = np.random.default_rng(seed).normal(size=y.shape).astype("float32")
        back = (matrix.T @ y.ravel()).reshape(x.shape)
        try:
            extra = convmatrix.output_padding(x.shape[:2], weights.shape[:2], **options)
        except ValueError:  # the layer cannot; its operation takes an output_padding as large as the stride
            extra = tuple(
                s if n % s == 0 else n % s for n, s in zip(x.shape, options["strides"], strict=False)
            )
            extra = tuple(e - k % 2 for e, k in zip(extra, weights.shape, strict=False))
            close(back, ops.conv_transpose(y[None], weights, output_padding=extra, **options)[0])
            continue
        restored += 1
        options |= {"output_padding": extra}
        assert output_shape(y.shape[:2], weights.shape[:2], transposed=True, **options) == x.shape[:2]
        close(back, ops.conv_transpose(y[None], weights, **options)[0])
        result = zero_inserted(y, weights, **options)
        assert result.shape == x.shape
        close(result, back)
    assert restored >= 40


@pytest.mark.parametrize("seed", range(12))
def test_layers_themselves_agree(seed):
    x, weights, options = random_case(1000 + seed)
    matrix = convolution_matrix(weights, x.shape, **options)
    layer = layers.Conv2D(weights.shape[3], weights.shape[:2], use_bias=False, **options)
    y = np.asarray(layer(x[None])[0])
    layer.set_weights([weights])
    close(matrix @ x.ravel(), np.ravel(layer(x[None])))
    # Left out, output_padding gives a size of its own, for which another matrix is the oracle.
    layer = layers.Conv2DTranspose(weights.shape[2], weights.shape[:2], use_bias=False, **options)
    layer.build((None, *y.shape))
    layer.set_weights([weights])
    shape = output_shape(y.shape[:2], weights.shape[:2], transposed=True, **options)
    back = layer(y[None])[0]
    assert tuple(back.shape) == (*shape, x.shape[2])
    close(convolution_matrix(weights, back.shape, **options).T @ y.ravel(), np.ravel(back))
    close(zero_inserted(y, weights, **options), back)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="takes the gradient with a GradientTape")
@pytest.mark.parametrize("seed", range(10))
def test_gradient_is_the_transpose(seed):
    import tensorflow as tf

    x, weights, options = random_case(2000 + seed)
    matrix = convolution_matrix(weights, x.shape, **options)
    with tf.GradientTape() as tape:
        image = tf.Variable(x[None])
        y = ops.conv(image, weights, **options)
    g = np.random.default_rng(seed).normal(size=y.shape).astype("float32")
    close((matrix.T @ g.ravel()).reshape(x.shape), tape.gradient(y, image, g)[0])


def test_by_hand():
    """The 3×3 kernel on 4×4 of the chapter: four rows, each the kernel shifted."""
    kernel = np.arange(1, 10).reshape(3, 3)
    matrix = convolution_matrix(kernel, (4, 4))
    assert matrix.dtype == kernel.dtype
    assert matrix.toarray()[0].tolist() == [1, 2, 3, 0, 4, 5, 6, 0, 7, 8, 9, 0, 0, 0, 0, 0]
    assert matrix.toarray()[3].tolist() == [0, 0, 0, 0, 0, 1, 2, 3, 0, 4, 5, 6, 0, 7, 8, 9]
    assert (matrix @ np.ones(16)).tolist() == [45, 45, 45, 45]
    assert zero_inserted([[1, 0], [0, 0]], kernel).tolist() == np.pad(kernel, (0, 1)).tolist()
    one_channel = convolution_matrix(kernel[..., None, None], (4, 4, 1))
    assert (one_channel != matrix).nnz == 0


def test_numpys_numbers_are_numbers():
    options = {"strides": np.int64(2), "padding": "same"}
    assert output_shape(np.int32(5), np.uint8(3), **options) == 3
    assert output_shape(np.array([5, 4]), [3, 3], **options) == (3, 2)


def test_inserted_zeros():
    wide = insert_zeros([[1, 2], [3, 4]], 3, strides=2, padding="same", output_padding=0)
    expected = np.zeros((5, 5), int)
    expected[1:4:2, 1:4:2] = [[1, 2], [3, 4]]
    assert wide.tolist() == expected.tolist()


@pytest.mark.parametrize("seed", range(20))
def test_multiplications_count_the_products(seed):
    x, weights, options = random_case(3000 + seed)
    direct, inserted = multiplications(x.shape, weights.shape, **options)
    assert direct == convolution_matrix(np.zeros_like(weights), x.shape, **options).nnz <= inserted
    assert inserted == x.size * weights[:, :, 0].size


@pytest.mark.parametrize(
    ("size", "kernel", "strides", "padding", "expected"),
    [
        (28, 3, 2, "same", 1),
        (7, 3, 2, "same", 0),
        (28, 5, 3, "valid", 2),
        (28, 2, 2, "same", None),  # 2 would be the stride itself; left out, it restores 28
        (7, 2, 2, "same", 1),
        (7, 2, 1, "same", None),
        ((7, 8), 3, (2, 3), "same", (0, 1)),
        ((8, 8), 2, 2, "same", None),
        ((5, 4), (2, 1), 3, "valid", (0, 0)),
    ],
)
def test_output_padding(size, kernel, strides, padding, expected):
    options = {"strides": strides, "padding": padding}
    assert convmatrix.output_padding(size, kernel, **options) == expected
    small = output_shape(size, kernel, **options)
    assert output_shape(small, kernel, transposed=True, output_padding=expected, **options) == size


def keras_shape(size, kernel, strides, padding, extra, transposed):
    """Ask the layer itself, and answer None where it refuses."""
    options = {"kernel_size": kernel, "strides": strides, "padding": padding}
    try:
        if transposed:
            layer = layers.Conv2DTranspose(1, output_padding=extra, **options)
        else:
            layer = layers.Conv2D(1, **options)
        return layer(np.zeros((1, size, size, 1), "float32")).shape[1]
    except Exception:  # TensorFlow's errors are of its own kinds
        return None


@pytest.mark.parametrize("padding", ["valid", "same", "full"])
@pytest.mark.parametrize("strides", [-1, 0, 1, 2, 3, 1.5, None])
def test_refuses_what_keras_refuses(padding, strides):
    for kernel in (0, 1, 2, 3, 5):
        for extra in (None, -1, 0, 1, 2) if isinstance(strides, int) and strides > 0 else (None,):
            for transposed in (True, False) if extra is None else (True,):
                expected = keras_shape(4, kernel, strides, padding, extra, transposed)
                options = {"strides": strides, "padding": padding, "output_padding": extra}
                if expected is None:
                    with pytest.raises(ValueError, match=r"must|needs"):
                        output_shape(4, kernel, transposed=transposed, **options)
                else:
                    assert output_shape(4, kernel, transposed=transposed, **options) == expected


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: convolution_matrix(np.ones((3, 3)), (2, 5)), "at most the input's size 2, got 3"),
        (lambda: convolution_matrix(np.ones((3, 3)), (5, 5), strides=0), "strides must .* got 0"),
        (lambda: convolution_matrix(np.ones((3, 3)), (5, 5), strides=(1, 1, 1)), r"got \(1, 1, 1\)"),
        (lambda: convolution_matrix(np.ones((3, 3)), (5, 5), strides=True), "got True"),
        (
            lambda: convolution_matrix(np.ones((3, 3)), (5, 5), padding="full"),
            "padding must be one of valid, same; got 'full'",
        ),
        (
            lambda: convolution_matrix(np.ones((3, 3)), (5, 0)),
            "input_shape must be a whole number >= 1, got 0",
        ),
        (lambda: convolution_matrix(np.ones((3, 3)), 5), r"shape \(h, w\), got \(5,\)"),
        (lambda: convolution_matrix(np.ones((3, 3)), (5, 5, 1)), r"shape \(h, w\), got \(5, 5, 1\)"),
        (lambda: convolution_matrix(np.ones((3, 3, 1)), (5, 5)), r"got float64 of shape \(3, 3, 1\)"),
        (lambda: convolution_matrix([["a"]], (5, 5)), "kernel must be numbers"),
        (lambda: convolution_matrix([[np.nan, 1.0]], (5, 5)), "kernel must be finite: 1 of its 2 .* row 0"),
        (lambda: convolution_matrix(np.ones((0, 3)), (5, 5)), r"got float64 of shape \(0, 3\)"),
        (lambda: convolution_matrix(np.ones((3, 3, 2, 1)), (5, 5, 4)), r"\(h, w, 2\), got \(5, 5, 4\)"),
        (lambda: zero_inserted(np.ones((5, 5, 2)), np.ones((3, 3, 2, 1))), r"\(h, w, 1\), got \(5, 5, 2\)"),
        (lambda: zero_inserted(np.ones((5, 5)), np.ones((3, 3)), output_padding=1), "< strides, got 1"),
        (lambda: output_shape((), 3), "input_shape must"),
        (lambda: output_shape(5, 3, output_padding=0), "belongs to a transposed convolution, got 0"),
        (lambda: convmatrix.output_padding((4, 5), 2, strides=2, padding="same"), r"restores \(4, 5\)"),
        (lambda: convmatrix.output_padding(2, 3), "at most the input's size 2, got 3"),
    ],
)
def test_errors_show_the_value(call, message):
    with pytest.raises(ValueError, match=message):
        call()
