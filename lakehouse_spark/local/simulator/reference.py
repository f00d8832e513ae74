"""Who trades what: the simulated symbols, traders and accounts."""

from dataclasses import dataclass
from datetime import date, timedelta
from itertools import islice
from random import Random

from lakehouse_spark.local.simulator.scenario import Scenario

# symbol, company, sector, industry, listing exchange, second venue, first price, market cap
_LISTINGS = """
AAPL|Apple Inc.|Information Technology|Consumer Electronics|NASDAQ|NYSE|228|MEGA
JPM|JPMorgan Chase & Co.|Financials|Banks|NYSE||242|MEGA
MSFT|Microsoft Corporation|Information Technology|Software|NASDAQ||424|MEGA
SHEL|Shell plc|Energy|Oil & Gas|LSE|NYSE|66.2|MEGA
SAP|SAP SE|Information Technology|Software|XETRA|NYSE|236|MEGA
7203|Toyota Motor Corporation|Consumer Discretionary|Automobiles|TSE||2814|MEGA
9988|Alibaba Group Holding Limited|Consumer Discretionary|Internet Retail|HKEX||84.6|MEGA
NVDA|NVIDIA Corporation|Information Technology|Semiconductors|NASDAQ||134|MEGA
XOM|Exxon Mobil Corporation|Energy|Oil & Gas|NYSE||111|MEGA
AMZN|Amazon.com, Inc.|Consumer Discretionary|Internet Retail|NASDAQ||221|MEGA
BRK.B|Berkshire Hathaway Inc.|Financials|Insurance|NYSE||468|MEGA
GOOGL|Alphabet Inc.|Communication Services|Internet Services|NASDAQ||192|MEGA
AZN|AstraZeneca PLC|Health Care|Pharmaceuticals|LSE|NASDAQ|104.5|LARGE
SIE|Siemens AG|Industrials|Conglomerates|XETRA||198|LARGE
META|Meta Platforms, Inc.|Communication Services|Internet Services|NASDAQ||612|MEGA
JNJ|Johnson & Johnson|Health Care|Pharmaceuticals|NYSE||147|MEGA
TSLA|Tesla, Inc.|Consumer Discretionary|Automobiles|NASDAQ||402|MEGA
6758|Sony Group Corporation|Consumer Discretionary|Consumer Electronics|TSE||3210|LARGE
0700|Tencent Holdings Limited|Communication Services|Internet Services|HKEX||402|MEGA
WMT|Walmart Inc.|Consumer Staples|Retail|NYSE||92.7|MEGA
AVGO|Broadcom Inc.|Information Technology|Semiconductors|NASDAQ||229|MEGA
ULVR|Unilever PLC|Consumer Staples|Household Products|LSE||46.1|LARGE
ALV|Allianz SE|Financials|Insurance|XETRA||301|LARGE
PG|Procter & Gamble Company|Consumer Staples|Household Products|NYSE||168|MEGA
COST|Costco Wholesale Corporation|Consumer Staples|Retail|NASDAQ||927|MEGA
BAC|Bank of America Corporation|Financials|Banks|NYSE||45.8|LARGE
9984|SoftBank Group Corp.|Communication Services|Telecommunications|TSE||9120|LARGE
0005|HSBC Holdings plc|Financials|Banks|HKEX|LSE|77.4|LARGE
AMD|Advanced Micro Devices, Inc.|Information Technology|Semiconductors|NASDAQ||125|LARGE
KO|The Coca-Cola Company|Consumer Staples|Beverages|NYSE||62.9|LARGE
BP|BP p.l.c.|Energy|Oil & Gas|LSE||31.4|LARGE
DTE|Deutsche Telekom AG|Communication Services|Telecommunications|XETRA||29.3|LARGE
NFLX|Netflix, Inc.|Communication Services|Entertainment|NASDAQ||903|LARGE
DIS|The Walt Disney Company|Communication Services|Entertainment|NYSE||112|LARGE
PEP|PepsiCo, Inc.|Consumer Staples|Beverages|NASDAQ||149|LARGE
BA|The Boeing Company|Industrials|Aerospace & Defense|NYSE||177|LARGE
8306|Mitsubishi UFJ Financial Group, Inc.|Financials|Banks|TSE||1842|LARGE
1299|AIA Group Limited|Financials|Insurance|HKEX||56.3|LARGE
INTC|Intel Corporation|Information Technology|Semiconductors|NASDAQ||20.3|LARGE
CVX|Chevron Corporation|Energy|Oil & Gas|NYSE||148|LARGE
GSK|GSK plc|Health Care|Pharmaceuticals|LSE|NYSE|33.8|LARGE
BMW|Bayerische Motoren Werke AG|Consumer Discretionary|Automobiles|XETRA||79.2|LARGE
CSCO|Cisco Systems, Inc.|Information Technology|Networking|NASDAQ||59.1|LARGE
GE|General Electric Company|Industrials|Aerospace & Defense|NYSE||171|LARGE
BF-B|Brown-Forman Corporation|Consumer Staples|Beverages|NYSE||37.9|MID
SBUX|Starbucks Corporation|Consumer Discretionary|Restaurants|NASDAQ||91.8|LARGE
RIO|Rio Tinto Group|Materials|Mining|LSE||58.9|LARGE
BAS|BASF SE|Materials|Chemicals|XETRA||43.5|LARGE
6861|Keyence Corporation|Information Technology|Electronic Equipment|TSE||64210|LARGE
F|Ford Motor Company|Consumer Discretionary|Automobiles|NYSE||9.94|MID
"""

EXCHANGES = ("NYSE", "NASDAQ", "LSE", "XETRA", "TSE", "HKEX")
_CURRENCY = {"NYSE": "USD", "NASDAQ": "USD", "LSE": "GBP", "XETRA": "EUR", "TSE": "JPY", "HKEX": "HKD"}
_SECTORS = (
    ("Information Technology", "Software"), ("Financials", "Banks"), ("Health Care", "Biotechnology"),
    ("Industrials", "Machinery"), ("Energy", "Renewables"), ("Materials", "Chemicals"), ("Utilities", "Electricity"),
)  # fmt: skip
_FIRST = ("Ada", "Ben", "Chloe", "Dmitri", "Elif", "Femi", "Grace", "Hiro", "Ines", "Jonas", "Kofi", "Lena", "Mei")
_LAST = ("Abe", "Brandt", "Costa", "Diaz", "Eriksen", "Fischer", "Garcia", "Haddad", "Ito", "Jansen", "Kaya", "Novak")


@dataclass(frozen=True)
class Symbol:
    """A listed share; `exchanges` are its venues, the listing exchange first. Prices are in `currency`."""

    symbol: str
    company_name: str
    sector: str
    industry: str
    market_cap_category: str
    listing_exchange: str
    ipo_date: date
    currency: str
    exchanges: tuple[str, ...]
    price: float
    tick: float
    decimals: int
    lot: int


@dataclass(frozen=True)
class Trader:
    trader_id: str
    name: str
    account_type: str
    risk_category: str
    trading_tier: str
    registration_date: date


@dataclass(frozen=True)
class Account:
    """A trader's account; the trader's first one is the main one."""

    account_id: str
    trader_id: str
    tier: str
    status: str
    account_open_date: date
    account_type: str


def symbols(scenario: Scenario) -> tuple[Symbol, ...]:
    """The most traded symbol first: the well-known ones, then made-up ones as far as the scenario asks."""
    dice = Random(f"{scenario.seed} symbols")
    rows = [line.split("|") for line in _LISTINGS.strip().splitlines()]
    rows.extend(_made_up(dice, number) for number in range(scenario.symbols - len(rows)))
    return tuple(_symbol(dice, row) for row in islice(rows, scenario.symbols))


def _made_up(dice: Random, number: int) -> list[str]:
    letters = "".join(chr(65 + number // 26**place % 26) for place in (2, 1, 0))
    sector, industry = dice.choice(_SECTORS)
    exchange = dice.choice(EXCHANGES)
    price = f"{dice.lognormvariate(4, 0.8) * (30 if exchange == 'TSE' else 1):.2f}"
    cap = dice.choice(("LARGE", "MID", "MID", "SMALL", "SMALL", "MICRO"))
    return [f"Z{letters}", f"Z{letters.lower()} Group", sector, industry, exchange, "", price, cap]


def _symbol(dice: Random, row: list[str]) -> Symbol:
    symbol, company, sector, industry, exchange, second, price, cap = row
    tick, decimals = _tick(exchange, float(price))
    return Symbol(
        symbol=symbol,
        company_name=company,
        sector=sector,
        industry=industry,
        market_cap_category=cap,
        listing_exchange=exchange,
        ipo_date=date(1980, 1, 1) + timedelta(days=dice.randrange(14_000)),
        currency=_CURRENCY[exchange],
        exchanges=(exchange, second) if second else (exchange,),
        price=max(float(price), 200 * tick),
        tick=tick,
        decimals=decimals,
        lot={"TSE": 100, "HKEX": dice.choice((100, 200, 500)), "XETRA": 1, "LSE": 1}.get(exchange, 100),
    )


def _tick(exchange: str, price: float) -> tuple[float, int]:
    if exchange == "TSE":
        return (0.5, 1) if price < 3000 else (1.0, 0) if price < 30_000 else (10.0, 0)
    if exchange == "HKEX":
        return (0.05, 2) if price < 200 else (0.2, 2)
    if exchange in ("LSE", "XETRA"):
        return (0.005, 3) if price < 50 else (0.02, 2)
    return 0.01, 2


def traders(scenario: Scenario) -> tuple[Trader, ...]:
    """The most active trader first."""
    dice = Random(f"{scenario.seed} traders")
    return tuple(
        Trader(
            trader_id=f"TR{number + 1:05d}",
            name=f"{dice.choice(_FIRST)} {dice.choice(_LAST)}",
            account_type=dice.choice(("INDIVIDUAL", "INDIVIDUAL", "INSTITUTIONAL", "ALGORITHMIC")),
            risk_category=dice.choice(("LOW", "MEDIUM", "MEDIUM", "HIGH")),
            trading_tier=dice.choice(("BRONZE", "SILVER", "GOLD", "PLATINUM")),
            registration_date=date(2010, 1, 1) + timedelta(days=dice.randrange(5_000)),
        )
        for number in range(scenario.traders)
    )


def accounts(scenario: Scenario) -> tuple[Account, ...]:
    """One or two per trader, in the traders' order."""
    dice = Random(f"{scenario.seed} accounts")
    return tuple(
        Account(
            account_id=f"AC{trader.trader_id[2:]}-{number}",
            trader_id=trader.trader_id,
            tier=dice.choice(("BASIC", "STANDARD", "PREMIUM")),
            status="ACTIVE",
            account_open_date=trader.registration_date + timedelta(days=dice.randrange(1, 400)),
            account_type=dice.choice(("MARGIN", "CASH", "IRA")),
        )
        for trader in traders(scenario)
        for number in range(1, dice.choice((1, 1, 2)) + 1)
    )
