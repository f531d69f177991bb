"""Model versions, the folds they were tested on, and how their probabilities turned out."""

from datetime import timedelta

import charts
import formats
import layout
import pandas as pd
import queries
import streamlit as st
from layout import Card, Column

from trading_pipelines.errors import UserError
from trading_pipelines.store.actions import change_model

layout.header("Models", "Which version predicts now, how it was tested, and whether its probabilities come true.")

_LIMIT = 300
# A share of fewer cases than this says nothing.
_BAND_MINIMUM = 20
_VERSION_COLUMNS = (
    Column("symbol", "Symbol", kind="text", pinned=True, width=100),
    Column("state", "State", kind="text", width=115),
    Column("timeframe", "Timeframe", kind="text"),
    Column("as_of", "Trained as of, UTC", formats.moment, kind="text", width=135),
    Column("train_from", "Data from, UTC", formats.moment, kind="text", width=130),
    Column("folds", "Folds", lambda v: formats.number(v, 0)),
    Column("effective_from", "In production since, UTC", formats.moment, kind="text", width=160),
    Column("promotion_reason", "Promoted because", kind="text", width=180),
    Column("model_id", "Version", kind="text", width=220),
)


_DRIFT_COLUMNS = (
    Column("day", "Day", str, kind="text"),
    Column("shifted", "Shifted features", kind="text"),
    Column("novelty", "Mean novelty", lambda v: formats.number(v, 4)),
    Column("outcomes", "Outcomes", lambda v: formats.number(v, 0)),
    Column("hit_rate", "Hit rate", lambda v: formats.number(v, 4)),
    Column("expected_hit_rate", "Out of sample", lambda v: formats.number(v, 4)),
    Column("calibration_error", "Calibration error", lambda v: formats.number(v, 4)),
    Column("verdict", "Drift", kind="text", width=260),
)
_SHIFT_COLUMNS = (
    Column("feature", "Feature", kind="text", width=180),
    Column("psi", "PSI", lambda v: formats.number(v, 3)),
    Column("usual_psi", "Usual PSI", lambda v: formats.number(v, 3)),
    Column("ks", "KS", lambda v: formats.number(v, 3)),
)
_TRAINING_COLUMNS = (
    Column("symbol", "Symbol", kind="text", pinned=True, width=100),
    Column("timeframe", "Timeframe", kind="text"),
    Column("state", "State", formats.words, kind="text", width=100),
    Column("done", "Folds done", kind="text"),
    Column("searched", "Searches done", kind="text"),
    Column("auc", "AUC so far", lambda v: formats.number(v, 4)),
    Column("workers", "Processes", lambda v: formats.number(v, 0)),
    Column("left", "Left", kind="text"),
    Column("created_at", "Begun, UTC", formats.moment, kind="text", width=130),
)
_EXPLAINED_COLUMNS = (
    Column("symbol", "Symbol", kind="text", pinned=True, width=100),
    Column("ts", "Bar, UTC", formats.moment, kind="text", width=130),
    Column("session", "Session", kind="text", width=100),
    Column("side", "Side", formats.side, layout.by_side, kind="text", width=85),
    Column("probability", "Probability", lambda v: formats.number(v, 3)),
    Column("status", "Status", formats.words, kind="text", width=100),
    Column("moved", "Moved by", kind="text", width=420),
)
_MEASURES = {"gain": "Share of the gain while it learnt", "shap": "Share of what moves its predictions (SHAP)"}
_EXPLAINED_SIGNALS = 30
_LIVE_SECONDS = 5
_STATES = {"production": "✓ In production", "archived": "Archived", "candidate": "Candidate"}
_EFFECTS = {
    "promote": "{} predicts from now on, until another version takes its place.",
    "rollback": "{} no longer predicts; the version before does from now on.",
    "pin": "{} stays in production: no training and nobody replaces it until it is unpinned.",
    "unpin": "Other versions may take the place of {} again.",
}


_METRICS = {
    "auc": "How well it ranks rises above falls, out of sample: 0.5 is chance, 1 perfect",
    "skill": "By how much its log loss is better than that of always giving the usual share of rises",
    "log_loss": "Mean surprise per prediction: 0.693 is a coin toss, less is better",
    "brier": "Mean squared error of the probabilities: 0.25 is a coin toss, less is better",
    "accuracy": "Share of predictions whose side was right",
    "calibration_error": "Mean distance between predicted probability and what happened",
    "precision": "Share of confident predictions that were right",
    "coverage": "Share of predictions that were confident",
    "net_profit": "Sum of simulated net results of its confident predictions, as a fraction of the notional",
    "trades": "Confident predictions that were simulated",
    "samples": "Predictions out of sample",
    "rounds": "Trees of the final fit",
}
"""What is shown of a version, in this order, and what it means."""


def _metric_name(name: str) -> str:
    return formats.name(name)


def _metric(value: float) -> str:
    """A count as a whole number, anything else with four digits."""
    return formats.number(value, 0 if value > 1 and value == int(value) else 4)


def _version(version: pd.Series) -> None:
    with st.container(border=True):
        st.subheader(f"{formats.literal(version['symbol'])} {version['timeframe']}", anchor=False, width="content")
        st.caption(
            f"Version {formats.literal(version['model_id'])}, code {formats.literal(version['code_version'])}, trained "
            f"on what was known by {formats.moment_utc(version['as_of'])}"
        )
        metrics = queries.version_metrics(version["model_id"])
        told = [name for name in _METRICS if name in metrics]
        layout.cards([Card(_metric_name(name), _metric(metrics[name]), help=_METRICS[name]) for name in told], 130)
        folds = queries.version_folds(version["training_key"])
        if folds.empty:
            st.caption("No walk-forward folds are stored for this version.")
            return
        measured = [name for name in _METRICS if name in folds.columns]
        st.plotly_chart(charts.folds(folds), config=charts.STATIC_CONFIG, key="folds_chart")
        columns = [
            Column("fold", "Fold"),
            Column("test_from", "Tested from, UTC", formats.moment, kind="text", width=130),
            Column("test_until", "Until, UTC", formats.moment, kind="text", width=130),
            *(
                Column(
                    name,
                    _metric_name(name),
                    lambda v: formats.MISSING if formats.missing(v) else _metric(v),
                    help=_METRICS[name],
                )
                for name in measured
            ),
        ]
        layout.table(folds, columns, "folds", rows=10)


@layout.live(_LIVE_SECONDS)
def _trainings(exchange: str) -> None:
    """What is being trained, or was left half done; nothing when all is finished."""
    trainings = queries.training_progress(exchange, _LIMIT)
    trainings = trainings[trainings["finished_at"].isna()]
    if trainings.empty:
        return
    st.subheader("Training", anchor=False)
    share = trainings["folds_done"].sum() / max(1, trainings["folds"].sum())
    st.progress(min(1.0, float(share)), text=f"{share:.0%} of the folds of {len(trainings)} trainings")
    shown = trainings.assign(
        done=_of(trainings["folds_done"], trainings["folds"]),
        searched=_of(trainings["searches_done"], trainings["searches"]),
        left=[formats.duration(seconds) for seconds in trainings["eta_s"]],
    )
    layout.table(shown, _TRAINING_COLUMNS, "trainings", rows=5)


def _of(done: pd.Series, total: pd.Series) -> list[str]:
    pairs = zip(done, total, strict=True)
    return [formats.MISSING if formats.missing(all_) else f"{int(some)} of {int(all_)}" for some, all_ in pairs]


def _controls(version: pd.Series) -> None:
    """Promote what does not predict, roll back and pin what does; each asks first."""
    current, pinned = version["state"] == "production", bool(version["pinned"])
    with st.container(horizontal=True, gap="xsmall"):
        for wanted, label, icon, enabled in (
            ("promote", "Promote", "publish", not current),
            ("rollback", "Roll back", "undo", current),
            ("pin", "Pin", "keep", current and not pinned),
            ("unpin", "Unpin", "keep_off", pinned),
        ):
            if st.button(label, icon=f":material/{icon}:", key=f"model_{wanted}", disabled=not enabled):
                _confirm(wanted, str(version["model_id"]))


@st.dialog("Change what predicts")
def _confirm(wanted: str, model_id: str) -> None:
    st.markdown(_EFFECTS[wanted].format(formats.literal(model_id)))
    reason = st.text_input("Why", key="model_reason", max_chars=200)
    if not st.button(wanted.capitalize(), type="primary", key="model_confirm", disabled=not reason.strip()):
        return
    try:
        concerned = change_model(queries.settings(), wanted, model_id, reason.strip())
    except UserError as error:
        st.error(formats.literal(error))
        return
    queries.forget()
    st.success(f"Done: {formats.literal(concerned)}")


def _importance(model_id: str) -> None:
    shares = queries.importance(model_id)
    told = [measure for measure in _MEASURES if shares[measure].notna().any()]
    if not told:
        return
    st.subheader("Importance", anchor=False)
    for measure, column in zip(told, st.columns(len(told)), strict=True):
        with column:
            st.caption(_MEASURES[measure])
            figure = charts.importance(shares, measure)
            st.plotly_chart(figure, config=charts.STATIC_CONFIG, key=f"importance_{measure}")


def _explained(model_id: str) -> None:
    signals = queries.explained_signals(model_id, _EXPLAINED_SIGNALS)
    if signals.empty:
        return
    st.subheader("What moved its newest signals", anchor=False)
    st.caption("Contributions to the log-odds of a rise (SHAP), the strongest first; a minus speaks for a fall.")
    shown = signals.assign(moved=[_contributions(factors) for factors in signals["factors"]])
    layout.table(shown, _EXPLAINED_COLUMNS, "explained", rows=6)


def _contributions(factors: dict[str, float]) -> str:
    own = {name: value for name, value in factors.items() if not name.startswith("score")}
    strongest = sorted(own.items(), key=lambda factor: -abs(factor[1]))[:4]
    told = ", ".join(f"{formats.name(name)} {formats.number(value, 3, sign=True)}" for name, value in strongest)
    return told or formats.MISSING


def _drift(exchange: str, model_id: str) -> None:
    st.subheader("Drift", anchor=False)
    newest = queries.utc_now().replace(minute=0, second=0, microsecond=0)
    days = queries.model_drift(exchange, newest - timedelta(days=90))
    days = days[days["model_id"] == model_id]
    if days.empty:
        layout.empty("Not compared with its training yet", "The versions in production are looked at every night.")
        return
    days = days.iloc[::-1].assign(
        shifted=[f"{a} of {b}" for a, b in zip(days["drifted_features"], days["features"], strict=True)][::-1],
        verdict=["; ".join(reasons) or "None" for reasons in days["reasons"]][::-1],
    )
    layout.table(days, _DRIFT_COLUMNS, "drift_days", rows=5)
    layout.table(queries.feature_drift(model_id, 10), _SHIFT_COLUMNS, "drift_features", rows=5)


def _calibration(exchange: str, versions: pd.DataFrame) -> None:
    st.subheader("Calibration", anchor=False)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        symbol = st.selectbox(
            "Symbol",
            sorted(versions["symbol"].unique()),
            index=None,
            placeholder="All symbols",
            width=180,
            key="c_symbol",
        )
        days = st.segmented_control(
            "Period", [7, 30, 90], default=30, format_func=lambda d: f"{d} d", required=True, key="c_days"
        )
    newest = queries.utc_now().replace(minute=0, second=0, microsecond=0)
    bins = queries.calibration(exchange, symbol, newest - timedelta(days=days or 30))
    bins = bins[bins["predictions"] >= _BAND_MINIMUM]
    if bins.empty:
        layout.empty(
            "Too few resolved predictions in this period",
            "A prediction is resolved once the price has reached one of its barriers or its time is over.",
        )
        return
    st.plotly_chart(charts.calibration(bins), config=charts.STATIC_CONFIG, key="calibration")
    st.caption(
        f"{formats.number(bins['predictions'].sum(), 0)} resolved predictions, in bands of five points of "
        f"probability with at least {_BAND_MINIMUM} predictions each."
    )


def _states(versions: pd.DataFrame) -> list[tuple[str, bool]]:
    return list(zip(versions["state"], versions["pinned"], strict=True))


def _page() -> None:
    session = layout.current_session()
    exchanges = [e.exchange for e in queries.list_exchanges()]
    exchange = session.exchange if session else exchanges[0] if exchanges else ""
    _trainings(exchange)
    versions = queries.list_versions(exchange, _LIMIT)
    if versions.empty:
        layout.empty(
            "No model version yet",
            "`trading up` trains the first versions after the first fill; `trading train` trains by hand.",
        )
        return
    shown = versions.assign(state=[_STATES[s] + (", pinned" if p else "") for s, p in _states(versions)])
    row = layout.table(shown, _VERSION_COLUMNS, "versions", rows=9, selectable=True, selected=0)
    version = versions.iloc[row or 0]
    _controls(version)
    _version(version)
    _importance(version["model_id"])
    _explained(version["model_id"])
    _drift(exchange, version["model_id"])
    _calibration(exchange, versions)


_page()
