"""`aelib.steps`: what each step of a product says and marks."""

import io

import numpy as np
import pytest
from PIL import Image
from scipy import sparse

from aelib.book import stepper as steps
from aelib.convmatrix import convolution_matrix

KERNEL = np.arange(9).reshape(3, 3) - 4
IMAGE = np.arange(16).reshape(4, 4)


def convolution(transposed=False):
    matrix = convolution_matrix(KERNEL, (4, 4))
    kernel = steps.Grid("kernel", KERNEL)
    if transposed:
        shapes = {"input_shape": (2, 2), "output_shape": (4, 4)}
        return steps.product_steps(matrix.T, [1, 2, 3, 4], extra=[kernel], **shapes)
    return steps.product_steps(matrix, IMAGE, input_shape=(4, 4), output_shape=(2, 2), extra=[kernel])


def test_convolution_is_spelt_out():
    done = convolution()
    assert len(done) == 4
    assert [grid.name for grid in done[1].grids] == ["input", "kernel", "matrix", "output"]
    image, kernel, matrix, output = done[1].grids
    assert image.window.tolist() == [[False, True, True, True]] * 3 + [[False] * 4]
    assert kernel.window is None
    assert not matrix.window[0].any()
    assert matrix.window[1].sum() == 9
    assert output.result.tolist() == [[False, True], [False, False]]
    expected = [(KERNEL * IMAGE[r : r + 3, c : c + 3]).sum() for r in (0, 1) for c in (0, 1)]
    np.testing.assert_array_equal(output.values, [[expected[0], expected[1]], [np.nan, np.nan]])
    terms = "(−4)·1 + (−3)·2 + (−2)·3 + (−1)·5 + 0·6 + 1·7 + 2·9 + 3·10 + 4·11"
    assert done[1].text == f"output 2 = {terms} = {expected[1]}"


def test_transposed_convolution_gathers():
    done = convolution(transposed=True)
    assert len(done) == 16
    assert done[5].text == "output 6 = 0·1 + (−1)·2 + (−3)·3 + (−4)·4 = −27"
    assert done[5].grids[0].window.all()
    assert done[0].text == "output 1 = (−4)·1 = −4"
    assert done[0].grids[0].window.tolist() == [[True, False], [False, False]]
    # A stride wider than the kernel leaves pixels that nothing reaches.
    matrix = convolution_matrix([[2.0]], (1, 4), strides=2)
    shapes = {"input_shape": (1, 2), "output_shape": (1, 4)}
    assert steps.product_steps(matrix.T, [1, 2], **shapes)[1].text == "output 2 = nothing = 0"


def test_stored_zeros_count_and_the_matrix_is_not_touched():
    matrix = sparse.csr_array(([0.0, 2.0], [1, 0], [0, 2]), shape=(1, 2))
    (step,) = steps.product_steps(matrix, [3, 5], input_shape=(1, 2), output_shape=(1, 1))
    assert step.text == "output 1 = 2·3 + 0·5 = 6"
    assert matrix.indices.tolist() == [1, 0]


def test_grid_packs_texts_and_marks():
    grid = steps.Grid("g", [[1.5, np.nan], [-2, 0]], window=[[1, 1], [0, 0]], result=np.eye(2, dtype=bool))
    assert grid.packed() == ["g", [["1.5", ""], ["−2", "0"]], ["rw", ".r"]]


def test_stepper():
    done = convolution()
    figure = steps.stepper(done, "output pixel", alt="a kernel slides", start=-1)
    assert figure.kind == "stepper"
    assert figure.data["start"] == 3
    assert figure.data["steps"][2]["text"] == done[2].text
    assert figure.data["steps"][2]["grids"][3] == done[2].grids[3].packed()
    assert figure.caption == f"Output pixel 4 of 4: {done[3].text}"
    assert len(figure._repr_html_()) < 12_000
    assert "pixelated" not in figure._repr_html_()
    colours = {c[:3] for _, c in Image.open(io.BytesIO(figure.picture)).convert("RGB").getcolors(1 << 16)}
    near = [
        min(sum(abs(np.subtract(c, want))) for c in colours) for want in [(191, 220, 236), (245, 215, 191)]
    ]
    assert max(near) < 12  # the tints of window and result over white
    # Grids side by side until 20 cells, then the next line; one wider than that has a line of its own.
    width, height = Image.open(io.BytesIO(figure.picture)).size
    assert (width, height) == (30 * 20, 30 * (5.5 + 5.5))


@pytest.mark.parametrize(("columns", "cells"), [(3, (21, 2.5)), (4, (17, 5.0))])
def test_the_static_picture_breaks_lines_at_twenty_cells(columns, cells):
    grids = (steps.Grid("a", np.zeros((1, 16))), steps.Grid("b", np.zeros((1, columns))))
    figure = steps.stepper([steps.Step("", grids)], alt="two grids")
    assert Image.open(io.BytesIO(figure.picture)).size == tuple(30 * n for n in cells)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: steps.Grid("g", [1, 2]).packed(), r"'g' must have rows and columns, got shape \(2,\)"),
        (
            lambda: steps.Grid("g", [[1, 2]], window=[[1]]).packed(),
            r"'g' must have shape \(1, 2\), got \(1, 1\)",
        ),
        (lambda: steps.stepper([], alt="a"), "among 0, got 0"),
        (
            lambda: steps.product_steps(np.eye(2), [1], input_shape=(1, 2), output_shape=(1, 2)),
            "got 1 numbers",
        ),
        (
            lambda: steps.product_steps(np.eye(2), [1, 2], input_shape=(1, 2), output_shape=(2, 2)),
            r"shape \(2, 2\)",
        ),
    ],
)
def test_errors_show_the_value(call, message):
    with pytest.raises(ValueError, match=message):
        call()
