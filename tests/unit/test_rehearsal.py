"""The copy of a lakehouse's metadata on which migrations are rehearsed."""

from pathlib import Path

import pytest

from lakehouse_spark.cli import migrate
from lakehouse_spark.errors import RefusedError, UsageError
from lakehouse_spark.iceberg import copies, pyiceberg
from lakehouse_spark.lake import session
from lakehouse_spark.settings import CatalogSettings, S3Settings, Settings, SparkSettings
from tests.support.lakehouses import unpack


def test_a_copy_has_its_own_places_and_no_metadata_file_of_before(tmp_path: Path) -> None:
    home, folder = tmp_path / "home", tmp_path / "rehearsal"
    unpack("7e782d6", home)
    original = pyiceberg.open_catalog(Settings(home=home)).load_table("silver.trades")
    with original.transaction() as transaction:
        transaction.set_properties({"write.data.path": "s3://elsewhere/", "write.metadata.path": "file:/elsewhere"})

    copy = pyiceberg.open_catalog(copies.stage(Settings(home=home), folder)).load_table("silver.trades")

    original = original.refresh()
    assert copy.location() == f"file://{folder}/warehouse/silver/trades"
    assert copy.metadata.properties == {
        **{name: value for name, value in original.properties.items() if "path" not in name}, "gc.enabled": "false"
    }  # fmt: skip
    assert (len(original.metadata.metadata_log) > 0, copy.metadata.metadata_log) == (True, [])
    assert copy.metadata.snapshots == original.metadata.snapshots
    assert copy.metadata.refs == original.metadata.refs
    assert copy.scan().to_arrow().num_rows == 12


def test_a_copy_of_tables_on_s3_reads_there_and_writes_into_the_folder(tmp_path: Path) -> None:
    unpack("7e782d6", tmp_path / "home")
    properties = {"s3.sse.type": "s3", "header.x": "y", "io-impl": "org.apache.iceberg.aws.s3.S3FileIO"}
    settings = Settings(
        home=tmp_path / "home",
        catalog=CatalogSettings(warehouse="s3://warehouse/", properties=properties),
        s3=S3Settings(endpoint="http://127.0.0.1:1"),
    )
    conf = session.spark_conf(copies.stage(settings, tmp_path / "rehearsal"))
    catalog = {name.removeprefix("spark.sql.catalog.lake."): value for name, value in conf.items()}
    assert catalog["io-impl"] == "org.apache.iceberg.io.ResolvingFileIO"
    assert catalog["s3.endpoint"] == "http://127.0.0.1:1"
    assert catalog["s3.sse.type"] == "s3"
    assert "header.x" not in catalog
    assert catalog["warehouse"] == f"file://{tmp_path}/rehearsal/warehouse"
    assert catalog["uri"].startswith(f"jdbc:sqlite:{tmp_path}/rehearsal/catalog.db?")


def test_no_setting_of_spark_leads_a_rehearsal_back_to_the_lakehouse(tmp_path: Path) -> None:
    unpack("7e782d6", tmp_path / "home")
    conf = {"spark.sql.catalog.lake.uri": "jdbc:sqlite:/elsewhere", "spark.sql.shuffle.partitions": "3"}
    settings = Settings(home=tmp_path / "home", spark=SparkSettings(master="spark://cluster:7077", conf=conf))
    staged = copies.stage(settings, tmp_path / "rehearsal")
    found = session.spark_conf(staged)
    assert found["spark.sql.catalog.lake.uri"].startswith(f"jdbc:sqlite:{tmp_path}/rehearsal/catalog.db?")
    assert (staged.spark.master, found["spark.sql.shuffle.partitions"]) == ("local[*]", "3")


def test_without_a_lakehouse_there_is_nothing_to_rehearse(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"^there is no lakehouse here yet; run: lakehouse migrate$"):
        copies.stage(Settings(home=tmp_path / "none"), tmp_path / "rehearsal")


def test_what_was_rehearsed_is_kept_with_a_word_where_it_failed(capsys: pytest.CaptureFixture[str]) -> None:
    with migrate.kept_if_it_fails("rehearsal-") as done:
        (done / "file").touch()
    assert not done.exists()
    for error in (RefusedError("no"), UsageError("no")):
        with pytest.raises(type(error)), migrate.kept_if_it_fails("rehearsal-") as refused:
            raise error
        assert not refused.exists()
    assert capsys.readouterr().err == ""
    with pytest.raises(ZeroDivisionError), migrate.kept_if_it_fails("rehearsal-") as failed:
        raise ZeroDivisionError
    assert failed.is_dir()
    failed.rmdir()
    assert capsys.readouterr().err == f"what was rehearsed is kept in {failed}\n"
