"""Reading texts: normal form, repetitions, language, and the coins that they speak of."""

import json
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trading_pipelines.domain.sentiment.duplicates import as_array, find_repeated, fingerprint, repeats
from trading_pipelines.domain.sentiment.entities import Linker
from trading_pipelines.domain.sentiment.language import UNKNOWN, detect_language
from trading_pipelines.domain.sentiment.normalise import READ_LENGTH, canonical, normalise, text_hash, without_addresses

LABELS = json.loads((Path(__file__).parent / "coin_mentions.json").read_text())
"""Coins that a reader finds in recorded texts, by file, column and row; the texts are not part of the project."""

LINKED = [
    ("NEAR jumps 10% as traders buy the upgrade", "NEAR"),
    ("Near Protocol opens its new testnet", "NEAR"),
    ("we are near the top of the range, bitcoin says", "BTC"),
    ("BUY NOW, NEAR THE TOP OF THE MARKET", ""),
    ("The one coin that beats them all", ""),
    ("ONE of the best weeks for miners", ""),
    ("Harmony Protocol halts its bridge, $ONE falls", "ONE"),
    ("Link in bio, buy the course", ""),
    ("Is it a good time to buy LINK?", "LINK"),
    ("Chainlink feeds now price gold", "LINK"),
    ("BTC, ETH, LINK and NEAR lead the week", "BTC ETH LINK NEAR"),
    ("A dash of caution before the halving", ""),
    ("$dash and $zec are delisted", "DASH ZEC"),
    ("Sand, sun and waves: where traders spend the summer", ""),
    ("The Sandbox sells land, SAND price rises", "SAND"),
    ("The charity gala raised 3 million", ""),
    ("GALA/USDT breaks its resistance", "GALA"),
    ("It was just a glitch, says the exchange", ""),
    ("An avalanche of selling hits the market", ""),
    ("Inflows into the Avalanche network double", "AVAX"),
    ("Stellar results for the miner", ""),
    ("Stellar (XLM) signs a bank", "XLM"),
    ("Ripple effects of the rate cut reach crypto", ""),
    ("Analysts say crypto firm Ripple will settle", "XRP"),
    ("Polygon (MATIC) renames its token", "POL"),
    ("Optimism returns to markets", ""),
    ("Users bridge tokens to Optimism and Arbitrum", "ARB OP"),
    ("Bitcoin Cash and Ethereum Classic follow", "BCH ETC"),
    ("Stocks, bonds, gold etc. were sold", ""),
    ("The website is not ADA compliant", ""),
    ("ADA holders vote on the budget", "ADA"),
    ("Hace sol en Madrid", ""),
    ("DOGE cuts 200 jobs in the ministry", ""),
    ("doge to the moon", "DOGE"),
    ("ETHUSDT long from here", "ETH"),
    ("59,000 USDT is where Bitcoin trades", "BTC"),
    ("Tether prints another billion", "USDT"),
    ("A ton of work", ""),
    ("TON wallet passes ten million users", "TON"),
    ("read more at https://bitcoin.example/near or ask @solana", ""),
    ("Bit\u200bcoin falls", "BTC"),
    ("#bitcoin #NEAR #near", "BTC NEAR"),
    ("", ""),
]


@pytest.mark.parametrize(("text", "coins"), LINKED)
def test_coins_of_a_sentence_are_those_that_a_reader_finds(text: str, coins: str) -> None:
    assert [mention.coin for mention in Linker().find(normalise(text))] == coins.split()


def test_coin_outside_the_dictionary_is_known_by_its_cashtag_alone() -> None:
    linker = Linker(["WAGMI"])

    assert [m.coin for m in linker.find("$WAGMI is up, WAGMIUSDT as well")] == ["WAGMI"]
    assert linker.find("wagmi, friends") == ()


def test_surest_sign_of_a_coin_counts() -> None:
    (mention,) = Linker().find("NEAR rally: $NEAR up 10%")

    assert mention.confidence == 0.98


@pytest.mark.parametrize(("sample", "floor"), [("development", 0.95), ("held_out", 0.85)])
@pytest.mark.real_data
def test_coins_of_recorded_texts_agree_with_the_labels(real_data_dir: Path, sample: str, floor: float) -> None:
    linker, hits, found, wanted = Linker(), 0, 0, 0
    for place, labels in LABELS[sample].items():
        file, column = place.split(".")
        texts = pd.read_parquet(real_data_dir / "text" / f"{file}.parquet")[column]
        for row, coins in labels.items():
            linked = {m.coin for m in linker.find(normalise(str(texts[int(row)])))}
            hits, found, wanted = hits + len(linked & set(coins)), found + len(linked), wanted + len(coins)

    print(f"{sample}: precision {hits / found:.3f}, recall {hits / wanted:.3f}, {wanted} mentions")  # noqa: T201  # the figure
    assert hits / found >= floor
    assert hits / wanted >= floor


@given(st.text(max_size=300))
def test_normal_form_is_one_short_line_of_visible_characters(text: str) -> None:
    normal = normalise(text)

    assert len(normal) <= READ_LENGTH
    assert not any(c in normal for c in "\n\r\t\x00\u200b\u202e")
    assert normal == normal.strip()


@settings(deadline=None)  # the first call loads the model of the languages
@given(st.text(max_size=200))
def test_linking_and_language_take_any_text(text: str) -> None:
    assert all(0 < mention.confidence <= 1 for mention in Linker().find(normalise(text)))
    assert detect_language(normalise(text))


def test_text_of_a_megabyte_is_cut_before_it_is_read() -> None:
    assert len(normalise("bitcoin " * 140_000)) == READ_LENGTH


def test_misread_encoding_is_undone() -> None:
    assert normalise("Bitcoin’s £".encode().decode("latin-1")) == "Bitcoin's £"


def test_hash_follows_what_is_read() -> None:
    assert text_hash("Bitcoin  falls\n") == text_hash("Bit\u200dcoin falls")
    assert text_hash("Bitcoin falls") != text_hash("Bitcoin rises")


def test_addresses_and_handles_are_not_read() -> None:
    assert without_addresses("see https://x.example/a?b=1 by @sam now") == "see by now"
    assert canonical("Bitcoin RISES 2.5% – see www.x.example") == "bitcoin rises 2.5% see"


ORIGINAL = "Bitcoin falls below 58,000 dollars as miners sell into weak demand before the central bank meets"


@pytest.mark.parametrize(
    "text",
    [
        ORIGINAL.upper(),
        ORIGINAL + "!",
        ORIGINAL.replace("dollars", "US dollars"),
        "BREAKING: " + ORIGINAL + " https://news.example/1",
    ],
)
def test_repetition_is_found_by_its_fingerprint_and_by_its_words(text: str) -> None:
    earlier = ["Ether staking grows for the third week", ORIGINAL]

    assert list(find_repeated(text, fingerprint(text), earlier, as_array([fingerprint(t) for t in earlier]))) == [1]


@pytest.mark.parametrize(
    "text",
    [
        ORIGINAL.replace("58,000", "54,000"),
        "Bitcoin rises above its monthly average as funds buy",
        "gm",
    ],
)
def test_another_message_is_no_repetition(text: str) -> None:
    assert not list(find_repeated(text, fingerprint(text), [ORIGINAL, "gn"], as_array([fingerprint(ORIGINAL), 0])))


@given(st.text(max_size=120), st.text(max_size=120))
def test_repetition_does_not_depend_on_who_was_first(one: str, other: str) -> None:
    assert repeats(one, one)
    assert repeats(one, other) == repeats(other, one)
    assert -(2**63) <= fingerprint(one) < 2**63


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("Bitcoin falls below 60,000 as traders wait for the Fed", "en"),
        ("SEC LAUNCHES ITS CRYPTO TASK FORCE WEBSITE", "en"),
        ("El precio de bitcoin cae un 5% tras las noticias", "es"),
        ("Der Kurs von Ethereum steigt stark an", "de"),
        ("Биткоин обновил исторический максимум", "ru"),
        ("比特币价格下跌，交易者等待美联储的决定", "zh"),
        ("BTC ETH SOL", UNKNOWN),
        ("🚀🚀🚀", UNKNOWN),
    ],
)
def test_language_is_named_or_left_open(text: str, language: str) -> None:
    assert detect_language(text) == language
