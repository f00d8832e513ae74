"""A run in one process, known to be alive or dead from its first step to its last."""

from collections.abc import Iterator
from typing import Any

import dagster as dg

from lakehouse_spark.orchestration import processes


class _Held(dg.Executor):
    """Another executor, under the lock of the run."""

    def __init__(self, inner: dg.Executor) -> None:
        self._inner = inner

    @property
    def retries(self) -> Any:
        return self._inner.retries

    def execute(self, plan_context: Any, execution_plan: Any) -> Iterator[Any]:
        with processes.held(plan_context.instance, plan_context.run_id):
            yield from self._inner.execute(plan_context, execution_plan)


_CONFIG: Any = dg.in_process_executor.config_schema


@dg.executor(name="in_process_and_held", config_schema=_CONFIG)
def executor(init_context: dg.InitExecutorContext) -> dg.Executor:
    """A run has one process to die, and its job hears of it."""
    make: Any = dg.in_process_executor.executor_creation_fn
    return _Held(make(init_context))
