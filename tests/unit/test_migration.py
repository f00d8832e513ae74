"""Migrations as values: what their checksums depend on, and which ones lakehouses of earlier code hold."""

import ast
import hashlib
import pkgutil
from dataclasses import make_dataclass, replace
from pathlib import Path
from pkgutil import ModuleInfo
from typing import Any

import pytest

from lakehouse_spark import migrations
from lakehouse_spark.migrations.migration import Migration, Step
from lakehouse_spark.schema import ddl
from lakehouse_spark.schema.operations import (
    FIRST,
    AddColumn,
    ChangeSortOrder,
    ColumnDefinition,
    CreateTable,
    MoveColumn,
    SetProperties,
)

VENUE = ColumnDefinition("venue", "string", "The trader's venue")
ADDED = AddColumn("silver.trades", VENUE, after="exchange")
CREATED = CreateTable("_metadata.notes", "Notes.", (ColumnDefinition("note", "string", "A note"),))


def checksum(*operations: Any) -> str:
    return Migration("V003", "venue", operations).checksum


def test_lakehouses_of_earlier_code_hold_checksums_of_sources_and_new_ones_those_of_operations() -> None:
    found = [(m.version, m.description, m.checksum, m.checksums_before) for m in migrations.migrations()]
    assert found == [
        (
            "V001", "initial schema", "4f53cda18c2baa0c0354bb5f9a3ecbe5ed12ab4d8e11ba873c2f11161202b945",
            ("45adde40cbecc65896761ec1901cc4a8651f6321f29b6577488a2b046e7915cc",),
        ),
        (
            "V002", "repair text of the change log", "a53026bca03cc74259f4311be55cc7bd2051dc6fc2739e7d3187b2b9a22ff801",
            ("641f4634b940713f2394b880c44117d42c7b5ccaa72c063f34a8f73d4e0d7cc2",),
        ),
        ("V003", "log of maintenance", "d93c68c3b39ce6dfd560f753ac3a520e2d7e0e81ec53a0e35dd7d10157520361", ()),
        ("V004", "ledger by operation", "502f7ba8948c9a7029351bd75182a5dbc48f089cc53b778348c8d09f52461462", ()),
        ("V005", "settlement date", "8445c6370e7c2954b9eaf5c5d1ec58ffbdfc24efa66fc2d59ecda3402ab98c00", ()),
        (
            "V006",
            "control tables described anew",
            "d11cb8c8cebca099a483d4e42ac0d07f5f1d73ea3d7697eefd7e31f692e4254b",
            (),
        ),
        ("V007", "payload drift", "fb02ac78336acec2ab2105de6fe35580581361659b2190d3ec3c8965dee6d650", ()),
        ("V008", "kafka headers", "d411a2d8e708e91df809156ad1a963a8a5aa626e44110aec3cae13c029ba1dd8", ()),
    ]  # fmt: skip
    for migration in migrations.migrations():
        assert migration.is_recorded_as(migration.checksum)
        assert all(map(migration.is_recorded_as, migration.checksums_before))
        assert not migration.is_recorded_as("0" * 64)


def test_a_checksum_is_that_of_what_the_operations_say() -> None:
    text = (
        '[{"AddColumn":{"after":"exchange","column":{"ColumnDefinition":{"comment":"The trader\'s venue",'
        '"name":"venue","type":"string"}},"table":"silver.trades"}},'
        '{"CreateTable":{"columns":[{"ColumnDefinition":{"comment":"A note","name":"note","type":"string"}}],'
        '"comment":"Notes.","table":"_metadata.notes"}}]'
    )
    assert checksum(ADDED, CREATED) == "355665a56cce8c0b1a7928fbe659a18e1b761306b9d7dc6ec33bc3f715070de6"
    assert (
        hashlib.sha256(text.encode()).hexdigest() == "355665a56cce8c0b1a7928fbe659a18e1b761306b9d7dc6ec33bc3f715070de6"
    )


def test_operations_that_replace_say_what_they_replace() -> None:
    text = (
        '[{"MoveColumn":{"column":"venue","new":"price","old":"","table":"silver.trades"}},'
        '{"ChangeSortOrder":{"new":["venue"],"old":[],"table":"silver.trades"}},'
        '{"SetProperties":{"changes":[["a",null,"1"]],"table":"silver.trades"}}]'
    )
    replacing = (
        MoveColumn("silver.trades", "venue", FIRST, "price"),
        ChangeSortOrder("silver.trades", (), ("venue",)),
        SetProperties("silver.trades", (("a", None, "1"),)),
    )
    assert checksum(*replacing) == hashlib.sha256(text.encode()).hexdigest()


@pytest.mark.parametrize(
    "edited",
    [
        (CREATED, ADDED),
        (ADDED,),
        (replace(ADDED, table="silver.market_data"), CREATED),
        (replace(ADDED, after=None), CREATED),
        (replace(ADDED, after=FIRST), CREATED),
        (replace(ADDED, column=replace(VENUE, name="place")), CREATED),
        (replace(ADDED, column=replace(VENUE, type="int")), CREATED),
        (replace(ADDED, column=replace(VENUE, comment="Venue")), CREATED),
        (ADDED, replace(CREATED, partitioned_by=("note",))),
        (ADDED, replace(CREATED, properties=(("commit.retry.num-retries", "9"),))),
    ],
)
def test_any_edit_of_an_operation_changes_the_checksum(edited: tuple[Any, ...]) -> None:
    assert checksum(*edited) != checksum(ADDED, CREATED)


def one_thing(spark: object) -> None:
    raise NotImplementedError


def test_a_step_counts_by_its_name_whatever_its_code() -> None:
    assert checksum(Step("repair", lambda spark: None)) == checksum(Step("repair", one_thing))
    assert checksum(Step("repair", lambda spark: None)) != checksum(Step("mend", one_thing))


def test_a_migration_imports_nothing_that_may_change_its_meaning() -> None:
    """But for V002 and V005, whose steps call today's code; a step counts by its name alone."""
    allowed = {"lakehouse_spark.schema.operations", "lakehouse_spark.schema.policy"}
    imported = {}
    for module in sorted(Path(migrations.__path__[0]).glob("V*.py")):
        found = [
            node for node in ast.walk(ast.parse(module.read_text())) if isinstance(node, ast.Import | ast.ImportFrom)
        ]
        names = {node.module if isinstance(node, ast.ImportFrom) else node.names[0].name for node in found}
        imported[module.name[:4]] = not names <= allowed
    assert [version for version, is_more in imported.items() if is_more] == ["V002", "V005"]


def test_a_migration_without_a_number_of_its_own_or_behind_a_gap_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for names, reason in (
        (["V001__initial_schema", "V003__log_of_maintenance"], "V003__log_of_maintenance is where V002 is due"),
        (["V001__initial_schema", "V001__other"], "V001__other is where V002 is due"),
    ):
        found = [ModuleInfo(None, name, False) for name in names]  # type: ignore[arg-type]
        monkeypatch.setattr(pkgutil, "iter_modules", lambda _, found=found: found)
        with pytest.raises(ValueError, match=reason):
            migrations.migrations()


def test_an_operation_may_gain_a_field_without_changing_the_checksums_of_before() -> None:
    later = make_dataclass("AddColumn", ["table", "column", ("after", Any, None), ("default", Any, None)], frozen=True)
    assert checksum(later("silver.trades", VENUE, "exchange")) == checksum(ADDED)
    assert checksum(later("silver.trades", VENUE, "exchange", "XNAS")) != checksum(ADDED)


@pytest.mark.parametrize(("after", "position"), [("exchange", " AFTER `exchange`"), (FIRST, " FIRST"), (None, "")])
def test_a_column_is_added_with_its_comment_where_it_is_declared(after: str | None, position: str) -> None:
    assert ddl.statements(replace(ADDED, after=after)) == [
        rf"ALTER TABLE lake.silver.trades ADD COLUMN `venue` string COMMENT 'The trader\'s venue'{position}"
    ]


def test_a_created_table_has_the_properties_of_every_table_and_its_own() -> None:
    sorted_one = replace(
        CREATED, sorted_by=("note",), distribution="range", properties=(("read.split.target-size", "1"),)
    )
    assert ddl.statements(sorted_one) == [
        """CREATE TABLE IF NOT EXISTS lake._metadata.notes (
  `note` string COMMENT 'A note'
)
USING iceberg
COMMENT 'Notes.'
TBLPROPERTIES (
  'format-version' = '2',
  'write.format.default' = 'parquet',
  'write.parquet.compression-codec' = 'zstd',
  'write.parquet.dict-encoding.enabled' = 'true',
  'write.metadata.delete-after-commit.enabled' = 'true',
  'write.metadata.previous-versions-max' = '10',
  'commit.retry.num-retries' = '4',
  'commit.retry.min-wait-ms' = '100',
  'read.split.target-size' = '1',
  'write.distribution-mode' = 'range'
)""",
        "ALTER TABLE lake._metadata.notes WRITE ORDERED BY `note`",
    ]
