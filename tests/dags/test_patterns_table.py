"""docs/patterns.md says what is there."""

import ast
import re
from pathlib import Path

import pytest

from airflow_ops.paths import DAGS, ROOT

PAGE = ROOT / "docs/patterns.md"


def rows() -> list[list[str]]:
    """Pattern, module, name, DAG and test of each line of the table."""
    table = PAGE.read_text().split("| Pattern |")[1].split("\n\n")[0]
    return [[cell.strip(" `") for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]


def wrong(row: list[str]) -> list[str]:
    """What a line says that is not so."""
    _, module, name, dag_id, test = row
    dag, found = DAGS / dag_id.split("_")[0] / f"{dag_id}.py", []
    missing = [str(path) for path in (ROOT / module, dag, ROOT / test) if not path.is_file()]
    if missing:
        return [f"{path} is not there" for path in missing]
    if not re.search(rf"^(class|def) {name}\b", (ROOT / module).read_text(), re.MULTILINE):
        found.append(f"{module} has no {name}")
    if name not in used_by(dag):
        found.append(f"{dag_id} does not use {name}")
    if name not in (ROOT / test).read_text() and dag_id not in (ROOT / test).read_text():
        found.append(f"{test} has neither {name} nor {dag_id}")
    return found


def used_by(dag: Path) -> set[str]:
    """The names in the code of a DAG, and of the modules of the bundle that it imports."""
    names: set[str] = set()
    waiting, seen = [dag], {dag}
    while waiting:
        for node in ast.walk(ast.parse(waiting.pop().read_text())):
            if isinstance(node, ast.ImportFrom):
                names |= {alias.name for alias in node.names}
                parts = [node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)]
                found = {DAGS / f"{part.replace('.', '/')}.py" for part in parts}
                waiting += [path for path in found - seen if path.is_file()]
                seen |= found
            elif isinstance(node, ast.Name | ast.Attribute):
                names.add(node.id if isinstance(node, ast.Name) else node.attr)
    return names


@pytest.mark.parametrize("row", rows(), ids=lambda row: row[0])
def test_every_line_names_what_is_there(row: list[str]) -> None:
    assert wrong(row) == []


@pytest.mark.parametrize(
    ("column", "value", "reason"),
    [
        (1, "dags/shared/none.py", "none.py is not there"),
        (2, "nothing", "has no nothing"),
        (3, "flights_publish_report", "flights_publish_report does not use RobustApiOperator"),
        (4, "tests/dags/none.py", "none.py is not there"),
        (4, "tests/dags/shared/authoring/test_resources.py", "has neither RobustApiOperator nor platform_call_api"),
    ],
)
def test_a_line_that_is_wrong_is_found(column: int, value: str, reason: str) -> None:
    test = "tests/dags/platform/test_platform_call_api.py"
    row = ["a", "dags/shared/calling/api_operator.py", "RobustApiOperator", "platform_call_api", test]
    assert wrong(row) == []
    row[column] = value
    assert any(reason in found for found in wrong(row))


def test_every_dag_that_shows_a_pattern_is_in_the_table() -> None:
    shown = {file.stem for file in DAGS.glob("*/*.py") if re.search(r'tags=\[[^]]*"pattern"', file.read_text())}
    assert shown <= {row[3] for row in rows()}
