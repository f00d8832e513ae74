"""A standalone Spark master and its workers: real processes on loopback, each with a folder and a home of its own."""

import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Self

from lakehouse_spark import jars
from lakehouse_spark.local.loopback import HOST, free_port, is_open, wait_for
from tests.support import processes


class Cluster(processes.Servers):
    """A master, and workers of one core each."""

    def __init__(self, folder: Path, java_home: Path) -> None:
        super().__init__(folder, java_home)
        self.port = free_port()

    @property
    def master(self) -> str:
        return f"spark://{HOST}:{self.port}"

    def __enter__(self) -> Self:
        master = (
            "org.apache.spark.deploy.master.Master",
            "--host",
            HOST,
            "--port",
            str(self.port),
            "--webui-port",
            "0",
        )
        self._start("master", *master)
        assert wait_for(lambda: is_open(self.port), 60), self._log("master")
        return self

    def add_worker(self) -> None:
        name = f"worker-{len(self._servers)}"
        worker = "org.apache.spark.deploy.worker.Worker"
        self._start(
            name, worker, "--host", HOST, "--webui-port", "0", "--cores", "1", "--memory", "1200m",
            "--work-dir", str(self.folder / name / "work"), self.master,
        )  # fmt: skip
        assert wait_for(lambda: "Successfully registered" in self._log(name), 60), self._log(name)

    def executors(self) -> Iterator[processes.Process]:
        """Those that are alive."""
        return self._of("org.apache.spark.executor.CoarseGrainedExecutorBackend")

    def kill_an_executor(self) -> bool:
        """Whether there was one."""
        for process in self.executors():
            with suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)
                return True
        return False

    def _start(self, name: str, *words: str) -> None:
        home = self.folder / name
        home.mkdir(parents=True)
        own = {"SPARK_LOCAL_IP": HOST, "SPARK_HOME": str(jars.SPARK_JARS.parent), "SPARK_DAEMON_MEMORY": "256m"}
        own |= {"SPARK_NO_DAEMONIZE": "1"}
        program = str(jars.SPARK_JARS.parent / "bin" / "spark-class")
        self._begin([program, *words], home, self._environment(home) | own)
