"""The result as text: a line a row, medians side by side."""

from .loads import FLUSH, KAFKA, MILLRACE, SINK
from .rows import TITLES, goal_text

HEADINGS = ["", "unit", "Kafka", "Kafka, flush", "Millrace", "ratio", "goal", "", "no broker", "peer"]


def number(value):
    """Three digits that say something."""
    if value is None:
        return ""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def cells(outcome):
    """The texts of a row."""
    row, medians = outcome.row, outcome.medians
    other = medians.get("listener") if row.against else medians.get(KAFKA)
    met = {None: "", True: "met", False: "not met"}[outcome.met]
    if outcome.at_limit and not outcome.met:
        met = "client's limit"
    ratio = "" if outcome.ratio is None else f"{outcome.ratio:.3g}"
    return [row.title, row.unit, number(other), number(medians.get(FLUSH)), number(medians.get(MILLRACE)), ratio,
            goal_text(row), met, number(medians.get(SINK)), row.peer]


def groups(outcomes):
    """The rows by load, each with the heading of its load."""
    found = {}
    for outcome in outcomes:
        found.setdefault(outcome.row.load, []).append(outcome)
    return [(TITLES[load], of) for load, of in found.items()]


def text(outcomes):
    """The table."""
    lines = [HEADINGS] + [cells(outcome) for outcome in outcomes]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEADINGS))]

    def line(texts):
        parts = [part.ljust(width) if column in (0, 1, 6, 7) else part.rjust(width)
                 for column, (part, width) in enumerate(zip(texts, widths))]
        return ("  " + "  ".join(parts)).rstrip()

    out = [line(HEADINGS)]
    for title, of in groups(outcomes):
        out += ["", title, *(line(cells(outcome)) for outcome in of)]
    return "\n".join(out)
