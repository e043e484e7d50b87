"""What a chapter writes out is the same as what the package, or a longer run, uses."""

import ast
import importlib
from pathlib import Path

import keras
import nbformat
import numpy as np
from keras import layers, ops
from sklearn.decomposition import PCA

import aelib
from aelib.book import pairs

BOOK = Path(__file__).parents[1] / "book"


def written_out(chapter, *names, **known):
    """Execute the definitions of these names in a chapter's code cells, and return them."""
    notebook = nbformat.read(BOOK / f"{chapter}.ipynb", as_version=4)
    found = {"keras": keras, "layers": layers, "np": np, "ops": ops, "aelib": aelib} | known
    for cell in notebook.cells:
        if cell.cell_type != "code":
            continue
        for node in ast.parse(cell.source).body:
            targets = [t.id for t in getattr(node, "targets", []) if isinstance(t, ast.Name)]
            if {getattr(node, "name", None), *targets} & set(names) - set(found):
                exec(compile(ast.Module([node], []), chapter, "exec"), found)
    return [found[name] for name in names]


def stack(model):
    """The layers of a model without their names."""
    return [(type(layer), layer.get_config() | {"name": ""}) for layer in model.layers]


def test_the_long_convolutional_run_trains_the_net_of_the_chapter():
    _, _, encoder, decoder = written_out(
        "types/convolutional", "FILTERS", "convolution", "encoder", "decoder", SHAPE=(28, 28, 1)
    )
    script = importlib.import_module("benchmarks.convolutional_long")
    for ours, theirs in ((encoder(), script.encoder()), (decoder(), script.decoder())):
        assert len(ours.layers) > 5
        assert str(stack(ours)) == str(stack(theirs))


def test_the_long_convolutional_run_trains_the_other_nets_of_the_chapter_too():
    *_, strided, shared_code, corrected_encoder, _, corrected_decoder = written_out(
        "types/convolutional",
        *(
            "batch_norm",
            "strided",
            "shared_code",
            "corrected_encoder",
            "by_convolutions",
            "corrected_decoder",
        ),
        SHAPE=(28, 28, 1),
    )
    script = importlib.import_module("benchmarks.convolutional_long")
    for one, other in ((strided(8), script.strided(None, 8)), (shared_code(), script.shared_code(None, 256))):
        for part in ("encoder", "decoder"):
            assert str(stack(getattr(one, part))) == str(stack(getattr(other, part)))
    images = np.random.default_rng(0).random((32, 28, 28, 1), dtype="float32")
    pca = PCA(8, svd_solver="covariance_eigh").fit(images.reshape(32, -1))
    keras.utils.set_random_seed(0)
    one = aelib.Autoencoder(corrected_encoder(pca), corrected_decoder(pca))
    keras.utils.set_random_seed(0)
    other = script.corrected(images, 8)
    for ours, theirs in zip(one.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-4)


def test_the_long_importance_weighted_run_trains_the_nets_of_the_chapter():
    images = np.random.default_rng(0).random((9, 28, 28, 1), dtype="float32")
    (build,) = written_out(
        "types/importance_weighted", "build", blocks=aelib.blocks, SHAPE=(28, 28, 1), x_train=images
    )
    script = importlib.import_module("benchmarks.importance_weighted_long")
    ours, theirs = build(script.LATENTS), script.single(0, images)
    for one, other in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_long_run_of_denoising_and_transformation_trains_the_nets_of_the_chapter():
    page_net, upscaler, kinds, *_ = written_out(
        "applications/denoising_and_transformation",
        *("page_net", "upscaler", "KINDS", "conv", "double", "SIDE", "FILTERS_DOWN", "normed", "down", "up"),
        *("encoder", "dense_decoder", "conv_decoder"),
        pairs=pairs,
    )
    script = importlib.import_module("benchmarks.denoising_and_transformation_long")
    nets = [(page_net(full), script.page_net(full)) for full in (True, False)]
    nets += [(upscaler(), script.upscaler())]
    for kind, parts in kinds.items():
        nets += zip(parts(), script.KINDS[kind](), strict=True)
    for ours, theirs in nets:
        assert [type(layer) for layer in ours.layers] == [type(layer) for layer in theirs.layers]
        assert [w.shape for w in ours.weights] == [w.shape for w in theirs.weights]
        keras.utils.set_random_seed(0)
        x = [np.random.default_rng(0).random((2, *(n or 16 for n in i.shape[1:]))) for i in ours.inputs]
        theirs.set_weights(ours.get_weights())
        for one, other in zip(*(keras.tree.flatten(net(x)) for net in (ours, theirs)), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
