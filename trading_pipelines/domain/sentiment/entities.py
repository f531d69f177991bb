"""Find the coins that a text speaks of, where half of the tickers are words of the language.

Each kind of sign has a confidence: "$NEAR" and "NEAR/USDT" can hardly mean anything else, "Solana" is a name, "NEAR" in
capitals is a ticker only beside words of the trade, and "near" alone is never one. Belongs here: those rules. Does not
belong here: the names themselves (`coins.py`).
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from trading_pipelines.domain.sentiment.coins import (
    COINS,
    CRYPTO_WORDS,
    NOT_A_COIN,
    TRADE_WORDS,
    CoinName,
)
from trading_pipelines.domain.sentiment.normalise import without_addresses

CASHTAG, PAIR, NAMED, NAME, TICKER, TICKER_IN_CONTEXT, WORD_IN_CONTEXT = 0.98, 0.97, 0.97, 0.95, 0.9, 0.8, 0.7
"""Confidence of each kind of sign; `NAMED` is a name with its ticker in brackets."""
_NEARBY = 6
"""Tokens on each side in which a word of the trade makes a coin of an ambiguous ticker."""
_SHOUTING = 0.7
"""Share of capital words from which on capitals say nothing."""
_TOKEN = re.compile(r"\$?\d[\d,.]*[kmb%]?|[$#]?\w+(?:['.-]\w+)*|\S", re.IGNORECASE)
_PAIR = re.compile(r"(?<![\w$])\$?([A-Za-z0-9]{2,10})\s?[/-]\s?(?:USDT|USDC|USD|BUSD|EUR|BTC|ETH|PERP)\b")
_JOINED_PAIR = re.compile(r"(?<!\w)[$#]?([A-Z0-9]{2,10})(?:USDT|USDC|BUSD|USD)(?:\.P|PERP)?\b")
_IN_BRACKETS = re.compile(r"[\w.'-]+\s*\(\s*\$?([A-Z0-9]{2,10})\s*(?:-USD)?\s*\)")
_CASHTAG = re.compile(r"(?<![\w$])\$([A-Za-z][A-Za-z0-9]{1,9})\b")
_HASHTAG = re.compile(r"(?<![\w#])#([A-Za-z][A-Za-z0-9]{1,19})\b")
_SENTENCE_ENDS = frozenset({".", "!", "?", ":", ";", "|", '"', "-", "–", "—", "•"})
_SAFE_IN_LOWER_CASE = frozenset(
    {"btc", "eth", "xrp", "ltc", "bnb", "doge", "bch", "xmr", "usdt", "usdc", "avax", "shib"}
)
_UNITS = frozenset({"USDT", "USDC"})
_IS_A_COIN_OF = frozenset({"protocol", "network", "blockchain", "foundation", "token", "coin", "chain", "ecosystem"})


@dataclass(frozen=True)
class Mention:
    """A coin that a text speaks of, and how sure that is (0 to 1)."""

    coin: str
    confidence: float


@dataclass(frozen=True)
class _Token:
    text: str
    starts_sentence: bool

    @property
    def lower(self) -> str:
        return self.text.lstrip("#$").lower()


class Linker:
    """Finds coins in texts.

    Parameters
    ----------
    coins : sequence of str
        Base currencies that are known beside the dictionary, for example all that are traded: they are recognised by
        cashtag, pair, and ticker beside words of the trade.
    """

    def __init__(self, coins: Sequence[str] = ()) -> None:
        self._entries = {entry.coin: entry for entry in COINS}
        for coin in coins:
            self._entries.setdefault(coin, CoinName(coin, ticker_is_word=True))
        self._of_ticker = {
            ticker: entry for entry in self._entries.values() for ticker in (entry.coin, *entry.other_tickers)
        }

    def find(self, text: str) -> tuple[Mention, ...]:
        """The coins that a normalised text speaks of, the surest sign of each, in the order of their tickers."""
        readable = without_addresses(text)
        masked = self._others.sub(" ", readable)
        found: dict[str, float] = {}
        for coin, confidence in (*self._tagged(masked), *self._in_words(masked)):
            found[coin] = max(confidence, found.get(coin, 0.0))
        return tuple(Mention(coin, found[coin]) for coin in sorted(found))

    def is_about_coins(self, text: str) -> bool:
        """Whether a text speaks of coins at all, of known ones or of the market."""
        words = {token.lower for token in _tokens(without_addresses(text))}
        return bool(words & CRYPTO_WORDS) or bool(self.find(text))

    @cached_property
    def _others(self) -> re.Pattern[str]:
        return re.compile(r"\b(?:" + "|".join(map(re.escape, NOT_A_COIN)) + r")\b", re.IGNORECASE)

    @cached_property
    def _names(self) -> dict[tuple[str, ...], tuple[CoinName, bool]]:
        """Names by their words; True for those that are words of the language too."""
        return {
            tuple(name.split()): (entry, ambiguous)
            for entry in self._entries.values()
            for names, ambiguous in ((entry.words, True), (entry.names, False))
            for name in names
        }

    @cached_property
    def _longest(self) -> int:
        return max(map(len, self._names))

    def _tagged(self, text: str) -> Iterator[tuple[str, float]]:
        """Cashtags, pairs, tickers in brackets behind a name, and hashtags."""
        for pattern, confidence in ((_CASHTAG, CASHTAG), (_PAIR, PAIR), (_JOINED_PAIR, PAIR)):
            for ticker in pattern.findall(text):
                if entry := self._of_ticker.get(ticker.upper()):
                    yield entry.coin, confidence
        for ticker in _IN_BRACKETS.findall(text):
            if entry := self._of_ticker.get(ticker):
                yield entry.coin, NAMED
        for tag in _HASHTAG.findall(text):
            entry = self._of_ticker.get(tag.upper())
            if entry and (tag.isupper() or not entry.ticker_is_word):
                yield entry.coin, NAME
            elif (named := self._names.get((tag.lower(),))) and not named[1]:
                yield named[0].coin, NAME

    def _in_words(self, text: str) -> Iterator[tuple[str, float]]:
        tokens = _tokens(text)
        shouted = self._is_shouted(tokens)
        place = 0
        while place < len(tokens):
            length = self._name_at(tokens, place)
            if length:
                entry, ambiguous = self._names[tuple(t.lower for t in tokens[place : place + length])]
                sure = NAME
                if ambiguous:
                    sure = self._sure_of_word(tokens, place, length, shouted)
                if sure and not _is_excluded(entry, tokens, place, length):
                    yield entry.coin, sure
                    place += length
                    continue
            entry = self._of_ticker.get(tokens[place].text.upper())
            if entry:
                sure = self._sure_of_ticker(entry, tokens, place, shouted)
                if sure and not _is_excluded(entry, tokens, place, 1):
                    yield entry.coin, sure
            place += 1

    def _is_shouted(self, tokens: Sequence[_Token]) -> bool:
        """Whether the text is in capitals, so that they mark no ticker; a list of tickers is not shouted."""
        words = [t.text for t in tokens if len(t.text) > 1 and t.text.isalpha() and t.text not in self._of_ticker]
        return len(words) > 2 and sum(w.isupper() for w in words) / len(words) >= _SHOUTING

    def _name_at(self, tokens: Sequence[_Token], place: int) -> int:
        """Number of words of the longest name that begins here."""
        for length in range(min(self._longest, len(tokens) - place), 0, -1):
            if tuple(t.lower for t in tokens[place : place + length]) in self._names:
                return length
        return 0

    def _sure_of_word(self, tokens: Sequence[_Token], place: int, length: int, shouted: bool) -> float:
        """ "Near Protocol" is a coin wherever it stands, "Avalanche" inside a sentence beside words of the trade."""
        after = tokens[place + length].lower if place + length < len(tokens) else ""
        word = tokens[place].text
        if after in _IS_A_COIN_OF and word[:1].isupper():
            return NAME
        is_name = word[:1].isupper() and not word.isupper() and not tokens[place].starts_sentence
        if is_name and not shouted and self._beside_coins(tokens, place, length, CRYPTO_WORDS):
            return WORD_IN_CONTEXT
        return 0.0

    def _sure_of_ticker(self, entry: CoinName, tokens: Sequence[_Token], place: int, shouted: bool) -> float:
        word = tokens[place].text
        if entry.coin in _UNITS and _is_a_unit(tokens, place):
            return 0.0
        if not entry.ticker_is_word:
            return TICKER if word.isupper() or word.lower() in _SAFE_IN_LOWER_CASE else 0.0
        if not word.isupper() or shouted:
            return 0.0
        near_trade = self._beside_coins(tokens, place, 1, CRYPTO_WORDS | TRADE_WORDS)
        return TICKER_IN_CONTEXT if near_trade or self._in_a_list(tokens, place) else 0.0

    def _beside_coins(self, tokens: Sequence[_Token], place: int, length: int, words: frozenset[str]) -> bool:
        nearby = (*tokens[max(place - _NEARBY, 0) : place], *tokens[place + length : place + length + _NEARBY])
        return any(t.lower in words or _is_a_figure(t.text) for t in nearby)

    def _in_a_list(self, tokens: Sequence[_Token], place: int) -> bool:
        """Whether a neighbour, with a comma, slash or "and" between, is a ticker."""
        for step in (-1, 1):
            between, other = place + step, place + 2 * step
            if not 0 <= other < len(tokens) or not 0 <= between < len(tokens):
                continue
            linked = tokens[between].lower in {",", "/", "&", "and", "or", "vs", "+"}
            if linked and tokens[other].text.isupper() and tokens[other].text in self._of_ticker:
                return True
        return False


def _tokens(text: str) -> list[_Token]:
    tokens: list[_Token] = []
    starts = True
    for piece in _TOKEN.findall(text):
        tokens.append(_Token(piece, starts))
        starts = piece in _SENTENCE_ENDS
    return tokens


def _is_a_unit(tokens: Sequence[_Token], place: int) -> bool:
    """Whether something is counted or priced in the stablecoin: "59,000 USDT", "BTC/USDT"."""
    before = tokens[place - 1].text if place else ""
    return before[:1].isdigit() or before in {"/", "-", "in"}


def _is_a_figure(token: str) -> bool:
    """A price, a cashtag or a percentage."""
    return len(token) > 1 and (token.startswith("$") or token.endswith("%"))


def _is_excluded(entry: CoinName, tokens: Sequence[_Token], place: int, length: int) -> bool:
    """Whether a neighbour says that something else is meant."""
    after = tokens[place + length].lower if place + length < len(tokens) else ""
    before = tokens[place - 1].lower if place else ""
    return after in entry.not_before or before in entry.not_after
