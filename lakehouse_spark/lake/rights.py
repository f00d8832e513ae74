"""Whether the store and the catalog let us write, asked before a job works for what it could not keep.

Nothing is written to ask: an upload in parts that is begun and given up leaves no object, and no version of one; a
commit to a table that has another id than ours is refused by every catalog, of whoever may commit for that reason.
Only a refusal for lack of rights ends a job here. All else it meets where it works, and says there.
"""

import uuid
from contextlib import suppress
from typing import Any

from py4j.protocol import Py4JError, Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession

from lakehouse_spark.errors import LakehouseError, in_a_sentence, is_caused_by
from lakehouse_spark.lake.session import has_tables_at_s3
from lakehouse_spark.lake.snapshots import load
from lakehouse_spark.settings import Settings
from lakehouse_spark.table import Table

_MODEL = "software.amazon.awssdk.services.s3.model"
_UNAUTHORIZED, _FORBIDDEN = 401, 403


def require_writing(spark: SparkSession, settings: Settings, table: Table) -> None:
    """Raises LakehouseError where S3 or a REST catalog lets us read the table, and not write it; asks no one else."""
    if not has_tables_at_s3(settings):
        return
    try:
        iceberg = load(spark, table)
    except (Py4JError, PySparkException):  # it is missing, or cannot be read
        return
    _ask_store(spark, table, iceberg)
    if settings.catalog.type == "rest":
        _ask_catalog(spark, settings, table, iceberg)


def _ask_store(spark: SparkSession, table: Table, iceberg: Any) -> None:
    model, io = getattr(spark._jvm, _MODEL), iceberg.io()
    place = str(iceberg.location())
    if io.getClass().getSimpleName() != "S3FileIO":
        return
    bucket, _, folder = place.partition("://")[2].partition("/")
    name = f"{folder}/metadata/{uuid.uuid4()}-m0.avro"  # as a manifest: some stores take nothing else in a table
    client = io.client(place)
    try:
        begun = client.createMultipartUpload(
            model.CreateMultipartUploadRequest.builder().bucket(bucket).key(name).build()
        )
    except (Py4JJavaError, PySparkException) as error:
        if _status(error) in (_UNAUTHORIZED, _FORBIDDEN):
            raise LakehouseError(
                f"{table.name}: the store does not let us write to {place}: {in_a_sentence(error)}",
                "Let the key that LAKEHOUSE_S3__… names, or the catalog gives, write there, or name another one",
            ) from error
        return
    request = model.AbortMultipartUploadRequest.builder().bucket(bucket).key(name).uploadId(begun.uploadId())
    with suppress(Py4JError, PySparkException):
        client.abortMultipartUpload(request.build())


def _status(error: Py4JJavaError | PySparkException) -> int | None:
    """What the store answered with; None where it did not answer."""
    with suppress(AttributeError, Py4JError):  # as of a line that was cut, whose error has none
        return int(error.java_exception.statusCode())  # type: ignore[union-attr]
    return None


def _ask_catalog(spark: SparkSession, settings: Settings, table: Table, iceberg: Any) -> None:
    operations = iceberg.operations()
    ours = operations.current()
    metadata = getattr(spark._jvm, "org.apache.iceberg.TableMetadata")
    strangers = metadata.buildFrom(ours).assignUUID(str(uuid.uuid4())).discardChanges().build()
    try:
        operations.commit(strangers, ours)
    except (Py4JJavaError, PySparkException) as error:
        if is_caused_by(error, "ForbiddenException", "NotAuthorizedException"):
            raise LakehouseError(
                f"{table.name}: the catalog at {settings.catalog.uri} does not let us commit: {in_a_sentence(error)}",
                "Let who LAKEHOUSE_CATALOG__… names write there, or name another one",
            ) from error
