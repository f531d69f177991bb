"""Plotly figures. Colours come from `formats.palette`, text and background from the theme of the page."""

import html
from collections.abc import Sequence
from typing import Any

import formats
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

CONFIG = {
    "displaylogo": False,
    "scrollZoom": True,
    "modeBarButtonsToRemove": ["select2d", "lasso2d", "autoScale2d"],
}
STATIC_CONFIG = {"displayModeBar": False, "scrollZoom": False}
_FONT = 12
_ROOM = 0.06
"""Empty share of the price range above and below what is drawn."""
_TAG = 0.05
"""Height of a price tag as a share of the price range: tags closer than that are moved apart."""


def show_height(rows: int) -> int:
    """Height of a horizontal bar chart with that many bars."""
    return 70 + 30 * max(rows, 2)


_PRICE_PX, _PANEL_PX = 460, 105


def candles(
    bars: pd.DataFrame, *, ema_spans: Sequence[int], with_volume: bool, indicators: Sequence[str] = ()
) -> go.Figure:
    """Candles with averages and indicators, ready for marks and levels; volume, RSI and MACD have panels of their own.

    `indicators` are names of `Bollinger`, `VWAP`, `RSI` and `MACD`, whose columns `bars` has then.
    """
    panels = ["Volume"] if with_volume else []
    panels += [name for name in ("RSI", "MACD") if name in indicators]
    height = _PRICE_PX + _PANEL_PX * len(panels)
    figure = make_subplots(
        rows=1 + len(panels),
        shared_xaxes=True,
        vertical_spacing=0.02,
        row_heights=[_PRICE_PX / height, *([_PANEL_PX / height] * len(panels))],
    )
    _add_prices(figure, bars)
    if "Bollinger" in indicators:
        _add_bollinger(figure, bars)
    if "VWAP" in indicators:
        _add_vwap(figure, bars)
    for span, dash in zip(ema_spans, ("solid", "dash", "dot"), strict=False):
        look = {"width": 1.3, "dash": dash, "color": formats.palette().accent}
        _add_line(figure, bars, f"ema_{span}", f"EMA {span}", look)
    for row, panel in enumerate(panels, start=2):
        {"Volume": _add_volume, "RSI": _add_rsi, "MACD": _add_macd}[panel](figure, bars, row)
    _lay_out(figure, bars, height)
    return figure


def _add_prices(figure: go.Figure, bars: pd.DataFrame) -> None:
    colours = formats.palette()
    figure.add_trace(
        go.Candlestick(
            x=bars["ts"],
            open=bars["open"],
            high=bars["high"],
            low=bars["low"],
            close=bars["close"],
            name="Price",
            increasing={"line": {"color": colours.gain, "width": 1}, "fillcolor": colours.gain},
            decreasing={"line": {"color": colours.loss, "width": 1}, "fillcolor": colours.loss},
            showlegend=False,
        ),
        row=1,
        col=1,
    )


def _add_line(
    figure: go.Figure, bars: pd.DataFrame, column: str, name: str, look: dict[str, Any], row: int = 1, **more: Any
) -> None:
    more = {"hoverinfo": "skip"} | more
    line = go.Scatter(x=bars["ts"], y=bars[column], name=name, mode="lines", line=look, **more)
    figure.add_trace(line, row=row, col=1)


def _add_bollinger(figure: go.Figure, bars: pd.DataFrame) -> None:
    muted = formats.palette().muted
    edge = {"width": 1, "color": muted}
    _add_line(figure, bars, "bollinger_upper", "Bollinger 20, 2", edge, legendgroup="bollinger")
    fill = {"fill": "tonexty", "fillcolor": _faint(muted, 0.08)}
    _add_line(figure, bars, "bollinger_lower", "Lower band", edge, legendgroup="bollinger", showlegend=False, **fill)


def _add_vwap(figure: go.Figure, bars: pd.DataFrame) -> None:
    """The VWAP begins anew at midnight, so its line is broken there."""
    day = bars["ts"].dt.floor("D")
    broken = bars.assign(vwap=bars["vwap"].where(day == day.shift()))
    _add_line(figure, broken, "vwap", "VWAP", {"width": 2, "dash": "dot", "color": formats.palette().muted})


def _add_volume(figure: go.Figure, bars: pd.DataFrame, row: int) -> None:
    colours = formats.palette()
    rising = bars["close"] >= bars["open"]
    figure.add_trace(
        go.Bar(
            x=bars["ts"],
            y=bars["volume"],
            name="Volume",
            marker={"color": [colours.gain if up else colours.loss for up in rising], "line": {"width": 0}},
            opacity=0.45,
            showlegend=False,
            hovertemplate="Volume %{y:.4s}<extra></extra>",
        ),
        row=row,
        col=1,
    )
    figure.update_yaxes(row=row, col=1, nticks=3, tickformat=".2s")


def _add_rsi(figure: go.Figure, bars: pd.DataFrame, row: int) -> None:
    colours = formats.palette()
    for level in (30, 70):
        figure.add_hline(y=level, line={"width": 1, "dash": "dot", "color": colours.muted}, row=row, col=1)
    hover = {"hoverinfo": None, "hovertemplate": "RSI %{y:.1f}<extra></extra>"}
    _add_line(figure, bars, "rsi", "RSI 14", {"width": 1.3, "color": colours.accent}, row, showlegend=False, **hover)
    figure.update_yaxes(row=row, col=1, range=[0, 100], tickvals=[30, 70], title={"text": "RSI", "standoff": 2})


def _add_macd(figure: go.Figure, bars: pd.DataFrame, row: int) -> None:
    colours = formats.palette()
    histogram = bars["macd_histogram"]
    figure.add_trace(
        go.Bar(
            x=bars["ts"],
            y=histogram,
            name="MACD histogram",
            marker={"color": [colours.gain if v >= 0 else colours.loss for v in histogram], "line": {"width": 0}},
            opacity=0.45,
            showlegend=False,
            hovertemplate="MACD histogram %{y:.4~g}<extra></extra>",
        ),
        row=row,
        col=1,
    )
    for column, name, dash in (("macd", "MACD", "solid"), ("macd_signal", "MACD signal", "dot")):
        look = {"width": 1.2, "dash": dash, "color": colours.accent}
        _add_line(figure, bars, column, name, look, row, showlegend=False)
    figure.update_yaxes(row=row, col=1, nticks=3, tickformat=".2~g", title={"text": "MACD", "standoff": 2})


def _lay_out(figure: go.Figure, bars: pd.DataFrame, height: int) -> None:
    figure.update_layout(
        height=height,
        margin={"l": 8, "r": 64, "t": 28, "b": 8},
        dragmode="pan",
        hovermode="x",
        bargap=0.15,
        legend={"orientation": "h", "yanchor": "bottom", "y": 1.0, "x": 0, "font": {"size": _FONT}},
        font={"size": _FONT},
    )
    spikes = {"showspikes": True, "spikemode": "across", "spikethickness": 1, "spikedash": "dot"}
    figure.update_xaxes(rangeslider_visible=False, **spikes)
    figure.update_yaxes(side="right", **spikes)
    figure.update_yaxes(row=1, col=1, tickformat=_price_format(float(bars["close"].iloc[-1])))
    low, high = float(bars["low"].min()), float(bars["high"].max())
    figure.update_yaxes(range=[low - _ROOM * (high - low), high + _ROOM * (high - low)], row=1, col=1)
    # Room to the right of the last candle.
    bar = bars["ts"].diff().median() if len(bars) > 1 else pd.Timedelta(minutes=1)
    figure.update_xaxes(range=[bars["ts"].iloc[0] - bar, bars["ts"].iloc[-1] + max(len(bars) // 25, 3) * bar])


def _price_format(value: float) -> str:
    text = formats.price(value)
    return f",.{len(text.partition('.')[2])}f"


def add_signals(figure: go.Figure, signals: pd.DataFrame, bars: pd.DataFrame) -> None:
    """Mark the signals at the moment they were given: a triangle below the price for a long, above it for a short."""
    colours = formats.palette()
    distance = 0.03 * float(bars["high"].max() - bars["low"].min())
    for side, symbol, colour, offset in (
        ("LONG", "triangle-up", colours.gain, -distance),
        ("SHORT", "triangle-down", colours.loss, distance),
    ):
        rows = signals[signals["side"] == side]
        if rows.empty:
            continue
        hover = [
            f"<b>{formats.side(r.side)} signal</b><br>{html.escape(formats.words(r.status))}"
            f"<br>Confidence {formats.share(r.confidence)}<br>Reference {formats.price(r.entry_price)}"
            for r in rows.itertuples()
        ]
        figure.add_trace(
            go.Scatter(
                x=rows["created_at"],
                y=rows["entry_price"] + offset,
                mode="markers",
                name=f"{formats.side(side)} signal",
                marker={
                    "symbol": symbol,
                    "size": 12,
                    "color": colour,
                    "line": {"width": 1, "color": colours.on_colour},
                },
                text=hover,
                hovertemplate="%{text}<extra></extra>",
            ),
            row=1,
            col=1,
        )


def mark_bar(figure: go.Figure, opened: Any, length: Any, until: Any) -> None:
    """Shade one bar over the whole height, and keep the time axis as it is for all bars up to `until`."""
    figure.add_vrect(
        x0=opened - length / 2, x1=opened + length / 2, fillcolor=formats.palette().accent, opacity=0.25, line_width=0
    )
    figure.update_xaxes(range=[figure.layout.xaxis.range[0], until + 3 * length])


_FILL_MARKS = {
    "ENTRY": ("circle", "Entry"),
    "TP1": ("diamond", "Target"),
    "TP2": ("diamond", "Target"),
    "TP3": ("diamond", "Target"),
    "STOP": ("x", "Stop"),
    "LIQUIDATION": ("x", "Stop"),
    "EXIT": ("square", "Exit"),
}


def add_fills(figure: go.Figure, fills: pd.DataFrame) -> None:
    """Mark every fill at its price: entries, targets, stops and other exits have their own shapes."""
    colours = formats.palette()
    for name in ("Entry", "Target", "Stop", "Exit"):
        kinds = [kind for kind, (_, group) in _FILL_MARKS.items() if group == name]
        rows = fills[fills["kind"].isin(kinds)]
        if rows.empty:
            continue
        hover = [
            f"<b>{formats.words(r.kind)}</b> {formats.side(r.side)}<br>{formats.quantity(r.quantity)} at "
            f"{formats.price(r.price)}"
            + ("" if r.kind == "ENTRY" else f"<br>Result {formats.money(r.realised_pnl)} USDT")
            for r in rows.itertuples()
        ]
        figure.add_trace(
            go.Scatter(
                x=rows["ts"],
                y=rows["price"],
                mode="markers",
                name=f"{name} fill",
                marker={
                    "symbol": _FILL_MARKS[kinds[0]][0],
                    "size": 9,
                    "color": [colours.gain if s == "BUY" else colours.loss for s in rows["side"]],
                    "line": {"width": 1, "color": colours.on_colour},
                },
                text=hover,
                hovertemplate="%{text}<extra></extra>",
            ),
            row=1,
            col=1,
        )


def add_levels(figure: go.Figure, levels: Sequence[tuple[str, float, str]], start: Any) -> None:
    """Draw horizontal lines (name, price, role) from `start` to the right edge, with price tags on the axis.

    `role` is `entry`, `stop`, `target` or `liquidation`. The visible prices are widened for all but the liquidation,
    which is far away as a rule and left out then.
    """
    colours = formats.palette()
    looks = {
        "entry": (colours.muted, "solid"),
        "stop": (colours.loss, "dash"),
        "target": (colours.gain, "dash"),
        "liquidation": (colours.loss, "dot"),
    }
    near = [price for _, price, role in levels if role != "liquidation"]
    low, high = figure.layout.yaxis.range
    margin = _ROOM * (high - low)
    low, high = min(low, *(price - margin for price in near)), max(high, *(price + margin for price in near))
    figure.update_yaxes(range=[low, high], row=1, col=1)
    right, tag_at = figure.layout.xaxis.range[1], low
    for name, price, role in sorted(levels, key=lambda level: level[1]):
        if not low <= price <= high:
            continue
        colour, dash = looks[role]
        figure.add_shape(
            type="line",
            x0=start,
            x1=right,
            y0=price,
            y1=price,
            line={"color": colour, "width": 1.4, "dash": dash},
            row=1,
            col=1,
        )
        tag_at = max(price, tag_at)
        figure.add_annotation(
            xref="paper",
            yref="y",
            x=1,
            y=tag_at,
            text=f"{html.escape(name)} {formats.price(price)}",
            showarrow=False,
            xanchor="left",
            borderpad=2,
            bgcolor=colour,
            font={"color": colours.on_colour, "size": 11},
        )
        tag_at += _TAG * (high - low)
    figure.update_layout(margin={"r": 118})


def equity(curve: pd.DataFrame, benchmark_name: str | None, start_capital: float) -> go.Figure:
    """Equity against buy and hold above, drawdown below."""
    colours = formats.palette()
    figure = make_subplots(rows=2, shared_xaxes=True, vertical_spacing=0.04, row_heights=[0.7, 0.3])
    if benchmark_name is not None:
        figure.add_trace(
            go.Scatter(
                x=curve["ts"],
                y=curve["benchmark"],
                name=f"{html.escape(benchmark_name)} buy and hold",
                mode="lines",
                line={"width": 1.4, "dash": "dot", "color": colours.muted},
                hovertemplate="%{y:,.2f}",
            ),
            row=1,
            col=1,
        )
    figure.add_trace(
        go.Scatter(
            x=curve["ts"],
            y=curve["equity"],
            name="Equity",
            mode="lines",
            line={"width": 2, "color": colours.gain},
            hovertemplate="%{y:,.2f}",
        ),
        row=1,
        col=1,
    )
    figure.add_trace(
        go.Scatter(
            x=curve["ts"],
            y=curve["drawdown"],
            name="Drawdown",
            mode="lines",
            fill="tozeroy",
            fillcolor=_faint(colours.loss),
            line={"width": 1.2, "color": colours.loss},
            hovertemplate="%{y:.2%}",
            showlegend=False,
        ),
        row=2,
        col=1,
    )
    figure.add_hline(y=start_capital, line={"width": 1, "dash": "dot", "color": colours.muted}, row=1, col=1)
    figure.update_yaxes(row=1, col=1, tickformat=",.2~f", side="right")
    figure.update_yaxes(row=2, col=1, tickformat=".2~%", side="right", nticks=4, rangemode="tozero")
    figure.update_layout(
        height=460,
        margin={"l": 8, "r": 56, "t": 28, "b": 8},
        hovermode="x unified",
        font={"size": _FONT},
        legend={"orientation": "h", "yanchor": "bottom", "y": 1.0, "x": 0, "font": {"size": _FONT}},
    )
    return figure


def add_equity(figure: go.Figure, curve: pd.DataFrame, name: str) -> None:
    """Draw a second curve with its drawdown into a figure of `equity`."""
    colours = formats.palette()
    for row, column, form in ((1, "equity", "%{y:,.2f}"), (2, "drawdown", "%{y:.2%}")):
        figure.add_trace(
            go.Scatter(
                x=curve["ts"],
                y=curve[column],
                name=html.escape(name),
                mode="lines",
                line={"width": 1.6, "color": colours.accent},
                hovertemplate=form,
                showlegend=row == 1,
            ),
            row=row,
            col=1,
        )


def _faint(colour: str, opacity: float = 0.18) -> str:
    red, green, blue = (int(colour[n : n + 2], 16) for n in (1, 3, 5))
    return f"rgba({red},{green},{blue},{opacity})"


def signed_bars(labels: Sequence[Any], values: Sequence[float], unit: str, digits: int = 2) -> go.Figure:
    """Vertical bars above and below zero, gain and loss in their colours."""
    colours = formats.palette()
    figure = go.Figure(
        go.Bar(
            x=list(labels),
            y=list(values),
            marker={"color": [colours.gain if v >= 0 else colours.loss for v in values], "line": {"width": 0}},
            hovertemplate=f"%{{x}}<br>%{{y:+,.{digits}f}} {unit}<extra></extra>",
        )
    )
    figure.update_layout(height=230, margin={"l": 8, "r": 56, "t": 8, "b": 8}, font={"size": _FONT}, bargap=0.25)
    figure.update_yaxes(side="right", tickformat="+,.0f", zeroline=True, zerolinecolor=colours.grid, nticks=5)
    return figure


def horizontal_bars(labels: Sequence[str], values: Sequence[float], texts: Sequence[str], *, signed: bool) -> go.Figure:
    """Horizontal bars with their numbers written beside them, the first on top."""
    colours = formats.palette()
    colour = [colours.muted if not signed else colours.gain if v >= 0 else colours.loss for v in values]
    figure = go.Figure(
        go.Bar(
            x=list(values),
            y=[html.escape(label) for label in labels],
            orientation="h",
            marker={"color": colour, "line": {"width": 0}},
            text=list(texts),
            textposition="outside",
            cliponaxis=False,
            hoverinfo="skip",
        )
    )
    figure.update_layout(
        height=show_height(len(labels)),
        margin={"l": 8, "r": 8, "t": 4, "b": 4},
        font={"size": _FONT},
        bargap=0.35,
        showlegend=False,
    )
    widest = max((abs(value) for value in values), default=0) or 1
    # Room for the numbers beside the bars, on a phone as well.
    figure.update_xaxes(visible=False, range=[-1.5 * widest if signed else 0, 1.5 * widest])
    figure.update_yaxes(autorange="reversed", automargin=True, ticks="", showgrid=False)
    return figure


def folds(measured: pd.DataFrame) -> go.Figure:
    """Ranking and calibration of each walk-forward fold over time, the ranking of a coin as a line."""
    colours = formats.palette()
    figure = make_subplots(rows=2, shared_xaxes=True, vertical_spacing=0.08)
    for row, (column, name, colour) in enumerate(
        (("auc", "AUC", colours.gain), ("calibration_error", "Calibration error", colours.loss)), start=1
    ):
        if column in measured:
            figure.add_trace(
                go.Scatter(
                    x=measured["test_from"],
                    y=measured[column],
                    name=name,
                    mode="lines+markers",
                    line={"width": 1.5, "color": colour},
                    hovertemplate="%{y:.4f}",
                ),
                row=row,
                col=1,
            )
    figure.add_hline(y=0.5, line={"width": 1, "dash": "dot", "color": colours.muted}, row=1, col=1)
    figure.update_layout(
        height=300,
        margin={"l": 8, "r": 8, "t": 28, "b": 8},
        legend={"orientation": "h", "yanchor": "bottom", "y": 1.0, "x": 0},
    )
    return figure


def sentiment(history: pd.DataFrame) -> go.Figure:
    """Sentiment of a coin over time, all sources together above single ones, with the texts counted below."""
    colours = formats.palette()
    figure = make_subplots(rows=2, shared_xaxes=True, vertical_spacing=0.06, row_heights=[0.75, 0.25])
    whole = history[history["source"].isin(["ALL", "simulated"])]
    for source, own in history[~history.index.isin(whole.index)].groupby("source"):
        figure.add_trace(
            go.Scatter(
                x=own["ts"],
                y=own["score"],
                name=html.escape(str(source)),
                mode="lines",
                opacity=0.6,
                line={"width": 1},
                hovertemplate="%{y:+.2f}",
            ),
            row=1,
            col=1,
        )
    for column, name in (("low", "Unusually bad"), ("high", "Unusually good")):
        figure.add_trace(
            go.Scatter(
                x=whole["ts"],
                y=whole[column],
                name=name,
                mode="lines",
                line={"width": 1, "dash": "dot", "color": colours.muted},
                hovertemplate="%{y:+.2f}",
                showlegend=False,
            ),
            row=1,
            col=1,
        )
    figure.add_trace(
        go.Scatter(
            x=whole["ts"],
            y=whole["score"],
            name="Sentiment",
            mode="lines",
            line={"width": 2, "color": colours.gain},
            hovertemplate="%{y:+.2f}",
        ),
        row=1,
        col=1,
    )
    figure.add_trace(
        go.Bar(
            x=whole["ts"],
            y=whole["mentions"],
            name="Texts, 24 h",
            marker={"color": colours.muted},
            hovertemplate="%{y}",
            showlegend=False,
        ),
        row=2,
        col=1,
    )
    figure.add_hline(y=0, line={"width": 1, "color": colours.grid}, row=1, col=1)
    figure.update_yaxes(row=1, col=1, range=[-1, 1], side="right", tickformat="+.1f")
    figure.update_yaxes(row=2, col=1, side="right", nticks=3, rangemode="tozero")
    figure.update_layout(
        height=400,
        margin={"l": 8, "r": 46, "t": 28, "b": 8},
        hovermode="x unified",
        bargap=0,
        font={"size": _FONT},
        legend={"orientation": "h", "yanchor": "bottom", "y": 1.0, "x": 0, "font": {"size": _FONT}},
    )
    return figure


def importance(shares: pd.DataFrame, measure: str, most: int = 12) -> go.Figure:
    """The strongest features of a version by one of the columns `gain` and `shap`."""
    strongest = shares.dropna(subset=[measure]).nlargest(most, measure).iloc[::-1]
    figure = go.Figure(
        go.Bar(
            x=strongest[measure],
            y=[formats.name(name) for name in strongest["feature"]],
            orientation="h",
            marker={"color": formats.palette().gain},
            hovertemplate="%{x:.1%}",
        )
    )
    figure.update_layout(height=300, margin={"l": 8, "r": 8, "t": 8, "b": 8}, xaxis={"tickformat": ".0%"})
    return figure


def calibration(bins: pd.DataFrame) -> go.Figure:
    """Share of hits per band of predicted probability against the diagonal."""
    colours = formats.palette()
    figure = go.Figure()
    figure.add_trace(
        go.Scatter(
            x=[0, 1],
            y=[0, 1],
            mode="lines",
            name="Perfect",
            line={"width": 1, "dash": "dot", "color": colours.muted},
            hoverinfo="skip",
        )
    )
    figure.add_trace(
        go.Scatter(
            x=bins["predicted"],
            y=bins["observed"],
            mode="lines+markers",
            name="Observed",
            marker={"size": 8, "color": colours.gain},
            line={"width": 1.5, "color": colours.gain},
            customdata=bins["predictions"],
            hovertemplate="Predicted %{x:.1%}<br>Observed %{y:.1%}<br>%{customdata} predictions<extra></extra>",
        )
    )
    low = float(min(bins["predicted"].min(), bins["observed"].min())) - 0.03
    high = float(max(bins["predicted"].max(), bins["observed"].max())) + 0.03
    figure.update_xaxes(title="Predicted probability", tickformat=".0%", range=[low, high])
    figure.update_yaxes(title="Observed share", tickformat=".0%", range=[low, high])
    figure.update_layout(
        height=340,
        margin={"l": 8, "r": 8, "t": 28, "b": 8},
        font={"size": _FONT},
        legend={"orientation": "h", "yanchor": "bottom", "y": 1.0, "x": 0},
    )
    return figure


def survival(strikes: Sequence[float], chances: Sequence[float], spot: float) -> go.Figure:
    """Probability of a higher price at each strike, with the price of now."""
    colours = formats.palette()
    figure = go.Figure(
        go.Scatter(
            x=list(strikes),
            y=list(chances),
            mode="lines+markers",
            line={"width": 2, "color": colours.gain},
            hovertemplate="above %{x:,.6~g}: %{y:.1%}<extra></extra>",
        )
    )
    figure.add_vline(
        x=spot,
        line={"width": 1.2, "dash": "dot", "color": colours.muted},
        annotation_text=f"Spot {formats.price(spot)}",
    )
    figure.update_layout(height=300, margin={"l": 8, "r": 56, "t": 20, "b": 8}, font={"size": _FONT}, showlegend=False)
    figure.update_yaxes(side="right", tickformat=".0%", range=[0, 1.02])
    return figure


def implied_history(history: pd.DataFrame) -> go.Figure:
    """Median of an implied distribution within its quartiles over time, and spot."""
    colours = formats.palette()
    figure = go.Figure()
    known = history["q25"].notna() & history["q75"].notna()
    # A band of its own for each stretch: one trace would fill across what is not known.
    for number, (_, part) in enumerate(history[known].groupby((~known).cumsum()[known])):
        band = {"mode": "lines", "line": {"width": 0}, "hoverinfo": "skip"}
        figure.add_trace(go.Scatter(x=part["ts"], y=part["q75"], showlegend=False, **band))
        look = {"fill": "tonexty", "fillcolor": _faint(colours.gain), "showlegend": number == 0}
        figure.add_trace(go.Scatter(x=part["ts"], y=part["q25"], name="25 to 75 %", **look, **band))
    for column, name, line in (
        ("median", "Median", {"width": 2, "color": colours.gain}),
        ("spot", "Spot", {"width": 1.4, "dash": "dot", "color": colours.muted}),
    ):
        figure.add_trace(
            go.Scatter(
                x=history["ts"], y=history[column], mode="lines", name=name, line=line, hovertemplate="%{y:,.6~g}"
            )
        )
    figure.update_layout(
        height=300,
        margin={"l": 8, "r": 64, "t": 20, "b": 8},
        hovermode="x unified",
        font={"size": _FONT},
        legend={"orientation": "h", "yanchor": "bottom", "y": 1.0, "x": 0},
    )
    figure.update_yaxes(side="right", tickformat=",.6~g")
    return figure


def odds(history: pd.DataFrame) -> go.Figure:
    """Probabilities of several markets over time."""
    figure = go.Figure()
    for _, rows in history.groupby("market_id", sort=False):
        figure.add_trace(
            go.Scatter(
                x=rows["ts"],
                y=rows["probability"],
                mode="lines",
                name=html.escape(str(rows["question"].iloc[0])[:70]),
                hovertemplate="%{y:.1%}",
            )
        )
    figure.update_layout(
        height=380,
        margin={"l": 8, "r": 56, "t": 8, "b": 8},
        hovermode="x unified",
        font={"size": _FONT},
        showlegend=True,
        legend={"orientation": "h", "yanchor": "top", "y": -0.12, "x": 0},
    )
    figure.update_yaxes(side="right", tickformat=".0%", range=[0, 1])
    return figure
