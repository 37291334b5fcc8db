"""Where a mutant can be, and which: cosmic-ray's operators at the places that can hold a bug."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from typing import Any

__all__ = ["excluded", "mutated", "sites"]

Place = tuple[int, int]
Site = tuple[str, int]  # an operator, and which of its occurrences in the file

_ARITHMETIC = {"Add", "Sub", "Mul", "Div", "FloorDiv", "Mod", "Pow"}
_ORDER = {"Eq", "NotEq", "Lt", "LtE", "Gt", "GtE"}
_KINDS = (_ARITHMETIC, {"BitOr", "BitAnd", "BitXor"}, _ORDER, {"Is", "IsNot"})
_NEVER = ("RemoveDecorator", "VariableReplacer", "VariableInserter")
_TOLD = {"warn", "warning", "info", "debug", "error", "log", "echo", "note"}


@cache
def _operators() -> dict[str, Any]:
    """The operators in use, by name: what is replaced stays of its kind.

    ``a + b`` becomes ``a - b``, not ``a << b``, which is a type error and no bug of anyone.
    """
    from cosmic_ray.plugins import get_operator, operator_names

    return {
        name: get_operator(name)()
        for name in operator_names()
        if not name.endswith(_NEVER) and _of_a_kind(name)
    }


def _of_a_kind(name: str) -> bool:
    if name.startswith("core/ReplaceUnary"):
        return "_Delete_" in name
    if not name.startswith(("core/ReplaceBinary", "core/ReplaceComparison")):
        return True
    replaced, by = name.split("_")[-2:]
    return any(replaced in kind and by in kind for kind in _KINDS)


def sites(source: str) -> dict[Place, list[Site]]:
    """What can be put in each place of a file, without the places that `excluded` names."""
    from cosmic_ray.ast import get_ast

    left_out = list(excluded(ast.parse(source)))
    counts: dict[str, int] = defaultdict(int)
    found: dict[Place, list[Site]] = defaultdict(list)
    for node in _nodes(get_ast(source)):
        for name, operator in _operators().items():
            if not _fits(name, node):
                continue
            for start, _ in operator.mutation_positions(node):
                if not any(first <= start < last for first, last in left_out):
                    found[start].append((name, counts[name]))
                counts[name] += 1
    return dict(sorted(found.items()))


def _fits(name: str, node: Any) -> bool:
    """Whether to ask an operator at all: most of them replace one symbol."""
    if name.startswith("core/ReplaceBinary"):
        return node.type == "operator"
    return not name.startswith("core/ReplaceComparison") or node.type == "comparison"


def _nodes(node: Any) -> Iterator[Any]:
    """In the order in which cosmic-ray counts occurrences."""
    yield node
    for child in getattr(node, "children", ()):
        yield from _nodes(child)


def mutated(source: str, site: Site) -> str | None:
    """The file with that mutant in it, or None if it says the same or is no Python."""
    from cosmic_ray.mutating import mutate_code

    try:
        changed = mutate_code(source, _operators()[site[0]], site[1])
        same = changed is None or ast.dump(ast.parse(changed)) == ast.dump(ast.parse(source))
        if not same:
            compile(str(changed), "mutant", "exec")
    except (SyntaxError, AttributeError):  # the latter of its own, at `except json.JSONDecodeError`
        return None
    return None if same else changed


def excluded(tree: ast.Module) -> Iterator[tuple[Place, Place]]:
    """Places that decide nothing: types, `__all__`, decorators, what is raised, warned or logged.

    Further ``strict=`` of `zip`, bodies of protocols, and what only type checkers run.
    """
    for node in ast.walk(tree):
        for part in _no_bug(node):
            yield (part.lineno, part.col_offset), (part.end_lineno or 0, part.end_col_offset or 0)


def _no_bug(node: ast.AST) -> list[Any]:
    match node:
        case ast.FunctionDef(decorator_list=decorators, returns=returns):
            return [*decorators, *([returns] if returns else [])]
        case ast.ClassDef(bases=bases, decorator_list=decorators):
            return [*decorators, *(node.body if "Protocol" in map(_name, bases) else [])]
        case ast.arg(annotation=annotation) if annotation:
            return [annotation]
        case ast.AnnAssign(annotation=annotation):
            return [annotation]
        case ast.Assign(targets=[ast.Name(id="__all__")]) | ast.Raise():
            return [node]
        case ast.Assign(value=ast.BinOp(op=ast.BitOr()) as types) if node.col_offset == 0:
            return [types]
        case ast.If(test=test) if _name(test) == "TYPE_CHECKING":
            return [node]
        case ast.Call(func=function) if _name(function) in _TOLD:
            return [node]
        case ast.keyword(arg="strict", value=ast.Constant()):
            return [node]
    return []


def _name(node: ast.expr) -> str:
    match node:
        case ast.Attribute(attr=name) | ast.Name(id=name):
            return name
        case ast.Subscript(value=value):
            return _name(value)
    return ""
