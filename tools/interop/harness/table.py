"""The table: clients by behaviours, and why something failed or is not offered."""

MARKS = {"pass": "pass", "fail": "FAIL", "absent": "-", "skip": ""}


def counts(results):
    every = [each["status"] for rows in results.values() for each in rows.values()]
    return {status: every.count(status) for status in ("pass", "fail", "absent")}


def _grid(head, rows):
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in [head, *rows]]
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(lines)


def render(clients, behaviours, results):
    """`clients`: name -> label; `results`: name -> id -> {"status", "detail"}. Returns the text to print."""
    names = list(clients)
    rows = []
    for behaviour in behaviours:
        cells = [MARKS[results[name].get(behaviour["id"], {"status": "skip"})["status"]] for name in names]
        if any(cells):
            rows.append([behaviour["id"], *cells])
    parts = [_grid(["behaviour", *(clients[name].replace(" ", "\u00a0") for name in names)], rows)]
    for status, title in (("absent", "Not offered"), ("fail", "Failed")):
        # One line a reason: it often stands for several behaviours of several clients.
        reasons = {}
        for name in names:
            for behaviour, each in results[name].items():
                if each["status"] == status:
                    reasons.setdefault((name, each["detail"]), []).append(behaviour)
        if reasons:
            lines = [f"  {name}: {', '.join(ids)}: {detail}" for (name, detail), ids in reasons.items()]
            parts.append(f"{title}:\n" + "\n".join(lines))
    return "\n\n".join(parts)
