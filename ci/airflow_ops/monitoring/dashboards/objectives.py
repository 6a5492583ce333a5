"""The objectives of charts/platform/files/rules/slo.yaml, from which dashboards take their numbers."""

import re
from dataclasses import dataclass

import yaml

from airflow_ops.monitoring.alerts import RULES


@dataclass(frozen=True)
class Objective:
    """One service level objective.

    Attributes:
        name: The label `slo` of its series.
        share: Share of events that have to be good, 0 to 1.
        seconds: The time within which a good event ends; None where the objective is not about time.
    """

    name: str
    share: float
    seconds: float | None


def load_objectives() -> dict[str, Objective]:
    """Every objective by name.

    Raises:
        ValueError: A budget of slo.yaml is not a constant.
    """
    groups = yaml.safe_load((RULES / "slo.yaml").read_text())["groups"]
    rules = [rule for group in groups for rule in group["rules"] if "slo" in rule.get("labels", {})]
    errors = {rule["labels"]["slo"]: rule["expr"] for rule in rules if rule["record"] == "airflow:slo_errors:rate5m"}
    budgets = [rule for rule in rules if rule["record"] == "airflow:slo_budget:ratio"]
    return {rule["labels"]["slo"]: _objective(rule["labels"]["slo"], rule["expr"], errors) for rule in budgets}


def _objective(name: str, budget: str, errors: dict[str, str]) -> Objective:
    constant = re.fullmatch(r"vector\(([\d.]+)\)", budget)
    if constant is None:
        raise ValueError(f"slo.yaml: the budget of {name} is {budget}; write a constant, such as vector(0.01)")
    bound = re.search(r'le=~"(\d+)', errors[name])
    return Objective(name, round(1 - float(constant[1]), 6), float(bound[1]) if bound else None)
