"""Alerts to a webhook, for who has no Prometheus: what has begun to be wrong, and what no longer is, once each."""

import json
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from threading import Lock

from lakehouse_spark.metrics.reading import Reading
from lakehouse_spark.settings import Settings

LAG, TABLE_FAILS, REJECTS, JOB_FAILED = "LakehouseLag", "LakehouseTableFails", "LakehouseRejects", "LakehouseJobFailed"
"""They are named as the alert rules for Prometheus name them."""
_FEW = 100
"""Of fewer records, a share says little."""
_SECONDS = 10
"""How long the webhook may take to answer."""


@dataclass(frozen=True)
class Alert:
    """Something that is wrong with a table, or with a job; with the same name and subject it is the same one."""

    name: str
    subject: str
    said: str = field(compare=False)


def of_reading(reading: Reading, settings: Settings) -> Iterator[Alert]:
    """What a look at the tables finds to be above the limits of the settings."""
    limits = settings.alerts
    for table, seconds in reading.waits.items():
        if seconds > limits.lag_seconds:
            yield Alert(LAG, table, f"{table}: something has waited for {seconds:,.0f} s that it has not consumed")
    for table, judged in reading.judged.items():
        if judged.records >= _FEW and judged.share > limits.rejected_share:
            said = f"{judged.rejected:,} of {judged.records:,} records of the last hour were rejected"
            yield Alert(REJECTS, table, f"{table}: {said} ({judged.share:.1%})")


def of_failures(failing: Mapping[str, str]) -> Iterator[Alert]:
    """What live mode could not bring up to date, by table."""
    for table, why in failing.items():
        yield Alert(TABLE_FAILS, table, why if why.startswith(table) else f"{table}: {why}")


@dataclass
class Webhook:
    """Posts each alert when it begins and when it ends; what it does not take is posted again at the next round."""

    settings: Settings
    complain: Callable[[str], None]
    _told: dict[Alert, None] = field(default_factory=dict)
    _is_down: bool = False
    _rounds: Lock = field(default_factory=Lock)

    def tell(self, firing: list[Alert]) -> None:
        """One round: what fires and was not told yet, what was told and does not fire any more."""
        with self._rounds:
            self._tell(firing)

    def _tell(self, firing: list[Alert]) -> None:
        now = {*firing}
        due = [(alert, "firing") for alert in firing if alert not in self._told]
        due += [(alert, "resolved") for alert in self._told if alert not in now]
        for alert, status in due:
            if not self._post(alert, status):
                return
            if status == "firing":
                self._told[alert] = None
            else:
                del self._told[alert]

    def _post(self, alert: Alert, status: str) -> bool:
        url = self.settings.alerts.webhook_url
        assert url is not None
        said = self.settings.without_secrets(alert.said)
        sent = {
            "alert": alert.name, "status": status, "subject": alert.subject, "text": f"{alert.name} {status}: {said}",
            "at": datetime.now(UTC).isoformat(timespec="seconds"), "lakehouse": self.settings.warehouse,
        }  # fmt: skip
        try:
            request = urllib.request.Request(
                url.get_secret_value(), json.dumps(sent).encode(), {"Content-Type": "application/json"}
            )
            with urllib.request.urlopen(request, timeout=_SECONDS):
                self._is_down = False
        except Exception as error:
            if not self._is_down:
                self.complain(f"alerts: the webhook did not take one, and is tried again: {_why(error)}")
            self._is_down = True
            return False
        return True


def _why(error: Exception) -> str:
    """What kept it, in words that hold nothing of the URL, as those of others may."""
    if isinstance(error, urllib.error.HTTPError):
        return f"it answered {error.code}"
    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(reason, OSError) and not isinstance(reason, ssl.SSLError) and reason.strerror:
        return reason.strerror
    return type(reason).__name__
