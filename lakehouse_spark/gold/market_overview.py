"""`gold.market_overview`: breadth, volumes and volatility of an exchange's day."""

from lakehouse_spark.table import GOLD_RETENTION, Table, column
from lakehouse_spark.types import DATE, INSTANT, INTEGER, LONG, PRICE, RATIO, TEXT

TABLE = Table(
    name="gold.market_overview",
    doc="Exchange-wide metrics, one row per exchange per UTC day with trades; cancelled trades left out.",
    columns=(
        column("overview_date", DATE, "Market date (UTC)"),
        column("exchange", TEXT, "Exchange code"),
        column("total_trades", LONG, "Trades on the exchange"),
        column("total_volume", LONG, "Shares traded on the exchange"),
        column("total_value", PRICE, "Notional value traded on the exchange"),
        column("active_symbols", INTEGER, "Symbols with at least one trade"),
        column("active_traders", INTEGER, "Traders with at least one trade"),
        column("advancers", INTEGER, "Symbols traded here whose daily price change is positive"),
        column("decliners", INTEGER, "Symbols traded here whose daily price change is negative"),
        column("unchanged", INTEGER, "Symbols traded here whose daily price change is zero"),
        column("avg_spread", PRICE, "Mean order-book spread on the exchange; NULL without one"),
        column("market_volatility_idx", RATIO, "Symbols' daily volatility, mean weighted by their volume here"),
        column("_computed_at", INSTANT, "Commit stamp: when the row was computed"),
    ),
    key=("overview_date", "exchange"),
    partitioned_by=("days(overview_date)",),
    stamp="_computed_at",
    retention=GOLD_RETENTION,
    sources=("silver.trades", "silver.orderbook_snapshots", "gold.daily_trading_summary"),
)
