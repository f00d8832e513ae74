"""Reports as plain values: a small full one, and one whose every text is hostile."""

from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal

from lakehouse_spark.iceberg.inventory import Lag, TableState
from lakehouse_spark.report.model import (
    Flow,
    Minute,
    Position,
    Rejects,
    Report,
    SymbolDay,
    Trader,
    TraderDay,
)

NOW = datetime(2025, 6, 6, 22, tzinfo=UTC)
FRIDAY = date(2025, 6, 6)
SUMMARY = {
    "company_name": "Apple Inc.", "sector": "Technology", "exchange": "NASDAQ", "open_price": Decimal("187.500000"),
    "high_price": Decimal("188.250000"), "low_price": Decimal("187.100000"), "close_price": Decimal("187.900000"),
    "price_change_pct": Decimal("-1.2345"), "vwap": Decimal("187.654321"), "total_volume": 1_234_567,
    "trade_count": 3, "avg_spread": Decimal("0.020000"),
}  # fmt: skip
MINUTES = (
    Minute(870, Decimal("187.5"), Decimal("187.1"), Decimal("187.5"), 300, 2, 0.02, 4),
    Minute(872, Decimal("187.9"), Decimal("187.9"), Decimal("188.25"), 100, 1),
    Minute(873, spread=0.04, books=1),
)
TRADER = Trader(
    "TR1",
    "Ada",
    (
        TraderDay(date(2025, 6, 4), Decimal("100.50"), 3, Decimal("5000"), Decimal("1.0000")),
        TraderDay(date(2025, 6, 5), Decimal("-30.25"), 1, Decimal("900"), Decimal("0.0000")),
        TraderDay(FRIDAY, Decimal("10"), 2, None, Decimal("0.6250")),
    ),
)

FULL = Report(
    made_at=NOW,
    profile="local",
    tables=(
        TableState("bronze.raw_trades", 1000, 4, 8_192, 0, 3, datetime(2025, 6, 6, 21, 58, 30, tzinfo=UTC)),
        TableState(
            "silver.trades", 880, 2, 3_000, 1, 2, datetime(2025, 6, 6, 20, tzinfo=UTC), follows=True,
            lags=(Lag("bronze.raw_trades", 40, 7_110.0),),
        ),
        TableState("gold.fact_trades", 880, 1, 5_000_000, 0, 2, datetime(2025, 6, 5, 20, tzinfo=UTC), follows=True),
    ),
    flows=(
        Flow("raw_trades", 1000, 900, 25, 35, 880, 880),
        Flow("raw_marketdata", 0, 0, 0, 0, 0, None),
    ),
    rejects=(Rejects("raw_trades", "invalid_price", 30), Rejects("raw_trades", "tombstone", 15)),
    symbol_day=SymbolDay(
        "AAPL",
        FRIDAY,
        MINUTES,
        SUMMARY,
    ),
    trader=TRADER,
    positions=(
        Position(FRIDAY, "TR1", "AC1", "AAPL", -40, Decimal("10"), Decimal("12"), Decimal("-480"), Decimal("-80"),
                 Decimal("-20")),
    ),
)  # fmt: skip

EVIL = "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">'\"&"

HOSTILE = replace(
    FULL,
    profile=EVIL,
    tables=(replace(FULL.tables[1], name=f"silver.{EVIL}", lags=(Lag(EVIL, 1, 1.0),)),),
    flows=(replace(FULL.flows[0], topic=EVIL),),
    rejects=(Rejects(EVIL, EVIL, 3),),
    symbol_day=SymbolDay(EVIL, FRIDAY, MINUTES, {**SUMMARY, "company_name": EVIL, "sector": EVIL}),
    trader=replace(TRADER, trader_id=EVIL, name=EVIL),
    positions=(replace(FULL.positions[0], trader_id=EVIL, account_id=EVIL, symbol=EVIL),),
    positions_of_trader=(replace(FULL.positions[0], trader_id=EVIL, account_id=EVIL, symbol=EVIL),),
    missing=(EVIL,),
)
