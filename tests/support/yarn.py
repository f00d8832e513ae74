"""A Hadoop of one machine: HDFS and YARN, each server a process on loopback, as their distribution starts them."""

import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Self

from lakehouse_spark import jars
from lakehouse_spark.local.loopback import HOST, free_port, wait_for
from tests.support import processes

_ANY_PORT = f"{HOST}:0"
_JVM = ("-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "--add-opens=java.base/java.lang=ALL-UNNAMED")
_NAME_NODE = "org.apache.hadoop.hdfs.server.namenode.NameNode"
_DATA_NODE = "org.apache.hadoop.hdfs.server.datanode.DataNode"
_MANAGER = "org.apache.hadoop.yarn.server.resourcemanager.ResourceManager"
_SCHEDULER = "org.apache.hadoop.yarn.server.resourcemanager.scheduler.fifo.FifoScheduler"
_NODE = "org.apache.hadoop.yarn.server.nodemanager.NodeManager"
_CLIENTS = ("hadoop-client-*", "slf4j-api-*", "log4j-*", "jcl-over-slf4j-*")
_LOG = """\
rootLogger.level = info
rootLogger.appenderRef.stderr.ref = stderr
appender.stderr.type = Console
appender.stderr.name = stderr
appender.stderr.target = SYSTEM_ERR
appender.stderr.layout.type = PatternLayout
appender.stderr.layout.pattern = %d %p %c{1}: %m%n%xEx{short}
"""


class Hadoop(processes.Servers):
    """A file system, a resource manager, and nodes of two cores; `conf` is what a user names in HADOOP_CONF_DIR."""

    def __init__(self, folder: Path, java_home: Path, class_path: Sequence[Path]) -> None:
        super().__init__(folder, java_home)
        of_spark = [path for name in _CLIENTS for path in jars.SPARK_JARS.glob(f"{name}.jar")]
        self._class_path = [*class_path, *of_spark]
        files, manager, scheduler, tracker, admin = (f"{HOST}:{free_port()}" for _ in range(5))
        self._settings = {
            "fs.defaultFS": f"hdfs://{files}",
            "dfs.replication": "1",
            "dfs.namenode.rpc-address": files,
            "dfs.namenode.http-address": _ANY_PORT,
            "dfs.namenode.name.dir": str(folder / "names"),
            "dfs.datanode.data.dir": str(folder / "blocks"),
            "dfs.datanode.address": _ANY_PORT,
            "dfs.datanode.http.address": _ANY_PORT,
            "dfs.datanode.ipc.address": _ANY_PORT,
            "yarn.resourcemanager.hostname": HOST,
            "yarn.resourcemanager.address": manager,
            "yarn.resourcemanager.scheduler.address": scheduler,
            "yarn.resourcemanager.resource-tracker.address": tracker,
            "yarn.resourcemanager.admin.address": admin,
            "yarn.resourcemanager.webapp.address": _ANY_PORT,
            "yarn.resourcemanager.scheduler.class": _SCHEDULER,
            "yarn.scheduler.minimum-allocation-mb": "256",
        }
        self.conf = self._configured("user")

    def __enter__(self) -> Self:
        format_it = self._command(self.conf, _NAME_NODE, "-format")
        subprocess.run(format_it, env=self._environment(self.folder), capture_output=True, check=True)
        self._start("name-node", _NAME_NODE, "IPC Server Responder: starting")
        self._start("data-node", _DATA_NODE, "Successfully sent block report")
        self._start("manager", _MANAGER, "Transitioned to active state")
        return self

    def add_node(self) -> None:
        """One with a folder and a home of its own."""
        name = f"node-{len(self._servers)}"
        own = {
            "address": _ANY_PORT,
            "localizer.address": _ANY_PORT,
            "webapp.address": _ANY_PORT,
            "local-dirs": str(self.folder / name / "local"),
            "log-dirs": str(self.folder / name / "logs"),
            "user-home-dir": str(self.folder / name / "home"),
            "env-whitelist": f"JAVA_HOME,{self._MARK}",
            "resource.memory-mb": "2560",
            "resource.cpu-vcores": "2",
            "vmem-check-enabled": "false",
            "disk-health-checker.max-disk-utilization-per-disk-percentage": "100",
        }
        sign = "Registered with ResourceManager"
        self._start(name, _NODE, sign, {f"yarn.nodemanager.{each}": value for each, value in own.items()})

    def drivers(self) -> Iterator[processes.Process]:
        """Those that are alive: the JVMs that YARN began for an application itself."""
        return self._of("org.apache.spark.deploy.yarn.ApplicationMaster")

    def executors(self) -> Iterator[processes.Process]:
        return self._of("org.apache.spark.executor.YarnCoarseGrainedExecutorBackend")

    def logs(self) -> dict[str, str]:
        """What each container wrote, by its file's path."""
        files = sorted(self.folder.glob("node-*/logs/*/*/std*"))
        return {str(file.relative_to(self.folder)): file.read_text(errors="replace") for file in files}

    def _configured(self, name: str, **more: str) -> Path:
        """A folder of what all servers and users know, and more."""
        folder = self.folder / name / "conf"
        folder.mkdir(parents=True)
        (folder / "log4j2.properties").write_text(_LOG)
        for file, prefix in (("core", "fs."), ("hdfs", "dfs."), ("yarn", "yarn.")):
            known = {key: value for key, value in (self._settings | more).items() if key.startswith(prefix)}
            (folder / f"{file}-site.xml").write_text(_site(known))
        return folder

    def _command(self, conf: Path, server: str, *words: str) -> list[str]:
        class_path = os.pathsep.join(map(str, [conf, *self._class_path]))
        return [str(self._java_home / "bin" / "java"), *_JVM, "-cp", class_path, server, *words]

    def _start(self, name: str, server: str, sign: str, settings: Mapping[str, str] = {}) -> None:
        conf, home = self._configured(name, **settings), self.folder / name / "home"
        home.mkdir()
        self._begin(self._command(conf, server), conf.parent, self._environment(home))
        assert wait_for(lambda: sign in self._log(name), 60), self._log(name)


def _site(settings: Mapping[str, str]) -> str:
    named = (f"<property><name>{name}</name><value>{value}</value></property>\n" for name, value in settings.items())
    return f"<configuration>\n{''.join(named)}</configuration>\n"
