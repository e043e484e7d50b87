import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import same_color, to_hex

from aelib import plots

GREY = np.random.default_rng(0).random((5, 4, 6, 1))
COLOUR = np.random.default_rng(1).random((3, 4, 6, 3))


@pytest.fixture(autouse=True, params=[False, True], ids=["matplotlib's style", "the book's style"])
def _style(request, monkeypatch):
    monkeypatch.setattr(plt, "show", lambda *_, **__: pytest.fail("a plot must not show itself"))
    with mpl.rc_context():
        if request.param:
            plots.use_style()
        yield


def drawn(ax):
    return ax.images[0].get_array()


def test_use_style_sets_the_palette():
    plots.use_style()
    assert mpl.rcParams["image.cmap"] == "gray"
    cycle = mpl.rcParams["axes.prop_cycle"].by_key()["color"]
    assert len(set(cycle)) == len(cycle) == 6


def test_colours_are_one_for_one():
    distinct = {name: colour for name, colour in plots.COLORS.items() if name != "autoencoder"}
    assert len(set(distinct.values())) == len(distinct)
    assert all(to_hex(colour) == colour.lower() for colour in plots.COLORS.values())


def test_image_rows():
    axes = plots.image_rows({"original": GREY, "in colour": COLOUR}, columns=4, vmax=2.0)
    assert axes.shape == (2, 3)
    for i in range(3):
        np.testing.assert_array_equal(drawn(axes[0, i]), GREY[i, ..., 0])
        np.testing.assert_array_equal(drawn(axes[1, i]), COLOUR[i])
    assert axes[0, 0].images[0].get_clim() == (0.0, 2.0)
    assert [ax.get_ylabel() for ax in axes[:, 0]] == ["original", "in colour"]
    assert axes[0, 1].get_ylabel() == ""
    assert all(not len(ax.get_xticks()) and not len(ax.get_yticks()) for ax in axes.flat)
    axes[0, 0].figure.canvas.draw()


def test_image_rows_draws_no_more_than_asked():
    axes = plots.image_rows({"one": GREY}, columns=2, cmap="viridis")
    assert axes.shape == (1, 2)
    assert axes[0, 0].images[0].get_cmap().name == "viridis"


def test_images_of_one_line_keep_their_shape():
    assert drawn(plots.image_rows({"code": GREY[:, :1]})[0, 0]).shape == (1, 6)
    assert drawn(plots.image_grid(GREY[:, :1])[0, 0]).shape == (1, 6)


@pytest.mark.parametrize("titles", [["first", "second"], np.array(["first", "second"])])
def test_image_grid(titles):
    axes = plots.image_grid(GREY, columns=3, vmin=-1, vmax=1, cmap="gray", titles=titles)
    assert axes.shape == (2, 3)
    for ax, image in zip(axes.flat, GREY, strict=False):
        np.testing.assert_array_equal(drawn(ax), image[..., 0])
        assert ax.images[0].get_clim() == (-1, 1)
    assert not axes[1, 2].images
    assert not any(ax.axison for ax in axes.flat)
    assert [ax.get_title() for ax in axes.flat] == ["first", "second", "", "", "", ""]
    plain = plots.image_grid(GREY, columns=3)
    assert axes[0, 0].figure.get_figheight() > plain[0, 0].figure.get_figheight()
    assert not any(ax.get_title() for ax in plain.flat)


def test_learning_curves():
    ax = plots.learning_curves(
        {"train loss": [4, 2, 1], "Validation, held out": [5, 3], "mine": [1]},
        scale=0.5,
        ylabel="nats",
        floor=0.25,
    )
    train, validation, _, floor = ax.lines
    np.testing.assert_array_equal(train.get_xdata(), [1, 2, 3])
    np.testing.assert_array_equal(train.get_ydata(), [2, 1, 0.5])
    np.testing.assert_array_equal(validation.get_ydata(), [2.5, 1.5])
    assert same_color(train.get_color(), plots.COLORS["train"])
    assert same_color(validation.get_color(), plots.COLORS["validation"])
    assert set(floor.get_ydata()) == {0.25}
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("epoch", "nats")
    legend = [text.get_text() for text in ax.get_legend().get_texts()]
    assert legend == ["train loss", "Validation, held out", "mine", "floor"]


def test_learning_curves_have_colours_of_their_own():
    names = ["autoencoder", "the same, longer", "validation", "validation, once more", "train"]
    ax = plots.learning_curves({name: [1.0] for name in names})
    assert len({line.get_color() for line in ax.lines}) == len(names)
    assert same_color(ax.lines[0].get_color(), plots.COLORS["autoencoder"])
    assert same_color(ax.lines[2].get_color(), plots.COLORS["validation"])


def test_learning_curves_draws_where_it_is_told():
    figure, ax = plt.subplots()
    assert plots.learning_curves({"train": [1.0]}, ax=ax) is ax
    assert plt.get_fignums() == [figure.number]
    assert len(ax.lines) == 1


def test_colours_are_spelt_both_ways():
    assert plots.COLOURS is plots.COLORS


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda: plots.image_rows({"one": GREY}, columns=0), "columns must be a whole number >= 1, got 0"),
        (lambda: plots.image_rows({}), r"rows must hold images under every name, got \[\]"),
        (lambda: plots.image_rows({"none": GREY[:0]}), r"got \['none'\]"),
        (lambda: plots.image_grid(GREY, columns=2.5), "columns must be a whole number >= 1, got 2.5"),
        (lambda: plots.image_grid(GREY[:0]), r"images must be .* got shape \(0, 4, 6, 1\)"),
    ],
)
def test_what_cannot_be_drawn_is_shown(draw, message):
    with pytest.raises(ValueError, match=message):
        draw()
    assert not plt.get_fignums()
