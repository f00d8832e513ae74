# Each target does all the set-up itself. PYTHON=/path/to/python chooses the interpreter, ARGS="…" adds options.
export PYTHON
.PHONY: demo dagster test check

demo:
	@scripts/install demo
	@.venv/bin/lakehouse demo $(ARGS)

dagster:
	@scripts/install dagster
	@[ -e "$${LAKEHOUSE_HOME:-.lakehouse}/catalog.db" ] || .venv/bin/lakehouse demo
	@scripts/dagster $(ARGS)

test:
	@scripts/install dev
	@scripts/test $(ARGS)

check:
	@scripts/install dev
	@scripts/check
