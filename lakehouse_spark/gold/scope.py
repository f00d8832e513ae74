"""Which days of which traders are derived anew: what lots, performance and positions have in common."""

from dataclasses import dataclass
from datetime import date

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F


@dataclass(frozen=True)
class Scope:
    """All days of everybody from `first` on (None: no day); and of `traders`, all days from one of their own on, which
    is earlier (`trader_id`, `since`, and `eve`, the last trading day before; None: of none).

    A day goes on from the lots of the trading day before it, so what changed on one day touches the trader's days after
    it. `earliest` is the first of all these days.
    """

    first: date | None
    traders: DataFrame | None
    earliest: date | None

    @classmethod
    def of_everybody(cls, first: date | None) -> "Scope":
        return cls(first, None, first)

    def of(self, rows: DataFrame, day: str, time_column: str | None = None) -> DataFrame:
        """The rows within the scope; `time_column`, where the rows have one, prunes their files."""
        pruned = rows.where(F.col(time_column) >= F.lit(self.earliest)) if time_column and self.earliest else rows
        since: Column = F.lit(False) if self.first is None else F.col(day) >= F.lit(self.first)
        if self.traders is None:
            return pruned.where(since)
        marked = pruned.join(F.broadcast(self.traders.select("trader_id", "since")), on="trader_id", how="left")
        return marked.where(since | (F.col(day) >= F.col("since"))).select(*rows.columns)

    def of_traders(self, rows: DataFrame) -> DataFrame | None:
        """The rows of the traders who are derived from a day of their own on; None where there are none."""
        return None if self.traders is None else rows.join(self.traders, on="trader_id", how="left_semi")

    def of_others(self, rows: DataFrame) -> DataFrame:
        """The rows of everybody else."""
        return rows if self.traders is None else rows.join(self.traders, on="trader_id", how="left_anti")
