"""Each reason code that a rule can emit has its line, and each line a rule."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from lakehouse_spark.catalog import DIMENSIONS
from lakehouse_spark.cli.output import show_reasons
from lakehouse_spark.silver import market_data, orderbook_snapshots, trades
from lakehouse_spark.transforms import reasons
from lakehouse_spark.transforms.reasons import FIELD, REASONS

ROOT = Path(__file__).parents[2]
RULES = ("silver", "transforms", "dim", "bronze")
"""Where the package refuses records."""
ORACLES = ("silver_oracle.py", "dim_oracle.py")
"""Who refuses them in the tests, without sharing any of it."""
KINDS = {reason.code.partition("_")[0] for reason in REASONS}


def declared() -> set[str]:
    """The codes of the fields of silver and of the columns of every dimension."""
    codes = set()
    for feed in (trades, orderbook_snapshots, market_data):
        for field in feed._FIELDS:
            codes |= {f"invalid_{field.name}", *(code for _, code in field.rules)}
            codes |= {f"missing_{field.name}"} if field.required else set()
    for dimension in DIMENSIONS.values():
        codes |= {f"missing_{dimension.natural_key}", *(f"invalid_{name}" for name in dimension.feed_columns)}
    return codes


def sources() -> Iterator[Path]:
    for name in RULES:
        path = ROOT / "lakehouse_spark" / name
        yield from [path] if path.is_file() else path.rglob("*.py")
    yield from (ROOT / "tests" / "support" / name for name in ORACLES)


def written() -> set[str]:
    """What looks like a code among the literals of the rules."""
    found = set()
    for path in sources():
        if path.name == "reasons.py":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.isidentifier():
                found.add(node.value)
    return found


def test_every_declared_code_has_a_line() -> None:
    codes = declared()
    assert {"missing_trade_id", "invalid_bids", "unknown_exchange", "invalid_ipo_date"} <= codes
    assert [code for code in sorted(codes) if reasons.of(code) is None] == []


def test_every_code_among_the_literals_of_the_rules_has_a_line() -> None:
    begins = {kind for kind in KINDS if kind not in ("value", "empty")}  # words of other names too
    codes = {code for code in written() if code.partition("_")[0] in begins}
    assert {"tombstone", "malformed_json", "invalid_encoding", "conflicting_duplicate", "crossed_book"} <= codes
    assert [code for code in sorted(codes) if reasons.of(code) is None] == []


def test_every_line_is_of_a_code_that_some_rule_can_emit() -> None:
    emitted = declared() | written()
    assert [r.code for r in REASONS if r.code not in emitted and not r.code.endswith(FIELD)] == []
    assert len({reason.code for reason in REASONS}) == len(REASONS)


def test_a_line_says_what_it_means_and_who_mends_it() -> None:
    assert reasons.explained("invalid_trade_type") == (
        "invalid_trade_type: The trade type is neither BUY nor SELL. To mend it, the sender of the record corrects it "
        "and sends it again."
    )
    assert reasons.explained("missing_trade_id").startswith("missing_trade_id: The field is required, and absent, null")
    assert reasons.explained("no_such_code") == "no_such_code: a code of another release"
    for reason in REASONS:
        assert "\n" not in str(reason)
        assert not {"|", "`"} & set(str(reason))
        assert reason.meaning[0].isupper()
        assert not reason.remedy.endswith(".")
        assert set(reason.who.split(", ")) <= {"sender", "owner of the reference data", "operator"}


def test_rejected_records_are_grouped_by_reason_with_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    groups = reasons.grouped({"missing_trade_id": 1, "from_the_future": 1, "invalid_trade_type": 2})
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
