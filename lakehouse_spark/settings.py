"""conf + environment → frozen Settings.

A profile is a file `conf/<profile>.yaml`; `LAKEHOUSE_*` variables override it (`LAKEHOUSE_KAFKA__BOOTSTRAP_SERVERS`).
Secrets come from the environment or from a file each (LAKEHOUSE_SECRETS_DIR), never from a profile or the command line.
"""

import json
import os
import re
import sys
from base64 import b64encode
from collections.abc import Iterator, Mapping
from contextlib import suppress
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import parse_qsl, quote, urlsplit

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SecretsSettingsSource,
    SettingsConfigDict,
    SettingsError,
    YamlConfigSettingsSource,
)

from lakehouse_spark.errors import UsageError, hide_by

_PREFIX = "LAKEHOUSE_"
DEPLOY_MODE = "spark.submit.deployMode"
TARGET = "LAKEHOUSE_TO_"
"""With which variables begin that say where a lakehouse is moved to: the same settings, and none of the others'."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class CatalogSettings(_Part):
    type: Literal["jdbc", "rest"] = "jdbc"
    """The embedded catalog, tables of a database, or an Iceberg REST server."""
    uri: str | None = None
    """Where the catalog is; by default catalog.db in LAKEHOUSE_HOME."""
    warehouse: str | None = None
    """Where the tables' files are (a folder, s3://bucket/, or the name a REST server has for it); by default the
    folder warehouse in LAKEHOUSE_HOME."""
    credential: SecretStr | None = None
    """OAuth2 client id and secret for a REST server, as id:secret."""
    token: SecretStr | None = None
    """A bearer token for a REST server."""
    properties: Mapping[str, str] = {}
    """Properties of the catalog passed through to Iceberg."""
    secrets: Mapping[str, SecretStr] = {}
    """Properties of the catalog that are secret (jdbc.password, header.X-Api-Key …)."""

    def revealed(self) -> dict[str, str]:
        """What is secret, in clear, as Iceberg names it: never to be logged."""
        named = {"credential": self.credential, "token": self.token, **self.secrets}
        return {name: secret.get_secret_value() for name, secret in named.items() if secret is not None}


class S3Settings(_Part):
    endpoint: str | None = None
    """The S3 server, where it is not AWS."""
    region: str = "us-east-1"
    """The region that requests are signed for."""
    path_style_access: bool = True
    """Whether the bucket stands in the path, as most servers but AWS want it, and not in the host's name."""
    access_key_id: SecretStr | None = None
    """Without the two keys, AWS's own chain is asked: instance profile, web identity, …"""
    secret_access_key: SecretStr | None = None
    """See LAKEHOUSE_S3__ACCESS_KEY_ID."""


class KafkaSettings(_Part):
    bootstrap_servers: str | None = None
    """The brokers, host:port each, by commas; without any, the local profile starts a broker of its own."""
    topics: Mapping[str, str] = {}
    """Kafka topic of a bronze table, where it is not the table's own name."""
    options: Mapping[str, str] = {}
    """Kafka client options passed through (security.protocol, sasl.mechanism, ssl.truststore.location …)."""
    secrets: Mapping[str, SecretStr] = {}
    """Kafka client options that are secret (sasl.jaas.config, ssl.truststore.password …)."""
    formats: Mapping[str, Literal["json", "avro", "json_schema"]] = {}
    """What the records of a bronze table are, where not plain JSON (json): avro or json_schema, as the serializers of a
    schema registry frame them."""
    headers: tuple[str, ...] = ()
    """The bronze tables whose records keep their Kafka headers (raw_trades …), as they were sent, secrets included."""

    @property
    def has_avro(self) -> bool:
        """Whether the schemas of any records are needed to read them."""
        return "avro" in self.formats.values()


class RegistrySettings(_Part):
    url: str | None = None
    """The schema registry that knows the schemas of records in Avro (Confluent's, or one with its REST interface)."""
    credential: SecretStr | None = None
    """User and password for it, as user:password."""
    token: SecretStr | None = None
    """A bearer token for it, in place of a user."""
    ca_file: Path | None = None
    """The certificates (PEM) that vouch for it, in place of the system's."""
    patience_seconds: float = Field(default=60, ge=0)
    """How long a job waits for one that does not answer, or that fails, before it gives up."""

    @field_validator("url")
    @classmethod
    def _is_http(cls, url: str | None) -> str | None:
        if url is not None and not url.startswith(("http://", "https://")):
            raise ValueError("expected http://… or https://…")
        if url is not None and "@" in urlsplit(url).netloc:
            raise ValueError("user and password belong in LAKEHOUSE_REGISTRY__CREDENTIAL")
        return url


class SparkSettings(_Part):
    master: str | None = "local[*]"
    """Where Spark runs; null leaves it to spark-submit."""
    driver_memory: str = "3g"
    """Heap of the driver's JVM; a job's wrapper has its own default."""
    shuffle_partitions: int = Field(default=4, ge=1)
    """How many tasks a shuffle ends in."""
    tables_at_once: int = Field(default=2, ge=1)
    """How many tables of a layer a job brings up to date side by side; each takes memory of its own."""
    accelerator: Literal["comet"] | None = None
    """Runs what it can of Spark's plans as native code, DataFusion Comet (Linux only), which took longer for a million
    events on two cores; null: Spark does all."""
    conf: Mapping[str, str] = {}
    """Settings of Spark's that win over the project's."""


class IngestSettings(_Part):
    max_record_bytes: int = Field(default=1_048_576, ge=1)
    """Larger records are kept in bronze but not parsed."""
    max_offsets_per_trigger: int = Field(default=2_000_000, ge=1)
    """Records of a topic that one commit to bronze takes at most."""
    trigger_seconds: float = Field(default=10, gt=0)
    """How often a continuous bronze_writer commits."""


class DimTimeSettings(_Part):
    years: tuple[Annotated[int, Field(ge=1, le=9999)], ...] = ()
    """Calendar years that a new lakehouse starts with, in UTC; none: last year and this one. Facts bring theirs."""


class GoldSettings(_Part):
    commission_bps: Decimal = Field(default=Decimal(1), ge=0)
    """Commission of a trade whose payload names none, in hundredths of a percent of its value."""
    large_trade_quantity: int = Field(default=10_000, ge=1)
    """A trade of as many shares is a large one."""
    large_trade_value: Decimal = Field(default=Decimal(200_000), gt=0)
    """A trade of this value is a large one too."""


class PolicySettings(_Part):
    """What of a table's declared policy is changed; see `table.Policy`."""

    snapshot_days: int | None = Field(default=None, ge=0)
    """Snapshots younger than this are kept."""
    min_snapshots: int | None = Field(default=None, ge=1)
    """The newest snapshots, kept however old they are."""
    max_snapshots: int | None = Field(default=None, ge=1)
    """As many snapshots are kept at most, however young they are."""
    row_days: int | None = Field(default=None, ge=1)
    """Rows of bronze are kept for so many days of event time."""
    target_file_bytes: int | None = Field(default=None, ge=1)
    """What compaction makes files as large as."""
    min_input_files: int | None = Field(default=None, ge=2)
    """Compaction takes up a partition with as many files that are too small, or of deletes."""
    settle_minutes: int | None = Field(default=None, ge=0)
    """A partition that was written to within this time is left alone."""
    orphan_days: int | None = Field(default=None, ge=0)
    """A file that no snapshot knows is debris once it is older than this."""


class MaintenanceSettings(_Part):
    layers: Mapping[str, PolicySettings] = {}
    """Changes of the declared policies by layer (bronze, silver, gold, dim, _metadata)."""
    tables: Mapping[str, PolicySettings] = {}
    """Changes of the declared policies by table, which win over those of its layer."""
    longest_write_hours: float = Field(default=24, gt=0)
    """No commit takes longer, from its first file to its end: what is older and unfinished was left by a job that died,
    and no file that is younger is taken for debris."""
    lease_minutes: float = Field(default=30, gt=0, le=120)
    """For how long a maintenance job that says nothing more holds its tables."""
    concurrent_rewrites: int = Field(default=4, ge=1)
    """Groups of files that compaction rewrites at once."""
    orphan_share: float = Field(default=0.2, ge=0, le=1)
    """An orphan_cleanup that would take a larger share of a table's files is refused."""
    urgent_snapshots: int = Field(default=5_000, ge=1)
    """For a table of more snapshots a sensor of Dagster's asks for maintenance between its times."""
    urgent_small_files: int = Field(default=1_000, ge=1)
    """So it does for one of more files, where they are small."""


_Mode = Annotated[
    Literal["off", "warn", "enforce"],
    BeforeValidator(lambda mode: "off" if mode is False else mode),  # as YAML reads a bare off
]


class TableAuditSettings(_Part):
    """What is different for one table."""

    mode: _Mode | None = None
    """See LAKEHOUSE_AUDIT__MODE."""
    checks: Mapping[str, str] = {}
    """More checks, by a name: conditions in SQL that every written row has to meet; NULL is not false."""
    queries: Mapping[str, str] = {}
    """Questions in SQL about the table as it would be, by a name; the rows that they answer with break them. `{staged}`
    is the table, and a source of it in braces, as `{silver.trades}`, that source as it was consumed."""
    most_changed: float | None = Field(default=None, ge=0, le=1)
    """A commit may change or delete this share of the table's rows."""


class AuditSettings(_Part):
    mode: _Mode = "enforce"
    """What becomes of a commit that breaks a check of its table: it is held back (enforce), or that is told alone
    (warn), or nothing is checked (off)."""
    tables: Mapping[str, TableAuditSettings] = {}
    """By table, a mode of its own, more `checks` (conditions in SQL on a row, by a name), `queries` about the table as
    it would be, and the share of its rows that a commit may change (`most_changed`)."""
    keep_days: float = Field(default=14, gt=0)
    """A commit that is held back for so long without a word is dropped, and its job tries again."""


class LiveSettings(_Part):
    lease_minutes: float = Field(default=10, gt=0, le=120)
    """For how long a live mode that says nothing more keeps others from working, and a continuous bronze_writer its
    tables from the beats of one."""


class LogSettings(_Part):
    format: Literal["text", "json"] = "text"
    """Lines for people, or a JSON object a line, with job, table, snapshot and cursor, a line for each commit too."""


class MetricsSettings(_Part):
    port: int | None = Field(default=None, ge=0, le=65535)
    """Where live mode and a continuous bronze_writer answer Prometheus, at /metrics; without one they do not."""
    address: str = "127.0.0.1"
    """The address that they listen on."""
    textfile_dir: Path | None = None
    """Where the other jobs keep lakehouse.prom for node-exporter's textfile collector: a folder for each lakehouse."""
    refresh_seconds: float = Field(default=60, ge=1)
    """How often the tables are looked at for what metrics and alerts say of them."""


class AlertSettings(_Part):
    webhook_url: SecretStr | None = None
    """Where live mode and a continuous bronze_writer post alerts as JSON; without one they post none."""
    lag_seconds: float = Field(default=3_600, gt=0)
    """A table is late once something has waited for it as long; the sensors of Dagster go by this too."""
    rejected_share: float = Field(default=0.05, ge=0, le=1)
    """Of the records that silver judged in an hour, or for Dagster since its last look, this share may be rejected."""

    @field_validator("webhook_url")
    @classmethod
    def _is_http(cls, url: SecretStr | None) -> SecretStr | None:
        return _http(url)


class OpenLineageSettings(_Part):
    file: Path | None = None
    """A file to which each commit adds an event of OpenLineage; for these the extra openlineage has to be installed."""
    url: SecretStr | None = None
    """A server of OpenLineage's to which each commit posts an event."""
    api_key: SecretStr | None = None
    """What the server wants as a bearer token."""

    @field_validator("url")
    @classmethod
    def _is_http(cls, url: SecretStr | None) -> SecretStr | None:
        return _http(url)


def _http(url: SecretStr | None) -> SecretStr | None:
    if url is not None and not url.get_secret_value().startswith(("http://", "https://")):
        raise ValueError("expected http://… or https://…")
    return url


class Settings(BaseSettings):
    """Everything a job needs to know about where it runs."""

    model_config = SettingsConfigDict(
        env_prefix=_PREFIX,
        env_nested_delimiter="__",
        frozen=True,
        extra="forbid",
        nested_model_default_partial_update=True,
    )

    profile: str = "local"
    """The file of settings to begin with: local, docker, cluster, or one of your own in LAKEHOUSE_CONF_DIR."""
    debug: bool = False
    """Traces of what fails, Python's and Spark's, on stderr before the sentence that says it."""
    home: Path = Path(".lakehouse")
    """The folder of the embedded lakehouse: catalog.db, warehouse, the demo's Kafka, report.html."""
    cache: Path | None = None
    """Where jars are kept once fetched; by default lakehouse-spark in the user's cache folder."""
    conf_dir: Path | None = None
    """A folder of profiles, jar locks and reference data in place of the package's own."""
    java_home: Path | None = None
    """The Java to run, 17 or 21; by default JAVA_HOME, then the path."""
    catalog: CatalogSettings = CatalogSettings()
    s3: S3Settings = S3Settings()
    kafka: KafkaSettings = KafkaSettings()
    registry: RegistrySettings = RegistrySettings()
    spark: SparkSettings = SparkSettings()
    ingest: IngestSettings = IngestSettings()
    dim_time: DimTimeSettings = DimTimeSettings()
    gold: GoldSettings = GoldSettings()
    maintenance: MaintenanceSettings = MaintenanceSettings()
    audit: AuditSettings = AuditSettings()
    live: LiveSettings = LiveSettings()
    log: LogSettings = LogSettings()
    metrics: MetricsSettings = MetricsSettings()
    alerts: AlertSettings = AlertSettings()
    openlineage: OpenLineageSettings = OpenLineageSettings()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        prefix = str(settings_cls.model_config["env_prefix"])
        given = init_settings().get("profile") or os.environ.get(f"{prefix}PROFILE", "local")
        profile = YamlConfigSettingsSource(settings_cls, yaml_file=_profile_file(f"{prefix}PROFILE", given))
        if prefix == TARGET:  # the files are named as they will be once the lakehouse works there
            folder = os.environ.get(f"{TARGET}SECRETS_DIR")
            file_secret_settings = SecretsSettingsSource(settings_cls, folder, env_prefix=_PREFIX)
        return init_settings, env_settings, file_secret_settings, profile

    @property
    def root(self) -> Path:
        """`home`, absolute."""
        return self.home.expanduser().resolve()

    @property
    def jar_cache(self) -> Path:
        if self.cache:
            return self.cache.expanduser()
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lakehouse-spark"

    @property
    def java(self) -> str | None:
        return str(self.java_home) if self.java_home else os.environ.get("JAVA_HOME")

    @property
    def catalog_uri(self) -> str:
        if self.catalog.uri:
            return self.catalog.uri
        if "?" in str(self.root):  # what follows would be taken for parameters, and another file be made
            raise UsageError(f"LAKEHOUSE_HOME: {self.root} has a question mark in its name")
        return f"jdbc:sqlite:{self.root / 'catalog.db'}?journal_mode=WAL&busy_timeout=30000"

    @property
    def warehouse(self) -> str:
        return self.catalog.warehouse or f"file://{self.root}/warehouse"

    @property
    def lacks_server(self) -> str:
        """What is to be said where a REST catalog has no address or no warehouse."""
        return f"profile {self.profile}: a REST catalog needs LAKEHOUSE_CATALOG__URI and LAKEHOUSE_CATALOG__WAREHOUSE"

    @property
    def in_cluster_mode(self) -> bool:
        """Whether spark-submit is to start drivers elsewhere than on this machine."""
        return self.spark.conf.get(DEPLOY_MODE) == "cluster"

    @property
    def scratch(self) -> Path:
        """Checkpoints of running streams; nothing in it outlives its run."""
        return self.root / "scratch"

    def topic(self, table: str) -> str:
        return self.kafka.topics.get(table, table)

    def kafka_options(self) -> dict[str, str]:
        """Options for every Kafka client, secrets in clear: never to be logged."""
        secrets = {name: secret.get_secret_value() for name, secret in self.kafka.secrets.items()}
        return {**self.kafka.options, **secrets}

    def without_secrets(self, text: str) -> str:
        """The text with *** where it repeats a secret, or a part of one that is secret by itself, as it is or as
        others write it: for what is kept, told, or sent away."""
        whole = {*_secrets(self), *_passwords(self.catalog.uri or "")}
        parts = {part for secret in whole for part in (secret, *_parts(secret)) if len(part) >= _SHORTEST_SECRET}
        for written in sorted({each for part in parts for each in _written(part)}, key=len, reverse=True):
            text = text.replace(written, "***")
        return text


_SHORTEST_SECRET = 4
"""A shorter one would be found in words."""


PASSWORD_IN_A_URL = r"(?i:password|pwd)=([^&;]+)|//[^/:@]*:([^@]+)@|:thin:[^/@]+/([^@]+)@"
"""As databases are told it; of the first it is what stands behind the name."""


_NAMED = re.compile(r"""(?i)\w*(?:password|secret|token|key)\s*=\s*(?:"([^"]*)"|'([^']*)'|([^\s"';&,]+))""")
"""What is secret in the options of a login module of Java's, beside who logs in and how."""


def _parts(secret: str) -> Iterator[str]:
    """What is secret by itself in a secret: passwords in options, the end of id:secret, all of an address but where it
    leads."""
    yield from (value for found in _NAMED.findall(secret) for value in found if value.lower() not in ("true", "false"))
    if "://" in secret:
        yield from _passwords(secret)
        with suppress(ValueError):
            url = urlsplit(secret)
            yield from (url.path, f"{url.path}?{url.query}" if url.query else "")
            yield from (value for _, value in parse_qsl(url.query))
    elif " " not in secret:
        yield secret.partition(":")[2]


def _written(secret: str) -> Iterator[str]:
    """As it is; on one line, as our sentences are; in JSON; in an address; and as a header of HTTP has it."""
    yield from (secret, " ".join(secret.split()), json.dumps(secret)[1:-1], quote(secret, safe=""))
    yield b64encode(secret.encode()).decode()


def _passwords(url: str) -> Iterator[str]:
    for found in re.findall(PASSWORD_IN_A_URL, url):
        yield from filter(None, found)


def _secrets(part: object) -> Iterator[str]:
    match part:
        case SecretStr():
            yield part.get_secret_value()
        case BaseModel():
            for name in type(part).model_fields:
                yield from _secrets(getattr(part, name))
        case Mapping():
            for value in part.values():
                yield from _secrets(value)


_OF_A_SERVICE = re.compile(r"_(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|PORT(_\d+_[A-Z]+(_[A-Z]+)?)?)$")


def conf_dir() -> Path:
    """The folder of profiles, lock file and reference data: LAKEHOUSE_CONF_DIR, else the package's own."""
    given = os.environ.get("LAKEHOUSE_CONF_DIR")
    return Path(given) if given else Path(__file__).resolve().parent / "conf"


def load() -> Settings:
    """The settings of this process, whose secrets it does not say from here on; raises UsageError with one line per
    wrong setting."""
    return _loaded(Settings, _PREFIX, _secrets_dir=os.environ.get(f"{_PREFIX}SECRETS_DIR"))


class _TargetSettings(Settings):
    model_config = SettingsConfigDict(env_prefix=TARGET)


def load_target(profile: str | None = None, home: Path | None = None) -> Settings:
    """The settings of the place that a lakehouse is moved to, like `load`; what is given here wins over variables."""
    given = {"profile": profile, "home": home}
    return _loaded(_TargetSettings, TARGET, **{name: value for name, value in given.items() if value is not None})


def _loaded(kind: type[Settings], prefix: str, **given: Any) -> Settings:
    secret_files(os.environ.get(f"{prefix}SECRETS_DIR"), f"{prefix}SECRETS_DIR")
    known = _names(prefix) | {f"{prefix}SECRETS_DIR"}
    named = [name for name in os.environ if name.startswith(prefix) and name.startswith(TARGET) == (prefix == TARGET)]
    strange = [name for name in named if name.split("__")[0] not in known and not _is_of_a_service(name)]
    if strange:
        raise UsageError(f"unknown settings in the environment: {', '.join(sorted(strange))}; known: {sorted(known)}")
    try:
        loaded = kind(**given)
    except ValidationError as error:
        lines = [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors(include_input=False)]
        raise UsageError("wrong settings: " + "; ".join(lines)) from None
    except SettingsError as error:  # it does not repeat the value
        raise UsageError(f"wrong settings: {error}: {error.__cause__}") from None
    hide_by(prefix, loaded.without_secrets)
    return loaded


def secret_files(folder: str | None, variable: str) -> dict[str, Path]:
    """The files of a folder of secrets that are settings, by the names of these.

    Raises UsageError for what would be passed over: a folder that is none, a link that leads out of it.
    """
    if folder is None:
        return {}
    place = Path(folder).expanduser()
    if not place.is_dir():
        raise UsageError(f"{variable}: {folder} is no folder")
    names = _names()
    named = {file.name.upper(): file for file in sorted(place.iterdir()) if file.name.upper() in names}
    for file in named.values():
        if not file.is_file() or not file.resolve().is_relative_to(place.resolve()):
            raise UsageError(f"{variable}: {file} is no file of that folder")
    return named


def _names(prefix: str = _PREFIX) -> set[str]:
    """The variables of all settings; what is within one stands behind two underscores."""
    return {prefix + name.upper() for name in Settings.model_fields}


def of_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables that are settings."""
    names = _names()
    return {name: value for name, value in environment.items() if name.split("__")[0] in names}


def sets_a_secret(name: str, value: str) -> bool:
    """Whether this variable, a setting, sets one that is secret, or a catalog's address with a password in it."""
    source = EnvSettingsSource(Settings)
    source.env_vars = {name.lower(): value}
    for field, given in source().items():
        kind = Settings.model_fields[field].annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            part = kind.model_validate(given)
            address = part.uri if isinstance(part, CatalogSettings) else None
            if any(_secrets(part)) or any(_passwords(address or "")):
                return True
    return False


def _is_of_a_service(name: str) -> bool:
    """Whether Kubernetes tells a pod so where a service is, one that happens to be named lakehouse-…"""
    return "KUBERNETES_SERVICE_HOST" in os.environ and _OF_A_SERVICE.search(name) is not None


def _profile_file(variable: str, profile: str) -> Path:
    file = conf_dir() / f"{profile}.yaml"
    if not file.is_file():
        found = sorted(f.stem for f in conf_dir().glob("*.yaml"))
        raise UsageError(f"no profile {profile!r} in {conf_dir()}: {variable} is one of {', '.join(found)}")
    return file


def python_environment() -> dict[str, Any]:
    """What a child process of Spark needs to run the same Python."""
    return {"PYSPARK_PYTHON": sys.executable, "PYSPARK_DRIVER_PYTHON": sys.executable}
