"""The catalog and the tables' metadata without Spark: for what only looks, and has no time to start a JVM."""

from collections.abc import Mapping
from urllib.parse import quote

from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import NoSuchTableError
from pyiceberg.io import FileIO
from pyiceberg.io.pyarrow import PyArrowFileIO
from pyiceberg.table import Table as IcebergTable
from pyiceberg.typedef import EMPTY_DICT, Properties

from lakehouse_spark.errors import LakehouseError, UsageError, in_a_sentence
from lakehouse_spark.iceberg import embedded
from lakehouse_spark.settings import S3Settings, Settings
from lakehouse_spark.table import CATALOG, Table


class LiteralPaths(PyArrowFileIO):
    """Takes the names of local files literally, as Iceberg writes them: `#` and `?` mean nothing in them."""

    @staticmethod
    def parse_location(location: str, properties: Properties = EMPTY_DICT) -> tuple[str, str, str]:
        if location.startswith("file:"):
            return "file", "", str(embedded.path(location))
        return PyArrowFileIO.parse_location(location, properties)


def open_catalog(settings: Settings, of_rest: Mapping[str, str] = EMPTY_DICT) -> Catalog:
    """The catalog that the settings name, to be read; raises MissingError where there is none. `of_rest` are properties
    that a REST catalog is opened with."""
    try:
        return _embedded(settings) if settings.catalog.type == "jdbc" else _rest(settings, of_rest)
    except LakehouseError:
        raise
    except Exception as error:
        raise LakehouseError(f"the catalog does not open (LAKEHOUSE_CATALOG__…): {in_a_sentence(error)}") from error


def load(catalog: Catalog, table: Table) -> IcebergTable:
    """A table as the catalog holds it now; raises MissingError where it is missing."""
    try:
        return catalog.load_table(tuple(table.name.split(".")))
    except NoSuchTableError:
        raise embedded.MissingError(f"{table.name} is missing: {embedded.NOT_THERE}") from None


def file_io(settings: Settings) -> FileIO:
    """What reads the files of an embedded catalog's tables."""
    return LiteralPaths(dict(_s3(settings.s3)))


def make_catalog(settings: Settings) -> Catalog:
    """The same catalog to be written; an embedded one is made where it is missing."""
    if settings.catalog.type != "jdbc":
        return open_catalog(settings)
    file = embedded.database(settings)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        return _sql(settings, mode="rwc", is_new=True)
    except Exception as error:
        raise LakehouseError(f"the catalog {file} cannot be made: {in_a_sentence(error)}") from error


def _embedded(settings: Settings) -> Catalog:
    embedded.locations(settings)  # which tells of one that is not there, or cannot be read
    return _sql(settings, mode="rw", is_new=False)


def _sql(settings: Settings, mode: str, is_new: bool) -> Catalog:
    from pyiceberg.catalog.sql import SqlCatalog

    path = quote(quote(str(embedded.database(settings))))  # SQLAlchemy takes one of them off, SQLite the other
    return SqlCatalog(
        CATALOG,
        uri=f"sqlite:///file:{path}?mode={mode}&uri=true&timeout=30",
        warehouse=settings.warehouse,
        init_catalog_tables=str(is_new).lower(),
        **{"py-io-impl": f"{__name__}.{LiteralPaths.__name__}", **_s3(settings.s3)},
    )


def _rest(settings: Settings, properties: Mapping[str, str]) -> Catalog:
    from pyiceberg.catalog.rest import SIGV4, RestCatalog

    if not (settings.catalog.uri and settings.catalog.warehouse):
        raise UsageError(settings.lacks_server)
    given = {
        "uri": str(settings.catalog.uri), "warehouse": settings.warehouse, **_s3(settings.s3), **properties,
        **settings.catalog.properties, **settings.catalog.revealed(),
    }  # fmt: skip
    if given.get("rest.auth.type") == "sigv4" or given.get(SIGV4) == "true":
        from lakehouse_spark.iceberg.sigv4 import SignedCatalog

        return SignedCatalog(CATALOG, **{**given, SIGV4: "true"})
    return RestCatalog(CATALOG, **given)


def _s3(s3: S3Settings) -> Mapping[str, str]:
    """The settings of S3 as PyIceberg spells them."""
    values = {"s3.region": s3.region, "s3.endpoint": s3.endpoint}
    values["s3.force-virtual-addressing"] = str(not s3.path_style_access).lower()
    if s3.access_key_id and s3.secret_access_key:
        values["s3.access-key-id"] = s3.access_key_id.get_secret_value()
        values["s3.secret-access-key"] = s3.secret_access_key.get_secret_value()
    return {name: value for name, value in values.items() if value}
