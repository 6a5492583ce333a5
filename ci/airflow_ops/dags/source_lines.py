"""The line of a DAG file in which something is defined, for messages. Line 0 means that the line is not known."""

import ast
import inspect
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Lines:
    """Finds the line of a definition in one file.

    Attributes:
        path: The file.
        tree: Its syntax tree; empty where it has none.
    """

    path: Path
    tree: ast.Module

    def of_import(self, package: str) -> int:
        """Line in which the file itself imports a package."""
        for node in ast.walk(self.tree):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            if any(name.partition(".")[0] == package for name in names):
                return int(getattr(node, "lineno", 0))
        return 0

    def of_dag(self, dag_id: str) -> int:
        """Line in which a DAG is made: its decorated function, else the call that names it."""
        return self._definition(dag_id) or self._call("dag_id", dag_id)

    def of_task(self, task: Any, dag_id: str) -> int:
        """Line in which a task is made: its function, else the call that names it, else its DAG."""
        function = inspect.unwrap(getattr(task, "python_callable", None) or _nothing)
        code = getattr(function, "__code__", None)
        if code is not None and code.co_filename == str(self.path):
            return int(code.co_firstlineno)
        name = task.task_id.rpartition(".")[2]
        return self._call("task_id", name) or self._definition(name) or self.of_dag(dag_id)

    def _definition(self, name: str) -> int:
        found = (node.lineno for node in ast.walk(self.tree) if isinstance(node, ast.FunctionDef) and node.name == name)
        return next(found, 0)

    def _call(self, argument: str, value: str) -> int:
        for node in ast.walk(self.tree):
            for keyword in node.keywords if isinstance(node, ast.Call) else []:
                if keyword.arg == argument and isinstance(keyword.value, ast.Constant) and keyword.value.value == value:
                    return keyword.value.lineno
        return 0


def of(path: Path) -> Lines:
    """The lines of a file; all are 0 where it is not valid Python."""
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):
        tree = ast.Module(body=[], type_ignores=[])
    return Lines(path, tree)


def of_traceback(text: str, file: Path) -> int:
    """The innermost line of a file that a traceback names."""
    found = re.findall(rf'File "{re.escape(str(file))}", line (\d+)', text)
    return int(found[-1]) if found else 0


def _nothing() -> None:
    """Used for a task that has no function."""
