"""How far invariants are proved: what is kept of it, what a look at what is new proves, and how it is told."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from threading import Event
from typing import Any

import pytest
import typer

import lakehouse_spark
from lakehouse_spark import migrations, verify
from lakehouse_spark.catalog import BY_NAME
from lakehouse_spark.cli import commands, sessions
from lakehouse_spark.cli.results import of_proofs
from lakehouse_spark.settings import Settings
from lakehouse_spark.verify import FULL, NEW, NOTHING_NEW, Finding, Invariant, look, proof
from lakehouse_spark.verify.look import Look, Moment, Pin
from lakehouse_spark.verify.proof import Held, Proof
from tests.support.home import NOTHING, RAW, Home, at

MAY, JUNE = datetime(2025, 5, 1, 8, 30, tzinfo=UTC), datetime(2025, 6, 1, 12, tzinfo=UTC)
READ = {"silver.trades": Held(2**62, 3, 17), "dim.dim_time": Held(None, 0, 0)}
WHOLE = Proof(MAY, MAY, ("unique trade_id",), {"silver.trades": Held(1, 3, 2)})
KEYS = Proof(JUNE, MAY, ("unique trade_id",), READ)
NAME = ("keys_are_unique", "silver.trades")
BROKEN = "lakehouse.broken.keys_are_unique.silver.trades"


def written(
    found: Mapping[str, str],
    proved: Mapping[tuple[str, str], Proof | None],
    began: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """What is kept in June by a look that began as something else was kept, by default what is found now."""
    return proof.written(found, proved, found if began is None else began, JUNE)


def test_a_proof_is_kept_as_json_and_read_again() -> None:
    kept = written(written({}, {NAME: WHOLE}), {NAME: KEYS})
    assert [*kept] == ["lakehouse.proved.keys_are_unique"]
    assert json.loads(kept["lakehouse.proved.keys_are_unique"]) == {
        "program": proof.program(),
        "tables": {
            "silver.trades": {
                "at": "2025-06-01T12:00:00.000000+00:00",
                "in_full": "2025-05-01T08:30:00.000000+00:00",
                "checks": ["unique trade_id"],
                "read": {"dim.dim_time": [None, 0, 0], "silver.trades": [4611686018427387904, 3, 17]},
            }
        },
    }
    assert proof.told(kept) == {NAME: KEYS}


def test_what_is_proved_of_other_tables_stays_and_what_is_broken_is_forgotten() -> None:
    other, third = ("keys_are_unique", "gold.fact_trades"), ("files_exist", "silver.trades")
    kept = written({}, {NAME: WHOLE, third: WHOLE})
    kept = written(kept, {other: WHOLE, third: None})
    assert proof.told(kept) == {NAME: WHOLE, other: WHOLE}
    assert written(kept, {}) == kept


def test_a_proof_of_what_is_new_is_not_kept_without_the_one_that_it_builds_on() -> None:
    assert written({}, {NAME: KEYS}) == {}


def test_what_was_found_broken_since_a_look_began_is_not_proved_by_it() -> None:
    began = written({}, {NAME: WHOLE})
    broken = written(began, {NAME: None})
    assert broken == {BROKEN: "2025-06-01T12:00:00.000000+00:00"}
    for late in (WHOLE, KEYS):
        assert written(broken, {NAME: late}, began) == broken
    assert proof.told(written(broken, {NAME: WHOLE})) == {NAME: WHOLE}
    assert proof.told(written(written(broken, {NAME: WHOLE}), {NAME: KEYS})) == {NAME: KEYS}


def test_what_was_found_broken_just_as_another_kept_its_proofs_is_not_proved_by_these() -> None:
    other = ("keys_are_unique", "gold.fact_trades")
    began = written({BROKEN: "2025-05-01T08:00:00.000000+00:00"}, {NAME: WHOLE, other: WHOLE})
    kept = proof.changed(began, written(began, {NAME: replace(WHOLE, at=JUNE, in_full=JUNE)}))
    broken = proof.changed(began, written(began, {NAME: None}))
    assert [*kept] == ["lakehouse.proved.keys_are_unique"]
    for first, second in ((kept, broken), (broken, kept)):
        together = {name: said for name, said in {**began, **first, **second}.items() if said is not None}
        assert proof.told(together) == {other: WHOLE}


def test_what_goes_is_written_and_what_stays_is_not() -> None:
    assert proof.changed({"a": "1", "b": "2", "c": "3"}, {"a": "1", "b": "4"}) == {"b": "4", "c": None}


def test_what_another_program_proved_and_what_is_no_proof_at_all_counts_for_nothing() -> None:
    kept = written({}, {NAME: WHOLE})
    said = json.loads(kept["lakehouse.proved.keys_are_unique"])
    for told in (json.dumps({**said, "program": "0123"}), "{", "[]", json.dumps({**said, "tables": {"a": {}}})):
        assert proof.told({"lakehouse.proved.keys_are_unique": told}) == {}


def test_a_program_is_told_by_all_of_its_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gold").mkdir()
    (tmp_path / "gold" / "lots.py").write_text("FIFO = 1")
    (tmp_path / "__init__.py").touch()
    monkeypatch.setattr(lakehouse_spark, "__file__", str(tmp_path / "__init__.py"))
    before = proof.program.__wrapped__()
    (tmp_path / "gold" / "lots.py").write_text("FIFO = 2")
    assert len(before) == 16
    assert proof.program.__wrapped__() != before


def test_a_program_that_cannot_read_its_files_is_not_the_same_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lakehouse_spark, "__file__", "/nowhere/lakehouse.zip/lakehouse_spark/__init__.py")
    before = proof.program.__wrapped__()
    assert len(before) == 16
    assert proof.program.__wrapped__() != before


def test_what_was_found_broken_is_forgotten_though_another_check_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    kept, under_way = [], Event()

    def fails(looks: Sequence[Look]) -> Iterator[Finding]:
        assert under_way.wait(10)
        raise RuntimeError("out of memory")

    def broken(looks: Sequence[Look]) -> Iterator[Finding]:
        under_way.set()
        for each in looks:
            each.read[each.table.name] = Held(1, 0, 1)
            yield Finding("a", each.table.name, 1, "")

    monkeypatch.setattr(verify, "_moment", lambda *_: Moment(NOTHING, Settings(), JUNE, {}))
    monkeypatch.setattr(proof, "properties", lambda _: {})
    monkeypatch.setattr(proof, "keep", lambda _, proved, began: kept.append(dict(proved)))
    monkeypatch.setattr(verify, "CHECKS", [Invariant(check, (BY_NAME[RAW],)) for check in (fails, broken)])
    with pytest.raises(RuntimeError, match="out of memory"):
        verify.go_on(NOTHING, Settings())
    assert kept == [{("broken", RAW): None}]


def test_who_follows_is_read_before_whom_it_follows_and_dead_letters_behind_who_counts_them() -> None:
    names = ("bronze.raw_trades", "dim.dim_trader", "silver.trades", "silver._rejected_records", "gold.fact_trades")
    assert [table.name for table in look.sources_last([BY_NAME[name] for name in names])] == [
        "gold.fact_trades", "silver.trades", "dim.dim_trader", "silver._rejected_records", "bronze.raw_trades",
    ]  # fmt: skip


def test_metadata_of_a_schema_that_came_since_a_table_was_read_tell_nothing_of_its_columns(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    home.land(RAW, at(1))
    table = home.catalog.load_table(RAW)
    pin = Pin(NOTHING, BY_NAME[RAW], NOTHING)
    snapshot = table.metadata.current_snapshot_id
    vars(pin)["held"] = Held(snapshot, 0, 1)
    assert [*Moment(NOTHING, home.settings, JUNE, {RAW: pin}).metadata] == [RAW]
    with table.update_schema() as change:  # the two have changed places
        change.rename_column("_ingested_at", "_then")
        change.rename_column("_updated_at", "_ingested_at")
    assert Moment(NOTHING, home.settings, JUNE, {RAW: pin}).metadata == {}


HELD = Finding("a", "silver.trades", 0, "", "x", checked=FULL, proved_in_full=JUNE)


@pytest.mark.parametrize(
    ("findings", "lines"),
    [
        ([HELD, replace(HELD, proved_in_full=MAY)], ["proved in full at 2025-05-01 08:30:00 UTC"]),
        (
            [replace(HELD, checked=NEW), replace(HELD, checked=NOTHING_NEW), replace(HELD, checked=NOTHING_NEW)],
            [
                "2 of them have nothing new since they were proved, 1 were checked for what is new",
                "proved in full at 2025-06-01 12:00:00 UTC",
            ],
        ),
        (
            [HELD, replace(HELD, violations=1, proved_in_full=None)],
            ["proved in full at 2025-06-01 12:00:00 UTC, but for 1 of 2"],
        ),
        ([replace(HELD, violations=None, proved_in_full=None)], ["nothing is proved in full"]),
    ],
    ids=["the oldest counts", "what is new", "one is broken", "nothing yet"],
)  # fmt: skip
def test_the_last_line_says_when_all_was_proved(findings: list[Finding], lines: list[str]) -> None:
    assert [*of_proofs(findings)] == lines


def test_the_command_shows_what_it_checked_and_ends_with_since_when_all_is_proved(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = []

    def go_on(*given: Any, in_full: bool, report: Any) -> verify.Verified:
        asked.append(in_full)
        found = [replace(HELD, checked=NOTHING_NEW), replace(HELD, check="b", violations=2, proved_in_full=None)]
        for each in found:
            report(each)
        return verify.Verified(found, "what was proved is not kept: it is read-only")

    monkeypatch.setattr(sessions, "opened", lambda *_, **__: nullcontext((None, None)))
    monkeypatch.setattr(migrations, "require_current", lambda *_: None)
    monkeypatch.setattr(verify, "go_on", go_on)
    for full in (False, True):
        with pytest.raises(typer.Exit) as ended:
            commands.run_verify(full=full)
        assert ended.value.exit_code == 1
    said = capsys.readouterr()
    lines = said.out.splitlines()[: len(said.out.splitlines()) // 2]

    assert asked == [False, True]
    assert [" ".join(line.replace("│", "").split()) for line in lines[-4:]] == [
        "b silver.trades BROKEN",
        "1 invariants hold, 1 are broken",
        "1 of them have nothing new since they were proved, 0 were checked for what is new",
        "proved in full at 2025-06-01 12:00:00 UTC, but for 1 of 2",
    ]
    assert len(lines) == 6
    assert said.err.splitlines()[:2] == [
        "verify: silver.trades: b: ", "what was proved is not kept: it is read-only"
    ]  # fmt: skip
