"""Task groups that DAGs are composed of: a load with its checks, and the life of a model.

A group is made by a function at parse time; what its tasks do is imported when they run. Between tasks go the URIs of
staged files, never rows: tasks run in pods that share no disk, and XComs are rows of the metadata database.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import TYPE_CHECKING, Any, Literal

from airflow.sdk import TaskGroup, get_current_context, task

from shared.authoring.defaults import default_args
from shared.authoring.resources import resources
from shared.loading.quality import Result
from shared.loading.tables import Severity, Table

if TYPE_CHECKING:
    from airflow.sdk import ObjectStoragePath

log = logging.getLogger(__name__)

Row = dict[str, Any]
Rows = list[Row]
Comparison = Literal[">=", "<=", ">", "<"]
COMPARISONS: Mapping[Comparison, Callable[[float, float], bool]] = {
    ">=": lambda observed, threshold: observed >= threshold,
    "<=": lambda observed, threshold: observed <= threshold,
    ">": lambda observed, threshold: observed > threshold,
    "<": lambda observed, threshold: observed < threshold,
}


@dataclass(frozen=True)
class QualityRule:
    """What rows have to keep before they are transformed.

    Attributes:
        name: Name of the check in `quality_results`.
        measure: A number for the rows.
        threshold: What the number is compared with.
        comparison: How.
        severity: An error stops the group, a warning is recorded and logged.
    """

    name: str
    measure: Callable[[Rows], float]
    threshold: float
    comparison: Comparison = ">="
    severity: Severity = "error"

    def judge(self, rows: Rows) -> Result:
        """What the rule says of rows."""
        observed = float(self.measure(rows))
        passed = COMPARISONS[self.comparison](observed, self.threshold)
        detail = "" if passed else f"is {observed:g}, wanted {self.comparison} {self.threshold:g}"
        return Result(self.name, self.severity, passed, observed, self.threshold, detail)


def share_without(column: str) -> Callable[[Rows], float]:
    """A measure: the share of rows (0 to 1) that have no value in a column; 0 of no rows."""
    return lambda rows: sum(row[column] is None for row in rows) / len(rows) if rows else 0.0


def etl_group(
    entity: str,
    *,
    source_sql: str,
    quality_rules: Sequence[QualityRule],
    transformations: Sequence[Callable[[Rows], Rows]],
    target: Table,
    validation_queries: Mapping[str, str],
    pool: str = "warehouse",
) -> TaskGroup:
    """A day of one entity: extract, quality_check, transform, load, validate; its staged files go in the end.

    A run can be repeated: the load replaces the day's rows in one transaction.

    Args:
        entity: Name of the group.
        source_sql: A SELECT of the warehouse; each `?` in it is the day.
        quality_rules: What the extracted rows have to keep; results are kept in `quality_results`.
        transformations: Functions from rows to rows, in order.
        target: A daily table of the warehouse; rows have a value for each of its columns.
        validation_queries: SELECTs by name, each `?` the day; the first cell of each has to be true after the load.
        pool: Pool of the tasks that write to the warehouse.
    """
    with TaskGroup(entity) as group:

        @task
        def extract() -> str:
            return _extract(entity, source_sql)

        @task
        def quality_check(uri: Any) -> str:
            _check(target, quality_rules, _staged(uri))
            return str(uri)

        @task
        def transform(uri: Any) -> str:
            return _stage(
                reduce(lambda rows, change: change(rows), transformations, _staged(uri)), entity, "transformed"
            )

        @task(pool=pool)
        def load(uri: Any) -> int:
            return _load(target, _staged(uri))

        @task
        def validate(loaded: Any) -> int:
            _validate(target, validation_queries)
            return int(loaded)

        @task(executor_config=resources("small"))
        def remove_staging() -> None:
            from shared.loading.staging import remove

            remove(_folder(entity))

        extracted = extract()
        validated = validate(load(transform(quality_check(extracted))))
        validated >> remove_staging().as_teardown(setups=extracted.as_setup())  # type: ignore[arg-type]
    return group


def _extract(entity: str, sql: str) -> str:
    from shared.loading.warehouse import query, warehouse_hook

    return _stage(query(warehouse_hook(), sql, [_day()] * sql.count("?")), entity, "extracted")


def _check(target: Table, rules: Sequence[QualityRule], rows: Rows) -> None:
    from shared.loading.warehouse import create_tables, record_results, warehouse_hook

    hook, results = warehouse_hook(), [rule.judge(rows) for rule in rules]
    create_tables(hook, [])
    record_results(hook, target.name, _day(), results, get_current_context()["run_id"])
    require(results)


def _load(target: Table, rows: Rows) -> int:
    from shared.loading.warehouse import Load, create_tables, load, warehouse_hook

    hook = warehouse_hook()
    create_tables(hook, [target])
    values = [tuple(row[name] for name in target.header) for row in rows]
    return load(hook, [Load(target, _day(), values)], get_current_context()["run_id"])[target.name]


def _validate(target: Table, queries: Mapping[str, str]) -> None:
    from airflow.sdk.exceptions import AirflowFailException

    from shared.loading.warehouse import query, warehouse_hook

    hook, day = warehouse_hook(), _day()
    answers = {name: query(hook, sql, [day] * sql.count("?")) for name, sql in queries.items()}
    broken = [name for name, rows in answers.items() if not (rows and next(iter(rows[0].values())))]
    if broken:
        raise AirflowFailException(f"{target.name} of {day} is loaded but: {', '.join(broken)}.")


def require(results: Sequence[Result]) -> None:
    """Log what does not pass.

    Raises:
        AirflowFailException: An error does not pass: the rows stay as they are, so no retry can heal it.
    """
    from airflow.sdk.exceptions import AirflowFailException

    for result in results:
        log.info("%s %s %s", "PASS" if result.passed else result.severity.upper(), result.check, result.detail)
    if errors := [f"{r.check} {r.detail}" for r in results if not r.passed and r.severity == "error"]:
        raise AirflowFailException("; ".join(errors))


@dataclass(frozen=True)
class ModelSteps:
    """The nine steps of a model's life; each gets what the one before returned, the first one nothing (None).

    `validate` comes after `tune`, so that what is judged is what is deployed. It raises where the model is not good
    enough: then nothing is registered and the deployed model stays.
    """

    extract_features: Callable[[Any], Any]
    clean_data: Callable[[Any], Any]
    split_data: Callable[[Any], Any]
    train: Callable[[Any], Any]
    tune: Callable[[Any], Any]
    validate: Callable[[Any], Any]
    register: Callable[[Any], Any]
    deploy: Callable[[Any], Any]
    test_endpoint: Callable[[Any], Any]


STAGES = {
    "data_preparation": ("extract_features", "clean_data", "split_data"),
    "model_training": ("train", "tune", "validate"),
    "model_deployment": ("register", "deploy", "test_endpoint"),
}
"""The groups inside the group, and their steps."""


def model_group(group_id: str, steps: ModelSteps, *, owner: str, size: str = "default") -> TaskGroup:
    """The life of a model: a group of three groups, by the retry profile `ml`.

    Args:
        group_id: Name of the group.
        steps: What is done.
        owner: The team that answers for it.
        size: Worker size of the steps.
    """
    arguments = default_args(owner, "ml", executor_config=resources(size))
    with TaskGroup(group_id, default_args=arguments) as group:  # type: ignore[arg-type]
        before: Any = None
        for stage, names in STAGES.items():
            with TaskGroup(stage):
                for name in names:
                    before = task(task_id=name)(getattr(steps, name))(before)
    return group


def _day() -> str:
    from shared.authoring.partitions import day_of

    return day_of(get_current_context()).isoformat()


def _folder(entity: str) -> "ObjectStoragePath":
    from shared.loading.staging import run_folder

    context = get_current_context()
    return run_folder(context["dag"].dag_id, context["run_id"]) / entity


def _stage(rows: Rows, entity: str, name: str) -> str:
    import pyarrow as pa

    from shared.loading.staging import try_folder, write_parquet

    with try_folder(get_current_context(), entity) as folder:
        path = folder / f"{name}.parquet"
        write_parquet(pa.Table.from_pylist(rows), path)
    return str(path)


def _staged(uri: str) -> Rows:
    from airflow.sdk import ObjectStoragePath

    from shared.loading.staging import read_parquet

    rows: Rows = read_parquet(ObjectStoragePath(uri)).to_pylist()
    return rows
