"""The result as a page: one file that needs nothing else, in the style of millrace-bench's pages."""

import html
import json
import re
import statistics
import subprocess
import tempfile

from . import install
from .loads import FLUSH, KAFKA, MILLRACE, SINK
from .rows import TITLES, figure_of
from .table import HEADINGS, cells, groups, number

# Loads whose distributions of latency are worth a chart, and the figure that chooses the run to draw.
CHARTS = {"e2e": "e2e_p99_us", "produce-4": "ack_p99_us"}

# The order is that of the lines in the charts, whose colours are by their order.
COLOURS = {MILLRACE: 0, KAFKA: 1, "listener": 1, FLUSH: 2, SINK: 3}
NAMES = {MILLRACE: "Millrace, durable", KAFKA: "Kafka, defaults", FLUSH: "Kafka, flush per message",
         SINK: "no broker: the client's own limit"}

WIDTH, HEIGHT, EDGE = 220, 22, 8


def _strip(outcome, samples):
    """Every sample of a row as a dot on a line from zero."""
    row, dots = outcome.row, []
    for sample in samples:
        if sample["load"] != row.load:
            continue
        for figure, config in ((row.figure, sample["config"]), (row.against, "listener")):
            value = figure_of(sample["figures"], figure) if figure else None
            if value is not None:
                dots.append((config, value))
    if not dots:
        return ""
    most = max(value for _, value in dots) or 1
    out = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="all samples">'
           f'<path class="grid" d="M{EDGE} {HEIGHT / 2}H{WIDTH - EDGE}"/>']
    for config, value in dots:
        x = EDGE + value / most * (WIDTH - 2 * EDGE)
        label = html.escape(f"{NAMES.get(config, 'Kafka listener')}: {number(value)} {row.unit}")
        out.append(f'<circle class="f{COLOURS[config]}" fill-opacity=".75" cx="{x:.1f}" cy="{HEIGHT / 2}" r="4.5">'
                   f"<title>{label}</title></circle>")
    return "".join(out) + "</svg>"


def _chart(load, samples, bench):
    """Percentiles of the brokers over one another, each of the run whose p99 is the median; millrace-bench draws."""
    files, directory = [], tempfile.TemporaryDirectory()
    with directory as place:
        for config, name in NAMES.items():
            of = [sample["figures"] for sample in samples if (sample["load"], sample["config"]) == (load, config)]
            of = [figures for figures in of if "report" in figures]
            if not of or config == SINK:
                continue
            chosen = statistics.median_low(sorted(figures[CHARTS[load]] for figures in of))
            report = next(figures["report"] for figures in of if figures[CHARTS[load]] == chosen)
            path = f"{place}/{config}.json"
            with open(path, "w", encoding="utf-8") as file:
                json.dump(report, file)
            files.append(f"{name}={path}")
        if not files:
            return ""
        made = f"{place}/page.html"
        subprocess.run([str(bench), "compare", *files, "--html", made], check=True, stdout=subprocess.DEVNULL)
        with open(made, encoding="utf-8") as file:
            chart = re.search(r"<h2>Latency by percentile</h2>(.*?)<h2>", file.read(), re.DOTALL)
    return f"<h2>Latency by percentile</h2>\n<p>{html.escape(TITLES[load])}</p>\n{chart[1]}" if chart else ""


def page(result, outcomes, bench):
    """The page of a result. `bench` is millrace-bench, which draws its charts."""
    style = (install.ROOT / "bench" / "src" / "html" / "style.css").read_text()
    legend = "".join(f'<span><svg viewBox="0 0 28 10"><circle class="f{COLOURS[config]}" cx="14" cy="5" r="4.5"/></svg>'
                     f"{html.escape(name)}</span>" for config, name in NAMES.items())
    place = result["place"]
    out = [
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>Millrace and Apache Kafka</title>\n<style>\n{style}body {{ max-width: 86rem; }}\n"
        "td, th { white-space: nowrap; }\ntd.dots svg { display: block; width: 13rem; height: auto; }\ntd.dots { padding: .2rem 0 .1rem .7rem; }\n"
        "tr.load td { padding-top: 1.1rem; color: var(--ink); font-weight: 600; text-align: left; }\n</style>\n</head>\n<body>\n",
        "<h1>Millrace and Apache Kafka, side by side</h1>\n",
        f'<p class="soft">{"Medians of " + str(result["pairs"]) + " pairs in turns" if result["pairs"] > 1 else "One pair"}; the ratio is the median of the pairs\' ratios, '
        f'Millrace over Kafka {html.escape(result["kafka_version"])} at its defaults. Every sample is a dot, from zero.</p>\n',
        f'<p class="soft">{html.escape(place["cpu"])}, {place["cores"]} cores, {place["memory_mib"]:,} MiB, Linux '
        f'{html.escape(place["kernel"])}; commit {html.escape(place["commit"])}; {html.escape(result["made_at"])}</p>\n',
        f'<div class="legend" style="margin-top:1rem">{legend}</div>\n<div class="table"><table>\n<thead><tr>',
    ]
    headings = [*HEADINGS, "samples"]
    out += [f"<th>{html.escape(heading)}</th>" for heading in headings]
    out.append("</tr></thead>\n")
    for title, of in groups(outcomes):
        out.append(f'<tr class="load"><td colspan="{len(headings)}">{html.escape(title)}</td></tr>\n')
        for outcome in of:
            colour = {True: "good", False: "bad", None: ""}[outcome.met]
            texts = cells(outcome)
            parts = [f"<td>{html.escape(part)}</td>" for part in texts]
            parts[7] = f'<td class="{colour}">{html.escape(texts[7])}</td>'
            out.append(f'<tr>{"".join(parts)}<td class="dots">{_strip(outcome, result["samples"])}</td></tr>\n')
    out.append("</table></div>\n")
    out += [_chart(load, result["samples"], bench) for load in CHARTS]
    out.append("<h2>Command</h2>\n<p><code>" + html.escape(result["command"]) + "</code></p>\n</body>\n</html>\n")
    return "".join(out)
