"""What a PromQL expression reads: for rules, panels of dashboards and whoever compares them with a scrape."""

from dataclasses import dataclass

import promql_parser

SCRAPE_LABELS = frozenset({"namespace", "job", "instance", "colour", "pod", "service", "endpoint", "container"})
"""Labels that a scrape adds to every series: of the operator's monitors, and of our relabelling (colour)."""

OPERATORS = {"MatchOp.Equal": "=", "MatchOp.NotEqual": "!=", "MatchOp.Re": "=~", "MatchOp.NotRe": "!~"}


@dataclass(frozen=True)
class Selector:
    """The series of one metric that an expression picks.

    Attributes:
        metric: Its name.
        matchers: Its label matchers as PromQL has them: dag_id="load".
        labels: Names of the labels that are matched.
    """

    metric: str
    matchers: tuple[str, ...]
    labels: frozenset[str]

    def __str__(self) -> str:
        """As PromQL has it."""
        return f"{self.metric}{{{', '.join(self.matchers)}}}"


@dataclass(frozen=True)
class Reading:
    """What one expression reads.

    Attributes:
        selectors: The series that it picks, each once, in the order of the expression.
        grouped: Labels that it groups or joins by: `by (...)`, `on (...)`.
    """

    selectors: tuple[Selector, ...]
    grouped: frozenset[str]


def read(expr: str) -> Reading:
    """What an expression reads.

    Args:
        expr: PromQL. Variables of a dashboard have to be replaced before.

    Raises:
        ValueError: It is no PromQL; the parser's words and the place are in the message.
    """
    selectors: dict[Selector, None] = {}
    grouped: set[str] = set()

    def visit(node: promql_parser.Expr) -> None:
        if isinstance(node, promql_parser.MatrixSelector):
            node = node.vector_selector
        if isinstance(node, promql_parser.VectorSelector):
            selectors[_selector(node)] = None
        else:
            grouped.update(_grouped(node))

    promql_parser.walk(promql_parser.parse(expr), visit)
    return Reading(tuple(selectors), frozenset(grouped))


def _grouped(node: promql_parser.Expr) -> list[str]:
    if isinstance(node, promql_parser.AggregateExpr) and node.modifier:
        return node.modifier.labels if node.modifier.type == promql_parser.AggModifierType.By else []
    if isinstance(node, promql_parser.BinaryExpr) and node.modifier and node.modifier.matching:
        matching = node.modifier.matching
        return matching.labels if matching.type == promql_parser.LabelModifierType.Include else []
    return []


def _matcher(node: promql_parser.Matcher) -> str:
    """As PromQL has it: the parser's own text leaves the value unescaped."""
    value = node.value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'{node.name}{OPERATORS[str(node.op)]}"{value}"'


def _selector(node: promql_parser.VectorSelector) -> Selector:
    found = node.matchers.matchers
    named = [one.value for one in found if one.name == "__name__"]
    others = [one for one in found if one.name != "__name__"]
    return Selector(
        node.name or (named[0] if named else ""), tuple(map(_matcher, others)), frozenset(one.name for one in others)
    )
