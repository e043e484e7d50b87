"""The same code on Keras's other backends, each in one process of its own where it is installed.

That process is fresh: it loads what this one has saved. On other backends than this one it then goes through
the contract's columns and the faults. Nothing here ends by the clock; the suite's own guard is 20 minutes.
"""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from types_table import TYPES, X, compiled, fit

HERE = Path(__file__).parent
LOAD = """
import sys
import keras, numpy as np, pytest
from aelib.book import ledger
from types_table import TYPES, X

folder, *arguments = sys.argv[1:]
expected = np.load(f"{folder}/expected.npz")
for number, name in enumerate(TYPES):
    model = keras.saving.load_model(f"{folder}/{number}.keras")
    np.testing.assert_allclose(model.reconstruct(X), expected[f"reconstruct {name}"], atol=1e-5, err_msg=name)
    np.testing.assert_allclose(model.encode(X), expected[f"encode {name}"], atol=1e-5, err_msg=name)
    assert int(model.optimizer.iterations) == 3
print("loaded", len(TYPES), "types on", keras.backend.backend(), "with", ledger.device())
sys.exit(pytest.main(arguments) if arguments else 0)
"""
COLUMNS = [
    *("-q", "-p", "no:cacheprovider", "-p", "no:randomly", "-k", "column or core"),
    *(str(HERE / name) for name in ("test_autoencoder.py", "test_faults.py", "test_priors.py")),
]


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A trained model of every type, and what it says of the data."""
    folder, expected = tmp_path_factory.mktemp("models"), {}
    for number, (name, row) in enumerate(TYPES.items()):
        model = compiled(row.build)
        fit(model)
        model.save(folder / f"{number}.keras")
        expected |= {f"reconstruct {name}": model.reconstruct(X), f"encode {name}": model.encode(X)}
    np.savez(folder / "expected.npz", **expected)
    return folder


@pytest.mark.parametrize("backend", ["tensorflow", "jax", "torch"])
def test_a_fresh_process_on_each_backend(backend, saved, tmp_path):
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    arguments = [] if backend == keras.backend.backend() else COLUMNS
    env = os.environ | {
        "KERAS_BACKEND": backend,
        "AELIB_PROGRESS": "0",
        "PYTHONPATH": os.pathsep.join([str(HERE), str(HERE.parent)]),
        # Thousands of small programs, each run a few times: what compiles quickest.
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
        "XLA_FLAGS": "--xla_cpu_use_fusion_emitters=false",
    }
    command = [sys.executable, "-c", LOAD, str(saved), *arguments]
    run = subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout[-10_000:] + run.stderr[-5_000:]
    assert f"loaded {len(TYPES)} types on {backend}" in run.stdout
    print(run.stdout)


def test_a_stranger_s_likelihood_in_a_fresh_process(tmp_path):
    """Trained, bounded and saved by a script outside of the package; loaded by another process."""
    script = HERE / "outside" / "zero_inflated.py"
    env = os.environ | {"PYTHONPATH": str(HERE.parent)}
    figures = []
    for step in ("train", "load"):
        command = [sys.executable, str(script), step]
        run = subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True)
        assert run.returncode == 0, run.stderr
        figures.append([float(word) for word in run.stdout.split()])
    elbo, score, mean = figures[0]
    assert figures[1] == pytest.approx(figures[0], rel=1e-6)
    assert -100 < elbo < 0
    assert score == pytest.approx(-elbo, rel=0.1)
    assert mean > 0
