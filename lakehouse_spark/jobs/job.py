"""What a job is: a name, a line, its options, the topics it reads, its size and the function that does the work."""

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from lakehouse_spark.catalog import table
from lakehouse_spark.jobs.summary import Summary
from lakehouse_spark.table import Table

Options = Mapping[str, Any]
"""The values given for a job's options, by the names of its `run`'s parameters."""


@dataclass(frozen=True)
class Option:
    """One option of a job: a switch, unless its value has a name for the help, `metavar`.

    `parameter` is what the job's `run` calls it. A value is one of the `choices`, if there are any, and what `parse`
    makes of its text. With `repeats` the option may be given several times, and what `run` gets is a list; with
    `takes_several`, several values at a time. A run with one that `leaves_tables` does not do what the job is for: it
    neither ends a failure of the job nor is one.
    """

    flag: str
    parameter: str
    help: str
    metavar: str = ""
    choices: tuple[str, ...] = ()
    parse: Callable[[str], object] = str
    repeats: bool = False
    takes_several: bool = False
    leaves_tables: bool = False

    @property
    def is_switch(self) -> bool:
        return not self.metavar

    def read(self, text: str) -> object:
        """The value that a text stands for; raises ValueError for one that is none."""
        if self.choices and text not in self.choices:
            raise ValueError(f"{text!r} is none of {', '.join(self.choices)}")
        return self.parse(text)


@dataclass(frozen=True)
class Size:
    """What a run needs, for a day of moderate volume: memory in the JVM's notation (2g), cores and memory each."""

    driver_memory: str
    executors: int
    executor_memory: str
    executor_cores: int

    def wanted_in(self, environment: Mapping[str, str]) -> dict[str, str]:
        """The settings that ask for it, with what the environment says of them; a master on one machine uses the
        driver's memory alone."""
        executors = {
            "spark.executor.instances": str(self.executors),
            "spark.executor.memory": self.executor_memory,
            "spark.executor.cores": str(self.executor_cores),
        }
        memory, conf = "LAKEHOUSE_SPARK__DRIVER_MEMORY", "LAKEHOUSE_SPARK__CONF"
        wanted = environment.get(conf, "{}")
        with suppress(ValueError, TypeError):  # whoever reads the settings says what is wrong with them
            wanted = json.dumps(executors | json.loads(wanted))
        return {memory: environment.get(memory, self.driver_memory), conf: wanted}


@dataclass(frozen=True)
class Job:
    """`run` gets the session, the settings and the options by name; `topics` are those it reads from Kafka.

    One that `migrates` brings an older lakehouse to this release itself. It `writes` this table, unless its options
    name others.
    """

    name: str
    line: str
    size: Size
    run: Callable[..., list[Summary]]
    options: tuple[Option, ...] = ()
    topics: tuple[str, ...] = ()
    migrates: bool = False
    writes: str = "_metadata.maintenance_log"

    def leaves_tables(self, given: Options) -> bool:
        """Whether a run with these options leaves the tables as they are."""
        return any(option.leaves_tables and given.get(option.parameter) for option in self.options)

    def first_written(self, given: Options) -> Table:
        """A table that a run with these options writes, if there is something new."""
        named = [*(given.get("tables") or ()), *(given.get("dimensions") or ())]
        return table(named[0] if named else self.writes)
