from pathlib import Path

import numpy as np

import aelib
from aelib import blocks, saved


def test_a_saved_model_comes_back(tmp_path):
    model = aelib.SparseAutoencoder(blocks.dense_encoder(6, 2), blocks.dense_decoder(6, 2), strength=0.1)
    model.compile("adam")
    model.save(tmp_path / "model.keras")
    x = np.random.default_rng(0).random((5, 6), dtype="float32")
    loaded = aelib.load_model(tmp_path / "model.keras", compile=False)
    assert type(loaded) is aelib.SparseAutoencoder
    np.testing.assert_allclose(loaded.encode(x), model.encode(x), atol=1e-6)


def test_every_module_whose_classes_are_saved_is_known():
    root = Path(aelib.__file__).parent
    own = [path for path in root.rglob("*.py") if "register_keras_serializable" in path.read_text("utf-8")]
    names = {path.relative_to(root).with_suffix("").parts[0] for path in own}
    # The others are imported by these.
    assert names - set(saved._MODULES) == {"autoencoder"}
