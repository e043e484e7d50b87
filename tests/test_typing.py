"""Everything public has type hints that resolve, and type checkers are told that they are there."""

import ast
import importlib
import inspect
import tomllib
import typing

import pytest
from test_package import ALIASES, MODULES, ROOT

#: Their arguments are tensors alone, and the book prints some of them.
HOOKS = {"build", "call", "compute_loss", "compute_output_shape", "feature_nll", "terms"}

each_module = pytest.mark.parametrize("name", sorted(MODULES.keys() - ALIASES))


def is_public(node):
    """Return whether a node is a function for the users of a module or class."""
    return isinstance(node, ast.FunctionDef) and (node.name == "__init__" or not node.name.startswith("_"))


def functions(name):
    """Yield (class or None, function) for the public ones; of private classes too, which others extend."""
    for node in MODULES[name].body:
        if isinstance(node, ast.ClassDef):
            methods = [child for child in node.body if is_public(child) and child.name not in HOOKS]
            yield from ((node.name, method) for method in methods)
        elif is_public(node):
            yield None, node


def lacking(function):
    """Return which parameters have no hint, and "return" where the result has none."""
    every = [node for node in ast.walk(function.args) if isinstance(node, ast.arg)]
    own = [arg.arg for arg in every if arg.annotation is None and arg.arg not in ("self", "cls")]
    return own + ["return"] * (function.returns is None and function.name != "__init__")


@each_module
def test_everything_public_has_hints(name):
    missing = {(owner, function.name): lacking(function) for owner, function in functions(name)}
    assert not {function: parts for function, parts in missing.items() if parts}


@each_module
def test_hints_resolve(name):
    module, extra = importlib.import_module(f"aelib.{name}"), {}
    for node in MODULES[name].body:  # what is imported for type checkers alone
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            exec(ast.unparse(node.body), extra)
    for owner, function in functions(name):
        found = inspect.getattr_static(module if owner is None else getattr(module, owner), function.name)
        found = found.fget if isinstance(found, property) else getattr(found, "__func__", found)
        typing.get_type_hints(found, localns=extra)


def test_hints_are_announced():
    assert (ROOT / "py.typed").is_file()
    project = tomllib.loads((ROOT.parent / "pyproject.toml").read_text("utf-8"))
    assert "py.typed" in project["tool"]["setuptools"]["package-data"]["aelib"]
