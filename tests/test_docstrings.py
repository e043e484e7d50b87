"""The examples in docstrings run, and every class that a user makes has one."""

import ast
import doctest
import importlib
from pathlib import Path

import pytest

import aelib

ROOT = Path(aelib.__file__).parent
#: Of the book, thin aliases, and what describes the originals of the data sets.
WITHOUT = {"book", "interactive", "profiles", "results", "steps", "sources", "records"}
MODULES = [
    ".".join(path.relative_to(ROOT.parent).with_suffix("").parts).removesuffix(".__init__")
    for path in sorted(ROOT.rglob("*.py"))
    if not WITHOUT & set(path.relative_to(ROOT).with_suffix("").parts)
]
#: Made by a function or by another class, or a base to derive from.
MADE_BY_OTHERS = {
    "DCI", "Dataset", "DictionaryDecoder", "DictionaryEncoder", "Divergence", "Estimate", "Images",
    "JumpReLU", "Likelihood", "PatchMasking", "Prior", "Sprites", "TiedDense", "TwoOptimizers", "WithPrior",
}  # fmt: skip


@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    module = importlib.import_module(name)
    failed, _ = doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert not failed, "see the standard output"


@pytest.mark.parametrize("name", MODULES)
def test_every_class_has_an_example(name):
    tree = ast.parse(Path(importlib.import_module(name).__file__).read_text("utf-8"))
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name[0] != "_"]
    missing = {node.name for node in classes if ">>>" not in (ast.get_docstring(node) or "")}
    assert not missing - MADE_BY_OTHERS
