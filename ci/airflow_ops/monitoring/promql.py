"""What a PromQL expression reads, to compare rules and dashboards with a scrape."""

from dataclasses import dataclass

import promql_parser

SCRAPE_LABELS = frozenset({"namespace", "job", "instance", "colour", "pod", "service", "endpoint", "container"})
"""Labels that a scrape adds to every series: those of the operator's monitors, and colour from our relabelling."""

OPERATORS = {"MatchOp.Equal": "=", "MatchOp.NotEqual": "!=", "MatchOp.Re": "=~", "MatchOp.NotRe": "!~"}


@dataclass(frozen=True)
class Selector:
    """One selector of an expression.

    Attributes:
        metric: Name of the metric.
        matchers: Label matchers in PromQL, such as dag_id="load".
        labels: Names of the labels in the matchers.
    """

    metric: str
    matchers: tuple[str, ...]
    labels: frozenset[str]

    def __str__(self) -> str:
        """The selector in PromQL."""
        return f"{self.metric}{{{', '.join(self.matchers)}}}"


@dataclass(frozen=True)
class Reading:
    """What one expression reads.

    Attributes:
        selectors: Its selectors, each once, in the order of the expression.
        grouped: Labels that it groups or joins by: `by (...)`, `on (...)`.
    """

    selectors: tuple[Selector, ...]
    grouped: frozenset[str]


def read(expr: str) -> Reading:
    """Parse an expression and collect what it reads.

    Args:
        expr: PromQL. Variables of a dashboard have to be replaced before.

    Raises:
        ValueError: It is not PromQL; the message has the parser's error with its position.
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
    """A label matcher in PromQL; the parser's own text does not escape the value."""
    value = node.value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'{node.name}{OPERATORS[str(node.op)]}"{value}"'


def _selector(node: promql_parser.VectorSelector) -> Selector:
    found = node.matchers.matchers
    named = [one.value for one in found if one.name == "__name__"]
    others = [one for one in found if one.name != "__name__"]
    return Selector(
        node.name or (named[0] if named else ""), tuple(map(_matcher, others)), frozenset(one.name for one in others)
    )
