"""The only SparkSession builder."""

import hashlib
import logging
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

from py4j.java_gateway import JavaClass, JavaMember
from py4j.protocol import Py4JError
from pyspark import SparkConf, SparkContext
from pyspark.errors import PySparkException
from pyspark.logger import PySparkLogger
from pyspark.sql import SparkSession
from pyspark.traceback_utils import SCCallSiteSync

from lakehouse_spark import jars
from lakehouse_spark.errors import LakehouseError, UsageError, in_a_sentence
from lakehouse_spark.lake import log
from lakehouse_spark.settings import (
    DEPLOY_MODE,
    PASSWORD_IN_A_URL,
    S3Settings,
    Settings,
    conf_dir,
    python_environment,
)
from lakehouse_spark.table import CATALOG

_QUIET_JAVA = Path(__file__).parent / "java"
# A job on one machine is over before most of what Java's second compiler makes has paid for itself; left at its
# defaults, that compiler takes half of the processor. It is to take what runs ten times as often as it would choose.
_COMPILER = (
    "-XX:Tier4InvocationThreshold=50000 -XX:Tier4MinInvocationThreshold=6000 "
    "-XX:Tier4CompileThreshold=150000 -XX:Tier4BackEdgeThreshold=400000"
)
# A broken record of Avro may say that an array of a billion follows, for which memory would be taken before it is read.
_AVRO = " ".join(
    f"-Dorg.apache.avro.limits.{what}.maxLength={most}"
    for what, most in (("bytes", 64 << 20), ("string", 64 << 20), ("collectionItems", 2 << 20))
)
_LOOKED_INTO_MOST = ("spark-sql_2.13", "spark-catalyst_2.13", "spark-core_2.13", "scala-library", "spark-sql-api_2.13")
_COMET = {
    "spark.plugins": "org.apache.spark.CometPlugin",
    "spark.shuffle.manager": "org.apache.spark.sql.comet.execution.shuffle.CometShuffleManager",
    "spark.memory.offHeap.enabled": "true",
    "spark.memory.offHeap.size": "2g",  # beside the heap: its memory is not the JVM's
}
ANYWHERE = "org.apache.iceberg.io.ResolvingFileIO"
"""As the catalog's io-impl: reads each file from where its path says, on S3 or in a folder."""
_REDACT = "(?i)secret|password|token|access[.-]?key|credential|sasl|jaas|api[.-]?key"


def open_session(
    settings: Settings, name: str, *, announce: Callable[[str], None] = lambda message: None
) -> SparkSession:
    """A session with the catalog `lake`; jars are fetched on first use unless spark-submit brought them.

    Under spark-submit the master, the memory and the jars are the submitter's choice.
    """
    if settings.catalog.type == "jdbc":
        try:
            settings.root.mkdir(parents=True, exist_ok=True)  # SQLite makes the file, not its folder
        except OSError as error:
            raise UsageError(f"LAKEHOUSE_HOME: {settings.root} cannot be a folder: {error.strerror}") from error
    builder = SparkSession.builder.appName(f"lakehouse {name}")
    for key, value in spark_conf(settings).items():
        builder = builder.config(key, value)
    if not is_submitted():
        # PySpark hands what it knows now to the JVM's command line, where any user can read it: so nothing secret yet.
        conf = SparkConf().setAll(list(launch_conf(settings, announce).items()))
        os.environ.update(python_environment())
        with _environment(launch_environment(settings)):
            SparkContext._ensure_initialized(conf=conf)
        if settings.spark.master:
            builder = builder.master(settings.spark.master)
    _quiet(settings)
    session = builder.getOrCreate()
    _remember_functions(session.sparkContext._jvm)
    session.sparkContext.setLogLevel(_log_level(settings))
    if is_local(settings) and not is_submitted():
        _lighten_hadoop(session)
    _open_catalog(session)
    _name_calls(session)
    return session


def _log_level(settings: Settings) -> str:
    """Errors are for operators of clusters and for who asks: what fails here, the job says in one sentence."""
    return "ERROR" if settings.debug or not is_local(settings) else "OFF"


def _quiet(settings: Settings) -> None:
    """Keeps PySpark and Py4J from printing what they raise as well, trace and all."""
    for name in ("SQLQueryContextLogger", "DataFrameQueryContextLogger"):
        PySparkLogger.getLogger(name).disabled = True  # as JSON
    if not settings.debug:
        logging.getLogger("py4j").setLevel(logging.CRITICAL)
        logging.getLogger().addFilter(_is_not_of_py4j)  # where the JVM dies, it logs as if it were no library


def _is_not_of_py4j(record: logging.LogRecord) -> bool:
    return Path(record.pathname).parent.name != "py4j"


_PLAIN = (str, int, float, bool, type(None))
_ASKED_FOR_A_LOT = (
    "functions",
    "PythonUtils",
    "PythonSQLUtils",
    "org.apache.iceberg.expressions.Expressions",
    "org.apache.iceberg.spark.Spark3Util",
    "org.apache.spark.sql.api.python.PythonSQLUtils",
    "org.apache.spark.sql.classic.SparkSession",
    "org.apache.spark.sql.expressions.Window",
    "org.apache.spark.sql.functions",
    "org.apache.spark.storage.StorageLevel",
)
"""To learn that a name is a class, the JVM looks for it in every jar, and for a short one once for each import."""


class _Remembered:
    """A Java class, whose static methods are looked up once each; columns and literals are made once too."""

    def __init__(self, java_class: JavaClass) -> None:
        self._class = java_class

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._class, name)
        if isinstance(found, JavaMember):
            found = _made_once(found) if name in ("col", "lit") else found
            setattr(self, name, found)
        return found

    def __call__(self, *arguments: Any) -> Any:
        return self._class(*arguments)


def _made_once(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Remembers what a function of one plain argument made: nothing of it ever changes."""
    # In a lambda: of a function of Java's, the cache would ask for its help.
    remembered = lru_cache(maxsize=10_000, typed=True)(lambda argument: function(argument))
    return lambda argument: remembered(argument) if type(argument) in _PLAIN else function(argument)


def _remember_functions(jvm: Any) -> None:
    """PySpark looks up the class and the method anew for every column that is made, in a question to the JVM each."""
    for name in _ASKED_FOR_A_LOT:
        found = getattr(jvm, name)
        if isinstance(found, JavaClass):
            setattr(jvm, name, _Remembered(found))


_OF_OTHER_ENGINES = r"^(mapreduce|yarn)[.]"
"""Two thirds of Hadoop's settings: 714 of 1,074."""
_STATISTICS = "org.apache.hadoop.fs.statistics.impl.IOStatisticsContextIntegration"
"""Adds up what each thread reads and writes, whenever a file is closed, in threads of its own; nobody asks."""


def _lighten_hadoop(session: SparkSession) -> None:
    """Takes from Hadoop's defaults what only MapReduce and YARN read.

    Whoever opens a Parquet file copies all settings, and every scan of a table is broadcast with them: where tables are
    small, that was a tenth of what a job costs. What a user set stays.
    """
    java, settings = session.sparkContext._jvm, session.sparkContext._jsc.hadoopConfiguration()
    assert java is not None
    # It looks for all kinds of file systems; of those, some bring defaults, and with theirs all others come anew.
    java.org.apache.hadoop.fs.FileSystem.getFileSystemClass("file", settings)
    configuration = java.java.lang.Class.forName("org.apache.hadoop.conf.Configuration")

    def names_in(field: str) -> Any:
        found = configuration.getDeclaredField(field)
        found.setAccessible(True)
        return found.get(settings).keySet()

    names = settings.getValByRegex(_OF_OTHER_ENGINES).keySet()
    names.removeAll(names_in("overlay"))
    for field in ("properties", "updatingResource"):  # the values, and where each came from; `unset` would add to these
        names_in(field).removeAll(names)
    are_counted = java.java.lang.Class.forName(_STATISTICS).getDeclaredField("isThreadIOStatsEnabled")
    are_counted.setAccessible(True)
    are_counted.setBoolean(None, False)


def _open_catalog(session: SparkSession) -> None:
    """Opens it before anyone asks for a table: Spark would take a catalog that does not open for none at all."""
    try:
        session._jsparkSession.sessionState().catalogManager().catalog(CATALOG)
    except (Py4JError, PySparkException) as error:
        raise LakehouseError(f"the catalog does not open (LAKEHOUSE_CATALOG__…): {in_a_sentence(error)}") from error


def join_session(spark: SparkSession) -> None:
    """Makes the session that of a new thread: what Spark does there would else look for one."""
    jvm = spark._jvm
    assert jvm is not None
    jvm.SparkSession.setActiveSession(spark._jsparkSession)
    _name_calls(spark)


def close_allocators(spark: SparkSession) -> None:
    """Closes what Iceberg's readers of Parquet allocated by, one allocator for each file: they never do, so that a
    session that stays would hold more of them with every file it reads (apache/iceberg#13937).

    For a moment at which nothing is read; while Spark works, they are left for the next one. Executors of a cluster
    keep theirs.
    """
    jvm = spark._jvm
    assert jvm is not None
    with suppress(Py4JError, OSError):  # one that still has memory says so, once the others are closed
        if list(spark.sparkContext.statusTracker().getActiveJobsIds()):
            return
        root = getattr(jvm, "org.apache.iceberg.arrow.ArrowAllocation").rootAllocator()
        closing = getattr(jvm, "org.apache.iceberg.shaded.org.apache.arrow.util.AutoCloseables")
        closing.close(root.getChildAllocators())


def _name_calls(spark: SparkSession) -> None:
    """Names what Spark runs for this thread, once: it would walk the stack for each RDD that it makes, to find a line
    of Java that is none of ours, and PySpark for each result, to find a line of Python."""
    for form in ("short", "long"):
        spark.sparkContext.setLocalProperty(f"callSite.{form}", "lakehouse")
    for step in ("__init__", "__enter__", "__exit__"):
        setattr(SCCallSiteSync, step, _do_nothing)


def _do_nothing(*given: object) -> None:
    pass


def is_submitted() -> bool:
    """Whether spark-submit started this process: it says where its own JVM listens."""
    return "PYSPARK_GATEWAY_PORT" in os.environ


def complain(said: object, level: str = log.INFO, **known: Any) -> None:
    """A line on stderr, also under spark-submit, which sends this process's own stderr to stdout; see `log.line`."""
    line = log.line(said, level, **known)
    if is_submitted():
        with suppress(Py4JError, OSError):  # the JVM may be what failed
            SparkContext._ensure_initialized()
            SparkContext._jvm.System.err.println(line)  # type: ignore[union-attr]
            return
    print(line, file=sys.stderr, flush=True)


def jar_paths(settings: Settings, announce: Callable[[str], None]) -> list[Path]:
    """The jars this profile's driver and executors need."""
    wanted = {
        "spark": True, "s3": has_tables_at_s3(settings), "comet": settings.spark.accelerator == "comet",
        "avro": settings.kafka.has_avro,
    }  # fmt: skip
    groups = [group for group, is_wanted in wanted.items() if is_wanted]
    found = jars.ensure(groups, settings.jar_cache, settings.java, announce=announce)
    return [path for group in groups for path in found[group]]


def launch_conf(
    settings: Settings, announce: Callable[[str], None] = lambda message: None, *, archived: bool = True
) -> dict[str, str]:
    """What has to be known before the JVM starts; stands on its command line, so nothing secret.

    With `archived`, it takes its classes from the start-up archive, if there is one.
    """
    conf = {
        "spark.driver.memory": settings.spark.driver_memory,
        # A session loads 60 MB of classes; by Java's default, some collections of the whole heap come on the way there.
        "spark.driver.extraJavaOptions": f"-Duser.timezone=UTC -XX:+UseParallelGC -XX:MetaspaceSize=128m {_AVRO}",
        "spark.executor.extraJavaOptions": f"-Duser.timezone=UTC {_AVRO}",
        # A piece of a topic's partition ends within what was fetched; nobody comes for the rest, which is soon dropped.
        "spark.kafka.consumer.fetchedData.cache.timeout": "30s",
        "spark.kafka.consumer.fetchedData.cache.evictorThreadRunInterval": "10s",
    }
    if settings.spark.accelerator == "comet":
        conf |= _COMET
    if not is_local(settings):
        conf["spark.jars"] = ",".join(map(str, jar_paths(settings, announce)))  # Spark takes them to the executors
    else:
        conf["spark.driver.extraClassPath"] = class_path(settings, announce)
        conf |= {"spark.driver.host": "127.0.0.1", "spark.driver.bindAddress": "127.0.0.1"}
        # Hadoop's own starts a process, chmod, for every file and folder that it makes, and for each checksum.
        conf["spark.hadoop.fs.file.impl"] = "com.globalmentor.apache.hadoop.fs.BareLocalFileSystem"
        log4j = (conf_dir() / "log4j2.properties").as_uri()
        conf["spark.driver.extraJavaOptions"] += f" -Dlog4j2.configurationFile={log4j}"
        conf["spark.driver.extraJavaOptions"] += f" -Dlakehouse.log={_log_level(settings)} {_COMPILER}"
        archive = startup_archive(settings, conf["spark.driver.extraClassPath"])
        # Of one that does not fit, as another Java's, it would speak, and then do without.
        if archived and archive.exists():
            conf["spark.driver.extraJavaOptions"] += f' -XX:SharedArchiveFile="{archive}" -Xlog:cds*=off'
    return conf | _chosen(settings)


def _chosen(settings: Settings) -> dict[str, str]:
    """What the settings say to Spark itself, but for where submitted drivers are: it is none of a session's business,
    whose driver is the process that opens it."""
    return {name: value for name, value in settings.spark.conf.items() if (name, value) != (DEPLOY_MODE, "cluster")}


def class_path(settings: Settings, announce: Callable[[str], None]) -> str:
    """What a JVM that is driver and executor at once is to look into first, all of Spark, and the other jars.

    It looks for a class, and Spark for the code of each function that it sends to a task, in one jar after the other,
    and Spark has 280 of them.
    """
    paths = jar_paths(settings, announce)
    often = [path for name in _LOOKED_INTO_MOST for path in jars.SPARK_JARS.glob(f"{name}-[0-9]*.jar")]
    iceberg = [path for path in paths if "iceberg-spark-runtime" in path.name]
    return os.pathsep.join(map(str, [*often, *iceberg, jars.SPARK_JARS / "*", *paths]))


def startup_archive(settings: Settings, class_path: str) -> Path:
    """Where `lakehouse warm-up` keeps the classes of these jars as a JVM has them in memory.

    To find, check and link them anew is a third of what a short command costs.
    """
    return settings.jar_cache / "startup" / f"{hashlib.sha256(class_path.encode()).hexdigest()[:16]}.jsa"


def launch_environment(settings: Settings) -> dict[str, str]:
    """What the launcher of the JVM reads: this Python, its own Spark whatever SPARK_HOME says, and a Java that fits.

    It starts that Java by a script that keeps it quiet, unless the settings ask for everything.
    """
    java_home = str(jars.find_java(settings.java).resolve().parent.parent)
    is_quiet = not settings.debug and os.access(_QUIET_JAVA / "bin" / "java", os.X_OK)
    quiet_comet = {} if settings.debug else {"COMET_LOG_LEVEL": "error"}  # it logs by itself, to stderr
    return {
        **python_environment(),
        **quiet_comet,
        "SPARK_HOME": str(jars.SPARK_JARS.parent),
        "JAVA_HOME": str(_QUIET_JAVA) if is_quiet else java_home,
        "LAKEHOUSE_JAVA_HOME": java_home,
    }


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    """Sets variables for as long as a child process is started."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value


def is_local(settings: Settings) -> bool:
    """Whether Spark runs in one JVM on this machine."""
    return (settings.spark.master or "").startswith("local")


def spark_conf(settings: Settings) -> dict[str, str]:
    """The session's configuration; secrets among it are redacted in every log and UI."""
    if settings.catalog.type == "rest" and not (settings.catalog.uri and settings.catalog.warehouse):
        raise UsageError(settings.lacks_server)
    catalog = f"spark.sql.catalog.{CATALOG}"
    conf = {
        "spark.sql.extensions": "org.apache.iceberg.spark.extensions.IcebergSparkSessionExtensions",
        catalog: "org.apache.iceberg.spark.SparkCatalog",
        f"{catalog}.type": settings.catalog.type,
        f"{catalog}.uri": settings.catalog_uri,
        f"{catalog}.warehouse": settings.warehouse,
        f"{catalog}.cache-enabled": "false",
        # What manifests say never changes, and a run looks into the same ones many times.
        f"{catalog}.io.manifest.cache-enabled": "true",
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.ansi.enabled": "true",
        "spark.sql.shuffle.partitions": str(settings.spark.shuffle_partitions),
        "spark.sql.streaming.forceDeleteTempCheckpointLocation": "true",
        "spark.ui.enabled": "false",
        # Fused into one stage, the parsing of a payload becomes methods too large for the JVM to compile, and anew for
        # every batch, whose stamps and offsets are written into them. Operator by operator it runs twice as fast.
        "spark.sql.codegen.wholeStage": "false",
        # PySpark looks for the line of the caller at every column that is made, in several questions to the JVM each.
        "spark.python.sql.dataFrameDebugging.enabled": "false",
        # Spark keeps the last 100 pieces of compiled code, fewer than one run of a job makes: each would be made anew,
        # and warm up anew, in every run.
        "spark.sql.codegen.cache.maxEntries": "5000",
        # What the optimizer infers about columns doubles with every alias of a CASE; a replay was planned for minutes.
        "spark.sql.constraintPropagation.enabled": "false",
        # To find what a join might prune, each of its columns is written out down to the tables: a payload's columns
        # took half of the planning. The jobs bound their looks into a table by literals, wherever those are few enough.
        "spark.sql.optimizer.dynamicPartitionPruning.enabled": "false",
        # A batch's stamp stays in the column that it was put in. Written out wherever that column is read, it would be
        # part of the code that reads the payloads, which would be made and compiled anew for every batch.
        "spark.sql.optimizer.excludedRules": "org.apache.spark.sql.catalyst.optimizer.FoldablePropagation",
        # The text of every plan, made for the event log: formatted, it takes as long as the planning itself.
        "spark.sql.ui.explainMode": "simple",
        "spark.sql.mapKeyDedupPolicy": "LAST_WIN",
        # A shuffle ends in as many tasks as its bytes are worth: Spark would keep all cores busy with a few rows each.
        "spark.sql.adaptive.coalescePartitions.parallelismFirst": "false",
        "spark.sql.adaptive.advisoryPartitionSizeInBytes": "8m",
        "spark.ui.showConsoleProgress": "false",
        "spark.redaction.regex": "|".join([_REDACT, PASSWORD_IN_A_URL, *map(re.escape, settings.catalog.secrets)]),
    }
    if is_local(settings):
        # Every table of a broadcast join, of ten rows or of thousands, takes a page, and keeps it while its plan lives.
        conf["spark.buffer.pageSize"] = "2m"
    if settings.catalog.type == "jdbc":
        conf[f"{catalog}.jdbc.schema-version"] = "V1"
    if has_tables_at_s3(settings):
        conf[f"{catalog}.io-impl"] = "org.apache.iceberg.aws.s3.S3FileIO"
        conf |= {f"{catalog}.{name}": value for name, value in _s3(settings.s3).items()}
    given = {**settings.catalog.properties, **settings.catalog.revealed()}
    conf |= {f"{catalog}.{option}": value for option, value in given.items()}
    return conf | _chosen(settings)


def has_tables_at_s3(settings: Settings) -> bool:
    """A REST catalog names its warehouse as it likes; what is behind it is S3. Files of ANYWHERE may be there too."""
    if settings.catalog.type == "rest" or settings.catalog.properties.get("io-impl") == ANYWHERE:
        return True
    return settings.warehouse.startswith(("s3:", "s3a:"))


def _s3(s3: S3Settings) -> dict[str, str]:
    """The settings of S3 as Iceberg spells them."""
    values = {
        "client.region": s3.region, "s3.path-style-access": str(s3.path_style_access).lower(),
        "s3.endpoint": s3.endpoint,
    }  # fmt: skip
    if s3.access_key_id and s3.secret_access_key:
        values["s3.access-key-id"] = s3.access_key_id.get_secret_value()
        values["s3.secret-access-key"] = s3.secret_access_key.get_secret_value()
    return {name: value for name, value in values.items() if value}
