"""The jar cache, with small files for jars and a stand-in for Ivy."""

import hashlib
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from lakehouse_spark import jars
from lakehouse_spark.errors import LakehouseError, UsageError

ALPHA, BETA = b"the bytes of alpha", b"the bytes of beta"


class FakeIvy:
    """Puts what it `serves` where Ivy would, and remembers what it was asked for."""

    def __init__(self, **serves: bytes) -> None:
        self.serves = serves
        self.runs: list[list[str]] = []

    def __call__(self, java: Path, dependencies: Sequence[jars._Dependency], scratch: Path, *options: str) -> str:
        self.runs.append([dependency.name for dependency in dependencies])
        for asked in dependencies:
            if asked.name in self.serves:
                path = scratch / "ivy" / asked.org / asked.name / "jars" / f"{asked.name}-{asked.version}.jar"
                path.parent.mkdir(parents=True)
                path.write_bytes(self.serves[asked.name])
        return "" if {asked.name for asked in dependencies} <= set(self.serves) else "unresolved dependency"


@pytest.fixture
def ivy(monkeypatch: pytest.MonkeyPatch) -> FakeIvy:
    fake = FakeIvy(alpha=ALPHA, beta=BETA)
    monkeypatch.setattr(jars, "_run_ivy", fake)
    monkeypatch.setattr(jars, "find_java", lambda java_home: Path("java"))
    return fake


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    path = tmp_path / "jars.lock"
    path.write_text(
        "# a comment\n\n"
        f"spark   org.a:alpha:1.0  {hashlib.sha256(ALPHA).hexdigest()}\n"
        f"spark   org.b:beta:2.0  {hashlib.sha256(BETA).hexdigest()}\n"
        f"broker  org.b:gamma:3.0  {'0' * 64}\n"
    )
    return path


def alpha(cache: Path) -> Path:
    return cache / "jars" / "org.a_alpha-1.0.jar"


def beta(cache: Path) -> Path:
    return cache / "jars" / "org.b_beta-2.0.jar"


def leftovers(cache: Path) -> list[Path]:
    return list((cache / "jars").glob(".fetch-*"))


def test_jars_are_fetched_and_returned_in_the_order_of_the_lock(tmp_path: Path, lock: Path, ivy: FakeIvy) -> None:
    said: list[str] = []

    assert jars.ensure(["spark"], tmp_path, lock=lock, announce=said.append) == {
        "spark": [alpha(tmp_path), beta(tmp_path)]
    }
    assert (alpha(tmp_path).read_bytes(), beta(tmp_path).read_bytes()) == (ALPHA, BETA)
    assert ivy.runs == [["alpha", "beta"]]
    assert said == [f"fetching 2 spark jars into {tmp_path / 'jars'} (once)"]
    assert leftovers(tmp_path) == []


def test_a_second_call_starts_no_jvm_and_hashes_nothing(
    tmp_path: Path, lock: Path, ivy: FakeIvy, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = jars.ensure(["spark"], tmp_path, lock=lock)
    for forbidden in ("_run_ivy", "find_java", "_sha256"):
        monkeypatch.setattr(jars, forbidden, lambda *_: pytest.fail("not on the fast path"))

    assert jars.ensure(["spark"], tmp_path, lock=lock) == first


@pytest.mark.parametrize("damage", [b"", ALPHA[:-1], ALPHA + b"!"])
def test_a_damaged_jar_is_fetched_again_and_only_that_one(
    tmp_path: Path, lock: Path, ivy: FakeIvy, damage: bytes
) -> None:
    jars.ensure(["spark"], tmp_path, lock=lock)
    alpha(tmp_path).write_bytes(damage)

    jars.ensure(["spark"], tmp_path, lock=lock)

    assert alpha(tmp_path).read_bytes() == ALPHA
    assert ivy.runs[1:] == [["alpha"]]


def test_a_deleted_jar_is_fetched_again(tmp_path: Path, lock: Path, ivy: FakeIvy) -> None:
    jars.ensure(["spark"], tmp_path, lock=lock)
    beta(tmp_path).unlink()

    jars.ensure(["spark"], tmp_path, lock=lock)

    assert beta(tmp_path).read_bytes() == BETA
    assert ivy.runs[1:] == [["beta"]]


def test_a_jar_that_differs_from_the_lock_is_refused_and_not_kept(tmp_path: Path, lock: Path, ivy: FakeIvy) -> None:
    ivy.serves["beta"] = b"something else"
    found = hashlib.sha256(b"something else").hexdigest()

    with pytest.raises(LakehouseError, match=rf"org\.b:beta:2\.0: expected SHA-256 \w+, found {found}"):
        jars.ensure(["spark"], tmp_path, lock=lock)

    assert not beta(tmp_path).exists()
    assert leftovers(tmp_path) == []


def test_a_failed_download_keeps_what_arrived_and_the_next_run_asks_only_for_the_rest(
    tmp_path: Path, lock: Path, ivy: FakeIvy
) -> None:
    del ivy.serves["beta"]
    with pytest.raises(LakehouseError, match=r"(?s)1 of 2 jars.*org\.b:beta:2\.0.*unresolved dependency"):
        jars.ensure(["spark"], tmp_path, lock=lock)

    ivy.serves["beta"] = BETA
    jars.ensure(["spark"], tmp_path, lock=lock)

    assert ivy.runs == [["alpha", "beta"], ["beta"]]


def test_a_damaged_jar_is_never_returned_when_it_cannot_be_replaced(tmp_path: Path, lock: Path, ivy: FakeIvy) -> None:
    jars.ensure(["spark"], tmp_path, lock=lock)
    alpha(tmp_path).write_bytes(b"damaged")
    ivy.serves.clear()

    for _ in range(2):
        with pytest.raises(LakehouseError, match="1 of 1 jars could not be fetched"):
            jars.ensure(["spark"], tmp_path, lock=lock)


def test_a_killed_download_is_salvaged_and_cleaned_away(tmp_path: Path, lock: Path, ivy: FakeIvy) -> None:
    killed = tmp_path / "jars" / ".fetch-killed"
    whole = killed / "ivy" / "org.a" / "alpha" / "jars" / "alpha-1.0.jar"
    half = killed / "ivy" / "org.b" / "beta" / "jars" / "beta-2.0.jar"
    for path, content in ((whole, ALPHA), (half, BETA[:5])):
        path.parent.mkdir(parents=True)
        path.write_bytes(content)

    jars.ensure(["spark"], tmp_path, lock=lock)

    assert ivy.runs == [["beta"]]
    assert (alpha(tmp_path).read_bytes(), beta(tmp_path).read_bytes()) == (ALPHA, BETA)
    assert leftovers(tmp_path) == []


def test_jars_copied_from_another_machine_need_no_download(tmp_path: Path, lock: Path, ivy: FakeIvy) -> None:
    alpha(tmp_path).parent.mkdir()
    alpha(tmp_path).write_bytes(ALPHA)
    beta(tmp_path).write_bytes(BETA)

    jars.ensure(["spark"], tmp_path, lock=lock)

    assert ivy.runs == []


def test_a_read_only_cache_that_holds_everything_is_enough(
    tmp_path: Path, lock: Path, ivy: FakeIvy, monkeypatch: pytest.MonkeyPatch
) -> None:
    alpha(tmp_path).parent.mkdir()
    alpha(tmp_path).write_bytes(ALPHA)
    beta(tmp_path).write_bytes(BETA)

    def refuse(*_: object) -> None:
        raise OSError("read-only file system")

    monkeypatch.setattr(jars, "_write_whole", refuse)

    assert jars.ensure(["spark"], tmp_path, lock=lock) == {"spark": [alpha(tmp_path), beta(tmp_path)]}


def test_a_cache_that_cannot_be_written_says_which_setting_to_change(tmp_path: Path, lock: Path, ivy: FakeIvy) -> None:
    (tmp_path / "jars").write_text("a file where the folder should be")

    with pytest.raises(LakehouseError, match="set LAKEHOUSE_CACHE"):
        jars.ensure(["spark"], tmp_path, lock=lock)


def test_racing_processes_download_once(tmp_path: Path, lock: Path, ivy: FakeIvy) -> None:
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: jars.ensure(["spark"], tmp_path, lock=lock), range(4)))

    assert found == [{"spark": [alpha(tmp_path), beta(tmp_path)]}] * 4
    assert ivy.runs == [["alpha", "beta"]]


def test_an_unknown_group_names_the_known_ones(tmp_path: Path, lock: Path) -> None:
    with pytest.raises(UsageError, match=r"jars\.lock: no group sparks; it has spark, broker"):
        jars.ensure(["sparks"], tmp_path, lock=lock)


@pytest.mark.parametrize("line", ["spark org.a:alpha:1.0", "spark org.a:alpha 00", 'spark org.a:"/><x:1 ' + "0" * 64])
def test_a_malformed_lock_names_the_line(tmp_path: Path, line: str) -> None:
    lock = tmp_path / "jars.lock"
    lock.write_text(f"# comment\n{line}\n")

    with pytest.raises(UsageError, match=r"jars\.lock, line 2: expected `group  org:name:version  sha256`"):
        jars.read_lock(lock)


def fake_java(folder: Path, script: str) -> Path:
    java = folder / "bin" / "java"
    java.parent.mkdir(parents=True)
    java.write_text(f"#!/bin/sh\n{script}\n")
    java.chmod(0o755)
    return java


@pytest.mark.parametrize("version", ["17.0.15", "21", "21-ea"])
def test_java_17_and_21_are_accepted(tmp_path: Path, version: str) -> None:
    java = fake_java(tmp_path, f"""echo 'Picked up JAVA_TOOL_OPTIONS: -Dx=y\nopenjdk version "{version}" 2025' >&2""")

    assert jars.find_java(str(tmp_path)) == java


@pytest.mark.parametrize("version", ["1.8.0_392", "11.0.2", "24"])
def test_another_java_is_refused_with_what_was_found_and_what_to_install(tmp_path: Path, version: str) -> None:
    fake_java(tmp_path, f"""echo 'openjdk version "{version}" 2025' >&2""")

    with pytest.raises(
        UsageError, match=rf"is version \"{re.escape(version)}\", expected 17 or 21; install one \(.+17"
    ):
        jars.find_java(str(tmp_path))


def test_java_is_found_on_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    java = fake_java(tmp_path, """echo 'openjdk version "17"' >&2""")
    monkeypatch.setenv("PATH", f"{java.parent}:/usr/bin:/bin")

    assert jars.find_java() == java
    assert jars.find_java("") == java


def test_no_java_names_the_install_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(UsageError, match=r"none in PATH, expected 17 or 21; install one \((apt-get|brew) install"):
        jars.find_java()
    with pytest.raises(UsageError, match="none in JAVA_HOME"):
        jars.find_java(str(tmp_path))


def test_a_java_stub_that_does_not_start_is_no_java(tmp_path: Path) -> None:
    fake_java(tmp_path, "echo 'Unable to locate a Java Runtime.' >&2; exit 1")

    with pytest.raises(UsageError, match="does not start"):
        jars.find_java(str(tmp_path))


def test_ivy_is_given_plain_dependencies_and_no_resolver(tmp_path: Path) -> None:
    java = fake_java(tmp_path / "java", f'echo "$@" > {tmp_path}/asked; echo unreachable; exit 1')

    failure = jars._run_ivy(java, [jars._Dependency("org.a", "alpha", "1.0", transitive=False)], tmp_path)

    assert failure == "unreachable"
    assert (tmp_path / "ivy.xml").read_text() == (
        '<ivy-module version="2.0">\n<info organisation="lakehouse" module="jars"/>\n'
        '<configurations><conf name="default"/></configurations>\n<dependencies>\n'
        '<dependency org="org.a" name="alpha" rev="1.0" conf="default->default" transitive="false"/>\n'
        "</dependencies>\n</ivy-module>\n"
    )
    assert "-types jar bundle" in (tmp_path / "asked").read_text()
    assert "-settings" not in (tmp_path / "asked").read_text()


def test_ivy_is_asked_once_for_several_jars_of_a_module(tmp_path: Path) -> None:
    java = fake_java(tmp_path / "java", "exit 0")
    core, tests = (jars._Dependency("org.a", "core", "1.0", transitive=is_core, classifier=classifier)
                   for is_core, classifier in ((True, None), (False, "tests")))  # fmt: skip

    jars._run_ivy(java, [core, jars._Dependency("org.b", "beta", "2.0", transitive=True), tests], tmp_path)

    assert (tmp_path / "ivy.xml").read_text() == (
        '<ivy-module version="2.0" xmlns:m="http://ant.apache.org/ivy/maven">\n'
        '<info organisation="lakehouse" module="jars"/>\n'
        '<configurations><conf name="default"/></configurations>\n<dependencies>\n'
        '<dependency org="org.a" name="core" rev="1.0" conf="default->default" transitive="true">'
        '<artifact name="core" type="jar"/><artifact name="core" type="jar" m:classifier="tests"/></dependency>\n'
        '<dependency org="org.b" name="beta" rev="2.0" conf="default->default" transitive="true"/>\n'
        "</dependencies>\n</ivy-module>\n"
    )


def test_a_jar_with_a_classifier_is_locked_fetched_and_kept_beside_the_module_s_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    direct, lock = tmp_path / "jars.direct", tmp_path / "jars.lock"
    direct.write_text("catalog  org.a:core:1.0\ncatalog  org.a:core:1.0:tests  alone\n")

    def ivy(java: Path, dependencies: Sequence[jars._Dependency], scratch: Path, *options: str) -> str:
        assert [(each.classifier, each.transitive) for each in dependencies] == [
            (None, bool(options)), ("tests", False)
        ]  # fmt: skip
        if options:
            assert options[1].endswith("/lib/[organisation]/[module]/[revision](/[classifier])/[artifact].[ext]")
        places = {True: ("lib/org.a/core/1.0/core.jar", "lib/org.a/core/1.0/tests/core.jar"),
                  False: ("ivy/org.a/core/jars/core-1.0.jar", "ivy/org.a/core/jars/core-1.0-tests.jar")}  # fmt: skip
        for place, content in zip(places[bool(options)], (ALPHA, BETA), strict=True):
            (scratch / place).parent.mkdir(parents=True, exist_ok=True)
            (scratch / place).write_bytes(content)
        return ""

    monkeypatch.setattr(jars, "_run_ivy", ivy)
    monkeypatch.setattr(jars, "find_java", lambda java_home: Path("java"))
    jars.relock(Path("java"), direct, lock, own_jvm=["catalog"])
    found = jars.ensure(["catalog"], tmp_path, lock=lock)["catalog"]

    a, b = hashlib.sha256(ALPHA).hexdigest(), hashlib.sha256(BETA).hexdigest()
    assert lock.read_text().splitlines()[1:] == [
        f"catalog  org.a:core:1.0  {a}", f"catalog  org.a:core:1.0:tests  {b}"
    ]  # fmt: skip
    assert [path.name for path in found] == ["org.a_core-1.0.jar", "org.a_core-1.0-tests.jar"]
    assert [path.read_bytes() for path in found] == [ALPHA, BETA]


def test_relocking_leaves_out_what_pyspark_brings_but_not_for_the_broker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    direct, lock = tmp_path / "jars.direct", tmp_path / "jars.lock"
    direct.write_text("# asked for\nspark  org.a:alpha:1.0  alone\nbroker  org.b:beta:2.0\n")
    asked: list[tuple[str, bool]] = []

    def resolve(java: Path, dependencies: Sequence[jars._Dependency], scratch: Path, *options: str) -> str:
        asked.extend((dependency.name, dependency.transitive) for dependency in dependencies)
        for name, content in (("slf4j-api", b"logs"), (dependencies[0].name, ALPHA)):
            path = scratch / "lib" / "org.x" / name / "9" / f"{name}.jar"
            path.parent.mkdir(parents=True)
            path.write_bytes(content)
        return ""

    monkeypatch.setattr(jars, "_run_ivy", resolve)
    jars.relock(Path("java"), direct, lock)

    a, s = hashlib.sha256(ALPHA).hexdigest(), hashlib.sha256(b"logs").hexdigest()
    assert asked == [("alpha", False), ("beta", True)]
    assert lock.read_text().splitlines()[1:] == [
        f"spark   org.x:alpha:9  {a}",
        f"broker  org.x:beta:9  {a}",
        f"broker  org.x:slf4j-api:9  {s}",
    ]


def test_the_lock_holds_every_jar_asked_for_and_each_artifact_once_per_group() -> None:
    locked = jars.read_lock()
    held = {f"{jar.group} {jar.coordinate}" for group in locked.values() for jar in group}
    lines = [line.split() for line in jars.DIRECT.read_text().splitlines() if line and not line.startswith("#")]

    assert {f"{group} {coordinate}" for group, coordinate, *_ in lines} <= held
    assert list(locked) == ["spark", "s3", "comet", "avro", "broker", "postgresql"]
    for group in locked.values():
        assert len({jar.name for jar in group}) == len(group)
