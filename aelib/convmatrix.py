"""A convolution as a sparse matrix, its transpose by inserted zeros, and the arithmetic of their shapes.

"Convolution" is what Keras computes under that name: a cross-correlation, the kernel not flipped. Images are
channels last, and `ravel` runs through them in C order. One kernel array serves both directions: `Conv2D`
reads (kh, kw, c_in, c_out), and `Conv2DTranspose` the same array as (kh, kw, filters, channels of its input).

After Dumoulin and Visin (2016), "A guide to convolution arithmetic for deep learning"; the odd row or column
of zeros of padding "same" comes last, as in TensorFlow.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy import sparse

from aelib import checks

PADDINGS = ("valid", "same")


def _axes(name: str, value: int | Sequence[int], count: int, *, least: int = 1) -> tuple[int, ...]:
    """Return one whole number for each axis; a single one stands for all."""
    values = checks.whole_numbers(name, value, least=least)
    if np.ndim(value) == 0:
        return values * count
    if not values or len(values) != count:
        raise ValueError(f"{name} must be a whole number >= {least}, or {count} of them, got {value!r}")
    return values


def _convolved(size: int, kernel: int, stride: int, padding: str) -> tuple[int, int]:
    """Return the size that a convolution gives one axis, and the zeros that it puts before it."""
    if padding == "valid":
        if kernel > size:
            raise ValueError(
                f"padding 'valid' needs a kernel of at most the input's size {size}, got {kernel}"
            )
        return (size - kernel) // stride + 1, 0
    out = -(-size // stride)
    return out, max((out - 1) * stride + kernel - size, 0) // 2


def _transposed(size: int, kernel: int, stride: int, padding: str, extra: int | None) -> int:
    """Return the size that a transposed convolution gives one axis; `extra` is its output padding or None."""
    if extra is None:
        return size * stride if padding == "same" else (size - 1) * stride + max(kernel, stride)
    if extra >= stride:
        raise ValueError(f"output_padding must be < strides, got {extra} with strides {stride}")
    restored = (size - 1) * stride + extra + (kernel if padding == "valid" else kernel % 2)
    if restored < 1 or _convolved(restored, kernel, stride, padding)[0] != size:
        raise ValueError(
            f"output_padding must be >= 1 for 'same' and the even kernel {kernel}, got {extra}: no "
            f"convolution of strides {stride} takes {restored} to {size}"
        )
    return restored


def output_shape(
    input_shape: int | Sequence[int],
    kernel_size: int | Sequence[int],
    *,
    strides: int | Sequence[int] = 1,
    padding: Literal["valid", "same"] = "valid",
    transposed: bool = False,
    output_padding: int | Sequence[int] | None = None,
) -> Any:
    """Return the height and width that `Conv2D` or `Conv2DTranspose` gives, without the channels.

    Parameters
    ----------
    input_shape : int or tuple of int
        One size or one an axis, without the channels. A bare number is answered by a bare number.
    kernel_size, strides : int or tuple of int
    padding : {"valid", "same"}
    transposed : bool
    output_padding : int or tuple of int, optional
        Of a transposed convolution only. Left out, a size n becomes (n − 1)·s + max(k, s) for "valid" and n·s
        for "same"; a number p makes that (n − 1)·s + k + p and (n − 1)·s + (k mod 2) + p, as Keras counts.

    Returns
    -------
    int or tuple of int

    Raises
    ------
    ValueError
        For what Keras refuses.
    """
    count = 1 if np.ndim(input_shape) == 0 else len(input_shape)  # type: ignore[arg-type]
    sizes = _axes("input_shape", input_shape, count)
    kernels, steps = _axes("kernel_size", kernel_size, count), _axes("strides", strides, count)
    checks.choice("padding", padding, PADDINGS)
    if transposed:
        extras = (None,) * count
        if output_padding is not None:
            extras = _axes("output_padding", output_padding, count, least=0)
        out = tuple(map(_transposed, sizes, kernels, steps, (padding,) * count, extras))
    elif output_padding is not None:
        raise ValueError(f"output_padding belongs to a transposed convolution, got {output_padding!r}")
    else:
        out = tuple(_convolved(n, k, s, padding)[0] for n, k, s in zip(sizes, kernels, steps, strict=True))
    return out[0] if np.ndim(input_shape) == 0 else out


def output_padding(
    input_shape: int | Sequence[int],
    kernel_size: int | Sequence[int],
    *,
    strides: int | Sequence[int] = 1,
    padding: Literal["valid", "same"] = "valid",
) -> int | tuple[int, ...] | None:
    """Return the `output_padding` with which a transposed convolution restores an input of this size.

    A convolution of stride s takes s different sizes to the same one; the number says which to come back to.

    Parameters
    ----------
    input_shape, kernel_size, strides, padding
        Of the convolution, as in `output_shape`.

    Returns
    -------
    int, tuple of int or None
        None where only leaving it out restores the size: "same", an even kernel, and a size that the stride
        divides would need as much as the stride itself, which Keras refuses.

    Raises
    ------
    ValueError
        If one axis has to leave it out and another must not.
    """
    options = {"strides": strides, "padding": padding}
    small = output_shape(input_shape, kernel_size, **options)  # type: ignore[arg-type]
    n, m, k, s = np.broadcast_arrays(np.atleast_1d(input_shape), small, kernel_size, strides)
    extras = tuple((n - (m - 1) * s - (k if padding == "valid" else k % 2)).tolist())
    if (extras < s).all():
        return extras[0] if np.ndim(input_shape) == 0 else extras
    if np.array_equal(output_shape(small, kernel_size, transposed=True, **options), input_shape):  # type: ignore[arg-type]
        return None
    raise ValueError(
        f"no output_padding restores {input_shape}: {extras} would, but Keras wants it < strides {strides}"
    )


def _kernel(kernel: ArrayLike, shape: Sequence[int], channel: int) -> np.ndarray:
    """Read a kernel as (kh, kw, c_in, c_out) and check it against an image's shape."""
    kernel, shape = np.asarray(kernel), tuple(np.atleast_1d(shape).tolist())
    if kernel.ndim not in (2, 4) or kernel.size == 0 or not np.issubdtype(kernel.dtype, np.number):
        raise ValueError(
            "kernel must be numbers of shape (kh, kw) or (kh, kw, c_in, c_out), "
            f"got {kernel.dtype} of shape {kernel.shape}"
        )
    checks.finite("kernel", kernel, remedy="an unknown weight cannot be multiplied with")
    form = ("h", "w") if kernel.ndim == 2 else ("h", "w", kernel.shape[channel])
    if len(shape) != len(form) or shape[2:] != form[2:]:
        form = ", ".join(map(str, form))
        raise ValueError(f"a kernel of shape {kernel.shape} takes an image of shape ({form}), got {shape}")
    return kernel.reshape(*kernel.shape[:2], *(kernel.shape[2:] or (1, 1)))


def _joined(
    input_shape: Sequence[int], kernel_size: Sequence[int], strides: Sequence[int], padding: str
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """List, for each axis, the indices (output, kernel, input) that a convolution joins."""
    for size, kernel, stride in zip(input_shape, kernel_size, strides, strict=True):
        out, before = _convolved(size, kernel, stride, padding)
        o, k = np.indices((out, kernel)).reshape(2, -1)
        i = stride * o + k - before
        inside = (i >= 0) & (i < size)  # the rest reads padding: zeros, which need no column
        yield o[inside], k[inside], i[inside]


def convolution_matrix(
    kernel: ArrayLike,
    input_shape: Sequence[int],
    *,
    strides: int | Sequence[int] = 1,
    padding: Literal["valid", "same"] = "valid",
) -> sparse.csr_array:
    """Build the matrix C for which ``C @ x.ravel()`` is ``Conv2D(x).ravel()``.

    ``C.T @ y.ravel()`` is then `Conv2DTranspose` with the same kernel array, and the convolution's gradient.

    Parameters
    ----------
    kernel : array-like (kh, kw) or (kh, kw, c_in, c_out)
    input_shape : tuple of int
        (h, w), or (h, w, c_in) for a kernel with channels.
    strides : int or tuple of int
    padding : {"valid", "same"}

    Returns
    -------
    scipy.sparse.csr_array (oh·ow·c_out, h·w·c_in)
        Of the kernel's dtype. It stores every weight that meets a pixel, even one of 0: ``C.nnz`` counts the
        multiplications of the direct computation.

    Raises
    ------
    ValueError
        For what Keras refuses, and for a wrong rank or number of channels.
    """
    kernel = _kernel(kernel, input_shape, channel=2)
    sizes, strides = _axes("input_shape", input_shape, len(input_shape))[:2], _axes("strides", strides, 2)
    out = output_shape(sizes, kernel.shape[:2], strides=strides, padding=padding)
    c_in, c_out = kernel.shape[2:]
    (oy, ky, iy), (ox, kx, ix) = _joined(sizes, kernel.shape[:2], strides, padding)
    weights = kernel[ky[:, None], kx]  # (pairs in y, pairs in x, c_in, c_out)
    row = (oy[:, None] * out[1] + ox)[..., None, None] * c_out + np.arange(c_out)
    column = ((iy[:, None] * sizes[1] + ix)[..., None] * c_in + np.arange(c_in))[..., None]
    row, column = (np.broadcast_to(index, weights.shape).ravel() for index in (row, column))
    shape = (math.prod(out) * c_out, math.prod(sizes) * c_in)
    return sparse.coo_array((weights.ravel(), (row, column)), shape=shape).tocsr()


def insert_zeros(
    y: ArrayLike,
    kernel_size: int | Sequence[int],
    *,
    strides: int | Sequence[int] = 1,
    padding: Literal["valid", "same"] = "valid",
    output_padding: int | Sequence[int] | None = None,
) -> np.ndarray:
    """Put zeros between and around pixels, the first half of `zero_inserted`, which tells of the arguments.

    The result is (H + kh − 1, W + kw − 1), or has the channels of `y` too, where (H, W) is the output's size.
    """
    y, options = np.asarray(y), {"strides": strides, "padding": padding}
    shape = output_shape(y.shape[:2], kernel_size, transposed=True, output_padding=output_padding, **options)  # type: ignore[arg-type]
    kernels, steps = _axes("kernel_size", kernel_size, 2), _axes("strides", strides, 2)
    wide = np.zeros((*np.add(shape, kernels) - 1, *y.shape[2:]), y.dtype)
    # The forward pass reads `before` zeros first; going back, that much of the kernel's reach is cut off.
    first = [k - 1 - _convolved(n, k, s, padding)[1] for n, k, s in zip(shape, kernels, steps, strict=True)]
    wide[tuple(slice(a, a + (n - 1) * s + 1, s) for a, n, s in zip(first, y.shape, steps, strict=False))] = y
    return wide


def zero_inserted(
    y: ArrayLike,
    kernel: ArrayLike,
    *,
    strides: int | Sequence[int] = 1,
    padding: Literal["valid", "same"] = "valid",
    output_padding: int | Sequence[int] | None = None,
) -> np.ndarray:
    """Transpose a convolution by inserting zeros: a convolution of stride 1 with the flipped kernel.

    Equals ``C.T @ y.ravel()``; most of its products have a factor 0, which `multiplications` counts.

    Parameters
    ----------
    y : array-like (h, w) or (h, w, c_out)
    kernel : array-like (kh, kw) or (kh, kw, c_in, c_out)
        As for `convolution_matrix`, not flipped.
    strides, padding, output_padding
        Of the transposed convolution, as in `output_shape`.

    Returns
    -------
    ndarray (H, W) or (H, W, c_in)
    """
    y = np.asarray(y)
    weights = _kernel(kernel, y.shape, channel=3)
    options = {"strides": strides, "padding": padding, "output_padding": output_padding}
    wide = insert_zeros(y.reshape(*y.shape[:2], -1), weights.shape[:2], **options)  # type: ignore[arg-type]
    windows = np.lib.stride_tricks.sliding_window_view(wide, weights.shape[:2], axis=(0, 1))
    x = np.einsum("hwoyx,yxio->hwi", windows, weights[::-1, ::-1])  # (H, W, c_out, kh, kw) -> (H, W, c_in)
    return x[..., 0] if y.ndim == 2 else x


def multiplications(
    input_shape: Sequence[int],
    kernel_shape: Sequence[int],
    *,
    strides: int | Sequence[int] = 1,
    padding: Literal["valid", "same"] = "valid",
) -> tuple[int, int]:
    """Count the multiplications of Cᵀy: directly, which is ``C.nnz``, and by `zero_inserted`.

    Both shapes are those of `convolution_matrix`: the image that the transposed convolution gives back.

    Returns
    -------
    tuple of int
        (direct, by inserted zeros)
    """
    kernel = _kernel(np.ones(kernel_shape), input_shape, channel=2)
    one_channel = convolution_matrix(kernel[..., 0, 0], input_shape[:2], strides=strides, padding=padding)
    return one_channel.nnz * math.prod(kernel.shape[2:]), math.prod(input_shape[:2]) * kernel.size
