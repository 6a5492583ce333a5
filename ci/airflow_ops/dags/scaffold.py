"""`dags new`: a DAG and its test, from the two templates beside this file."""

import re
from contextlib import suppress
from pathlib import Path
from string import Template

from croniter import croniter

from airflow_ops.console import fail
from airflow_ops.dags.rules import NAME, wrong_domain
from airflow_ops.environments.configuration import read_names
from airflow_ops.paths import DAGS, ROOT

TEMPLATES = Path(__file__).parent / "templates"
OWNER = re.compile(r"[a-z][a-z0-9-]{0,62}")
LONGEST_ID = 200
"""Signs of a DAG's id: Airflow keeps 250, and a file system 255 of a name, which the test's has with some more."""


def scaffold(dag_id: str, owner: str, schedule: str | None) -> list[str]:
    """Write `dags/<domain>/<dag_id>.py` and its test; nothing is written if an argument is wrong.

    Args:
        dag_id: `{domain}_{action}_{target}`, with `_vN` at its end for a version beside an older one.
        owner: The team that is responsible for it.
        schedule: A cron expression, or None.

    Returns:
        The files, by their paths below the checkout.

    Raises:
        ProblemError: The name is malformed or taken, an argument is wrong, or a file cannot be written.
    """
    domain = dag_id.partition("_")[0]
    _check(dag_id, domain, owner, schedule)
    values = {
        "dag_id": dag_id,
        "domain": domain,
        "owner": owner,
        "schedule": repr(schedule).replace("'", '"'),
        "kind": "daily" if schedule else "pattern",
        "title": dag_id.replace("_", " ").capitalize(),
    }
    targets = {
        "dag.py.txt": DAGS / domain / f"{dag_id}.py",
        "test.py.txt": ROOT / f"tests/dags/{domain}/test_{dag_id}.py",
    }
    for path in targets.values():
        if path.exists():
            raise fail(f"{path.relative_to(ROOT)} exists already.", "Choose another name, or append `_v2`.")
    written: list[Path] = []
    try:
        for template, path in targets.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("x") as file:
                written.append(path)
                file.write(Template((TEMPLATES / template).read_text()).substitute(values))
    except OSError as error:
        for path in written:
            path.unlink()
        for path in targets.values():
            with suppress(OSError):
                path.parent.rmdir()  # only if it is empty
        raise fail(f"{error.filename} cannot be written: {error.strerror}.", "Make room for it, or rename.") from error
    return [str(path.relative_to(ROOT)) for path in targets.values()]


def _check(dag_id: str, domain: str, owner: str, schedule: str | None) -> None:
    if len(dag_id) > LONGEST_ID or not re.fullmatch(NAME.format(domain="[a-z][a-z0-9]*"), dag_id):
        raise fail(
            f"{dag_id!r} is not {{domain}}_{{action}}_{{target}} in at most {LONGEST_ID} small letters.",
            "Name it like flights_export_carriers, or flights_export_carriers_v2 beside an older version.",
        )
    if reason := wrong_domain(domain):
        raise fail(f"{dag_id}: {reason}.", "The first word of the id is the domain, such as `flights`.")
    if domain not in read_names(DAGS / "config/tags.yaml"):
        raise fail(f"there is no domain {domain!r}.", f"Add it to dags/config/tags.yaml: `{domain}: what it is about`.")
    if not OWNER.fullmatch(owner) or owner == "airflow":
        raise fail(f"--owner {owner!r} is not a team.", "Use small letters, digits and dashes, such as `flights`.")
    if schedule is not None and not croniter.is_valid(schedule):
        raise fail(
            f"--schedule {schedule!r} is not a cron expression.", 'Write one such as "0 5 * * *": at five each day.'
        )
