"""What an image holds: a bill of materials (CycloneDX) of its Python packages and jars, and a list of their licences.

Python packages are those that pip says it installed, with the SHA-256 that the lock demanded. Of a jar, the SHA-256 is
that of the file, and its name and licence are what the lock and the jar itself say. Debian's packages are not
in it: dpkg's own list, which scanners read, stays in the image.
"""

import argparse
import hashlib
import json
import re
import sys
import xml.etree.ElementTree as ElementTree
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageMetadata, distributions
from pathlib import Path
from typing import Any

from cyclonedx.model import HashAlgorithm, HashType, Property
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.model.license import DisjunctiveLicense
from cyclonedx.output import make_outputter
from cyclonedx.schema import OutputFormat, SchemaVersion
from packageurl import PackageURL

UNSTATED = "not stated"
_LONGEST_NAME = 60
"""Of a licence; what is longer is its text."""
_LOCKED = re.compile(r"^\w+\s+(?P<coordinate>[\w.:-]+)\s+(?P<sha256>[0-9a-f]{64})$", re.MULTILINE)
_JAR = re.compile(r"(?P<name>.+?)-(?P<version>\d.*)\.jar")
_TEXTS = (
    (r"Apache License\s+Version 2\.0", "Apache-2.0"),
    (r"Eclipse Public License - v ?2\.0", "EPL-2.0"),
    (r"Eclipse Distribution License - v 1\.0", "BSD-3-Clause"),
    (r"Permission is hereby granted, free of charge", "MIT"),
    (r"Redistribution and use in source and binary forms", "BSD"),
)


@dataclass(frozen=True)
class Part:
    """A package or a jar; `origin` is pypi or maven."""

    origin: str
    group: str | None
    name: str
    version: str
    sha256: str
    licences: tuple[str, ...]


def python_packages(site: Path, report: Mapping[str, Any]) -> Iterator[Part]:
    """What is installed in `site`; `report` is what `pip install --report` wrote of it."""
    sha256 = {each["metadata"]["name"]: _sha256_of_archive(each) for each in report["install"]}
    for installed in distributions(path=[str(site)]):
        told = installed.metadata
        yield Part("pypi", None, told["Name"], told["Version"], sha256[told["Name"]], _of_metadata(told))


def _sha256_of_archive(installed: Mapping[str, Any]) -> str:
    archive = installed["download_info"]["archive_info"]
    return str(archive["hashes"]["sha256"] if "hashes" in archive else archive["hash"].removeprefix("sha256="))


def _of_metadata(told: PackageMetadata) -> tuple[str, ...]:
    if "License-Expression" in told:
        return (told["License-Expression"],)
    classified = [line.split(" :: ")[-1] for line in told.get_all("Classifier", []) if line.startswith("License :: ")]
    if classified:
        return tuple(classified)
    text = str(told["License"]).strip() if "License" in told else ""
    return (text,) if text and len(text) < _LONGEST_NAME else (_of_text(text) or UNSTATED,)


def of_jars(paths: Sequence[Path], locked: Mapping[str, str]) -> Iterator[Part]:
    """Of files of any folder; `locked` is the coordinate of each SHA-256 that the lock names."""
    for path in paths:
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        with zipfile.ZipFile(path) as jar:
            pom = _own_pom(jar, path.name)
            licences = _licences(jar, pom)
            group, name, version = _coordinate(locked.get(sha256), jar, pom, path.name)
        yield Part("maven", group, name, version, sha256, licences)


def _own_pom(jar: zipfile.ZipFile, file_name: str) -> str | None:
    """A jar that holds others has their poms too; its own is of the longest name that the file's has in it."""
    poms = [name for name in jar.namelist() if re.fullmatch(r"META-INF/maven/[^/]+/[^/]+/pom\.xml", name)]
    own = [name for name in poms if f"{name.split('/')[3]}-" in file_name]
    return max(own, key=lambda name: len(name.split("/")[3]), default=None)


def _coordinate(
    locked: str | None, jar: zipfile.ZipFile, pom: str | None, file_name: str
) -> tuple[str | None, str, str]:
    if locked:
        group, name, version = locked.split(":")[:3]
        return group, name, version
    match = _JAR.fullmatch(file_name)
    name, version = (match["name"], match["version"]) if match else (file_name.removesuffix(".jar"), "unknown")
    return (pom.split("/")[2] if pom else None), name, version


def _licences(jar: zipfile.ZipFile, pom: str | None) -> tuple[str, ...]:
    if pom:
        root = ElementTree.fromstring(jar.read(pom))
        names = [each.text.strip() for each in root.findall("{*}licenses/{*}license/{*}name") if each.text]
        if names:
            return tuple(_named(" ".join(name.split())) for name in names)
    if "META-INF/MANIFEST.MF" in jar.namelist():
        manifest = jar.read("META-INF/MANIFEST.MF").decode(errors="replace").replace("\r\n", "\n").replace("\n ", "")
        if found := re.search(r"^Bundle-License: *(.+)$", manifest, re.MULTILINE):
            return tuple(_named(name.strip(' "')) for name in found[1].split(","))
    for name in jar.namelist():
        if re.fullmatch(r"(META-INF/)?LICEN[SC]E[^/]*", name, re.IGNORECASE) and (
            found_text := _of_text(jar.read(name).decode(errors="replace"))
        ):
            return (found_text,)
    return (UNSTATED,)


def _named(name: str) -> str:
    """The one licence that has a dozen names, by its own; others as they are written."""
    is_apache = re.fullmatch(
        r"\S*apache\.org/licenses/LICENSE-2\.0\S*|(The )?Apache (Software )?(License,? )?(Version )?2(\.0)?", name
    )
    return "Apache-2.0" if is_apache else name


def _of_text(text: str) -> str | None:
    return next((licence for pattern, licence in _TEXTS if re.search(pattern, text, re.IGNORECASE)), None)


def bill_of_materials(parts: Sequence[Part]) -> str:
    """CycloneDX 1.6 as JSON."""
    image = Component(name="lakehouse-spark", type=ComponentType.CONTAINER)
    bom = Bom(components=map(_component, parts))
    bom.metadata.component = image
    bom.register_dependency(image, bom.components)
    return make_outputter(bom, OutputFormat.JSON, SchemaVersion.V1_6).output_as_string(indent=1)


def _component(part: Part) -> Component:
    purl = PackageURL(part.origin, part.group, part.name, part.version)
    return Component(
        name=part.name,
        group=part.group,
        version=part.version,
        type=ComponentType.LIBRARY,
        bom_ref=f"{purl}#{part.sha256[:8]}",  # two jars may be of one coordinate, as by a classifier
        purl=purl,
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=part.sha256)],
        licenses=[DisjunctiveLicense(name=licence) for licence in part.licences if licence != UNSTATED],
        properties=[Property(name="lakehouse:licence", value=UNSTATED)] if UNSTATED in part.licences else [],
    )


def licences(parts: Sequence[Part]) -> str:
    """A line for each part."""
    return "".join(f"{part.origin}\t{part.name}\t{part.version}\t{' or '.join(part.licences)}\n" for part in parts)


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--site", type=Path, required=True, help="the folder of the packages, PySpark among them")
    parser.add_argument("--report", type=Path, required=True, help="what pip install --report wrote of it")
    parser.add_argument("--locked", type=Path, required=True, help="jars.lock")
    parser.add_argument("--jars", type=Path, required=True, help="the folder of the locked jars")
    parser.add_argument("--into", type=Path, required=True, help="the folder of what is written")
    given = parser.parse_args(arguments)
    locked = {match["sha256"]: match["coordinate"] for match in _LOCKED.finditer(given.locked.read_text())}
    paths = [*given.jars.glob("*.jar"), *(given.site / "pyspark" / "jars").glob("*.jar")]
    packages = python_packages(given.site, json.loads(given.report.read_text()))
    parts = sorted([*packages, *of_jars(paths, locked)], key=lambda part: (part.origin, part.name.lower(), part.sha256))
    given.into.mkdir(parents=True, exist_ok=True)
    (given.into / "bom.cdx.json").write_text(bill_of_materials(parts))
    (given.into / "licences.tsv").write_text(licences(parts))
    print(f"{len(parts)} parts, {sum(UNSTATED in part.licences for part in parts)} of which state no licence")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
