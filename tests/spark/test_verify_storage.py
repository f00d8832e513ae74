"""What verify finds in tables themselves, text that is not UTF-8 or what is not as declared; and of which tables."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession

from lakehouse_spark import migrations, verify
from lakehouse_spark.catalog import BY_NAME, TABLES
from lakehouse_spark.iceberg import found, pyiceberg
from lakehouse_spark.migrations import draft
from lakehouse_spark.schema import ddl
from lakehouse_spark.schema.drift import drift
from lakehouse_spark.settings import CatalogSettings, Settings
from lakehouse_spark.verify import storage

NAMES = ("bronze.raw_reference", "silver._rejected_records", "dim.dim_trader", "dim.dim_exchange")
BAD = "CAST(X'E9' AS STRING)"  # é as cp1252 writes it
SURROGATE = "CAST(X'EDA080' AS STRING)"  # half of a pair, as some encoders write it


@pytest.fixture
def spark_of_four(sessions: Callable[[], SparkSession]) -> SparkSession:
    """A lakehouse of four tables, empty."""
    spark = sessions()
    for statement in (*ddl.create_namespaces(), *(s for name in NAMES for s in ddl.create_table(BY_NAME[name]))):
        spark.sql(statement)
    return spark


def test_verify_finds_text_that_is_not_utf8_in_columns_arrays_and_maps(spark_of_four: SparkSession) -> None:
    spark, tables = spark_of_four, [BY_NAME[name] for name in NAMES]

    def broken() -> dict[str, int | None]:
        findings = verify.findings(spark, Settings(), storage.texts_are_utf8, tables=tables)
        assert [finding.table for finding in findings] == list(NAMES)
        return {finding.table: finding.violations for finding in findings if finding.violations}

    spark.sql("INSERT INTO lake.bronze.raw_reference (natural_key, attributes) VALUES ('é €', map('né', null))")
    spark.sql("INSERT INTO lake.dim.dim_exchange (exchange_code) VALUES ('\\u0000'), (null)")
    assert broken() == {}

    spark.sql(
        "INSERT INTO lake.bronze.raw_reference (natural_key, attributes) VALUES "
        f"('a', map({BAD}, 'x')), ('b', map('x', 'y', 'z', {BAD})), ({SURROGATE}, null), ('c', map('x', null))"
    )
    spark.sql(f"INSERT INTO lake.silver._rejected_records (reasons) VALUES (array('x', null, {BAD})), (null)")
    spark.sql(f"INSERT INTO lake.dim.dim_trader (trader_id) VALUES ({BAD})")
    assert broken() == {"bronze.raw_reference": 3, "silver._rejected_records": 1, "dim.dim_trader": 1}


def test_verify_says_what_is_not_as_declared_and_a_drafted_migration_mends_it(
    spark_of_four: SparkSession, tmp_path: Path
) -> None:
    settings = Settings(home=tmp_path / "home")

    def details() -> dict[str, tuple[int | None, str]]:
        findings = verify.findings(spark_of_four, settings, storage.declarations_hold)
        return {finding.table: (finding.violations, finding.detail) for finding in findings}

    assert details() == dict.fromkeys(NAMES, (0, "as declared"))
    for change in (
        "bronze.raw_reference ALTER COLUMN natural_key FIRST",
        "silver._rejected_records DROP PARTITION FIELD days(_ingested_at)",
        "dim.dim_trader DROP COLUMN name",
        "dim.dim_trader ADD COLUMN extra int",
        "dim.dim_trader SET TBLPROPERTIES ('format-version' = '3', 'commit.retry.num-retries' = '7')",
        "dim.dim_exchange WRITE ORDERED BY exchange_key",
        "dim.dim_exchange ALTER COLUMN country COMMENT 'Land'",
    ):
        spark_of_four.sql(f"ALTER TABLE lake.{change}")
    assert details() == {
        "bronze.raw_reference": (
            1,
            "bronze.raw_reference.dimension moves to stand before all others, until now after natural_key",
        ),
        "silver._rejected_records": (
            1,
            "silver._rejected_records is partitioned by days(_ingested_at) too, in files written from now on",
        ),
        "dim.dim_trader": (
            4,
            "dim.dim_trader gains name (string) after trader_id, NULL in the rows it has; dim.dim_trader.extra is "
            "dropped, and only time travel still shows its values; dim.dim_trader sets commit.retry.num-retries to '4' "
            "(until now '7'); dim.dim_trader has format-version 3, declared 2, and there is no way back: declare 3",
        ),
        "dim.dim_exchange": (
            3,
            "dim.dim_exchange.country is described as 'Country code (US, UK, JP)', until now as 'Land'; "
            "dim.dim_exchange is sorted by nothing, until now by exchange_key, in files written from now on; "
            "dim.dim_exchange sets write.distribution-mode to 'none' (until now 'range')",
        ),
    }
    module: dict[str, Any] = {}
    catalog = pyiceberg.open_catalog(settings)
    drifts = [drift(BY_NAME[name], found.read(pyiceberg.load(catalog, BY_NAME[name]))) for name in NAMES]
    exec(draft.source(drifts, TABLES, major=1), module)
    migrations.apply(spark_of_four, module["OPERATIONS"])
    assert details() == {
        **dict.fromkeys(NAMES, (0, "as declared")),
        "dim.dim_trader": (1, "dim.dim_trader has format-version 3, declared 2, and there is no way back: declare 3"),
    }


def test_verify_does_not_check_declarations_in_a_catalog_that_pyiceberg_does_not_open(
    spark_of_four: SparkSession,
) -> None:
    settings = Settings(catalog=CatalogSettings(uri="jdbc:postgresql://db/lake"))
    finding = verify.findings(spark_of_four, settings, storage.declarations_hold)[0]
    assert (finding.table, finding.violations, finding.detail) == (
        "bronze.raw_reference",
        None,
        "not checked: LAKEHOUSE_CATALOG__URI: only SQLite and REST catalogs are read without Spark, not "
        "'jdbc:postgresql://db/lake'",
    )


def test_each_check_is_about_the_tables_that_it_names(migrated: SparkSession) -> None:
    for check, about, _ in verify.CHECKS:
        if about:
            found = {finding.table for finding in verify.findings(migrated, Settings(), check)}
            assert found
            assert found <= {table.name for table in about}


def test_verify_of_one_table_checks_what_concerns_it_alone(migrated: SparkSession) -> None:
    warehouse = str(migrated.conf.get("spark.sql.catalog.lake.warehouse"))
    settings = Settings(home=Path(warehouse.removeprefix("file://")).parent)
    findings = verify.run(migrated, settings, [BY_NAME["gold.fact_trades"]])
    assert {(finding.table, finding.violations) for finding in findings} == {("gold.fact_trades", 0)}
    assert [finding.check for finding in findings] == [
        "unique trade_id", "one fact per silver row", "symbol_key resolves", "trader_key resolves",
        "exchange_key resolves", "time_key resolves", "settlement date by the exchange's calendar",
        "total value as in silver.trades", "text is valid UTF-8", "as declared", "every referenced file exists",
    ]  # fmt: skip
