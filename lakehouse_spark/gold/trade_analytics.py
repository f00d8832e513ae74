"""`gold.trade_analytics`: trade sizes, flow and price impact by market session."""

from lakehouse_spark.table import GOLD_RETENTION, Table, column
from lakehouse_spark.types import DATE, INSTANT, LONG, PERCENT, PRICE, RATIO, TEXT

TABLE = Table(
    name="gold.trade_analytics",
    doc="Trade microstructure, one row per symbol, exchange and market session per UTC day; cancelled trades left out.",
    columns=(
        column("analytics_date", DATE, "Analysis date (UTC)"),
        column("symbol", TEXT, "Ticker symbol"),
        column("sector", TEXT, "dim_symbol's sector as of the day"),
        column("industry", TEXT, "dim_symbol's industry as of the day"),
        column("exchange", TEXT, "Exchange code"),
        column("market_session", TEXT, "PRE_MARKET / REGULAR / AFTER_HOURS / CLOSED by the exchange's calendar"),
        column("trade_count", LONG, "Number of trades"),
        column("volume", LONG, "Total shares traded"),
        column("notional_value", PRICE, "Total notional value"),
        column("avg_trade_size", PRICE, "Mean quantity per trade, in shares"),
        column("buy_sell_ratio", PERCENT, "Buy volume / sell volume; NULL without sells"),
        column("large_trade_count", LONG, "Trades at or above the large-trade threshold"),
        column("large_trade_pct", PERCENT, "Volume of large trades / volume (0-1)"),
        column("price_impact_avg", RATIO, "Mean signed return from the previous trade, + for BUY; NULL without one"),
        column("_computed_at", INSTANT, "Commit stamp: when the row was computed"),
    ),
    key=("analytics_date", "symbol", "exchange", "market_session"),
    partitioned_by=("days(analytics_date)",),
    stamp="_computed_at",
    retention=GOLD_RETENTION,
    sources=("silver.trades", "dim.dim_symbol", "dim.dim_exchange"),
)
