"""`gold.trader_performance`: volumes, realized P&L and risk of a trader's day."""

from lakehouse_spark.table import GOLD_RETENTION, Table, column
from lakehouse_spark.types import DATE, INSTANT, INTEGER, LONG, PERCENT, PRICE, RATE, RATIO, TEXT

TABLE = Table(
    name="gold.trader_performance",
    doc="Trader performance by FIFO lots, one row per trader per UTC day with trades; cancelled trades left out.",
    columns=(
        column("performance_date", DATE, "Evaluation date (UTC)"),
        column("trader_id", TEXT, "Trader identifier"),
        column("trader_name", TEXT, "dim_trader's name as of the day"),
        column("account_type", TEXT, "dim_trader's account_type as of the day"),
        column("risk_category", TEXT, "dim_trader's risk_category as of the day"),
        column("total_trades", LONG, "Trades of the day"),
        column("total_volume", LONG, "Total shares traded"),
        column("total_notional", PRICE, "Total trade value"),
        column("realized_pnl", PRICE, "Profit or loss of the shares closed that day, gross of commission"),
        column("win_rate", RATE, "Share of closing trades with a profit (0-1); NULL without closing trades"),
        column("avg_hold_time_sec", LONG, "Share-weighted mean holding time of the shares closed, in seconds"),
        column("max_drawdown_pct", PERCENT, "Largest fall of cumulative P&L from its peak, % of total_notional"),
        column("sharpe_ratio", RATIO, "Mean over standard deviation of returns per closing trade; NULL under 2"),
        column("distinct_symbols", INTEGER, "Number of distinct symbols traded"),
        column("_computed_at", INSTANT, "Commit stamp: when the row was computed"),
    ),
    key=("performance_date", "trader_id"),
    partitioned_by=("days(performance_date)",),
    stamp="_computed_at",
    retention=GOLD_RETENTION,
    sources=("silver.trades", "dim.dim_trader", "dim.dim_account"),
)
