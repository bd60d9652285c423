"""Draws panels as Grafana lays them out: HTML with inline SVG, without any package."""

import html
import math
import time

COLOURS = ["#73bf69", "#f2cc0c", "#5794f2", "#ff780a", "#e02f44", "#b877d9", "#56a64b", "#8ab8ff", "#ffb357", "#ff7383"]
NAMED = {"red": "#e02f44", "green": "#56a64b", "yellow": "#f2cc0c", "orange": "#ff780a", "text": "#d8d9da"}
# The width of a column and the height of a row of the grid, and the gap between panels.
COLUMN, ROW, GAP = 50, 22, 8
STYLE = """
body { margin: 0; background: #111217; color: #d8d9da; font: 12px "DejaVu Sans", sans-serif }
h1 { margin: 0; padding: 14px 12px 0; font-size: 17px; font-weight: normal }
#grid { position: relative }
section { position: absolute; box-sizing: border-box; background: #181b1f; border: 1px solid #2c2f34; border-radius: 2px }
section h2 { margin: 6px 8px; font-size: 12px; font-weight: 500; white-space: nowrap; overflow: hidden }
section h2 i { color: #8e8e8e; border: 1px solid; border-radius: 7px; padding: 0 5px; font: italic 10px serif }
.row { background: none; border: none } .row h2 { font-size: 14px }
.value { text-align: center; font-size: 30px; line-height: 58px; white-space: nowrap }
.none { text-align: center; color: #8e8e8e; padding-top: 12px }
.legend { position: absolute; bottom: 5px; left: 8px; right: 8px; line-height: 15px; font-size: 11px; overflow: hidden }
.legend span { margin-right: 12px; white-space: nowrap; display: inline-block } .legend b { display: inline-block; width: 12px; height: 3px; margin: 0 5px 3px 0 }
text { fill: #8e8e8e; font-size: 10.5px } .axis { stroke: #2c2f34 } line, polyline { shape-rendering: crispEdges }
"""


def si(value, unit, base=1000.0, steps=("", "K", "M", "G", "T")):
    """A number with a prefix for its size."""
    step = 0
    while abs(value) >= base and step < len(steps) - 1:
        value, step = value / base, step + 1
    return plain(value) + (f" {steps[step]}{unit}" if unit else f" {steps[step]}".rstrip())


def plain(value):
    """A number with at most three digits that count."""
    if value == 0 or not math.isfinite(value):
        return "0" if value == 0 else str(value)
    digits = max(0, 2 - math.floor(math.log10(abs(value)))) if abs(value) < 1000 else 0
    text = f"{value:.{digits}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def duration(value):
    """Seconds in the unit that fits."""
    for limit, factor, unit in [(1e-3, 1e6, "µs"), (1, 1e3, "ms"), (60, 1, "s"), (3600, 1 / 60, "mins"), (86400, 1 / 3600, "hours"), (31536000, 1 / 86400, "days")]:
        if abs(value) < limit:
            return "0 s" if value == 0 else f"{plain(value * factor)} {unit}"
    return f"{plain(value / 31536000)} years"


# Units of Grafana that the dashboards use. A panel with another one is reported.
UNITS = {
    "short": lambda value: si(value, ""),
    "ops": lambda value: si(value, "ops/s"),
    "reqps": lambda value: si(value, "req/s"),
    "Bps": lambda value: si(value, "B/s", steps=("", "k", "M", "G")),
    "bytes": lambda value: si(value, "B", 1024.0, ("", "Ki", "Mi", "Gi")),
    "percentunit": lambda value: plain(value * 100) + "%",
    "s": duration,
}


def bounds(low, high, count=4, base=1000):
    """Round values for an axis that contains both. With the base 1024, round in its units."""
    if base == 1024:
        scale = 1024 ** max(0, math.floor(math.log(max(high, 1), 1024)))
        return [scale * tick for tick in bounds(low / scale, high / scale, count)]
    if high <= low:
        high = low + (abs(low) or 1.0)
    raw = (high - low) / count
    magnitude = 10 ** math.floor(math.log10(raw))
    step = next(magnitude * factor for factor in (1, 2, 2.5, 5, 10) if magnitude * factor >= raw * 0.999)
    first = math.floor(low / step + 1e-9)
    return [step * number for number in range(first, math.ceil(high / step - 1e-9) + 1)]


def runs(points, gap):
    """The points, cut where some are missing: Grafana leaves a gap there."""
    parts = [points[:1]]
    for before, point in zip(points, points[1:]):
        if point[0] - before[0] > gap:
            parts.append([])
        parts[-1].append(point)
    return parts


def graph(series, unit, width, height, span, step, minimum):
    """Lines over time, with axes."""
    numbers = [value for _, points in series for _, value in points]
    low = min(numbers) if minimum is None else minimum
    ticks = bounds(low, max(numbers), base=1024 if unit is UNITS["bytes"] else 1000)
    left, right, top, bottom = 66, width - 12, 8, height - 20
    start, end = span
    across = lambda at: left + (at - start) / (end - start) * (right - left)
    up = lambda value: bottom - (value - ticks[0]) / (ticks[-1] - ticks[0]) * (bottom - top)
    parts = [f'<svg width="{width}" height="{height}">']
    for tick in ticks:
        parts.append(f'<line class="axis" x1="{left}" x2="{right}" y1="{up(tick):.1f}" y2="{up(tick):.1f}"/>')
        parts.append(f'<text x="{left - 6}" y="{up(tick) + 4:.1f}" text-anchor="end">{unit(tick)}</text>')
    for number in range(5):
        at = start + (end - start) * (number + 0.5) / 5
        label = time.strftime("%H:%M:%S" if end - start < 600 else "%H:%M", time.gmtime(at))
        parts.append(f'<text x="{across(at):.1f}" y="{height - 5}" text-anchor="middle">{label}</text>')
    for number, (_, points) in enumerate(series):
        colour = COLOURS[number % len(COLOURS)]
        for run in runs(points, 1.5 * step):
            line = " ".join(f"{across(at):.1f},{up(value):.1f}" for at, value in run)
            # A single point is a line with round ends.
            line = line if len(run) > 1 else f"{line} {line}"
            parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="1.6" stroke-linecap="round"/>')
    return "".join(parts) + "</svg>"


def threshold(value, defaults):
    """The colour of a single value."""
    colour = "green"
    for step in defaults.get("thresholds", {}).get("steps", []):
        if step["value"] is None or value >= step["value"]:
            colour = step["color"]
    return NAMED.get(colour, colour)


def body(panel, series, span, step, width, height):
    """What is below the title of a panel."""
    defaults = panel["fieldConfig"]["defaults"]
    unit = UNITS.get(defaults.get("unit"), plain)
    if not series:
        return f'<div class="none">{html.escape(defaults.get("noValue", "No data"))}</div>'
    if panel["type"] == "stat":
        named = panel.get("options", {}).get("textMode") == "name"
        rounded = lambda value: round(value, defaults["decimals"]) if "decimals" in defaults else value
        values = [
            f'<span style="color:{threshold(points[-1][1], defaults)}">'
            f"{html.escape(name if named else unit(rounded(points[-1][1])))}</span>"
            for name, points in series
        ]
        return f'<div class="value">{" ".join(values)}</div>'
    per_line = max(1, (width - 16) // max(60, max(7 * len(name) + 32 for name, _ in series)))
    lines = min(4, math.ceil(len(series) / per_line))
    legend = "".join(
        f'<span><b style="background:{COLOURS[number % len(COLOURS)]}"></b>{html.escape(name)}</span>'
        for number, (name, _) in enumerate(series)
    )
    picture = graph(series, unit, width, height - 34 - 15 * lines, span, step, defaults.get("min"))
    return f'{picture}<div class="legend" style="height:{15 * lines}px">{legend}</div>'


def page(dashboard, drawn, span, step):
    """A whole dashboard: `drawn` has each panel with its series. Returns the page, its width and its height."""
    parts, bottom = [], 0
    for panel, series in drawn:
        grid = panel["gridPos"]
        left, top = grid["x"] * COLUMN + GAP, grid["y"] * (ROW + GAP)
        width, height = grid["w"] * COLUMN - GAP, grid["h"] * (ROW + GAP) - GAP
        bottom = max(bottom, top + height)
        place = f"left:{left}px;top:{top}px;width:{width}px;height:{height}px"
        title = html.escape(panel["title"])
        if panel["type"] == "row":
            parts.append(f'<section class="row" style="{place}"><h2>{title}</h2></section>')
            continue
        mark = " <i>i</i>" if panel.get("description") else ""
        inside = body(panel, series, span, step, width - 2, height - 2)
        parts.append(f'<section style="{place}"><h2>{title}{mark}</h2>{inside}</section>')
    text = f'<!doctype html><meta charset="utf-8"><style>{STYLE}</style><h1>{html.escape(dashboard["title"])}</h1>'
    text += f'<div id="grid" style="top:12px">{"".join(parts)}</div>'
    return text, 24 * COLUMN + GAP, bottom + 60
