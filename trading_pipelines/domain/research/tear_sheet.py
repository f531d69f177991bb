"""The tear sheet: one HTML page of a backtest that needs neither a server nor a network.

Belongs here: how figures, curves and tables are laid out. Does not belong here: where they come from, and any figure
that is not a plain count or sum of what is given.

Everything that is not markup of this module is escaped; curves are inline SVG, thinned to what a screen shows.
"""

import html
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import cast

import numpy as np
import numpy.typing as npt
import pandas as pd

from trading_pipelines.domain.portfolio.performance import Performance

Floats = npt.NDArray[np.float64]

_WIDTH, _HEIGHT, _LOW_HEIGHT = 960, 280, 110
_LEFT, _RIGHT, _TOP, _BOTTOM = 8, 74, 10, 22
_POINTS = 900
_MOST_TRADES = 500
_COLOURS = ("#1a66c2", "#6d7785", "#7a4fb5", "#c25400")


@dataclass(frozen=True)
class Line:
    """One curve of equity with its figures.

    Attributes
    ----------
    name : str
        Short: it heads a column.
    values : array of float
        As long as the sheet's times; NaN where nothing is known.
    parameters : str
        Written below the figures; empty where there are none.
    """

    name: str
    values: Floats
    performance: Performance
    parameters: str = ""


@dataclass(frozen=True)
class TearSheet:
    """What a sheet shows.

    Attributes
    ----------
    facts : mapping
        What was tested, by name; texts.
    lines : sequence of Line
        The backtest first, then what it is compared to.
    trades : DataFrame
        symbol, side, opened_at, closed_at, entry_price, net, r, closed_by.
    remarks : sequence of str
        Sentences under the title, such as the result of the strategy's check.
    """

    title: str
    facts: Mapping[str, str]
    times: pd.DatetimeIndex
    lines: Sequence[Line]
    trades: pd.DataFrame
    remarks: Sequence[str] = ()


def render(sheet: TearSheet) -> str:
    """Write the page."""
    body = [
        f"<h1>{_text(sheet.title)}</h1>",
        *(f'<p class="remark">{_text(remark)}</p>' for remark in sheet.remarks),
        _facts(sheet.facts),
        "<h2>Equity</h2>",
        _legend(sheet.lines),
        _chart(sheet.times, [line.values for line in sheet.lines], _HEIGHT, "{:,.0f}"),
        "<h2>Drawdown</h2>",
        _chart(sheet.times, [_drawdown(line.values) for line in sheet.lines], _LOW_HEIGHT, "{:.0%}"),
        "<h2>Figures</h2>",
        _figures(sheet.lines),
        "<h2>Return by month</h2>",
        _months(sheet.times, sheet.lines[0].values, sheet.lines[0].performance.start_equity),
    ]
    if len(sheet.trades):
        for title, column in (("By symbol", "symbol"), ("By side", "side"), ("By what closed it", "closed_by")):
            body += [f"<h2>{title}</h2>", _groups(sheet.trades, column)]
    body += ["<h2>Trades</h2>", _trades(sheet.trades)]
    return _PAGE.format(title=_text(sheet.title), body="\n".join(body))


def figure_rows(performance: Performance) -> list[tuple[str, str]]:
    """Name and written value of every figure, in the order of a report."""
    p = performance
    return [
        ("End equity", _number(p.end_equity, 2)),
        ("Return", _percent(p.total_return)),
        ("Largest drawdown", _percent(-p.max_drawdown)),
        ("Sharpe", _number(p.sharpe, 2)),
        ("Sortino", _number(p.sortino, 2)),
        ("Calmar", _number(p.calmar, 2)),
        ("Closed positions", f"{p.trades:,}"),
        ("Win rate", _percent(p.win_rate)),
        ("Profit factor", _number(p.profit_factor, 2)),
        ("Average R", _number(p.average_r, 3)),
        ("Exposure", _percent(p.exposure)),
        ("Net of closed positions", _number(p.net_pnl, 2)),
        ("Fees", _number(p.fees, 2)),
        ("Funding", _number(p.funding, 2)),
        ("Slippage", _number(p.slippage, 2)),
    ]


def _text(value: object) -> str:
    return html.escape(str(value), quote=True)


def _number(value: float | None, digits: int) -> str:
    return "–" if value is None or not math.isfinite(value) else f"{value:,.{digits}f}"


def _percent(value: float | None) -> str:
    return "–" if value is None or not math.isfinite(value) else f"{value:.2%}"


def _facts(facts: Mapping[str, str]) -> str:
    rows = "".join(f"<dt>{_text(name)}</dt><dd>{_text(value)}</dd>" for name, value in facts.items())
    return f"<dl>{rows}</dl>"


def _legend(lines: Sequence[Line]) -> str:
    keys = (
        f'<span><i style="background:{colour}"></i>{_text(name)}</span>'
        for name, colour in zip(_column_names(lines), _COLOURS, strict=False)
    )
    return f'<p class="legend">{"".join(keys)}</p>'


def _chart(times: pd.DatetimeIndex, curves: Sequence[Floats], height: int, label: str) -> str:
    """Lines over time with a scale at the right and dates below."""
    ts = times.as_unit("us").asi8
    known = np.concatenate([curve[np.isfinite(curve)] for curve in curves])
    if len(ts) < 2 or not len(known):
        return "<p>Not enough marks for a curve.</p>"
    low, high = float(known.min()), float(known.max())
    high = high if high > low else low + 1.0
    x_of = _Scale(float(ts[0]), float(ts[-1]), _LEFT, _WIDTH - _RIGHT)
    y_of = _Scale(low, high, height - _BOTTOM, _TOP)
    parts = [f'<svg viewBox="0 0 {_WIDTH} {height}" role="img">']
    for value in np.linspace(low, high, 5 if height > 200 else 3).tolist():
        y = y_of.at(value)
        parts.append(f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}" class="grid"/>')
        parts.append(f'<text x="{_WIDTH - _RIGHT + 6}" y="{y + 4:.1f}">{_text(label.format(value))}</text>')
    for place, anchor in ((0.0, "start"), (0.5, "middle"), (1.0, "end")):
        moment = ts[round(place * (len(ts) - 1))]
        day = np.datetime_as_string(np.datetime64(int(moment), "us"), unit="D")
        parts.append(f'<text x="{x_of.at(float(moment)):.1f}" y="{height - 5}" text-anchor="{anchor}">{day}</text>')
    shown = _shown(len(ts))
    for curve, colour in reversed(list(zip(curves, _COLOURS, strict=False))):
        points = " ".join(
            f"{x_of.at(float(ts[i])):.1f},{y_of.at(float(curve[i])):.1f}" for i in shown if np.isfinite(curve[i])
        )
        parts.append(f'<polyline points="{points}" stroke="{colour}"/>')
    return "".join(parts) + "</svg>"


@dataclass(frozen=True)
class _Scale:
    """From a value to a place on the page."""

    first: float
    last: float
    start: float
    end: float

    def at(self, value: float) -> float:
        return self.start + (value - self.first) / (self.last - self.first) * (self.end - self.start)


def _shown(count: int) -> Sequence[int]:
    return np.unique(np.linspace(0, count - 1, min(count, _POINTS)).round().astype(np.int64)).tolist()


def _drawdown(values: Floats) -> Floats:
    return values / np.fmax.accumulate(values) - 1


def _figures(lines: Sequence[Line]) -> str:
    columns = [figure_rows(line.performance) for line in lines]
    names = _column_names(lines)
    head = "".join(f"<th>{_text(name)}</th>" for name in names)
    rows = (
        f"<tr><td>{_text(row[0][0])}</td>" + "".join(f"<td>{_text(value)}</td>" for _, value in row) + "</tr>"
        for row in zip(*columns, strict=True)
    )
    notes = (
        f'<p class="remark">{_text(name)}: {_text(line.parameters)}</p>'
        for name, line in zip(names, lines, strict=True)
        if line.parameters
    )
    return f"<table><tr><th></th>{head}</tr>{''.join(rows)}</table>{''.join(notes)}"


def _column_names(lines: Sequence[Line]) -> list[str]:
    """The names of the lines, those that occur again with their number."""
    seen, names = Counter[str](), list[str]()
    for line in lines:
        seen[line.name] += 1
        names.append(line.name if seen[line.name] == 1 else f"{line.name} ({seen[line.name]})")
    return names


def _months(times: pd.DatetimeIndex, equity: Floats, start: float) -> str:
    """The mark at 00:00 of the first day ends the month before it."""
    ends = dict[tuple[int, int], float]()
    moments = (times - pd.Timedelta(microseconds=1)).to_pydatetime().tolist()
    for moment, value in zip(cast("list[datetime]", moments), equity.tolist(), strict=True):
        ends[moment.year, moment.month] = value
    before, returns = start, dict[tuple[int, int], float]()
    for month, value in ends.items():
        returns[month], before = value / before - 1 if before > 0 else math.nan, value
    rows = list[str]()
    for year in sorted({year for year, _ in returns}):
        cells = (_tinted(returns.get((year, month))) for month in range(1, 13))
        total = math.prod(1 + value for (y, _), value in returns.items() if y == year) - 1
        rows.append(f"<tr><td>{year}</td>{''.join(cells)}{_tinted(total)}</tr>")
    names = "".join(f"<th>{month:02d}</th>" for month in range(1, 13))
    return f"<table><tr><th></th>{names}<th>year</th></tr>{''.join(rows)}</table>"


def _tinted(value: float | None) -> str:
    if value is None or not math.isfinite(value):
        return "<td></td>"
    return f'<td class="{"gain" if value >= 0 else "loss"}">{value:.1%}</td>'


def _groups(trades: pd.DataFrame, column: str) -> str:
    rows = list[tuple[float, str]]()
    names = trades[column].astype(object).where(trades[column].notna(), "open at the end")
    net, r = trades["net"].to_numpy(np.float64), trades["r"].to_numpy(np.float64)
    for name in sorted({str(value) for value in names}):
        mine = (names == name).to_numpy()
        known = r[mine & np.isfinite(r)]
        average = float(known.mean()) if len(known) else None
        total = float(net[mine].sum())
        cells = (name, f"{int(mine.sum()):,}", _percent(float((net[mine] > 0).mean())), _number(total, 2))
        row = "".join(f"<td>{_text(cell)}</td>" for cell in (*cells, _number(average, 3)))
        rows.append((-total, f"<tr>{row}</tr>"))
    head = "<tr><th></th><th>positions</th><th>win rate</th><th>net</th><th>average R</th></tr>"
    return f"<table>{head}{''.join(row for _, row in sorted(rows))}</table>"


def _trades(trades: pd.DataFrame) -> str:
    if not len(trades):
        return "<p>No position was opened.</p>"
    newest = trades.iloc[-_MOST_TRADES:]
    columns = {
        "symbol": "symbol",
        "side": "side",
        "opened_at": "opened, UTC",
        "closed_at": "closed, UTC",
        "entry_price": "entry",
        "net": "net",
        "r": "R",
        "closed_by": "closed by",
    }
    head = "".join(f"<th>{label}</th>" for label in columns.values())
    written = [[_cell(name, value) for value in newest[name].tolist()] for name in columns]
    rows = ("<tr>" + "".join(f"<td>{_text(cell)}</td>" for cell in row) + "</tr>" for row in zip(*written, strict=True))
    left = len(trades) - len(newest)
    note = f"<p>The newest {len(newest)} of {len(trades)}; trades.csv has all.</p>" if left else ""
    return f"{note}<table><tr>{head}</tr>{''.join(rows)}</table>"


def _cell(name: str, value: object) -> str:
    if value is None or value is pd.NaT or (isinstance(value, float) and math.isnan(value)):
        return "–"
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M}"
    if isinstance(value, float):
        return f"{value:,.6g}" if name == "entry_price" else f"{value:,.2f}"
    return str(value)


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; --ink: #1b232c; --paper: #ffffff; --soft: #6d7785; --rule: #dbe1e8;
  --gain: #1a66c2; --loss: #c25400; }}
@media (prefers-color-scheme: dark) {{ :root {{ --ink: #e6ebf0; --paper: #10151b; --soft: #98a4b3; --rule: #2c3642;
  --gain: #63a9f7; --loss: #f4924a; }} }}
body {{ font: 14px/1.45 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 1000px;
  margin: 2rem auto; padding: 0 1rem; font-variant-numeric: tabular-nums; }}
h1 {{ font-size: 1.5rem; margin: 0 0 .3rem; }} h2 {{ font-size: 1.05rem; margin: 1.8rem 0 .5rem; }}
.remark {{ color: var(--soft); margin: .2rem 0; }}
dl {{ display: grid; grid-template-columns: max-content 1fr; gap: .15rem 1rem; margin: 1rem 0; }}
dt {{ color: var(--soft); }} dd {{ margin: 0; overflow-wrap: anywhere; }}
table {{ border-collapse: collapse; display: block; overflow-x: auto; white-space: nowrap; }}
th, td {{ text-align: right; padding: .2rem .6rem; border-bottom: 1px solid var(--rule); }}
th:first-child, td:first-child {{ text-align: left; padding-left: 0; }} th {{ color: var(--soft); font-weight: 500; }}
.gain {{ color: var(--gain); }} .loss {{ color: var(--loss); }}
.legend span {{ margin-right: 1.2rem; }} .legend i {{ display: inline-block; width: .8rem; height: .2rem;
  margin-right: .4rem; vertical-align: middle; }}
svg {{ width: 100%; height: auto; }} svg text {{ font-size: 11px; fill: var(--soft); }}
svg .grid {{ stroke: var(--rule); }} svg polyline {{ fill: none; stroke-width: 1.5; }}
</style></head><body>
{body}
</body></html>
"""
