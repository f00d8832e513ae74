"""Whether a statement is written as Spark's grammar has it. sqlglot reads much more, as clauses out of their order or a
comma too many, of which Spark says that it is no SQL; but what sqlglot writes is as Spark wants it."""

import re

import sqlglot
from sqlglot import TokenType, exp

from lakehouse_spark.query.typed import NotExactError

_LEFT_OUT = {TokenType.ALIAS, TokenType.INNER, TokenType.OUTER, TokenType.NOT}
"""What may be missing, or stand in two places: AS, INNER, OUTER; and NOT, of which a node without a rule is refused."""
_NOT_OF_A_TABLE = (
    "ANTI", "CROSS", "EXCEPT", "FULL", "INNER", "INTERSECT", "JOIN", "LATERAL", "LEFT", "MINUS", "NATURAL", "ON",
    "RIGHT", "SEMI", "UNION", "USING",
)  # fmt: skip
"""Words that are no name of a table or of a subquery without quotes."""


def check(sql: str, statement: exp.Expression) -> None:
    """Raises NotExactError unless the statement says in the same words what sqlglot took it for."""
    if "/*+" in sql:
        raise NotExactError("a hint in the statement")
    for name in statement.find_all(exp.Identifier):
        if not name.args.get("quoted") and not re.fullmatch(r"[A-Za-z_]\w*", name.name, re.ASCII):
            raise NotExactError(f"{name.name} is a name without quotes")
    for alias in statement.find_all(exp.TableAlias):
        if alias.this and not alias.this.args.get("quoted") and alias.name.upper() in _NOT_OF_A_TABLE:
            raise NotExactError(f"{alias.name} is a name without quotes")
    if _words(sql) != _words(statement.sql("spark", comments=False)):
        raise NotExactError("it is not written as Spark's grammar has it")


def _words(sql: str) -> str:
    """The statement word by word, as far as it matters."""
    tokens = sqlglot.tokenize(sql.rstrip("; \t\n"), read="spark")
    said = " ".join(_word(token.token_type, token.text) for token in tokens if token.token_type not in _LEFT_OUT)
    for pattern, word in _ALIKE:
        said = re.sub(pattern, word, said)
    return said


def _word(kind: TokenType, text: str) -> str:
    """A text or a name in quotes is put so that no word can be seen in it."""
    is_quoted = kind in (TokenType.STRING, TokenType.IDENTIFIER)
    return f"{kind.name}_{text.upper().encode().hex()}" if is_quoted else text.upper()


_ALIKE = (
    (r" == ", " = "),
    (r" <> ", " != "),
    (r" <=> ", " IS DISTINCT FROM "),
    (r" ASC\b(?! DESC)", ""),
    (r" NULLS (FIRST|LAST)\b", ""),
    (r"\bCAST \( (STRING_\w*) (DATE|TIMESTAMP) \)", r"\2 \1"),
)
"""Other words for the same."""
