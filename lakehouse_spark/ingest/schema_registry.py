"""The schema registry: schemas by their ids, which never change, and what becomes of a job when it does not answer."""

import base64
import json
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from http.client import HTTPException, HTTPMessage
from threading import Lock
from typing import IO, Any
from urllib.parse import quote

from lakehouse_spark.errors import LakehouseError, UsageError, in_a_sentence
from lakehouse_spark.settings import RegistrySettings, Settings

MOST_ID = 2**31 - 1
_SECONDS = 10
_FIRST_PAUSE, _LONGEST_PAUSE = 0.25, 5.0
_ACCEPTED = "application/vnd.schemaregistry.v1+json, application/json"
_NOT_FOUND = (40401, 40402, 40403)
"""The registry's own codes for a subject, a version and a schema that it does not have."""
_PASSING = (408, 425, 429)
"""What a server that is there may answer now and no longer later, as it may whatever is 500 or more."""

Pause = Callable[[float], bool]
"""Waits for so many seconds, or until it knows that the job is to end: then it says so."""


class Interrupted(Exception):  # noqa: N818  (nothing went wrong)
    """The job is to end, and does not wait any longer."""


@dataclass(frozen=True)
class Schema:
    """A schema's text, its type (AVRO, JSON or PROTOBUF), and the texts that it refers to, each behind those that it
    refers to itself."""

    text: str
    type: str
    references: tuple[str, ...] = ()


_References = dict[tuple[str, int], str]
"""The texts of schemas by subject and version."""

_known: dict[tuple[str, int], Schema] = {}
_knowing = Lock()


def check(settings: Settings) -> None:
    """Raises UsageError where the settings name no registry, or not what would vouch for it."""
    _Registry(settings, _sleep)


def look(settings: Settings) -> str:
    """Its address; raises LakehouseError where it does not answer just now, or refuses us."""
    impatient = settings.registry.model_copy(update={"patience_seconds": 0})
    _Registry(settings.model_copy(update={"registry": impatient}), _sleep).ask("/schemas/ids/1")
    return _url(settings.registry)


def schema(settings: Settings, identity: int, pause: Pause | None = None) -> Schema | None:
    """The schema of this id; None where the registry has none. What was fetched once is not asked for again.

    Raises LakehouseError where the registry refuses us, or does not answer for as long as `patience_seconds`;
    Interrupted where the job is to end meanwhile.
    """
    if identity > MOST_ID:
        return None
    url = _url(settings.registry)
    with _knowing:
        if found := _known.get((url, identity)):
            return found
    registry = _Registry(settings, pause or _sleep)
    answer = registry.ask(f"/schemas/ids/{identity}")
    references = registry.references(answer, {}) if answer is not None else None
    if answer is None or references is None:
        return None
    found = Schema(str(answer["schema"]), str(answer.get("schemaType") or "AVRO"), tuple(references.values()))
    with _knowing:
        return _known.setdefault((url, identity), found)


def _sleep(seconds: float) -> bool:
    time.sleep(seconds)
    return False


def _url(registry: RegistrySettings) -> str:
    if not registry.url:
        raise UsageError("records in Avro need a schema registry: set LAKEHOUSE_REGISTRY__URL")
    return registry.url.rstrip("/")


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A redirect would take our credentials with it, to whom nobody named."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> None:
        return None


class _Registry:
    """The registry of the settings, as long as one schema takes."""

    def __init__(self, settings: Settings, pause: Pause) -> None:
        self._settings, self._pause, self._url = settings.registry, pause, _url(settings.registry)
        self._opener = urllib.request.build_opener(
            _NoRedirects(), urllib.request.HTTPSHandler(context=_trust(settings.registry))
        )

    def references(self, answer: dict[str, Any], found: _References) -> _References | None:
        """All that a schema refers to, each once; None where the registry does not have all of it."""
        for each in answer.get("references") or ():
            place = (str(each["subject"]), int(each["version"]))
            if place in found:
                continue
            referred = self.ask(f"/subjects/{quote(place[0], safe='')}/versions/{place[1]}")
            if referred is None or self.references(referred, found) is None:
                return None
            found[place] = str(referred["schema"])
        return found

    def ask(self, path: str) -> dict[str, Any] | None:
        """What the registry answers, None where it has no such thing; waits for one that does not answer."""
        began, delay = time.monotonic(), _FIRST_PAUSE
        while True:
            try:
                return self._ask(path)
            except _Away as away:
                left = began + self._settings.patience_seconds - time.monotonic()
                if left <= 0:
                    raise LakehouseError(
                        f"the schema registry at {self._url} does not answer: {away}",
                        "Nothing is lost: run the job again once it does",
                    ) from None
            if self._pause(min(delay, left)):
                raise Interrupted
            delay = min(2 * delay, _LONGEST_PAUSE)

    def _ask(self, path: str) -> dict[str, Any] | None:
        request = urllib.request.Request(self._url + path, headers=self._headers())
        try:
            with self._opener.open(request, timeout=_SECONDS) as answer:
                said = json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                self._require_missing(error)
            return None
        except (OSError, HTTPException) as error:
            reason = error.reason if isinstance(error, urllib.error.URLError) else error
            if isinstance(reason, ssl.SSLCertVerificationError):
                raise LakehouseError(
                    f"the schema registry at {self._url} is not trusted: {reason.verify_message}",
                    "Name the certificates that vouch for it in LAKEHOUSE_REGISTRY__CA_FILE",
                ) from None
            said_of_it = reason if isinstance(reason, str) else in_a_sentence(reason)
            raise _Away(said_of_it) from None
        except ValueError:
            said = None
        if not isinstance(said, dict) or not isinstance(said.get("schema"), str):
            raise self._odd("something that is no schema")
        return said

    def _require_missing(self, error: urllib.error.HTTPError) -> None:
        """Raises unless it is the registry that says that it has no such thing."""
        if error.code in (401, 403):
            raise LakehouseError(
                f"the schema registry at {self._url} refuses us (HTTP {error.code})",
                "Look at LAKEHOUSE_REGISTRY__CREDENTIAL or LAKEHOUSE_REGISTRY__TOKEN",
            )
        if error.code >= 500 or error.code in _PASSING:
            raise _Away(f"HTTP {error.code}")
        try:
            code = json.load(error).get("error_code")
        except (OSError, ValueError, AttributeError, HTTPException):
            code = None
        if error.code != 404 or code not in _NOT_FOUND:  # who is no registry has no schema either
            raise self._odd(f"HTTP {error.code}")

    def _odd(self, said: str) -> LakehouseError:
        return LakehouseError(
            f"{self._url} answers {said} where a schema registry would name a schema",
            "Look at LAKEHOUSE_REGISTRY__URL: it is what stands before /schemas/ids",
        )

    def _headers(self) -> dict[str, str]:
        given, credential, token = {"Accept": _ACCEPTED}, self._settings.credential, self._settings.token
        if token is not None:
            given["Authorization"] = f"Bearer {token.get_secret_value()}"
        elif credential is not None:
            given["Authorization"] = f"Basic {base64.b64encode(credential.get_secret_value().encode()).decode()}"
        return given


class _Away(Exception):  # noqa: N818  (it may be back in a moment)
    """Why the registry did not answer."""


def _trust(registry: RegistrySettings) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=str(registry.ca_file) if registry.ca_file else None)
    except (OSError, ssl.SSLError) as error:
        raise UsageError(f"LAKEHOUSE_REGISTRY__CA_FILE: {registry.ca_file}: {in_a_sentence(error)}") from None
