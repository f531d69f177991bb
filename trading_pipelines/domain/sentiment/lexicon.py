"""Score a text by words that have a weight in this market.

Needs no model and no download, always says the same of the same text, and names the words it went by. Belongs here: the
words and how they add up. Does not belong here: models (`adapters.scorers`).
"""

import math
import re
from collections.abc import Iterator, Sequence

from trading_pipelines.domain.sentiment.normalise import without_addresses
from trading_pipelines.domain.sentiment.score import Score

VERSION = 1
"""Part of the stored scorer name: other words or weights are another scorer."""
NORMALISER = 15.0
"""A sum of weights s becomes s / sqrt(s^2 + 15), the form of VADER (Hutto and Gilbert 2014, ICWSM): one strong word
gives 0.6, many approach 1."""
_NEGATION_REACH = 4
"""Words before a weighted word in which a negation turns it."""
_TURNED = -0.74
"""Weight of a negated word: "not bullish" is less bad than "bearish" (the constant of VADER)."""
_STRONGER, _WEAKER = 1.3, 0.6
_BEFORE_BUT, _AFTER_BUT = 0.5, 1.5
"""What stands behind "but" outweighs what stands before it."""
_FULL_CONFIDENCE = 6.0
"""Sum of absolute weights from which on more words add no confidence."""

_WEIGHTS = {
    3.0: "skyrockets skyrocket skyrocketed skyrocketing moon mooning parabolic|all-time high|all time high|record high"
    "|new ath|short squeeze|etf approved|etf approval|massively bullish",
    2.5: "bullish soar soars soared soaring surge surges surged surging rally rallies rallied rallying breakout"
    "|to the moon|breaks out|bull run|bull market|mass adoption|landmark win|wins lawsuit|strategic reserve",
    2.0: "jump jumps jumped jumping spike spikes rebound rebounds rebounded recover recovers recovered recovery approve"
    " approves approved approval outperform outperforms outperformed adoption adopts adopt win wins won victory upgrade"
    " upgrades upgraded breakthrough boom booming thrives thriving profit profits profitable undervalued accumulate"
    " accumulates accumulated accumulating accumulation inflow inflows uptrend|higher highs|green light|golden cross"
    "|legal tender|buy the dip|strong demand|record inflows",
    1.5: "rise rises rose rising climb climbs climbed climbing gain gains gained gaining grow grows grew growing growth"
    " increase increases increased advance advances advanced optimistic optimism confident confidence partnership"
    " partners launch launches launched integrates integration support supports backed backs success successful great"
    " amazing excellent love best buy buying bought bid bids lists listing listed expands expansion expand secure gem"
    " strong stronger strength positive green up higher boost boosts boosted improve improves improved innovation"
    " donate invests invest hodl|pushes past|closes above|tops|nears record|institutional demand",
    1.0: "bounce bounces bounced stable steady hold holds holding resilient resilience eases easing reward rewards"
    " opportunity hope hopes hopeful welcome good better nice happy fun interesting promising dovish stimulus halving"
    " reserve staking yield|rate cut|rate cuts|cools down inflation",
    -1.0: "concern concerns concerned worry worries worried cautious caution uncertain uncertainty volatile volatility"
    " delay delays delayed slow slows slowed slowing stall stalls flat doubt doubts doubtful risk risks risky warn"
    " warns warned warning hawkish tariff tariffs inflation tax taxes problem problems issue issues stuck late boring"
    " pullback correction|rate hike|rate hikes|profit taking|trade war",
    -1.5: "fall falls fell falling drop drops dropped dropping decline declines declined declining decrease decreases"
    " decreased lower down dip dips dipped slip slips slipped slide slides slid sliding lose loses lost losing loss"
    " losses sell sells selling sold weak weaker weakness fear fears fearful negative red outflow outflows struggle"
    " struggles struggling miss misses missed suspend suspends suspended halt halts halted resistance rejected rejects"
    " reject rejection denies deny denied bad worse sad joke probe probes investigation investigates scrutiny fined"
    " layoffs disappointment disappointing disappointed pessimistic|closes below|lower lows",
    -2.0: "tumble tumbles tumbled tumbling sink sinks sank sinking slump slumps slumped plunge bearish downtrend dump"
    " dumps dumped dumping selloff sell-off capitulation capitulate lawsuit lawsuits sue sues sued charges charged ban"
    " bans banned banning crackdown delist delists delisted delisting exploit exploits exploited vulnerability outage"
    " breach breached attack attacks attacked default defaults recession crisis overvalued underperform hate worst ugly"
    " liquidated liquidation liquidations prison jail jailed sentenced guilty illegal|death cross|bear market",
    -2.5: "crash crashes crashed crashing plunges plunged plunging plummet plummets plummeted plummeting collapse"
    " collapses collapsed collapsing hack hacked hacks hacker hackers stolen steal steals theft fraud fraudulent scam"
    " scams scammed scammer ponzi bankrupt bankruptcy insolvent insolvency rugged rekt drained panic"
    "|wiped out|wipes out|loses peg|bank run",
    -3.0: "rugpull depeg depegs depegged worthless|rug pull|rug pulled|goes to zero|going to zero|death spiral"
    "|exit scam|pig butchering",
}
_EMOJI = {
    "🚀": 2.0,
    "📈": 1.5,
    "🟢": 1.0,
    "💎": 1.0,
    "🔥": 1.0,
    "💚": 1.0,
    "📉": -1.5,
    "🔴": -1.0,
    "🩸": -2.0,
    "😭": -1.5,
}
_NEGATIONS = frozenset(
    [
        "not",
        "no",
        "never",
        "none",
        "neither",
        "nor",
        "without",
        "hardly",
        "barely",
        "cannot",
        "lacks",
        "lack",
        "fails",
        "fail",
        "failed",
        "unlikely",
        "stop",
    ]
)
_STRONGER_WORDS = frozenset(
    ["very", "extremely", "hugely", "massive", "massively", "sharply", "huge", "strongly", "record", "really", "so"]
)
_WEAKER_WORDS = frozenset(["slightly", "somewhat", "marginally", "partly", "mildly", "little", "bit", "almost"])
_TURN_OF_CLAUSE = frozenset({"but", "however", "although", "yet", "despite"})
_WORD = re.compile(r"[^\W\d_]+(?:['-][^\W\d_]+)*|[" + "".join(_EMOJI) + "]")


def _read_weights() -> dict[tuple[str, ...], float]:
    table: dict[tuple[str, ...], float] = {(sign,): weight for sign, weight in _EMOJI.items()}
    for weight, terms in _WEIGHTS.items():
        single, *phrases = terms.split("|")
        table |= {(word,): weight for word in single.split()} | {tuple(phrase.split()): weight for phrase in phrases}
    return table


WORDS = _read_weights()
"""Weight of every term, by its words."""
_LONGEST = max(map(len, WORDS))


def score_text(text: str) -> Score:
    """Score one normalised text.

    Returns
    -------
    Score
        Zero with confidence zero where no weighted word is found. `detail` names the terms with the weights that they
        had in their place.
    """
    words = [word.lower() for word in _WORD.findall(without_addresses(text))]
    hits = list(_hits(words))
    turn = next((place for place, word in enumerate(words) if word in _TURN_OF_CLAUSE and 0 < place < len(words)), None)
    if turn is not None and words[turn] != "despite":
        hits = [(place, term, w * (_BEFORE_BUT if place < turn else _AFTER_BUT)) for place, term, w in hits]
    total, size = sum(w for _, _, w in hits), sum(abs(w) for _, _, w in hits)
    return Score(
        total / math.sqrt(total * total + NORMALISER),
        min(1.0, size / _FULL_CONFIDENCE),
        {"terms": {term: round(weight, 2) for _, term, weight in hits}},
    )


def _hits(words: Sequence[str]) -> Iterator[tuple[int, str, float]]:
    """Place, term and weight of each weighted term, the longest first; no word counts twice."""
    place = 0
    while place < len(words):
        for length in range(min(_LONGEST, len(words) - place), 0, -1):
            weight = WORDS.get(tuple(words[place : place + length]))
            if weight is not None:
                yield place, " ".join(words[place : place + length]), weight * _factor(words, place)
                place += length
                break
        else:
            place += 1


def _factor(words: Sequence[str], place: int) -> float:
    """What the words before a term make of its weight."""
    before = words[max(place - _NEGATION_REACH, 0) : place]
    factor = _TURNED if any(word in _NEGATIONS or word.endswith("n't") for word in before) else 1.0
    nearest = before[-1] if before else ""
    if nearest in _STRONGER_WORDS:
        return factor * _STRONGER
    return factor * _WEAKER if nearest in _WEAKER_WORDS else factor
