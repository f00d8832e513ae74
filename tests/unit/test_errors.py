"""Errors of others become one sentence, by what they are and not by a list of texts."""

from dataclasses import dataclass
from typing import Any

import pytest
from py4j.protocol import Py4JNetworkError

from lakehouse_spark.errors import LONGEST, LakehouseError, RefusedError, in_a_sentence, is_caused_by


@dataclass
class Named:
    name: str

    def getName(self) -> str:  # noqa: N802
        return self.name


@dataclass
class Throwable:
    """An exception of Java's as Py4J shows it."""

    name: str
    message: str | None = None
    cause: Any = None

    def getClass(self) -> Named:  # noqa: N802
        return Named(self.name)

    def getMessage(self) -> str | None:  # noqa: N802
        return self.message

    def getCause(self) -> Any:  # noqa: N802
        return self.cause


class JavaError(Exception):
    def __init__(self, said: str, *chain: tuple[str, str | None]) -> None:
        super().__init__(said)
        self.java_exception: Throwable | None = None
        for name, message in reversed(chain):
            self.java_exception = Throwable(name, message, self.java_exception)


CALLED = (
    "An error occurred while calling o3261.append.\n: java.lang.Foo\n\tat java.base/java.util.Objects.x(Objects.java)"
)


@pytest.mark.parametrize(
    ("chain", "sentence"),
    [
        ([("java.net.SocketException", "Connection reset")], "java.net.SocketException: Connection reset"),
        (
            [("org.apache.spark.SparkException", "Writing job aborted"), ("java.io.IOException", "No space left")],
            "java.io.IOException: No space left",
        ),
        (
            [("java.lang.RuntimeException", "the commit failed\nat once"), ("java.lang.NullPointerException", None)],
            "java.lang.NullPointerException (the commit failed)",
        ),
        ([("java.lang.NullPointerException", None)], "java.lang.NullPointerException (An error occurred while calling "
         "o3261.append.)"),
        (
            [("a.b.Wrapper", "x"), ("org.apache.spark.SparkException", "[FAILED_READ_FILE.NO_HINT] Encountered error "
              "while reading file file:///x.gz.  SQLSTATE: KD001"), ("java.io.EOFException", "Unexpected end")],
            "java.io.EOFException: Unexpected end ([FAILED_READ_FILE.NO_HINT] Encountered error while reading file "
            "file:///x.gz.)",
        ),
        (
            [("x.StreamingQueryException", "[STREAM_FAILED] Query [id = 1] ended"), ("java.io.IOException", "full")],
            "java.io.IOException: full",
        ),
        (
            [("spark.sql.catalyst.parser.ParseException", "\n[PARSE_SYNTAX_ERROR] Syntax error at or near 'x'. "
              "SQLSTATE: 42601 (line 1, pos 0)\n\n== SQL ==\nx\n^^^\n")],
            "[PARSE_SYNTAX_ERROR] Syntax error at or near 'x'. (line 1, pos 0)",
        ),
        (
            [("py4j.Py4JException", "An exception was raised by the Python Proxy. Return Message: \n"
              "Traceback (most recent call last):\n  File \"x.py\", line 1, in <module>\nValueError: too late\n")],
            "py4j.Py4JException: ValueError: too late",
        ),
        (
            [("org.apache.spark.SparkException", "Task failed:\n\tat a.b(C.java)\nCaused by: java.io.IOException: x\n"
              "\tat d.e(F.java)")],
            "org.apache.spark.SparkException: java.io.IOException: x",
        ),
        (
            [("a.RESTException", '{\n "error": {\n  "message": "no such warehouse", "code": 1}}')],
            "a.RESTException: no such warehouse",
        ),
    ],
)  # fmt: skip
def test_an_error_of_java_is_told_by_its_deepest_cause(chain: list[tuple[str, str | None]], sentence: str) -> None:
    assert in_a_sentence(JavaError(CALLED, *chain)) == sentence


def test_an_error_whose_jvm_is_gone_keeps_what_it_told_before() -> None:
    class GoneError(JavaError):
        def __str__(self) -> str:
            raise ConnectionError("Answer from Java side is empty")

    error = GoneError("")
    assert in_a_sentence(error) == "GoneError"
    error.java_exception = Throwable("java.lang.OutOfMemoryError", "Java heap space", Throwable)  # not to be asked
    assert in_a_sentence(error) == "java.lang.OutOfMemoryError: Java heap space"


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (FileNotFoundError(2, "No such file or directory", "/no/where"), "No such file or directory: /no/where"),
        (OSError("disk quota exceeded"), "disk quota exceeded"),
        (KeyError("price"), "KeyError: 'price'"),
        (ValueError("first line\nsecond line"), "ValueError: first line"),
        (ValueError("\n\t "), "ValueError"),
        (RuntimeError(), "RuntimeError"),
        (
            Py4JNetworkError("Answer from Java side is empty"),
            "the JVM that Spark runs in is gone, killed or out of memory: Answer from Java side is empty",
        ),
        (LakehouseError("bronze.raw_trades: no", "Do this"), "bronze.raw_trades: no. Do this"),
    ],
)
def test_an_error_of_python_is_told_by_its_message_or_its_name(error: Exception, sentence: str) -> None:
    assert in_a_sentence(error) == sentence


def test_a_call_that_finds_the_jvm_gone_says_so() -> None:
    refused = ConnectionRefusedError(111, "Connection refused")
    refused.__context__ = Py4JNetworkError("Answer from Java side is empty")
    assert in_a_sentence(refused) == (
        "the JVM that Spark runs in is gone, killed or out of memory: [Errno 111] Connection refused"
    )


@pytest.mark.parametrize("error", [ValueError("x" * 20_000), JavaError("", ("a.B", "y" * 20_000)), OSError("z" * 500)])
def test_a_sentence_is_never_longer_than_a_screen_holds(error: Exception) -> None:
    assert len(in_a_sentence(error)) <= LONGEST == 400
    assert in_a_sentence(error).endswith(" …")


def test_a_chain_of_causes_that_never_ends_is_told_too() -> None:
    error = JavaError("", ("a.B", "round and round"))
    assert error.java_exception is not None
    error.java_exception.cause = error.java_exception
    assert in_a_sentence(error) == "a.B: round and round"


def test_an_error_is_known_by_its_classes_and_conditions() -> None:
    error = JavaError("", ("a.SparkException", "[KAFKA_DATA_LOSS.PARTITIONS_DELETED] gone"), ("b.c.D$Inner", "x"))
    for name in ("SparkException", "KAFKA_DATA_LOSS", "KAFKA_DATA_LOSS.PARTITIONS_DELETED", "Inner"):
        assert is_caused_by(error, "Other", name)
    assert not is_caused_by(error, "KAFKA", "gone", "D$Inner", "Spark")
    assert not is_caused_by(ValueError("[KAFKA_DATA_LOSS] gone"), "KAFKA_DATA_LOSS")


def test_an_error_carries_what_happened_and_what_to_do_apart() -> None:
    error = RefusedError("bronze.raw_trades: 3 offsets were removed", "To accept this, run: x")
    assert str(error) == "bronze.raw_trades: 3 offsets were removed. To accept this, run: x"
    assert (error.happened, error.advice) == ("bronze.raw_trades: 3 offsets were removed", "To accept this, run: x")
    assert str(RefusedError("only this")) == "only this"
