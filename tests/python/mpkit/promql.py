"""What PromQL expressions ask for, held against what a scrape has: names, labels, and whether a counter is one."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import promql_parser as promql

#: Labels that Prometheus itself adds to what it scrapes, and the one series it makes of each target.
TARGET_LABELS = {"job", "instance"}
TARGET_SERIES = "up"

#: Functions that mean something for a counter alone.
OF_COUNTERS = {"rate", "irate", "increase"}


@dataclass
class Series:
    kind: str
    labels: set[str] = field(default_factory=set)


def scraped(text: str) -> dict[str, Series]:
    """Every series of a scrape under the name it is asked for; those of a histogram under three."""
    kinds = dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE))
    found = {TARGET_SERIES: Series("gauge")}
    for name, labels in re.findall(r"^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? \S+$", text, re.MULTILINE):
        part = re.sub(r"_(bucket|sum|count)$", "", name)
        kind = kinds.get(name) or ("counter" if kinds.get(part) == "histogram" else "untyped")
        series = found.setdefault(name, Series(kind))
        series.labels |= {label for label, _ in re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', labels)}
    return found


class Reading:
    """One expression; `labels` are those of its result, `mistakes` what does not exist."""

    def __init__(self, expression: str, series: dict[str, Series]) -> None:
        self.series, self.mistakes = series, []
        self.labels = self._labels(promql.parse(expression))

    def _labels(self, node: promql.Expr) -> set[str]:
        match node:
            case promql.VectorSelector():
                return self._selected(node)
            case promql.MatrixSelector():
                return self._selected(node.vector_selector)
            case promql.ParenExpr() | promql.UnaryExpr() | promql.SubqueryExpr():
                return self._labels(node.expr)
            case promql.AggregateExpr():
                return self._aggregated(node)
            case promql.Call():
                return self._called(node)
            case promql.BinaryExpr():
                return self._joined(node)
        return set()

    def _selected(self, selector: promql.VectorSelector) -> set[str]:
        there = self.series.get(selector.name)
        if there is None:
            self.mistakes.append(f"there is no series `{selector.name}`")
            return set(TARGET_LABELS)
        labels = there.labels | TARGET_LABELS
        self._need({matcher.name for matcher in selector.matchers.matchers}, labels, selector.name)
        return labels

    def _aggregated(self, node: promql.AggregateExpr) -> set[str]:
        inner = self._labels(node.expr)
        if node.modifier is None:
            return set()
        named = set(node.modifier.labels)
        self._need(named, inner, str(node))
        return named if node.modifier.type == promql.AggModifierType.By else inner - named

    def _called(self, node: promql.Call) -> set[str]:
        arguments = [argument for argument in node.args if not isinstance(argument, promql.NumberLiteral)]
        labels = set().union(*(self._labels(argument) for argument in arguments))
        for argument in arguments:
            counted = isinstance(argument, promql.MatrixSelector) and self.series.get(argument.vector_selector.name)
            if counted and node.func.name in OF_COUNTERS and counted.kind != "counter":
                self.mistakes.append(f"`{argument.vector_selector.name}` is a {counted.kind}, not a counter: {node}")
        return labels - {"le"} if node.func.name == "histogram_quantile" else labels

    def _joined(self, node: promql.BinaryExpr) -> set[str]:
        left, right = self._labels(node.lhs), self._labels(node.rhs)
        matching = node.modifier and node.modifier.matching
        if matching:
            self._need(set(matching.labels), left & right, str(node))
        return right if isinstance(node.lhs, promql.NumberLiteral) else left

    def _need(self, wanted: set[str], there: set[str], where: str) -> None:
        self.mistakes += [f"`{where}` has no label `{label}`" for label in sorted(wanted - there)]
