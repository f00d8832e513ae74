"""The workloads, in order: adding one is adding a module and a line here."""

from collections.abc import Mapping
from dataclasses import dataclass

from benchmarks import (
    w1_bronze,
    w2_silver,
    w3_dimensions,
    w4_facts,
    w5_gold,
    w6_compaction,
    w7_metadata,
    w8_cycle,
    w9_beat,
    w10_doors,
)
from benchmarks.plan import Contender, Workload


@dataclass(frozen=True)
class Entry:
    """A workload and its contenders by name, as a child is told them."""

    workload: Workload
    contenders: Mapping[str, type[Contender]]


WORKLOADS: Mapping[str, Entry] = {
    module.WORKLOAD.name: Entry(module.WORKLOAD, {contender.name: contender for contender in module.CONTENDERS})
    for module in (
        w1_bronze,
        w2_silver,
        w3_dimensions,
        w4_facts,
        w5_gold,
        w6_compaction,
        w7_metadata,
        w8_cycle,
        w9_beat,
        w10_doors,
    )
}
