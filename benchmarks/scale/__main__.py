"""`python -m benchmarks.scale --trades 1e9 --books 2e10 --partitions 400 --beat 5`: the tables, of another day."""

import argparse
from dataclasses import replace

from benchmarks.scale import page
from benchmarks.scale.model import TUNED, Day, Exchange


def main() -> None:
    given = argparse.ArgumentParser(prog="python -m benchmarks.scale")
    of, how = Exchange(), TUNED
    for name, default in (("trades", of.trades), ("books", of.books), ("symbols", of.symbols)):
        given.add_argument(f"--{name}", type=float, default=default)
    for name, default in (
        ("partitions", of.partitions), ("beat", how.beat_minutes), ("offsets", how.most_offsets), ("cores", how.cores),
        ("shuffle", how.shuffle_partitions), ("history", how.history_days),
    ):  # fmt: skip
        given.add_argument(f"--{name}", type=int, default=default)
    said = given.parse_args()
    exchange = replace(
        of, trades=round(said.trades), books=round(said.books), symbols=round(said.symbols), partitions=said.partitions
    )
    setup = replace(
        how, beat_minutes=said.beat, most_offsets=said.offsets, cores=said.cores, shuffle_partitions=said.shuffle,
        history_days=said.history,
    )  # fmt: skip
    day = Day(exchange, setup)
    for table in (page.steps(day), page.metadata([("as given", day)]), page.limits_of(exchange, setup)):
        print(table, end="\n\n")


if __name__ == "__main__":
    main()
