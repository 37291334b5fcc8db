"""Options and documentation of our components, read without the libraries that they compute with.

`--help` needs a class's fields, docstring and plain class variables. To import its module would
import polars, for a loss torch, which takes seconds. Here the class is made of its source alone:
fields with their types and defaults, no methods. A name that is needed for them is looked up where
the module has it from; only the standard library and `siftune.curate.core` are imported.
"""

from __future__ import annotations

import ast
import builtins
import copy
import importlib
import importlib.util
import sys
from functools import cache
from pathlib import Path
from typing import Any, Final

__all__ = ["outline"]

_IMPORTED: Final = "siftune.curate.core."


@cache
def outline(module: str) -> type[Any] | None:
    """The first class in ``__all__`` of a module of ours, as options and documentation alone.

    None where a field needs more than that, such as a function of the module.
    """
    source = _Source(module)
    try:
        for name in source.get("__all__"):
            if isinstance(source.bound.get(name), ast.ClassDef):
                return _as_type(source.get(name))
    except Exception:  # whatever is missing: the module itself has it
        return None
    return None


def _as_type(value: Any) -> type[Any]:
    assert isinstance(value, type)
    return value


class _Source:
    """A module by its text: a name has its value when it is asked for."""

    def __init__(self, module: str) -> None:
        spec = importlib.util.find_spec(module)
        if spec is None or spec.origin is None:
            raise ModuleNotFoundError(module)
        self._names: dict[str, Any] = {"__name__": module}
        self.bound: dict[str, ast.stmt] = {}
        for statement in ast.parse(Path(spec.origin).read_bytes()).body:
            self.bound |= dict.fromkeys(_bound_by(statement), statement)

    def __getattr__(self, name: str) -> Any:
        """``module.name`` in an annotation of a module that imports this one."""
        return self.get(name)

    def get(self, name: str) -> Any:
        """The value of a name of the module.

        Raises:
            LookupError: it is a function, or comes from a library.
        """
        if name not in self._names:
            statement = self.bound.get(name)
            if isinstance(statement, ast.ImportFrom | ast.Import):
                self._names[name] = _imported(statement, name)
            elif isinstance(statement, ast.ClassDef):
                self._run(_fields_of(statement))
            elif isinstance(statement, ast.Assign | ast.AnnAssign):
                self._run(statement)
            else:
                raise LookupError(name)
        return self._names[name]

    def _run(self, statement: ast.stmt) -> None:
        for name in _read_by(statement) - vars(builtins).keys():
            self.get(name)
        code = compile(ast.Module([statement], []), "", "exec", dont_inherit=True)
        exec(code, self._names)


def _bound_by(statement: ast.stmt) -> list[str]:
    if isinstance(statement, ast.Import | ast.ImportFrom):
        return [alias.asname or alias.name for alias in statement.names]
    if isinstance(statement, ast.ClassDef | ast.FunctionDef):
        return [statement.name]
    targets = getattr(statement, "targets", [getattr(statement, "target", None)])
    return [target.id for target in targets if isinstance(target, ast.Name)]


def _imported(statement: ast.Import | ast.ImportFrom, name: str) -> Any:
    given = next(a.name for a in statement.names if name in (a.asname, a.name))
    module = given if isinstance(statement, ast.Import) else str(statement.module)
    if module.partition(".")[0] in sys.stdlib_module_names or module.startswith(_IMPORTED):
        found = importlib.import_module(module)
        return found if isinstance(statement, ast.Import) else getattr(found, given)
    if not module.startswith("siftune."):
        raise LookupError(module)
    spec = importlib.util.find_spec(module)  # imports the packages above alone
    folders = (spec and spec.submodule_search_locations) or ()
    if any(Path(folder, f"{given}.py").is_file() for folder in folders):
        return _source(f"{module}.{given}")
    return _source(module).get(given)


_source: Final = cache(_Source)


def _fields_of(statement: ast.ClassDef) -> ast.ClassDef:
    """The class with its docstring, fields and literal class variables alone."""
    body = [one for one in statement.body if _is_kept(one)]
    for one in body:
        if isinstance(one, ast.AnnAssign) and _is_class_variable(one):
            one.annotation = ast.copy_location(ast.Name("ClassVar", ast.Load()), one)
    made = copy.copy(statement)
    made.body, made.keywords = body, []
    return made


def _is_kept(one: ast.stmt) -> bool:
    if isinstance(one, ast.AnnAssign) and _is_class_variable(one):
        return one.value is None or not _read_by(one.value)
    return isinstance(one, ast.AnnAssign | ast.Expr)


def _is_class_variable(one: ast.AnnAssign) -> bool:
    return ast.unparse(one.annotation).startswith("ClassVar")


def _read_by(node: ast.AST) -> set[str]:
    return {
        one.id
        for one in ast.walk(node)
        if isinstance(one, ast.Name) and isinstance(one.ctx, ast.Load)
    }
