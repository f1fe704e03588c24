"""The figures of `docs/techniques.md`: a test records what it asserted of a technique.

`bench/techniques.py` runs the tests and keeps the figures of those that passed; by themselves the
tests keep nothing.
"""

from collections.abc import Callable

Record = Callable[[str, object], None]


class Gate:
    """Records figures under a column of the table: `parity`, `families`, `batch`, `tree`, `resume`
    or `export` (how many contract tests a technique passed is counted without it)."""

    def __init__(self, record: Record) -> None:
        self._record = record

    def __call__(self, technique: object, column: str, value: float, about: str) -> None:
        """Record one figure.

        Args:
            technique: a delta, an objective or a prompt, or its name.
            column: of the table.
            value: an error, or how many things differ; 0 is shown as equality.
            about: what was compared, or with what; the largest value of each is shown.
        """
        named = isinstance(technique, str)
        name = technique if named else type(technique).__module__.rpartition(".")[2]
        figure = {"technique": name, "value": float(value), "about": about}
        self._record(f"gate:{column}", figure)
