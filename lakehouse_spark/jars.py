"""The jars of Spark, S3 and the broker: fetched once as conf/jars.lock pins them, verified, then plain files."""

import fcntl
import hashlib
import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pyspark

from lakehouse_spark.errors import LakehouseError, UsageError

CONF = Path(__file__).resolve().parent / "conf"
LOCK = CONF / "jars.lock"
DIRECT = CONF / "jars.direct"
SPARK_JARS = Path(pyspark.__file__).parent / "jars"
JAVA_MAJORS = (17, 21)

_COORDINATE = r"(?P<org>[\w.-]+):(?P<name>[\w.-]+):(?P<version>[\w.-]+)(?::(?P<classifier>[\w.-]+))?"
_LOCKED = re.compile(rf"(?P<group>\w+)\s+{_COORDINATE}\s+(?P<sha256>[0-9a-f]{{64}})")
_ASKED = re.compile(rf"(?P<group>\w+)\s+{_COORDINATE}(?P<alone>\s+alone)?")
_INSTALL_JAVA = (
    "apt-get install openjdk-17-jre-headless"
    if sys.platform != "darwin"
    else 'brew install openjdk@17, then export JAVA_HOME="$(brew --prefix openjdk@17)"'
)
# A blocked host must end in an error, not in Java's endless default wait.
_IVY_TIMEOUTS = ("-Dsun.net.client.defaultConnectTimeout=20000", "-Dsun.net.client.defaultReadTimeout=60000")


@dataclass(frozen=True)
class Jar:
    """One line of the lock."""

    group: str
    org: str
    name: str
    version: str
    sha256: str
    classifier: str | None = None
    """Which of the module's jars, where it is not the only one (`tests`)."""

    @property
    def coordinate(self) -> str:
        return ":".join(filter(None, (self.org, self.name, self.version, self.classifier)))

    @property
    def file_name(self) -> str:
        return f"{self.org}_{self.published_as}"

    @property
    def published_as(self) -> str:
        return "-".join(filter(None, (self.name, self.version, self.classifier))) + ".jar"

    @property
    def line(self) -> str:
        return f"{self.group:<6}  {self.coordinate}  {self.sha256}"


@dataclass(frozen=True)
class _Dependency:
    """What Ivy is asked for."""

    org: str
    name: str
    version: str
    transitive: bool
    classifier: str | None = None

    @property
    def module(self) -> tuple[str, str, str]:
        return self.org, self.name, self.version

    @property
    def artifact(self) -> str:
        of_maven = f' m:classifier="{self.classifier}"' if self.classifier else ""
        return f'<artifact name="{self.name}" type="jar"{of_maven}/>'


def ensure(
    groups: Iterable[str],
    cache: Path,
    java_home: str | None = None,
    *,
    lock: Path = LOCK,
    announce: Callable[[str], None] = lambda message: None,
) -> dict[str, list[Path]]:
    """The verified jars of each group, as files under `cache/jars`; fetches what is missing or damaged.

    Once verified, a call reads only file sizes and times: no JVM, no hashing. Processes may race: every file appears
    whole or not at all. Raises UsageError for an unknown group or no usable Java, LakehouseError when a download fails
    or a file differs from the lock.
    """
    locked = read_lock(lock)
    wanted = list(dict.fromkeys(groups))
    if unknown := [group for group in wanted if group not in locked]:
        raise UsageError(f"{lock.name}: no group {', '.join(unknown)}; it has {', '.join(locked)}")
    folder = cache / "jars"
    for group in wanted:
        _ensure_group(locked[group], folder, java_home, announce)
    return {group: [folder / jar.file_name for jar in locked[group]] for group in wanted}


def read_lock(lock: Path = LOCK) -> dict[str, list[Jar]]:
    """The lock's jars by group, in its order."""
    found: dict[str, list[Jar]] = {}
    for match in _read(lock, _LOCKED, "group  org:name:version  sha256"):
        jar = Jar(**match.groupdict())
        found.setdefault(jar.group, []).append(jar)
    return found


def find_java(java_home: str | None = None) -> Path:
    """The `java` program of `java_home`, else of PATH; UsageError unless it is of a version Spark runs on."""
    found = shutil.which("java", path=str(Path(java_home) / "bin") if java_home else None)
    place = f"JAVA_HOME ({java_home})" if java_home else "PATH"
    if found is None:
        raise UsageError(f"Java: none in {place}, {_expected_java()}")
    answer = subprocess.run([found, "-version"], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    version = re.search(r'version "(?:1\.)?(\d+)[^"]*"', answer.stderr + answer.stdout)
    if answer.returncode or version is None:
        raise UsageError(f"Java: {found} does not start, {_expected_java()}")
    if int(version[1]) not in JAVA_MAJORS:
        raise UsageError(f"Java: {found} in {place} is {version[0]}, {_expected_java()}")
    return Path(found)


def _expected_java() -> str:
    majors = " or ".join(map(str, JAVA_MAJORS))
    return f"expected {majors}; install one ({_INSTALL_JAVA}) or point JAVA_HOME at one"


def relock(
    java: Path, direct: Path = DIRECT, lock: Path = LOCK, own_jvm: Collection[str] = ("broker",)
) -> dict[str, list[Jar]]:
    """Writes the lock anew from the direct coordinates, with all they need; of what PySpark brings, only for groups
    that have a JVM of their own."""
    asked: dict[str, list[_Dependency]] = {}
    for match in _read(direct, _ASKED, "group  org:name:version  [alone]"):
        coordinate = {part: match[part] for part in ("org", "name", "version", "classifier")}
        asked.setdefault(match["group"], []).append(_Dependency(**coordinate, transitive=not match["alone"]))
    jars = [
        jar
        for group, dependencies in asked.items()
        for jar in _resolve(group, dependencies, java)
        if group in own_jvm or not _is_shipped(jar)
    ]
    header = f"# Written by scripts/lock-jars from {direct.name}: group  org:name:version  sha256. Do not edit.\n"
    _write_whole(lock, header + "".join(f"{jar.line}\n" for jar in jars))
    return read_lock(lock)


def _read(path: Path, pattern: re.Pattern[str], form: str) -> Iterator[re.Match[str]]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise UsageError(f"{path.name}: cannot be read: {error}") from error
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.startswith("#"):
            continue
        match = pattern.fullmatch(line.strip())
        if match is None:
            raise UsageError(f"{path.name}, line {number}: expected `{form}`, found {line!r}")
        yield match


def _ensure_group(jars: Sequence[Jar], folder: Path, java_home: str | None, announce: Callable[[str], None]) -> None:
    digest = hashlib.sha256("".join(jar.line for jar in jars).encode()).hexdigest()
    marker = folder / f"{jars[0].group}-{digest[:16]}.json"
    if _is_marked(marker, jars, folder):
        return
    missing = [jar for jar in jars if not _is_intact(jar, folder)]
    if missing:
        _fetch_missing(missing, folder, java_home, announce)
    with suppress(OSError):  # it only saves time: a read-only cache baked into an image works without
        _write_whole(marker, json.dumps(_sizes_and_times(jars, folder), indent=0))


def _is_marked(marker: Path, jars: Sequence[Jar], folder: Path) -> bool:
    try:
        return bool(json.loads(marker.read_text(encoding="utf-8")) == _sizes_and_times(jars, folder))
    except (OSError, ValueError):
        return False


def _sizes_and_times(jars: Sequence[Jar], folder: Path) -> dict[str, list[int]]:
    """Times in whole seconds: image layers keep no more."""
    stats = {jar.file_name: (folder / jar.file_name).stat() for jar in jars}
    return {name: [stat.st_size, int(stat.st_mtime)] for name, stat in stats.items()}


def _is_intact(jar: Jar, folder: Path) -> bool:
    try:
        return _sha256(folder / jar.file_name) == jar.sha256
    except OSError:
        return False


def _fetch_missing(missing: list[Jar], folder: Path, java_home: str | None, announce: Callable[[str], None]) -> None:
    java = find_java(java_home)
    with _exclusive(folder):
        for leftover in folder.glob(".fetch-*"):  # of a process that was killed: only the lock's holder has one
            _harvest(missing, leftover, folder)
            shutil.rmtree(leftover, ignore_errors=True)
        missing = [jar for jar in missing if not _is_intact(jar, folder)]
        if missing:
            announce(f"fetching {len(missing)} {missing[0].group} jars into {folder} (once)")
            _fetch(missing, folder, java)


def _fetch(jars: Sequence[Jar], folder: Path, java: Path) -> None:
    scratch = Path(tempfile.mkdtemp(prefix=".fetch-", dir=folder))
    dependencies = [_Dependency(j.org, j.name, j.version, transitive=False, classifier=j.classifier) for j in jars]
    try:
        failure = _run_ivy(java, dependencies, scratch)
        differing = _harvest(jars, scratch, folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    if differing:
        raise LakehouseError(
            "; ".join(f"{jar.coordinate}: expected SHA-256 {jar.sha256}, found {found}" for jar, found in differing)
            + ". The download was altered on its way, or the lock is wrong (scripts/lock-jars). Nothing of it was kept"
        )
    if lacking := [jar.coordinate for jar in jars if not _is_intact(jar, folder)]:
        raise LakehouseError(
            f"{len(lacking)} of {len(jars)} jars could not be fetched (first: {lacking[0]}). Check the network and run"
            f" again, or copy {folder} from a machine that has it. Ivy said:\n{failure}"
        )


def _harvest(jars: Iterable[Jar], scratch: Path, folder: Path) -> list[tuple[Jar, str]]:
    """Moves each verified jar of an Ivy run, also of a failed one, into place; returns those that differ."""
    differing = []
    for jar in jars:
        for path in (scratch / "ivy").glob(f"{jar.org}/{jar.name}/*/{jar.published_as}"):
            if (found := _sha256(path)) == jar.sha256:
                path.replace(folder / jar.file_name)
            else:
                differing.append((jar, found))
    return differing


def _resolve(group: str, dependencies: Sequence[_Dependency], java: Path) -> list[Jar]:
    with tempfile.TemporaryDirectory() as scratch:
        lib = Path(scratch) / "lib"
        pattern = f"{lib}/[organisation]/[module]/[revision](/[classifier])/[artifact].[ext]"
        failure = _run_ivy(java, dependencies, Path(scratch), "-retrieve", pattern)
        jars = []
        for path in sorted(lib.rglob("*.jar")):
            org, name, version, *classifier, _ = path.relative_to(lib).parts
            jars.append(Jar(group, org, name, version, _sha256(path), *classifier))
    if failure or not jars:
        raise LakehouseError(f"jars of group {group}: Ivy could not resolve them:\n{failure}")
    return jars


def _is_shipped(jar: Jar) -> bool:
    """Whether PySpark brings this artifact, in whatever version: its own wins."""
    return any(re.match(rf"{re.escape(jar.name)}-\d", path.name) for path in SPARK_JARS.glob("*.jar"))


def _run_ivy(java: Path, dependencies: Sequence[_Dependency], scratch: Path, *options: str) -> str:
    """Runs the Ivy of PySpark with its cache in `scratch/ivy`; returns what it complained of, "" if all went well."""
    module = scratch / "ivy.xml"
    module.write_text(_ivy_module(dependencies), encoding="utf-8")
    ivy = max(SPARK_JARS.glob("ivy-*.jar"), default=None)
    if ivy is None:
        raise LakehouseError(f"Ivy: no ivy-*.jar in {SPARK_JARS}; install pyspark again")
    # Its user folder is ours too, so that nothing in ~/.ivy2 has a say.
    jvm = [str(java), *_IVY_TIMEOUTS, f"-Divy.default.ivy.user.dir={scratch}", "-jar", str(ivy)]
    asked = ["-warn", "-ivy", str(module), "-cache", str(scratch / "ivy"), "-types", "jar", "bundle", *options]
    done = subprocess.run(
        [*jvm, *asked],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )
    return "\n".join(done.stdout.splitlines()[-20:]) or f"exit code {done.returncode}" if done.returncode else ""


def _ivy_module(dependencies: Sequence[_Dependency]) -> str:
    """What Ivy reads: a module that has these dependencies, where several jars may be of one."""
    of_module: dict[tuple[str, str, str], list[_Dependency]] = {}
    for dependency in dependencies:
        of_module.setdefault(dependency.module, []).append(dependency)
    body = "".join(f"{_as_xml(jars)}\n" for jars in of_module.values())
    maven = ' xmlns:m="http://ant.apache.org/ivy/maven"' if any(each.classifier for each in dependencies) else ""
    return (
        f'<ivy-module version="2.0"{maven}>\n<info organisation="lakehouse" module="jars"/>\n'
        f'<configurations><conf name="default"/></configurations>\n<dependencies>\n{body}</dependencies>\n'
        "</ivy-module>\n"
    )


def _as_xml(jars: Sequence[_Dependency]) -> str:
    """One or more jars of a module; a module of which no jar is named by a classifier has one of its own name."""
    org, name, version = jars[0].module
    transitive = str(any(jar.transitive for jar in jars)).lower()
    opened = f'<dependency org="{org}" name="{name}" rev="{version}" conf="default->default" transitive="{transitive}"'
    if not any(jar.classifier for jar in jars):
        return f"{opened}/>"
    return f"{opened}>{''.join(jar.artifact for jar in jars)}</dependency>"


@contextmanager
def _exclusive(folder: Path) -> Iterator[None]:
    """One fetching process at a time; the system releases the lock of one that dies."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = (folder / ".lock").open("w")
    except OSError as error:
        raise LakehouseError(f"jar cache: cannot be written: {error}; set LAKEHOUSE_CACHE to another folder") from error
    with handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _write_whole(path: Path, text: str) -> None:
    """All of it or nothing: written beside its place, then renamed."""
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=path.parent, prefix=".", delete=False) as file:
        file.write(text)
    Path(file.name).chmod(0o644)
    Path(file.name).replace(path)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def main(java_home: str) -> int:
    """What scripts/lock-jars runs."""
    try:
        jars = relock(find_java(java_home or None))
    except LakehouseError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    print(f"{LOCK.name}: " + ", ".join(f"{group} {len(found)}" for group, found in jars.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else ""))
