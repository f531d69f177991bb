"""Why an exchange says no: our own reasons, and what the venues call them.

Belongs here: the reasons and their codes per venue. Does not belong here: when a request is refused
(`domain.execution.paper_account` for the simulated exchange, the venue itself for a real one).
"""

from enum import StrEnum


class Refusal(StrEnum):
    """Our reasons; whatever the venue, the same fault has the same one."""

    INSUFFICIENT_MARGIN = "insufficient_margin"
    BELOW_MINIMUM = "below_minimum"
    BELOW_MIN_NOTIONAL = "below_min_notional"
    BAD_QUANTITY_STEP = "bad_quantity_step"
    BAD_PRICE_STEP = "bad_price_step"
    REDUCE_ONLY = "reduce_only_rejected"
    WOULD_TRIGGER = "would_trigger_immediately"
    LEVERAGE = "invalid_leverage"
    UNKNOWN_SYMBOL = "unknown_symbol"
    DUPLICATE_ID = "duplicate_id"
    ORDER_NOT_FOUND = "order_not_found"
    ORDER_NOT_WORKING = "order_not_working"
    POSITION_EXISTS = "position_exists"
    NO_POSITION = "no_position"
    DUPLICATE_EXIT = "duplicate_exit"
    INVALID_REQUEST = "invalid_request"
    OTHER = "refused"
    """The venue's code is none that we know."""


BYBIT = {
    "110004": Refusal.INSUFFICIENT_MARGIN,
    "110006": Refusal.INSUFFICIENT_MARGIN,
    "110007": Refusal.INSUFFICIENT_MARGIN,
    "110012": Refusal.INSUFFICIENT_MARGIN,
    "110044": Refusal.INSUFFICIENT_MARGIN,
    "110045": Refusal.INSUFFICIENT_MARGIN,
    "110051": Refusal.INSUFFICIENT_MARGIN,
    "110052": Refusal.INSUFFICIENT_MARGIN,
    "110053": Refusal.INSUFFICIENT_MARGIN,
    "110094": Refusal.BELOW_MIN_NOTIONAL,
    "110017": Refusal.REDUCE_ONLY,
    "110092": Refusal.WOULD_TRIGGER,
    "110093": Refusal.WOULD_TRIGGER,
    "110013": Refusal.LEVERAGE,
    "110037": Refusal.UNKNOWN_SYMBOL,
    "110030": Refusal.DUPLICATE_ID,
    "110072": Refusal.DUPLICATE_ID,
    "110001": Refusal.ORDER_NOT_FOUND,
    "110008": Refusal.ORDER_NOT_WORKING,
    "110010": Refusal.ORDER_NOT_WORKING,
    "110034": Refusal.NO_POSITION,
    "110061": Refusal.DUPLICATE_EXIT,
    "110032": Refusal.INVALID_REQUEST,
    "10001": Refusal.INVALID_REQUEST,
}
"""`retCode` of Bybit's v5 API; https://bybit-exchange.github.io/docs/v5/error."""
BINANCE = {
    "-2018": Refusal.INSUFFICIENT_MARGIN,
    "-2019": Refusal.INSUFFICIENT_MARGIN,
    "-4003": Refusal.BELOW_MINIMUM,
    "-4004": Refusal.BELOW_MINIMUM,
    "-4164": Refusal.BELOW_MIN_NOTIONAL,
    "-4023": Refusal.BAD_QUANTITY_STEP,
    "-1111": Refusal.BAD_QUANTITY_STEP,
    "-4014": Refusal.BAD_PRICE_STEP,
    "-2022": Refusal.REDUCE_ONLY,
    "-2021": Refusal.WOULD_TRIGGER,
    "-2027": Refusal.LEVERAGE,
    "-4028": Refusal.LEVERAGE,
    "-1121": Refusal.UNKNOWN_SYMBOL,
    "-4141": Refusal.UNKNOWN_SYMBOL,
    "-4116": Refusal.DUPLICATE_ID,
    "-2013": Refusal.ORDER_NOT_FOUND,
    "-2011": Refusal.ORDER_NOT_WORKING,
    "-4130": Refusal.DUPLICATE_EXIT,
    "-1102": Refusal.INVALID_REQUEST,
    "-1116": Refusal.INVALID_REQUEST,
}
"""`code` of Binance's USD-M futures API; https://developers.binance.com/docs/derivatives/usds-margined-futures/error-code."""
VENUES = {"bybit": BYBIT, "binanceusdm": BINANCE}

_PAPER_CODES = {
    Refusal.INSUFFICIENT_MARGIN: "110007",
    Refusal.BELOW_MIN_NOTIONAL: "110094",
    Refusal.REDUCE_ONLY: "110017",
    Refusal.WOULD_TRIGGER: "110092",
    Refusal.LEVERAGE: "110013",
    Refusal.UNKNOWN_SYMBOL: "110037",
    Refusal.DUPLICATE_ID: "110072",
    Refusal.ORDER_NOT_FOUND: "110001",
    Refusal.ORDER_NOT_WORKING: "110008",
    Refusal.NO_POSITION: "110034",
}


def reason_of(venue: str, code: str) -> Refusal:
    """Our reason for the code of a venue; `OTHER` for a code or venue that is not known."""
    return VENUES.get(venue, {}).get(code, Refusal.OTHER)


class OrderRefused(Exception):  # noqa: N818 - named for what is known about the request
    """The exchange answered no: nothing of the request is in force.

    Attributes
    ----------
    code : Refusal
        Our reason, for example ``insufficient_margin``.
    venue_code : str
        What the venue answered; the simulated exchange answers with Bybit's codes.
    """

    def __init__(self, code: Refusal, message: str, venue_code: str | None = None) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.venue_code = _PAPER_CODES.get(code, "10001") if venue_code is None else venue_code
