"""`gold.portfolio_positions`: what every account holds at the end of a day, and what it is worth."""

from lakehouse_spark.table import GOLD_RETENTION, Table, column
from lakehouse_spark.types import DATE, INSTANT, LONG, PERCENT, PRICE, TEXT

TABLE = Table(
    name="gold.portfolio_positions",
    doc="Open positions by FIFO lots, one row per trader, account and symbol per UTC day with trades anywhere.",
    columns=(
        column("position_date", DATE, "Position as of the end of this day (UTC)"),
        column("trader_id", TEXT, "Trader identifier"),
        column("account_id", TEXT, "Trading account; UNKNOWN where none is known"),
        column("symbol", TEXT, "Ticker symbol"),
        column("quantity", LONG, "Net position in shares (positive=long, negative=short), never 0"),
        column("avg_cost_basis", PRICE, "Share-weighted entry price of the open lots"),
        column("current_price", PRICE, "Last traded price at or before the end of the day"),
        column("market_value", PRICE, "quantity * current_price"),
        column("unrealized_pnl", PRICE, "(current_price - avg_cost_basis) * quantity"),
        column("unrealized_pnl_pct", PERCENT, "unrealized_pnl in percent of |quantity| * avg_cost_basis"),
        column("weight_pct", PERCENT, "|market_value| in percent of the account's sum of |market_value|"),
        column("_computed_at", INSTANT, "Commit stamp: when the row was computed"),
    ),
    key=("position_date", "trader_id", "account_id", "symbol"),
    partitioned_by=("days(position_date)",),
    stamp="_computed_at",
    retention=GOLD_RETENTION,
    sources=("silver.trades", "dim.dim_account"),
)
