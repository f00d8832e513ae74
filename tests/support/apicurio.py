"""A schema registry as companies run it: Apicurio, a JVM on loopback, through its interface of Confluent's.

Its program is an archive of 142 MB, fetched once: only long rounds of tests have use for it.
"""

import hashlib
import json
import subprocess
import tarfile
import tempfile
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

from lakehouse_spark import jars
from lakehouse_spark.local.loopback import HOST, free_port, wait_for
from lakehouse_spark.settings import Settings

_VERSION = "2.6.13.Final"
_SHA256 = "3cda1b34aa020fb4ac4dd6a66018d757e81e437f97e20a1f92d366b70091c6ba"
_MODULE = f"""<ivy-module version="2.0" xmlns:m="http://ant.apache.org/ivy/maven">
<info organisation="lakehouse" module="registry"/>
<configurations><conf name="default"/></configurations>
<dependencies>
<dependency org="io.apicurio" name="apicurio-registry-app" rev="{_VERSION}" conf="default->default" transitive="false">
<artifact name="apicurio-registry-app" type="tar.gz" ext="tar.gz" m:classifier="all"/>
</dependency>
</dependencies>
</ivy-module>
"""


@contextmanager
def serving(settings: Settings, folder: Path) -> Iterator[str]:
    """The address of an empty one."""
    java, program = jars.find_java(settings.java), _unpacked(settings, folder / "program")
    port = free_port()
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [str(java), "-Xmx512m", f"-Dquarkus.http.host={HOST}", f"-Dquarkus.http.port={port}", "-jar", str(program)],
            cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
        )  # fmt: skip
    url = f"http://{HOST}:{port}/apis/ccompat/v7"
    try:
        assert wait_for(lambda: process.poll() is not None or _answers(url), 120), "it does not begin"
        assert process.poll() is None, (folder / "log").read_text()[-2000:]
        yield url
    finally:
        process.terminate()
        process.wait(60)


def register(url: str, subject: str, schema: object, references: Sequence[Mapping[str, Any]] = ()) -> int:
    """The id that the schema gets as the next version of the subject."""
    sent = json.dumps({"schema": json.dumps(schema), "references": list(references)}).encode()
    kind = {"Content-Type": "application/vnd.schemaregistry.v1+json"}
    request = urllib.request.Request(f"{url}/subjects/{quote(subject, safe='')}/versions", sent, kind)
    with urllib.request.urlopen(request, timeout=60) as answer:
        return int(json.load(answer)["id"])


def _answers(url: str) -> bool:
    with suppress(OSError), urllib.request.urlopen(f"{url}/subjects", timeout=5) as answer:
        return bool(answer.status == 200)
    return False


def _unpacked(settings: Settings, folder: Path) -> Path:
    """The program, from the archive in the cache."""
    archive = settings.jar_cache / f"apicurio-registry-app-{_VERSION}.tar.gz"
    if not archive.exists():
        _fetch(archive, jars.find_java(settings.java))
    with tarfile.open(archive) as packed:
        packed.extractall(folder, filter="data")
    (program,) = folder.glob("*-runner.jar")
    return program


def _fetch(archive: Path, java: Path) -> None:
    (ivy,) = jars.SPARK_JARS.glob("ivy-*.jar")
    with tempfile.TemporaryDirectory(dir=archive.parent) as scratch:
        module = Path(scratch) / "ivy.xml"
        module.write_text(_MODULE, encoding="utf-8")
        subprocess.run(
            [str(java), f"-Divy.default.ivy.user.dir={scratch}", "-jar", str(ivy), "-warn", "-ivy", str(module),
             "-cache", f"{scratch}/cache", "-types", "tar.gz", "-retrieve", f"{scratch}/[artifact].[ext]"],
            check=True, capture_output=True,
        )  # fmt: skip
        found = Path(scratch) / "apicurio-registry-app.tar.gz"
        with found.open("rb") as file:
            assert hashlib.file_digest(file, "sha256").hexdigest() == _SHA256
        found.replace(archive)
