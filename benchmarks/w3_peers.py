"""W3's peers and limit row: the newest changes brought into the dimension as one would write it at first.

All but the limit row read the change log. Each takes the newest change of a key, as a snapshot of the source would show
it, and compares it with the current version: right as long as changes come one by one and in order.
"""

import hashlib
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from pyspark.sql import functions as F

from benchmarks import contents, lake, spark_delta
from benchmarks.contents import Result
from benchmarks.plan import Contender, Job
from benchmarks.w3_inputs import ATTRIBUTES, DELTA, DIGEST, DIM, FEED, LOG, TRACKED
from lakehouse_spark.dim import dim_symbol
from lakehouse_spark.metadata import surrogate_keys

_NAME = dim_symbol.DIMENSION.name
_OPEN_END = "DATE'9999-12-31'"
_DATES = ("ipo_date", "effective_date")


def iceberg_result(job: Job) -> Result:
    """The dimension after the turn."""
    table = contents.catalog(Path(job.inputs["home"])).load_table(DIM.name)
    return contents.of_iceberg(table, {"dim": DIGEST}, job.inputs["snapshots"][DIM.name])


def rewind(job: Job) -> None:
    """The dimension, its surrogate keys and dead letters as they were."""
    lake.rewind(Path(job.inputs["home"]), job.inputs["snapshots"])


_ROW_HASH = f"md5(concat_ws('|', {', '.join(sorted(TRACKED))}))"


def _source(log: str, job: Job) -> str:
    """The newest change of every symbol since the dimension was last loaded; `log` names the change log."""
    typed = {**dict.fromkeys(_DATES, "DATE"), "sequence": "BIGINT"}
    columns = ", ".join(f"CAST(attributes['{name}'] AS {typed.get(name, 'STRING')}) AS {name}" for name in FEED)
    return f"""
        SELECT *, {_ROW_HASH} AS _row_hash FROM (
            SELECT *, row_number() OVER (PARTITION BY symbol ORDER BY effective_date DESC, sequence DESC) AS nth FROM (
                SELECT {columns} FROM {log}
                WHERE dimension = '{_NAME}' AND _ingested_at > TIMESTAMP'{job.inputs["after"]}'
            )
        ) WHERE nth = 1
    """


def _differs(left: str, right: str) -> str:
    return "(" + " OR ".join(f"{left}.{name} IS DISTINCT FROM {right}.{name}" for name in TRACKED) + ")"


def _inserted(source: str) -> dict[str, str]:
    """A new version's columns; its surrogate key is a hash, for want of a sequence."""
    return {
        "symbol_key": f"xxhash64({source}.symbol, {source}.effective_date)",
        **{name: f"{source}.{name}" for name in ("symbol", *ATTRIBUTES, "effective_date")},
        "expiry_date": _OPEN_END,
        "is_current": "true",
        "_row_hash": f"{source}._row_hash",
        "is_inferred": "false",
        "_updated_at": "current_timestamp()",
    }


class DbtSnapshot(lake.InSpark):
    name = "dbt-style snapshot, Iceberg"
    note = "check strategy: updates and insertions staged in one view, MERGE INTO … ON the version's key"

    def prepare(self) -> None:
        rewind(self.job)

    def work(self) -> None:
        inserted = _inserted("s")
        update = {name: f"d.{name}" for name in inserted} | {
            "expiry_date": "date_sub(s.effective_date, 1)",
            "is_current": "false",
            "_updated_at": "current_timestamp()",
        }
        self.spark.sql(
            f"""
            CREATE OR REPLACE TEMP VIEW staged AS
            WITH source AS ({_source(LOG.identifier, self.job)}),
            snapshotted AS (SELECT * FROM {DIM.identifier} WHERE is_current),
            insertions AS (
                SELECT 'insert' AS change_type, {_select(inserted)}
                FROM source AS s LEFT JOIN snapshotted AS d ON s.symbol = d.symbol
                WHERE d.symbol IS NULL OR {_differs("s", "d")}
            ),
            updates AS (
                SELECT 'update' AS change_type, {_select(update)}
                FROM source AS s JOIN snapshotted AS d ON s.symbol = d.symbol
                WHERE {_differs("s", "d")}
            )
            SELECT * FROM insertions UNION ALL SELECT * FROM updates
            """
        )
        columns = ", ".join(DIM.column_names)
        values = ", ".join(f"s.{name}" for name in DIM.column_names)
        self.spark.sql(
            f"""
            MERGE INTO {DIM.identifier} AS d USING staged AS s ON d.symbol_key = s.symbol_key
            WHEN MATCHED AND d.is_current AND s.change_type = 'update' THEN UPDATE SET
                expiry_date = s.expiry_date, is_current = s.is_current, _updated_at = s._updated_at
            WHEN NOT MATCHED AND s.change_type = 'insert' THEN INSERT ({columns}) VALUES ({values})
            """
        )

    def result(self) -> Result:
        return iceberg_result(self.job)


class MackDelta(Contender):
    name = DELTA
    note = "changed rows staged twice, with the key and without, one MERGE that expires the one and inserts the other"

    def open(self) -> None:
        self.spark = spark_delta.open_session()
        self.base, self.dim = Path(self.job.inputs["delta"]), self.job.scratch / "dim"

    def prepare(self) -> None:
        spark_delta.fork(self.base, self.dim)

    def work(self) -> None:
        self.spark.read.parquet(*self.job.inputs["log"]).createOrReplaceTempView("log")
        self.spark.sql(_source("log", self.job)).createOrReplaceTempView("updates")
        inserted = _inserted("s")
        self.spark.sql(
            f"""
            MERGE INTO delta.`{self.dim}` AS d USING (
                SELECT NULL AS merge_key, u.* FROM updates AS u
                JOIN delta.`{self.dim}` AS held ON u.symbol = held.symbol
                WHERE held.is_current AND {_differs("u", "held")}
                UNION ALL
                SELECT symbol AS merge_key, * FROM updates
            ) AS s ON d.symbol = s.merge_key
            WHEN MATCHED AND d.is_current AND {_differs("d", "s")} THEN UPDATE SET
                is_current = false, expiry_date = date_sub(s.effective_date, 1), _updated_at = current_timestamp()
            WHEN NOT MATCHED THEN INSERT ({", ".join(inserted)}) VALUES ({", ".join(inserted.values())})
            """
        )

    def result(self) -> Result:
        return spark_delta.result(self.spark, self.dim, self.base, {"dim": DIGEST})

    def close(self) -> None:
        self.spark.stop()


class PyIcebergPandas(Contender):
    name = "PyIceberg + pandas"
    note = "row hashes, merge with the current versions, then delete and append in one transaction"
    is_slow = True

    def open(self) -> None:
        import orjson
        import pandas
        import pyarrow

        self.loads, self.pd, self.pa = orjson.loads, pandas, pyarrow

    def prepare(self) -> None:
        rewind(self.job)
        self.catalog = contents.catalog(Path(self.job.inputs["home"]))

    def work(self) -> None:
        import pyiceberg.expressions

        where: Any = pyiceberg.expressions  # its types know fewer arguments than it takes
        pd = self.pd
        dim, keys = self.catalog.load_table(DIM.name), self.catalog.load_table(surrogate_keys.TABLE.name)
        current = dim.scan(row_filter="is_current = true").to_pandas()
        incoming = self._incoming()
        incoming["_row_hash"] = incoming.apply(_hash, axis=1)
        held = incoming[["symbol", "_row_hash", "effective_date"]].merge(
            current, on="symbol", suffixes=("_new", ""), how="inner"
        )
        changed = held[held["_row_hash_new"] != held["_row_hash"]]
        is_new = ~incoming["symbol"].isin(current["symbol"])
        versions = incoming[is_new | incoming["symbol"].isin(changed["symbol"])].copy()
        expired = changed.copy()
        expired["expiry_date"] = [day - timedelta(days=1) for day in changed["effective_date_new"]]
        expired["is_current"] = False
        last = keys.scan(row_filter=_ISSUED_HERE).to_pandas()["last_issued_key"].max()
        versions["symbol_key"] = range(last + 1, last + 1 + len(versions))
        versions["expiry_date"] = datetime(9999, 12, 31).date()
        versions["is_current"], versions["is_inferred"] = True, False
        now = self.pa.scalar(pd.Timestamp.now("UTC").to_pydatetime())
        rows = pd.concat([expired[_UNSTAMPED], versions[_UNSTAMPED]])
        if rows.empty:
            return
        schema = dim.schema().as_arrow()
        unstamped = self.pa.schema([schema.field(name) for name in _UNSTAMPED])
        written = self.pa.Table.from_pandas(rows, unstamped, preserve_index=False)
        stamped = written.append_column("_updated_at", self.pa.repeat(now, len(rows))).select(DIM.column_names)
        with keys.transaction() as reserve:
            issued = {"table_name": [_NAME], "last_issued_key": [last + len(versions)], "_updated_at": [now.as_py()]}
            reserve.overwrite(self.pa.Table.from_pydict(issued).cast(keys.schema().as_arrow()), _ISSUED_HERE)
        with dim.transaction() as replace:
            if len(changed):
                replace.delete(where.And(where.In("symbol", set(changed["symbol"])), where.EqualTo("is_current", True)))
            replace.append(stamped.cast(schema))

    def _incoming(self) -> Any:
        """The newest change of every symbol."""
        log = self.catalog.load_table(LOG.name)
        raw = log.scan(
            row_filter=f"dimension = '{_NAME}' AND _ingested_at > '{self.job.inputs['after']}'",
            selected_fields=("raw_payload",),
        ).to_arrow()
        changes = self.pd.DataFrame([self.loads(payload) for payload in raw["raw_payload"].to_pylist()])
        for name in _DATES:
            changes[name] = [datetime.fromisoformat(day).date() for day in changes[name]]
        changes["sequence"] = changes["sequence"].astype("int64")
        return changes.sort_values(["effective_date", "sequence"]).drop_duplicates("symbol", keep="last")

    def result(self) -> Result:
        return iceberg_result(self.job)


class JoinAndWrite(lake.InSpark):
    name = "limit: join, Parquet"
    note = "the batch as plain Parquet, hash join with the current versions, both rows of a change written to no table"
    is_limit = True

    def work(self) -> None:
        held = self.spark.read.parquet(*self.job.inputs["dim"]).where("is_current")
        batch = self.spark.read.parquet(self.job.inputs["batch"]).withColumn("_row_hash", F.expr(_ROW_HASH))
        inserted = _inserted("s")
        expired = {name: f"d.{name}" for name in inserted} | {
            "expiry_date": "date_sub(s.effective_date, 1)",
            "is_current": "false",
        }
        joined = batch.alias("s").join(
            held.hint("shuffle_hash").alias("d"), on=F.expr("s.symbol = d.symbol"), how="left"
        )
        rows = joined.where(f"d.symbol IS NULL OR {_differs('s', 'd')}").selectExpr(
            f"inline(array(struct({_select(inserted)}), struct({_select(expired)})))"
        )
        self.target = self.job.scratch / "rows"
        changed = rows.where("symbol IS NOT NULL")
        changed.write.mode("overwrite").option("compression", "zstd").parquet(str(self.target))

    def result(self) -> Result | None:
        if self.job.params["order"] == "out of order":  # no bare step makes those rows
            return None
        return contents.of_parquet(self.target.glob("*.parquet"), {"changed": DIGEST})


_ISSUED_HERE = f"table_name = '{_NAME}'"
_UNSTAMPED = [name for name in DIM.column_names if name != DIM.stamp]


def _hash(row: Any) -> str:
    return hashlib.md5("|".join(str(row[name]) for name in sorted(TRACKED)).encode()).hexdigest()


def _select(columns: dict[str, str]) -> str:
    ordered: Sequence[str] = [f"{columns[name]} AS {name}" for name in DIM.column_names]
    return ", ".join(ordered)
