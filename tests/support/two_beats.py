"""Records for two beats of every layer, and what they come to, wherever that is."""

import hashlib
import json

from lakehouse_spark.catalog import BY_NAME, TABLES
from tests.support.lake import Lake, bar, book, trade

DERIVED = [table.name for table in TABLES if table.namespace in ("silver", "dim", "gold") and table.sources]
OF_A_RUN = {"_ingested_at", "_processed_at", "_updated_at", "_computed_at", "_loaded_at", "_rejected_at"}


def change(dimension: str, effective_date: str, **attributes: str) -> bytes:
    return json.dumps({"dimension": dimension, "effective_date": effective_date, **attributes}).encode()


def begin(lake: Lake) -> None:
    """Members, two days of trades, of which one repeats, one is refused and one cannot be read, a book and a bar."""
    lake.produce(
        "raw_reference",
        change("dim_symbol", "2025-01-01", symbol="AAPL", company_name="Apple", sector="Information Technology"),
        change("dim_account", "2025-01-01", account_id="AC1", trader_id="TR1", tier="SILVER"),
    )
    lake.produce(
        "raw_trades",
        trade(trade_id="T1", timestamp="2025-01-14T15:30:00Z", account_id="AC1"),
        trade(trade_id="T2", trade_type="SELL", quantity=40, price=190, account_id="AC1", status="PARTIAL"),
        trade(trade_id="T3", symbol="MSFT", trader_id="TR2"),
        trade(trade_id="T3", symbol="MSFT", trader_id="TR2"),
        trade(trade_id="T4", price=-1),
        b"{",
    )
    lake.produce("raw_orderbook", book())
    lake.produce("raw_marketdata", bar())


def go_on(lake: Lake) -> None:
    """A new version of a symbol from the second day on, another tier, the rest of a trade, a late one, one more day."""
    lake.produce(
        "raw_reference",
        change("dim_symbol", "2025-01-15", symbol="AAPL", company_name="Apfel", sector="Information Technology"),
        change("dim_account", "2025-01-15", account_id="AC1", trader_id="TR1", tier="GOLD"),
    )
    lake.produce(
        "raw_trades",
        trade(trade_id="T2", trade_type="SELL", quantity=40, price=190, account_id="AC1", status="EXECUTED"),
        trade(trade_id="T5", timestamp="2025-01-14T16:30:00Z", quantity=10, account_id="AC1"),
        trade(trade_id="T6", timestamp="2025-01-16T15:30:00Z", price=191),
    )


def digests(lake: Lake) -> dict[str, str]:
    """Of every table behind bronze, by its name."""
    return {name: _digest(lake, name) for name in DERIVED}


def _digest(lake: Lake, table: str) -> str:
    """Of all rows, but for the stamps of the commits and the numbers of the members, which come with the beats."""
    of_a_beat = {*OF_A_RUN, BY_NAME[table].stamp, "symbol_key", "trader_key", "account_key"}
    columns = [name for name in BY_NAME[table].column_names if name not in of_a_beat]
    rows = sorted(lake.spark.table(f"lake.{table}").select(*columns).collect(), key=repr)
    return hashlib.sha256(repr(rows).encode()).hexdigest()
