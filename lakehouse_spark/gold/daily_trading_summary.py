"""`gold.daily_trading_summary`: prices, volumes and volatility of a symbol's day."""

from lakehouse_spark.table import GOLD_RETENTION, Table, column
from lakehouse_spark.types import DATE, INSTANT, LONG, PERCENT, PRICE, RATIO, TEXT

TABLE = Table(
    name="gold.daily_trading_summary",
    doc="Daily trading metrics, one row per symbol per UTC day with trades; cancelled trades left out.",
    columns=(
        column("summary_date", DATE, "Trading date (UTC)"),
        column("symbol", TEXT, "Ticker symbol"),
        column("company_name", TEXT, "dim_symbol's company_name as of the day"),
        column("sector", TEXT, "dim_symbol's sector as of the day"),
        column("exchange", TEXT, "Listing exchange as of the day, else the exchange with the largest volume"),
        column("open_price", PRICE, "Price of the day's first trade"),
        column("close_price", PRICE, "Price of the day's last trade"),
        column("high_price", PRICE, "Day high"),
        column("low_price", PRICE, "Day low"),
        column("vwap", PRICE, "Volume-weighted average price"),
        column("total_volume", LONG, "Total shares traded"),
        column("total_value", PRICE, "Total notional value"),
        column("trade_count", LONG, "Number of trades"),
        column("buy_volume", LONG, "Shares of BUY trades"),
        column("sell_volume", LONG, "Shares of SELL trades"),
        column("avg_spread", PRICE, "Mean order-book spread of the day; NULL without one"),
        column("price_change_pct", PERCENT, "Change in percent on the latest earlier close, else on this day's open"),
        column("volatility", RATIO, "Sample standard deviation of trade-to-trade returns; NULL under 3 trades"),
        column("_computed_at", INSTANT, "Commit stamp: when the row was computed"),
    ),
    key=("summary_date", "symbol"),
    partitioned_by=("days(summary_date)",),
    sorted_by=("symbol", "summary_date"),
    stamp="_computed_at",
    retention=GOLD_RETENTION,
    sources=("silver.trades", "silver.orderbook_snapshots", "dim.dim_symbol"),
)
