"""By which names texts speak of coins, and which of the names are words of the language as well.

Belongs here: the dictionary. Does not belong here: how a name is recognised (`entities.py`).
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class CoinName:
    """The names of one coin.

    Attributes
    ----------
    coin : str
        Base currency, such as BTC; also its ticker.
    names : tuple of str
        Names that mean nothing else, in lower case; several words are one name.
    words : tuple of str
        Names that are words too ("avalanche", "cosmos"): they count with a sign that a coin is meant.
    ticker_is_word : bool
        The ticker in capitals may be a word or another abbreviation ("NEAR", "ONE", "SOL", "ETC").
    other_tickers : tuple of str
        Former or regional tickers.
    not_before, not_after : tuple of str
        Words around a name that say that something else is meant, in lower case.
    """

    coin: str
    names: tuple[str, ...] = ()
    words: tuple[str, ...] = ()
    ticker_is_word: bool = False
    other_tickers: tuple[str, ...] = ()
    not_before: tuple[str, ...] = ()
    not_after: tuple[str, ...] = ()


COINS = (
    CoinName("BTC", ("bitcoin", "bitcoins", "btc's", "satoshi", "satoshis"), other_tickers=("XBT",)),
    CoinName("ETH", ("ethereum", "ether", "ethereum's")),
    CoinName("XRP", ("xrp ledger", "ripple labs"), ("ripple",), not_before=("effect", "effects", "through", "across")),
    CoinName("BNB", ("binance coin", "bnb chain", "binance smart chain")),
    CoinName("SOL", ("solana",), ticker_is_word=True, not_before=("de", "del")),
    CoinName("DOGE", ("dogecoin",), not_before=("department", "cuts", "team", "staff", "employees")),
    CoinName("ADA", ("cardano",), ticker_is_word=True, not_before=("compliance", "compliant", "lovelace")),
    CoinName("TRX", ("tron network",), ("tron",), not_before=("legacy",)),
    CoinName("AVAX", ("avalanche network",), ("avalanche",), not_before=("effect", "properties", "of", "warning")),
    CoinName("LINK", ("chainlink",), ticker_is_word=True, not_before=("in", "to", "below", "here", "between")),
    CoinName("DOT", ("polkadot",), ticker_is_word=True, not_before=("com", "plot", "regulations")),
    CoinName("LTC", ("litecoin",)),
    CoinName("BCH", ("bitcoin cash", "bitcoincash")),
    CoinName("BSV", ("bitcoin sv", "bitcoinsv")),
    CoinName("ETC", ("ethereum classic",), ticker_is_word=True),
    CoinName("XMR", ("monero",)),
    CoinName(
        "XLM", ("stellar lumens", "stellar network"), ("stellar", "lumens"), not_before=("performance", "results")
    ),
    CoinName("NEAR", ("near protocol",), ("near",), ticker_is_word=True),
    CoinName("ONE", ("harmony one", "harmony protocol"), ("harmony",), ticker_is_word=True, not_before=("of",)),
    CoinName("ATOM", ("cosmos hub", "cosmos network"), ("cosmos",), ticker_is_word=True, not_before=("bomb",)),
    CoinName("UNI", ("uniswap",), ticker_is_word=True, not_before=("student", "students")),
    CoinName("POL", ("polygon network",), ("polygon",), ticker_is_word=True, other_tickers=("MATIC",)),
    CoinName("SHIB", ("shiba inu", "shib army")),
    CoinName("PEPE", ("pepecoin",), ticker_is_word=True, not_after=("rare",)),
    CoinName("FLOKI", ("floki inu", "floki")),
    CoinName("BONK", ("bonk coin",), ticker_is_word=True),
    CoinName("WIF", ("dogwifhat",), ticker_is_word=True),
    CoinName("APT", ("aptos",), ticker_is_word=True, not_before=("get", "update", "install")),
    CoinName("ARB", ("arbitrum",), ticker_is_word=True),
    CoinName("OP", (), ("optimism",), ticker_is_word=True, not_before=("is", "delivers", "said", "ed")),
    CoinName("SUI", ("sui network",), ("sui",), ticker_is_word=True, not_before=("generis",)),
    CoinName("SEI", ("sei network",), ("sei",), ticker_is_word=True),
    CoinName("TON", ("toncoin", "the open network"), ticker_is_word=True, not_before=("of",)),
    CoinName("ICP", ("internet computer",), ticker_is_word=True),
    CoinName("FIL", ("filecoin",), ticker_is_word=True),
    CoinName("HBAR", ("hedera", "hedera hashgraph")),
    CoinName("VET", ("vechain",), ticker_is_word=True),
    CoinName("ALGO", ("algorand",), ticker_is_word=True),
    CoinName("XTZ", ("tezos",)),
    CoinName("EOS", ("eosio",), ticker_is_word=True),
    CoinName("AAVE", ("aave",)),
    CoinName("MKR", ("makerdao",)),
    CoinName("COMP", (), (), ticker_is_word=True),
    CoinName("CRV", ("curve finance", "curve dao")),
    CoinName("LDO", ("lido", "lido dao")),
    CoinName("SNX", ("synthetix",)),
    CoinName("YFI", ("yearn", "yearn finance", "yearnfinance")),
    CoinName("GRT", ("the graph protocol",), ticker_is_word=True),
    CoinName("SAND", ("the sandbox",), ticker_is_word=True),
    CoinName("MANA", ("decentraland",), ticker_is_word=True),
    CoinName("AXS", ("axie infinity",)),
    CoinName("GALA", ("gala games",), ticker_is_word=True),
    CoinName("APE", ("apecoin",), ticker_is_word=True),
    CoinName("IMX", ("immutable x", "immutablex")),
    CoinName("DASH", ("dash core",), ("dash",), ticker_is_word=True, not_before=("cam", "to", "for")),
    CoinName("ZEC", ("zcash",)),
    CoinName("JST", ("just token",)),
    CoinName("SUN", ("sun token",), ticker_is_word=True),
    CoinName("WAVES", ("waves platform",), ticker_is_word=True),
    CoinName("FLOW", ("flow blockchain",), ticker_is_word=True),
    CoinName("INJ", ("injective", "injective protocol"), ticker_is_word=True),
    CoinName("RUNE", ("thorchain",), ticker_is_word=True),
    CoinName("KAS", ("kaspa",), ticker_is_word=True),
    CoinName("TIA", ("celestia",), ticker_is_word=True),
    CoinName("ENA", ("ethena",), ticker_is_word=True),
    CoinName("ONDO", ("ondo finance",)),
    CoinName("HYPE", ("hyperliquid",), ticker_is_word=True),
    CoinName("JUP", (), ("jupiter",), ticker_is_word=True),
    CoinName("RENDER", ("render network",), ticker_is_word=True, other_tickers=("RNDR",)),
    CoinName("WLD", ("worldcoin",)),
    CoinName("FET", ("fetch.ai",), ticker_is_word=True),
    CoinName("STX", (), ("stacks",)),
    CoinName("DYDX", ("dydx",)),
    CoinName("CAKE", ("pancakeswap",), ticker_is_word=True),
    CoinName("CHZ", ("chiliz",)),
    CoinName("CELO", ("celo",)),
    CoinName("LUNA", ("terra luna",), ticker_is_word=True, other_tickers=("LUNC",)),
    CoinName("FTT", ("ftx token",)),
    CoinName("USDT", ("tether",)),
    CoinName("USDC", ("usd coin",)),
    CoinName("KAVA", ("kava",)),
    CoinName("NEO", (), ("neo",), ticker_is_word=True),
    CoinName("IOTA", ("iota foundation",), ticker_is_word=True),
    CoinName("KSM", ("kusama",)),
    CoinName("TRUMP", ("official trump",), ticker_is_word=True, not_before=("administration",)),
)
"""Whoever trades another coin adds it here; a base currency without an entry is recognised by its cashtag and pairs."""

NOT_A_COIN = (
    "bitcoin.com",
    "bitcoin magazine",
    "wrapped bitcoin",
    "ether capital",
    "ripple effect",
    "ripple effects",
    "link in bio",
    "wall street journal",
)
"""Names that contain the name of a coin and are none."""

CRYPTO_WORDS = frozenset(
    word
    for line in (
        "airdrop altcoin altcoins bitcoin blockchain bullrun cex coin coins crypto cryptocurrency cryptocurrencies",
        "cryptos dapp dapps defi dex ethereum exchange-traded halving hodl hodler hodlers ico layer-1 layer-2",
        "ledger listing mainnet marketcap memecoin memecoins miner miners mining nft nfts on-chain onchain",
        "protocol satoshi staking stablecoin stablecoins testnet token tokens tokenomics validator validators",
        "wallet wallets web3 btc eth",
    )
    for word in line.split()
)
"""Words with which a text is about coins."""

TRADE_WORDS = frozenset(
    word
    for line in (
        "ath bearish breakout bullish buy buying dump etf gain gained gaining gains holders hold holding invest",
        "investing investors long longs market-cap price prices pump rallied rallies rally rallying resistance",
        "sell selling short shorts staking support surge surges surged supply trade trader traders trading usd",
        "usdt volume whale whales",
    )
    for word in line.split()
)
"""Words that people use of what is traded; beside a ticker they say that it is one."""
