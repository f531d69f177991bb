"""The portfolio rules asked before each order, each with its name, its verdict and its numbers.

Belongs here: the typed face of the compiled rules, which the backtest calls directly (`domain.engine.kernel.refuses`,
`may_add` and the sizing). Does not belong here: how large a trade becomes (`domain.risk.sizing`), what locks are and
where they come from (`domain.risk.protections`), correlations (`domain.risk.correlation`).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from trading_pipelines.domain.engine import kernel
from trading_pipelines.domain.engine.lifecycle import pack_execution
from trading_pipelines.domain.engine.params import ExecutionParams
from trading_pipelines.domain.execution.orders import PositionSide
from trading_pipelines.domain.market.instrument import Instrument
from trading_pipelines.domain.risk.limits import RiskLimits
from trading_pipelines.domain.risk.protections import Lock, LockReason
from trading_pipelines.domain.risk.sizing import Outcome, SizingDecision, decide_size, pack_limits

RULES = {
    kernel.SYMBOL_BUSY: "position_of_symbol",
    kernel.DRAWDOWN: "drawdown",
    kernel.DRAWDOWN_LOCK: "drawdown_lock",
    kernel.DAILY_LOSS: "daily_loss",
    kernel.DAILY_LOSS_LOCK: "daily_loss_lock",
    kernel.STOP_GUARD: "stop_guard",
    kernel.STOP_LOCK: "stop_lock",
    kernel.COOLDOWN: "cooldown",
    kernel.MAX_POSITIONS: "open_positions",
    kernel.RISK_REWARD: "risk_reward",
    kernel.CORRELATION: "correlation",
}
"""Names of the rules that say yes or no, by their compiled codes and in the order in which they are asked."""

_LOCKS = {
    kernel.DRAWDOWN_LOCK: LockReason.DRAWDOWN,
    kernel.DAILY_LOSS_LOCK: LockReason.DAILY_LOSS,
    kernel.STOP_GUARD: LockReason.STOP_GUARD,
    kernel.STOP_LOCK: LockReason.STOP,
    kernel.COOLDOWN: LockReason.COOLDOWN,
}


@dataclass(frozen=True)
class Exposure:
    """One position that is open, or an entry or addition that is about to fill.

    Attributes
    ----------
    margin : float
        Entry margin times what is left of it; of what has not filled yet, at the price at which it was asked for.
    entry_price : float or None
        None until it fills.
    additions : int
        How often the position has been added to.
    """

    instrument_id: int
    side: PositionSide
    margin: float
    entry_price: float | None = None
    additions: int = 0


@dataclass(frozen=True)
class PortfolioView:
    """The account at one moment, in quote currency.

    Attributes
    ----------
    equity : float
        Marked: cash, margin and unrealised result.
    peak_equity : float
        Running maximum of the marked equity.
    day_open_equity : float
        Marked equity at 00:00 UTC.
    exposures : sequence of Exposure
        Open positions and accepted entries that have not filled yet, without positions on their way out.
    free_cash : float
        Cash that neither margin nor a waiting entry with its fee binds; margin on its way out is not back yet.
    leaving : set of int
        Instruments whose position is on its way out.
    """

    equity: float
    peak_equity: float
    day_open_equity: float
    exposures: Sequence[Exposure] = ()
    free_cash: float = float("inf")
    leaving: frozenset[int] = frozenset()

    @property
    def drawdown(self) -> float:
        """Loss from the running maximum, as a fraction of it."""
        return float(kernel.loss_from(self.peak_equity, self.equity))

    @property
    def daily_loss(self) -> float:
        """Loss since 00:00 UTC, as a fraction of that moment's equity."""
        return float(kernel.loss_from(self.day_open_equity, self.equity))

    def symbol_margin(self, instrument_id: int) -> float:
        """Margin bound in one symbol."""
        return sum(e.margin for e in self.exposures if e.instrument_id == instrument_id)

    def direction_margin(self, side: PositionSide) -> float:
        """Margin bound in one direction."""
        return sum(e.margin for e in self.exposures if e.side is side)

    def same_direction(self, instrument_id: int, side: PositionSide) -> set[int]:
        """Other instruments that are in play in one direction."""
        return {e.instrument_id for e in self.exposures if e.side is side and e.instrument_id != instrument_id}


@dataclass(frozen=True)
class RuleResult:
    """What one rule saw and said.

    Attributes
    ----------
    value : float or None
        None where it is not known; then nothing is refused for it. Locks and cooldown: hours left.
    limit : float or None
        None where the rule is off. For a reduction what it reduces to: a margin, or a share of the size.
    """

    rule: str
    outcome: Outcome
    value: float | None
    limit: float | None

    def __str__(self) -> str:
        value, limit = ("unknown" if x is None else f"{x:g}" for x in (self.value, self.limit))
        if self.outcome is Outcome.REDUCE:
            return f"{self.rule}: {value} reduced to {limit}"
        return f"{self.rule}: {value} against a limit of {limit}"


@dataclass(frozen=True)
class Proposal:
    """A trade that somebody wants, before anyone has said how large it may be.

    Attributes
    ----------
    reference_price : float
        Close of the bar of the decision.
    stop_price, targets : float
        As decided, not yet rounded to the venue's step.
    """

    instrument_id: int
    instrument: Instrument
    side: PositionSide
    reference_price: float
    stop_price: float
    targets: tuple[float, float, float]
    confidence: float


@dataclass(frozen=True)
class RiskAssessment:
    """The verdict on a proposal with everything that led to it.

    Attributes
    ----------
    results : tuple of RuleResult
        Every rule in its order, those of the sizing last; the first refusal among them decides.
    size : SizingDecision
        What sizing and caps alone would allow.
    """

    results: tuple[RuleResult, ...]
    size: SizingDecision

    @property
    def refusal(self) -> RuleResult | None:
        """The first rule that refuses, None when none does."""
        return first_refusal(self.results)

    @property
    def outcome(self) -> Outcome:
        """Allowed, allowed in part, or refused."""
        found = {result.outcome for result in self.results}
        return next(outcome for outcome in (Outcome.REFUSE, Outcome.REDUCE, Outcome.ALLOW) if outcome in found)

    @property
    def quantity(self) -> float:
        """What may be traded, in base currency; 0 when refused."""
        return 0.0 if self.refusal is not None else self.size.quantity

    @property
    def margin(self) -> float:
        """Margin of that quantity at the reference price, in quote currency."""
        return 0.0 if self.refusal is not None else self.size.margin

    @property
    def reason(self) -> str:
        """The rule that refused, or those that reduced, with their numbers in one line."""
        if self.refusal is not None:
            return str(self.refusal)
        return "; ".join(str(r) for r in self.results if r.outcome is Outcome.REDUCE) or "no rule objects"


def judge(
    portfolio: PortfolioView,
    proposal: Proposal,
    execution: ExecutionParams,
    limits: RiskLimits,
    *,
    as_of: datetime,
    locks: Iterable[Lock] = (),
    correlations: Mapping[int, float] | None = None,
) -> RiskAssessment:
    """Ask every rule about a proposal, and size it.

    Parameters
    ----------
    locks : iterable of Lock
        Those that may be in force; others are left out.
    correlations : mapping, optional
        Correlation of the proposal's symbol with others, by instrument id; what is missing is not known.
    """
    left = _hours_left(locks, proposal, as_of)
    seen = {
        kernel.SYMBOL_BUSY: _busy(portfolio, proposal, limits),
        kernel.DRAWDOWN: portfolio.drawdown,
        kernel.DAILY_LOSS: portfolio.daily_loss,
        kernel.MAX_POSITIONS: float(len({e.instrument_id for e in portfolio.exposures} - {proposal.instrument_id})),
        kernel.RISK_REWARD: _risk_reward(proposal, execution),
        kernel.CORRELATION: _highest(portfolio, proposal, correlations or {}),
        **{rule: left.get(reason, 0.0) for rule, reason in _LOCKS.items()},
    }
    reentry = limits.reentry and left.get(LockReason.STOP, 0.0) > 0
    size = decide_size(
        reference_price=proposal.reference_price,
        stop_price=proposal.stop_price,
        confidence=proposal.confidence,
        equity=portfolio.equity,
        symbol_margin=portfolio.symbol_margin(proposal.instrument_id),
        direction_margin=portfolio.direction_margin(proposal.side),
        execution=execution,
        limits=limits,
        free_cash=portfolio.free_cash,
        share=limits.reentry_scale if reentry else 1.0,
        quantity_step=float(proposal.instrument.quantity_step),
        min_quantity=float(proposal.instrument.min_quantity),
        min_notional=float(proposal.instrument.min_notional),
    )
    return RiskAssessment((*(_ask(rule, seen[rule], limits) for rule in RULES), *size_results(size)), size)


def size_results(size: SizingDecision) -> tuple[RuleResult, ...]:
    """What each rule of the sizing saw and said, in the order in which they are asked.

    A cap sees the margin that the rules before it leave.
    """
    n = size.numbers
    results = [
        _verdict("no_equity", n["equity"], 0.0, size.rule != "no_equity"),
        _verdict(
            "liquidation_too_close",
            n["liquidation_distance"] / n["stop_distance"] if n["stop_distance"] > 0 else None,
            n["liquidation_buffer"],
            size.rule != "liquidation_too_close",
        ),
    ]
    margin = n["wanted_margin"]
    for rule, limit in (
        ("margin_per_trade", n["trade_margin_limit"]),
        ("margin_per_symbol", n["symbol_margin_limit"] - n["symbol_margin"]),
        ("margin_per_direction", n["direction_margin_limit"] - n["direction_margin"]),
        ("margin_available", n["payable_margin"]),
    ):
        if margin <= limit or margin <= 0:
            results.append(RuleResult(rule, Outcome.ALLOW, margin, limit))
        else:
            results.append(RuleResult(rule, Outcome.REDUCE if limit > 0 else Outcome.REFUSE, margin, limit))
            margin = limit
    if n["share"] != 1:
        results.append(RuleResult("reentry", Outcome.REDUCE, 1.0, n["share"]))
    left = max(margin, 0.0) * n["share"]
    results.append(_verdict("below_minimum", left, n["smallest_margin"], size.rule != "below_minimum"))
    return tuple(results)


def first_refusal(results: Sequence[RuleResult]) -> RuleResult | None:
    """The first rule that refuses, None when none does."""
    return next((result for result in results if result.outcome is Outcome.REFUSE), None)


def must_close_all(portfolio: PortfolioView, limits: RiskLimits) -> bool:
    """Whether the drawdown has reached the point where everything is closed."""
    return portfolio.drawdown >= limits.max_drawdown_close_all


def may_add(portfolio: PortfolioView, proposal: Proposal, limits: RiskLimits) -> bool:
    """Whether a proposal would add to the position that its symbol has, instead of opening one."""
    held = [e for e in portfolio.exposures if e.instrument_id == proposal.instrument_id]
    if len(held) != 1 or held[0].entry_price is None or held[0].side is not proposal.side:
        return False
    return bool(
        kernel.may_add(
            proposal.side.sign,
            proposal.reference_price,
            held[0].entry_price,
            held[0].additions,
            pack_limits(limits),
        )
    )


def _ask(rule: int, value: float | None, limits: RiskLimits) -> RuleResult:
    """Let the compiled rule decide; the limit is told in the words of the settings."""
    limit = {
        kernel.SYMBOL_BUSY: 1.0,
        kernel.DRAWDOWN: limits.max_drawdown_new_trades,
        kernel.DAILY_LOSS: limits.max_daily_loss,
        kernel.MAX_POSITIONS: float(limits.max_open_positions),
        kernel.RISK_REWARD: limits.min_risk_reward,
        kernel.CORRELATION: limits.max_correlation,
    }.get(rule, 0.0)
    refused = kernel.refuses(rule, float("nan") if value is None else value, pack_limits(limits))
    return _verdict(RULES[rule], value, limit, not refused)


def _verdict(rule: str, value: float | None, limit: float | None, allowed: bool) -> RuleResult:
    return RuleResult(rule, Outcome.ALLOW if allowed else Outcome.REFUSE, value, limit)


def _busy(portfolio: PortfolioView, proposal: Proposal, limits: RiskLimits) -> float:
    """Positions that keep the symbol from a new entry: one that may be added to does not."""
    symbol = proposal.instrument_id
    if symbol in portfolio.leaving:
        return 1.0
    if may_add(portfolio, proposal, limits):
        return 0.0
    return float(sum(e.instrument_id == symbol for e in portfolio.exposures))


def _risk_reward(proposal: Proposal, execution: ExecutionParams) -> float | None:
    reference, stop = proposal.reference_price, proposal.stop_price
    if reference == stop:
        return None
    return float(kernel.risk_reward(reference, stop, *proposal.targets, pack_execution(execution)))


def _highest(portfolio: PortfolioView, proposal: Proposal, correlations: Mapping[int, float]) -> float | None:
    """The closest known companion among what is in play in the proposal's direction."""
    others = portfolio.same_direction(proposal.instrument_id, proposal.side)
    return max((correlations[o] for o in others if o in correlations), default=None)


def _hours_left(locks: Iterable[Lock], proposal: Proposal, as_of: datetime) -> dict[LockReason, float]:
    """For how long each kind of lock still keeps the proposal away."""
    left: dict[LockReason, float] = {}
    for lock in locks:
        if lock.starts_at <= as_of < lock.ends_at and lock.covers(proposal.instrument_id, proposal.side):
            hours = (lock.ends_at - as_of) / timedelta(hours=1)
            left[lock.reason] = max(hours, left.get(lock.reason, 0.0))
    return left
