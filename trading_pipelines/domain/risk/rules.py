"""The portfolio rules asked before each order, each with its name, its verdict and its numbers.

Sizes and margin caps belong to `domain.risk.sizing`; what is here says yes or no.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from trading_pipelines.domain.engine.params import ExecutionParams
from trading_pipelines.domain.execution.orders import PositionSide
from trading_pipelines.domain.market.instrument import Instrument
from trading_pipelines.domain.risk.limits import RiskLimits
from trading_pipelines.domain.risk.sizing import Outcome, SizingDecision, decide_size


@dataclass(frozen=True)
class Exposure:
    """One position that is open or about to be: `margin` is its entry margin times what is left of it."""

    instrument_id: int
    side: PositionSide
    margin: float


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
        Open positions and accepted entries that have not filled yet.
    """

    equity: float
    peak_equity: float
    day_open_equity: float
    exposures: Sequence[Exposure] = ()

    @property
    def drawdown(self) -> float:
        """Loss from the running maximum, as a fraction of it."""
        return max(0.0, 1.0 - self.equity / self.peak_equity) if self.peak_equity > 0 else 0.0

    @property
    def daily_loss(self) -> float:
        """Loss since 00:00 UTC, as a fraction of that moment's equity."""
        return max(0.0, 1.0 - self.equity / self.day_open_equity) if self.day_open_equity > 0 else 0.0

    def symbol_margin(self, instrument_id: int) -> float:
        """Margin bound in one symbol."""
        return sum(e.margin for e in self.exposures if e.instrument_id == instrument_id)

    def direction_margin(self, side: PositionSide) -> float:
        """Margin bound in one direction."""
        return sum(e.margin for e in self.exposures if e.side is side)


@dataclass(frozen=True)
class RuleResult:
    """What one rule saw and said."""

    rule: str
    outcome: Outcome
    value: float
    limit: float


@dataclass(frozen=True)
class Proposal:
    """A trade that somebody wants, before anyone has said how large it may be.

    Attributes
    ----------
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
        Every rule that was asked, in the order in which they explain; the first refusal among them decides.
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
        return self.size.outcome if self.refusal is None else Outcome.REFUSE

    @property
    def quantity(self) -> float:
        """What may be traded, in base currency; 0 when refused."""
        return self.size.quantity if self.refusal is None else 0.0

    @property
    def reason(self) -> str:
        """The rule that refused or reduced, with its numbers, in one line."""
        if self.refusal is not None:
            return f"{self.refusal.rule}: {self.refusal.value:g} against a limit of {self.refusal.limit:g}"
        numbers = ", ".join(f"{name} {value:.6g}" for name, value in self.size.numbers.items())
        return f"{self.size.rule}: {numbers}"


def judge(
    portfolio: PortfolioView, proposal: Proposal, execution: ExecutionParams, limits: RiskLimits
) -> RiskAssessment:
    """Ask every rule about a proposal, and size it."""
    size = size_trade(
        portfolio,
        proposal.instrument_id,
        proposal.instrument,
        proposal.side,
        proposal.reference_price,
        proposal.stop_price,
        proposal.confidence,
        execution,
        limits,
    )
    return RiskAssessment(evaluate_rules(portfolio, proposal.instrument_id, limits), size)


def evaluate_rules(portfolio: PortfolioView, instrument_id: int, limits: RiskLimits) -> tuple[RuleResult, ...]:
    """Ask every rule about one more position in `instrument_id`."""
    same_symbol = sum(e.instrument_id == instrument_id for e in portfolio.exposures)
    return (
        _below("drawdown", portfolio.drawdown, limits.max_drawdown_new_trades),
        _below("daily_loss", portfolio.daily_loss, limits.max_daily_loss),
        _below("position_of_symbol", same_symbol, 1),
        _below("open_positions", len(portfolio.exposures), limits.max_open_positions),
    )


def first_refusal(results: Sequence[RuleResult]) -> RuleResult | None:
    """The first rule that refuses, None when none does."""
    return next((result for result in results if result.outcome is Outcome.REFUSE), None)


def size_trade(
    portfolio: PortfolioView,
    instrument_id: int,
    instrument: Instrument,
    side: PositionSide,
    reference_price: float,
    stop_price: float,
    confidence: float,
    execution: ExecutionParams,
    limits: RiskLimits,
) -> SizingDecision:
    """Size one trade within what the portfolio already binds and by the venue's steps and minimums."""
    return decide_size(
        reference_price=reference_price,
        stop_price=stop_price,
        confidence=confidence,
        equity=portfolio.equity,
        symbol_margin=portfolio.symbol_margin(instrument_id),
        direction_margin=portfolio.direction_margin(side),
        execution=execution,
        limits=limits,
        quantity_step=float(instrument.quantity_step),
        min_quantity=float(instrument.min_quantity),
        min_notional=float(instrument.min_notional),
    )


def must_close_all(portfolio: PortfolioView, limits: RiskLimits) -> bool:
    """Whether the drawdown has reached the point where everything is closed."""
    return portfolio.drawdown >= limits.max_drawdown_close_all


def _below(rule: str, value: float, limit: float) -> RuleResult:
    return RuleResult(rule, Outcome.ALLOW if value < limit else Outcome.REFUSE, float(value), float(limit))
