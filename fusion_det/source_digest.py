"""When Python source counts as changed: a digest of its meaning, blind to comments, docstrings and layout."""

from __future__ import annotations

import ast
import hashlib


def meaning_digest(source: bytes) -> str:
    """sha256 of what Python code means: its syntax tree without docstrings, so comments and layout do not count.

    Anything that is not Python (a compiled module) counts byte by byte.
    """
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return hashlib.sha256(source).hexdigest()
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and ast.get_docstring(
            node
        ):
            node.body = node.body[1:]
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest()
