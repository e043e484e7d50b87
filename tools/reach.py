"""Which definitions of aelib some code reaches, read from syntax trees: nothing is imported or run.

A definition is a statement at the top of a module that binds a name. It reaches what its own names lead to:
through imports, the lazy exports of a package, and attributes of modules. A module that is passed on as an
object is reached whole. What runs at import without binding a name counts wherever its module is reached.
Type hints of functions change no result, and do not count.
"""

import ast
import hashlib
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

WHOLE, UNNAMED = "*", ""
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def digest(text):
    """Return a short hash of a text."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def text_of(node):
    """Return a syntax tree as a text, without empty fields: which there are depends on Python's version."""
    if isinstance(node, list):
        return f"[{','.join(map(text_of, node))}]"
    if not isinstance(node, ast.AST):
        return repr(node)
    fields = [f"{name}={text_of(value)}" for name, value in ast.iter_fields(node) if value not in (None, [])]
    return f"{type(node).__name__}({','.join(fields)})"


def paths(node):
    """Yield the dotted paths below a node, `a.b.c` once, as ["a", "b", "c"]."""
    inner, attributes = node, []
    while isinstance(inner, ast.Attribute):
        inner, attributes = inner.value, [inner.attr, *attributes]
    if isinstance(inner, ast.Name):
        yield [inner.id, *attributes]
    else:
        for child in ast.iter_child_nodes(inner):
            yield from paths(child)


def is_for_type_checkers(node):
    """Return whether a statement is an `if TYPE_CHECKING:` without an else."""
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING" and not node.orelse


@dataclass
class Module:
    """By name, where a module's imports lead, and the text of what it defines, with the paths in it."""

    imports: dict
    texts: dict
    paths: dict

    def text(self, name):
        """Return a definition as a text, with what the names in it mean that come from outside aelib."""
        targets = {target for path in self.paths[name] for target in self.imports.get(path[0], ())}
        return f"{name}: {self.texts[name]} {sorted(t for t in targets if t.split('.')[0] != 'aelib')}"


def parse(source, package=""):
    """Return the `Module` of a source, without docstrings and hints; a `package` may export names lazily."""
    tree, imports = ast.parse(source), defaultdict(set)
    tree.body = [node for node in tree.body if not is_for_type_checkers(node)]
    for node in ast.walk(tree):
        if isinstance(node, ast.arg):
            node.annotation = None
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            node.returns = None
        if isinstance(node, ast.Import):
            for alias in node.names:
                name = alias.asname or alias.name.split(".")[0]
                imports[name].add(alias.name if alias.asname else name)
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                raise ValueError(f"relative imports are not followed, got {ast.unparse(node)!r}")
            for alias in node.names:
                imports[alias.asname or alias.name].add(f"{node.module}.{alias.name}")
        elif isinstance(node, ast.Call) and ast.unparse(node.func) == "lazy_loader.attach":
            exports = next((k.value for k in node.keywords if k.arg == "submod_attrs"), ast.Dict([], []))
            for module, names in ast.literal_eval(exports).items():
                for name in names:
                    imports[name].add(f"{package}.{module}.{name}")
        elif isinstance(node, DOCUMENTED) and ast.get_docstring(node, clean=False) is not None:
            node.body[0] = ast.Pass()
    texts, found = defaultdict(str), defaultdict(list)
    for node in tree.body:
        if isinstance(node, ast.Import | ast.ImportFrom | ast.Pass):
            continue
        stored = [n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)]
        for name in [node.name] if hasattr(node, "name") else stored or [UNNAMED]:
            texts[name] += text_of(node)
            found[name] += paths(node)
    return Module(dict(imports), dict(texts), dict(found))


def read(folder):
    """Return the modules of the package in a folder, as {"aelib.blocks": Module, ...}."""
    found = {}
    for path in sorted(Path(folder).rglob("*.py")):
        name = ".".join(["aelib", *path.relative_to(folder).with_suffix("").parts]).removesuffix(".__init__")
        found[name] = parse(path.read_text("utf-8"), name)
    return found


def follow(modules, name, path):
    """Yield each (module, definition) that a path may lead to from a module on, inside the package."""
    if not path:
        yield name, WHOLE
        return
    first, *rest = path
    module = modules[name]
    if f"{name}.{first}" in modules:
        yield from follow(modules, f"{name}.{first}", rest)
    elif first in module.imports:
        for top, *below in (target.split(".") for target in module.imports[first]):
            if top == "aelib":
                yield from follow(modules, top, below + rest)
    else:
        yield name, first if first in module.paths else WHOLE


def hashes(source, modules):
    """Return the hash of what a source reaches in each module of aelib, as {"blocks": hash, ...}."""
    modules = modules | {"": parse(source)}
    reached, ahead = defaultdict(set), [("", name) for name in modules[""].paths]
    while ahead:
        name, definition = ahead.pop()
        module = modules[name]
        if definition in reached[name]:
            continue
        reached[name].add(definition)
        if definition == WHOLE:
            ahead += [(name, each) for each in module.paths]
            named = [[bound] for bound in module.imports]
        else:
            ahead += [(name, UNNAMED)] if UNNAMED in module.paths else []
            named = [
                path for path in module.paths[definition] if path[0] in {**module.imports, **module.paths}
            ]
        ahead += [place for path in named for place in follow(modules, name, path)]
    reached.pop("", None)
    return {
        name.removeprefix("aelib."): digest("\n".join(map(modules[name].text, sorted(names - {WHOLE}))))
        for name, names in sorted(reached.items())
    }
