"""What the command line prints of a query's rows, and of rejected records."""

import pytest
from pyspark.sql import SparkSession

from lakehouse_spark.cli.output import show_reasons, with_instants_as_text
from lakehouse_spark.jobs.rejected import by_reason


def test_instants_are_printed_in_utc_from_the_year_1_on(spark: SparkSession) -> None:
    rows = spark.sql(
        "SELECT TIMESTAMP'0001-01-01' AS at, TIMESTAMP'2025-01-15 15:30:00.5' AS at, DATE'2025-01-15', 1, NULL"
    )
    printed = with_instants_as_text(rows)
    assert printed.columns == rows.columns
    assert list(printed.collect()[0])[:2] == ["0001-01-01T00:00:00", "2025-01-15T15:30:00.500000"]
    assert list(printed.collect()[0])[3:] == [1, None]


def test_rejected_records_are_grouped_by_reason_with_what_to_do(
    spark: SparkSession, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = spark.sql(
        "SELECT * FROM VALUES (array('invalid_trade_type')), (array('invalid_trade_type', 'missing_trade_id')), "
        "(array('from_the_future')) AS (reasons)"
    )
    groups = by_reason(rows)
    resend = "the sender of the record corrects it and sends it again"
    fill = "whoever writes the feed or file fills it and sends or loads the record again"
    assert groups == [
        {
            "reason": "invalid_trade_type",
            "records": 2,
            "meaning": "The trade type is neither BUY nor SELL",
            "remedy": resend,
        },
        {"reason": "from_the_future", "records": 1, "meaning": None, "remedy": None},
        {
            "reason": "missing_trade_id",
            "records": 1,
            "meaning": "The field is required, and absent, null, empty or blank",
            "remedy": fill,
        },
    ]
    show_reasons(groups)
    assert capsys.readouterr().out.splitlines() == [
        f"2x invalid_trade_type: The trade type is neither BUY nor SELL. To mend it, {resend}.",
        "1x from_the_future: a code of another release",
        f"1x missing_trade_id: The field is required, and absent, null, empty or blank. To mend it, {fill}.",
        "",
    ]
