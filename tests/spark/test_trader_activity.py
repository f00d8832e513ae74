"""What each trader bought and sold: one worked example, and the sums of sums against the oracle."""

import random
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

from chispa import assert_df_equality
from pyspark.sql import DataFrame, SparkSession

from lakehouse_spark.lake import frames
from lakehouse_spark.silver import trader_activity, trades
from tests.support import silver_oracle
from tests.support.in_memory import silver_trades
from tests.support.in_memory import trade_row as row


def activity(spark: SparkSession, *rows: tuple[Any, ...]) -> DataFrame:
    table = trader_activity.TABLE
    names = [name for name in table.column_names if name != table.stamp]
    kinds = ", ".join(f"`{name}` {table.schema[name].dataType.simpleString()}" for name in names)
    return frames.of_rows(spark, list(rows), kinds)


def test_activity_sums_a_traders_day_in_a_symbol_and_cancelled_trades_count_nowhere(spark: SparkSession) -> None:
    midnight = datetime(2025, 1, 16, tzinfo=UTC)
    day, next_day = date(2025, 1, 15), date(2025, 1, 16)
    found = trader_activity.build(
        silver_trades(
            spark,
            row(1, "BUY", 100, "187.5"),
            row(2, "BUY", 50, "187.123457", status="PARTIAL"),
            row(3, "SELL", 7, "190.000001"),
            row(4, "SELL", 1_000_000, "1", status="CANCELLED"),
            row(5, "SELL", 20, "10", symbol="MSFT"),
            row(6, "BUY", 1, "0.000001", at=midnight - timedelta(microseconds=1), trader="TR2"),
            row(7, "BUY", 2, "999999999.999999", at=midnight),
            row(8, "BUY", 5, "10", symbol="GONE", status="CANCELLED"),
            row(9, "SELL", 5, "10", trader="TR3", status="CANCELLED"),
        )
    )
    expected = activity(
        spark,
        (
            "f4fda2c9639ad7e34f6e1b7d95b686f7", "TR1", day, "AAPL", 2, 1, 150, 7, Decimal("28106.172850"),
            Decimal("1330.000007"), 143, Decimal("52.333333"),
        ),
        (
            "0791aade81db71e6a5aee896aecb9d16", "TR1", day, "MSFT", 0, 1, 0, 20, Decimal(0), Decimal(200), -20,
            Decimal(20),
        ),
        (
            "44765ee1667cbfe3effd47a8f3ee6e4b", "TR2", day, "AAPL", 1, 0, 1, 0, Decimal("0.000001"), Decimal(0), 1,
            Decimal(1),
        ),
        (
            "d6118e7b88c5de4a7bdd38c248db834d", "TR1", next_day, "AAPL", 1, 0, 2, 0, Decimal("1999999999.999998"),
            Decimal(0), 2, Decimal(2),
        ),
    )  # fmt: skip
    assert_df_equality(found, expected, ignore_nullable=True, ignore_metadata=True, ignore_row_order=True)


def test_the_average_size_is_rounded_half_up_once(spark: SparkSession) -> None:
    groups = {
        "THIRD": [1, 1, 0],
        "HALF": [1] + [0] * 127,
        "BELOW": [1] + [0] * 128,
        "HUGE": [9_007_199_254_740_993, 2],
    }
    rows = [
        {**row(number, "BUY", quantity, "0"), "symbol": name, "trade_id": f"{name}{number}", "total_value": Decimal(0)}
        for name, quantities in groups.items()
        for number, quantity in enumerate(quantities)
    ]
    found = trader_activity.build(silver_trades(spark, *rows)).select("symbol", "avg_trade_size").collect()
    assert {size["symbol"]: size["avg_trade_size"] for size in found} == {
        "THIRD": Decimal("0.666667"),
        "HALF": Decimal("0.007813"),  # 0.0078125
        "BELOW": Decimal("0.007752"),
        "HUGE": None,
    }


def test_a_sum_beyond_its_column_is_null_and_stops_nobody(spark: SparkSession) -> None:
    rows = [
        row(1, "BUY", 600_000, "1000000"),
        row(2, "BUY", 600_000, "1000000"),
        *(row(n, "SELL", 900_000_000_000_000_000, "0.000001", symbol="MSFT") for n in range(3, 15)),
        row(15, "BUY", 3, "2", symbol="X"),
    ]
    names = ("buy_volume", "sell_volume", "buy_value", "sell_value", "net_position", "avg_trade_size")
    found = {
        made["symbol"]: tuple(made[n] for n in names)
        for made in trader_activity.build(silver_trades(spark, *rows)).collect()
    }
    assert found == {
        "AAPL": (1_200_000, 0, None, Decimal(0), 1_200_000, Decimal(600_000)),
        "MSFT": (0, None, Decimal(0), None, None, None),
        "X": (3, 0, Decimal(6), Decimal(0), 3, Decimal(3)),
    }


def test_activity_of_many_trades_is_what_the_oracle_says(spark: SparkSession) -> None:
    chance = random.Random(7)
    noon = datetime(2025, 1, 15, 12, tzinfo=UTC)
    rows = [
        row(
            number, chance.choice(("BUY", "SELL")), chance.randrange(1, 10**chance.randrange(1, 7)),
            f"{chance.randrange(1, 10_000)}.{chance.randrange(1_000_000):06}", trader=f"TR{chance.randrange(6)}",
            symbol=chance.choice(("AAPL", "MSFT", "BRK.B")), at=noon + timedelta(hours=chance.randrange(72)),
            status=chance.choice(trades.STATUSES),
        )
        for number in range(600)
    ]  # fmt: skip
    found = {
        made["activity_id"]: made.asDict() for made in trader_activity.build(silver_trades(spark, *rows)).collect()
    }
    assert found == silver_oracle.trader_activity(rows)
