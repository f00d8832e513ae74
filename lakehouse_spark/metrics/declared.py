"""Every metric, declared once: for the endpoint, the textfile, the reference page and the tests of the alert rules."""

from dataclasses import dataclass
from typing import Literal

Labels = tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Metric:
    """What is measured under a name. A counter only grows, but for what begins anew; `alert` says when to worry."""

    name: str
    kind: Literal["counter", "gauge"]
    unit: str
    help: str
    labels: Labels = ()
    alert: str = ""


def _counter(name: str, unit: str, help: str, *labels: str, alert: str = "") -> Metric:
    return Metric(f"lakehouse_{name}_total", "counter", unit, help, labels, alert)


def _gauge(name: str, unit: str, help: str, *labels: str, alert: str = "") -> Metric:
    return Metric(f"lakehouse_{name}", "gauge", unit, help, labels, alert)


# Of the tables, as their metadata say: the same whoever tells them

READABLE = _gauge(
    "readable", "1 or 0", "Whether the catalog and the tables could be read at the last look.",
    alert="0 for five minutes: the catalog or the storage is away.",
)  # fmt: skip
READ_AT = _gauge("read_timestamp_seconds", "Unix time", "When the tables were last looked at and could be read.")
ROWS = _gauge(
    "table_rows", "rows", "Rows of a table; at most so many where its deletes are not known file by file.", "table"
)
FILES = _gauge("table_files", "files", "Live files of a table, of data and of deletes.", "table")
SMALL_FILES = _gauge(
    "table_small_files", "files", "Live data files that compaction takes up for being small.", "table",
    alert="They grow from day to day: compaction does not run, or fails.",
)  # fmt: skip
BYTES = _gauge("table_bytes", "bytes", "Size of a table's live files.", "table")
SNAPSHOTS = _gauge(
    "table_snapshots", "snapshots", "Snapshots that a table has.", "table",
    alert="Above 5,000: expiry does not run, or fails.",
)  # fmt: skip
COMMITTED_AT = _gauge("table_commit_timestamp_seconds", "Unix time", "Stamp of a table's newest commit.", "table")
LAG_RECORDS = _gauge(
    "lag_records", "records",
    "Records that wait upstream of a table: in Kafka, of a bronze table, else in the table that it follows. Of a "
    "dimension that is followed the changes are not counted.",
    "table", "upstream",
)  # fmt: skip
LAG_SECONDS = _gauge(
    "lag_seconds", "seconds",
    "For how long the oldest commit upstream has waited that a table has not consumed; of Kafka, how long ago a look "
    "first saw what waits, or, while the broker is silent, last saw that nothing does.",
    "table", "upstream",
    alert="Above your limit, such as an hour or four beats.",
)  # fmt: skip
JUDGED = _counter(
    "judged_records", "records",
    "Records that silver judged, by outcome: records (all of them), accepted, duplicates, rejected. A rebuild counts "
    "anew.",
    "table", "outcome",
    alert="rejected above a share of records within an hour.",
)  # fmt: skip

DRIFTED = _gauge(
    "payload_drift_records", "records",
    "Records of the last 7 days with a field that is not as their topic declares it, by topic and change (UNKNOWN, "
    "RETYPED, OTHER; VANISHED counts fields), each field for itself.",
    "topic", "change",
    alert="RETYPED or VANISHED: a producer changed; `lakehouse status` names the fields.",
)  # fmt: skip

# Of the work that a process does

REJECTED = _counter(
    "rejected_reasons", "records",
    "Records that were rejected since the process began, by bronze table and reason code; one with several reasons "
    "counts for each.",
    "source", "reason",
)  # fmt: skip
COMMITS = _counter("commits", "commits", "Commits that became current.", "table")
COMMIT_SECONDS = _counter(
    "commit_seconds", "seconds",
    "Time that commits took, by phase: branch (look and stage), write (compute and write the rows), publish.",
    "table", "phase",
)  # fmt: skip
COMMIT_RECORDS = _counter("commit_records", "records", "Rows that commits wrote, rewritten ones included.", "table")
COMMIT_FILES = _counter("commit_files", "files", "Data files that commits added.", "table")
COMMIT_BYTES = _counter("commit_bytes", "bytes", "Bytes of data files that commits added.", "table")
RETRIES = _counter("commit_retries", "tries", "Further tries of commits that maintenance came in between.", "table")
LOST_RACES = _counter(
    "lost_races", "commits", "Commits of which nothing was kept, since another writer's came first.", "table",
    alert="Again and again: two schedules overlap.",
)  # fmt: skip
JOB_SUCCEEDED_AT = _gauge(
    "job_last_success_timestamp_seconds", "Unix time",
    "When a job last ended well; of live mode (pipeline), a beat in which no table failed.",
    "job_name",
    alert="Older than twice the job's schedule.",
)  # fmt: skip
JOB_SECONDS = _gauge("job_seconds", "seconds", "How long a job's last run took, whatever came of it.", "job_name")
JOB_EXIT_CODE = _gauge(
    "job_exit_code", "exit code", "How a job's last run ended; 0 is well.", "job_name",
    alert="Above 0; at 3 someone has to decide.",
)  # fmt: skip
JOB_FAILURES = _counter("job_failures", "runs", "Runs of a job that ended with another exit code than 0.", "job_name")
TABLE_SUCCEEDED_AT = _gauge(
    "table_last_success_timestamp_seconds", "Unix time",
    "When a job last ended well for a table, with something to do or without.",
    "job_name", "table",
)  # fmt: skip
BEATS = _counter("beats", "beats", "Beats of live mode.")
BEATS_SKIPPED = _counter(
    "beats_skipped", "beats", "Beats that were skipped because one, or maintenance, lasted over their time.",
    alert="Several an hour: a beat lasts longer than the time between two.",
)  # fmt: skip
BEAT_SECONDS = _gauge("beat_seconds", "seconds", "How long the last beat took.")
BEAT_AT = _gauge(
    "beat_timestamp_seconds", "Unix time", "When the last beat ended, or else live mode began.",
    alert="Older than some beats: live mode hangs.",
)  # fmt: skip
MAINTENANCE_FAILURES = _counter(
    "maintenance_failures", "runs", "Maintenance of live mode that failed, by its schedule.", "schedule",
    alert="Any: what it was to tidy stays as it is until its next time.",
)  # fmt: skip
TABLE_FAILING = _gauge(
    "table_failing", "1 or 0", "Whether live mode tried to bring a table up to date, and could not.", "table",
    alert="1: it is told why on stderr and by `lakehouse status`.",
)  # fmt: skip
TABLE_FAILURES = _counter("table_failures", "beats", "Beats in which a table failed.", "table")

OF_TABLES = (
    READABLE, READ_AT, LAG_SECONDS, LAG_RECORDS, JUDGED, ROWS, FILES, SMALL_FILES, BYTES, SNAPSHOTS, COMMITTED_AT,
    DRIFTED,
)  # fmt: skip
OF_WORK = (
    REJECTED, COMMITS, COMMIT_SECONDS, COMMIT_RECORDS, COMMIT_FILES, COMMIT_BYTES, RETRIES, LOST_RACES,
    JOB_SUCCEEDED_AT, JOB_SECONDS, JOB_EXIT_CODE, JOB_FAILURES, TABLE_SUCCEEDED_AT, BEATS, BEATS_SKIPPED,
    BEAT_SECONDS, BEAT_AT, MAINTENANCE_FAILURES, TABLE_FAILING, TABLE_FAILURES,
)  # fmt: skip
METRICS = {metric.name: metric for metric in (*OF_TABLES, *OF_WORK)}
