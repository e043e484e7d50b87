"""What holds for the package as a whole: its imports, its size, and that it runs on several devices."""

import ast
import graphlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

import aelib

ROOT = Path(aelib.__file__).parent
SOURCES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in sorted(ROOT.rglob("*.py"))
}
SOURCES = {name.removesuffix(".__init__"): path for name, path in SOURCES.items() if name != "__init__"}
MODULES = {name: ast.parse(path.read_text("utf-8")) for name, path in SOURCES.items()}
#: Modules that have moved to `aelib.book`; they go with the last chapter that still calls them so.
ALIASES = {"interactive", "profiles", "results", "steps"}
# What each floor of the house may build on; whatever stands on none is an application, and may use them all.
FLOORS = [
    {"checks", "files"},
    {"autodiff", "blocks", "convmatrix", "corruptions", "metrics", "objectives", "plots", "quantizer"},
    {"layers", "likelihoods"},
    {"architecture", "batches", "bounds", "divergences", "priors", "training"},
    {"adversarial", "autoencoder", "penalized", "variational"},
]
BACKENDS = {"jax", "tensorflow", "torch"}
KNOW_A_BACKEND = {"autodiff", "training"}

each_module = pytest.mark.parametrize("name", MODULES)


def imported(nodes):
    """Every dotted name that is imported, `from a import b` as a.b."""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{'aelib.' * bool(node.level)}{node.module or ''}.{a.name}" for a in node.names)


def siblings(name):
    """The modules of aelib that a module imports, anywhere in it; of a package, only the package itself."""
    found = set()
    for dotted in imported(ast.walk(MODULES[name])):
        parts = [part for part in dotted.split(".") if part]
        if parts[0] == "aelib":
            longest = [".".join(parts[1:n]) for n in range(len(parts), 1, -1)]
            found |= {next((module for module in longest if module in MODULES), name)}
    return found - {name}


def floor(name):
    """The number of the floor that a module stands on; applications stand on the top one."""
    return next((number for number, names in enumerate(FLOORS) if name.split(".")[0] in names), len(FLOORS))


def at_top_level(node):
    """The nodes that run at import: everything outside functions."""
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield child
            yield from at_top_level(child)


def test_import_is_quick_and_light():
    code = """
import json, sys, time
start = time.perf_counter()
import aelib
print(json.dumps([time.perf_counter() - start, list(sys.modules)]))
"""
    runs = [subprocess.run([sys.executable, "-c", code], capture_output=True, check=True) for _ in range(3)]
    seconds, modules = zip(*(json.loads(run.stdout) for run in runs), strict=True)
    assert min(seconds) < 0.2
    assert not {"keras", "matplotlib", "numpy", "sklearn", *BACKENDS} & set(modules[0])


def test_every_public_name_resolves():
    assert aelib.__all__
    assert set(aelib.__all__) <= set(dir(aelib))
    for name in aelib.__all__:
        assert getattr(aelib, name) is not None
    with pytest.raises(AttributeError, match="nothing_of_the_kind"):
        _ = aelib.nothing_of_the_kind


def test_imports_make_no_circle():
    graphlib.TopologicalSorter({name: siblings(name) for name in MODULES}).prepare()


@each_module
def test_imports_point_one_way(name):
    if name.split(".")[0] in ("data", "book"):
        return
    for other in siblings(name):
        assert floor(other) <= floor(name), f"{name} builds on {other}, which stands higher"
        assert other.split(".")[0] != "book" or name in ALIASES, f"{name} is no part of the book"


def test_the_book_asks_the_data_and_never_the_other_way_round():
    for name in MODULES:
        if name.split(".")[0] == "data":
            packages = {other.split(".")[0] for other in siblings(name)}
            assert packages <= {"data", "checks", "files", "likelihoods"}, name
    assert "data" in siblings("book.ledger")


@pytest.mark.parametrize("name", ["metrics", "plots", "objectives", "likelihoods", "blocks"])
def test_figures_and_terms_import_no_model(name):
    assert not siblings(name) & {"autoencoder", "variational", "bounds"}


@each_module
def test_no_backend_is_named(name):
    named = {dotted.split(".")[0] for dotted in imported(at_top_level(MODULES[name]))} & BACKENDS
    assert not named or name in KNOW_A_BACKEND


@each_module
def test_everything_public_is_documented(name):
    tree = MODULES[name]
    assert ast.get_docstring(tree)
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            assert ast.get_docstring(node), node.name


TWO_DEVICES = """
import contextlib, json
import keras, numpy as np, tensorflow as tf
from aelib import Autoencoder, blocks

processor = tf.config.list_physical_devices("CPU")[0]
tf.config.set_visible_devices([processor])
tf.config.set_logical_device_configuration(processor, [tf.config.LogicalDeviceConfiguration()] * 2)
x = np.random.default_rng(0).random((10, 4), dtype="float32")

def train(scope):
    keras.utils.set_random_seed(0)
    code = keras.layers.Dense(2, kernel_regularizer="l2")
    with scope:
        encoder = keras.Sequential([keras.Input((4,)), code])
        model = Autoencoder(encoder, blocks.dense_decoder((4,), 2, hidden=()), likelihood="gaussian")
        model.compile(keras.optimizers.SGD(0.1))
    history = model.fit(x, batch_size=6, epochs=2, shuffle=False, verbose=0).history
    return {"history": history, "weights": np.concatenate([w.ravel() for w in model.get_weights()]).tolist()}

two = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
assert two.num_replicas_in_sync == 2
print(json.dumps([train(contextlib.nullcontext()), train(two.scope())]))
"""


def test_two_devices_train_as_one():
    """The same loss and the same weights, at the same global batch."""
    run = subprocess.run([sys.executable, "-c", TWO_DEVICES], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    one, two = json.loads(run.stdout.splitlines()[-1])
    assert set(two["history"]) == {"loss", "reconstruction", "regularization"}
    for name, values in one["history"].items():
        assert two["history"][name] == pytest.approx(values, rel=1e-5), name
    assert two["weights"] == pytest.approx(one["weights"], rel=1e-4, abs=1e-6)
