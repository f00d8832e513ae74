"""Three brokers of one cluster: what each holds the others hold too, and two are enough to go on."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from unittest.mock import patch

from lakehouse_spark.local import broker
from lakehouse_spark.local.broker import Broker, _State
from lakehouse_spark.local.loopback import HOST

_REPLICATED = """
node.id={node}
default.replication.factor=3
min.insync.replicas=2
transaction.state.log.replication.factor=3
transaction.state.log.min.isr=2
replica.lag.time.max.ms=5000
"""
_FOLLOWS = """
process.roles=broker
controller.quorum.voters=1@{host}:{controller}
listeners=PLAINTEXT://{host}:{port}
"""


class _Member(Broker):
    """The first member is the controller too, and starts before the others."""

    def __init__(self, home: Path, java: Path, jars: Sequence[Path], node: int, first: "_Member | None") -> None:
        super().__init__(home, java, jars)
        self._node, self._first = node, first

    def _configure(self, folder: Path, state: _State) -> None:
        super()._configure(folder, state)
        said = _REPLICATED.format(node=self._node)
        if self._first is not None:
            led_by = self._first._read_state()
            assert led_by is not None
            said += _FOLLOWS.format(host=HOST, port=state.port, controller=led_by.controller_port)
        with (folder / "server.properties").open("a", encoding="utf-8") as file:
            file.write(said)


@contextmanager
def three_brokers(home: Path, java: Path, jars: Sequence[Path]) -> Iterator[list[Broker]]:
    cluster = broker._new_cluster_id()
    first = _Member(home / "1", java, jars, 1, None)
    members = [first, *(_Member(home / str(node), java, jars, node, first) for node in (2, 3))]
    with ExitStack() as running, patch.object(broker, "_new_cluster_id", lambda: cluster):
        for member in members:
            running.enter_context(member)
        yield [*members]
