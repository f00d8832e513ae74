"""Which days of which traders are derived anew: what lots, performance and positions have in common."""

from dataclasses import dataclass
from datetime import date

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F


@dataclass(frozen=True)
class Scope:
    """All days from `first` on (None: no day), and all days of `traders` (column `trader_id`; None: of none).

    A day goes on from the lots of the trading day before it, so what changed on one day touches all days after it. A
    trader whose default account is another one now is touched from the beginning.
    """

    first: date | None
    traders: DataFrame | None

    def of(self, rows: DataFrame, day: str, time_column: str | None = None) -> DataFrame:
        """The rows within the scope; `time_column`, where the rows have one, prunes their files."""
        since: Column = F.lit(False) if self.first is None else F.col(day) >= F.lit(self.first)
        if self.traders is None:
            pruned = rows.where(F.col(time_column) >= F.lit(self.first)) if time_column and self.first else rows
            return pruned.where(since)
        marked = rows.join(F.broadcast(self.traders.withColumn("_theirs", F.lit(True))), on="trader_id", how="left")
        return marked.where(since | F.col("_theirs").isNotNull()).drop("_theirs")

    def of_traders(self, rows: DataFrame) -> DataFrame | None:
        """The rows of the traders who are derived from the beginning; None where there are none."""
        return None if self.traders is None else rows.join(self.traders, on="trader_id", how="left_semi")

    def of_others(self, rows: DataFrame) -> DataFrame:
        """The rows of everybody else."""
        return rows if self.traders is None else rows.join(self.traders, on="trader_id", how="left_anti")
