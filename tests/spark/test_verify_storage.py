"""Text that is not UTF-8: verify finds it wherever it stands."""

from collections.abc import Callable

import pytest
from pyspark.sql import SparkSession

from lakehouse_spark.catalog import BY_NAME
from lakehouse_spark.schema import ddl
from lakehouse_spark.settings import Settings
from lakehouse_spark.verify import storage

NAMES = ("bronze.raw_reference", "silver._rejected_records", "dim.dim_trader", "dim.dim_exchange")
BAD = "CAST(X'E9' AS STRING)"  # é as cp1252 writes it
SURROGATE = "CAST(X'EDA080' AS STRING)"  # half of a pair, as some encoders write it


def test_verify_finds_text_that_is_not_utf8_in_columns_arrays_and_maps(
    sessions: Callable[[], SparkSession], monkeypatch: pytest.MonkeyPatch
) -> None:
    spark = sessions()
    monkeypatch.setattr(storage, "TABLES", tuple(BY_NAME[name] for name in NAMES))
    for statement in (*ddl.create_namespaces(), *(s for name in NAMES for s in ddl.create_table(BY_NAME[name]))):
        spark.sql(statement)

    def broken() -> dict[str, int | None]:
        findings = list(storage.texts_are_utf8(spark, Settings()))
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
