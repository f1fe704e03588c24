"""The spec's data section: where the rows are, how they are read, how they are divided."""

from __future__ import annotations

from typing import Annotated, Literal, Self, final

from pydantic import BeforeValidator, Field, model_validator

from savile.spec.section import Section, Text
from savile.spec.settings import REAL, WHOLE, as_delimiter

Share = Annotated[float, Field(ge=0.0, le=1.0), REAL]
Letter = Annotated[str, Field(min_length=1, max_length=1)]


@final
class Shares(Section):
    """How one `file` is divided, by a hash of the input."""

    train: Share = 0.7
    """Share of the rows to learn from and to show."""
    dev: Share = 0.1
    """Share of the rows on which settings are chosen."""
    test: Share = 0.2
    """Share of the rows that are sealed until every candidate is ready."""

    @model_validator(mode="after")
    def _sum(self) -> Self:
        total = self.train + self.dev + self.test
        if abs(total - 1.0) > 1e-6 or self.test == 0.0 or self.dev == 0.0:
            raise ValueError(
                f"'shares' should add up to 1 with dev and test above 0; found {self.train} + "
                f"{self.dev} + {self.test} = {total:g}"
            )
        return self


@final
class DataSection(Section):
    """Where the rows are and how to read them."""

    train: Text | None = None
    """File of labelled rows to learn from (.jsonl .json .csv .tsv .parquet, also .gz)."""
    dev: Text | None = None
    """File of rows to choose settings on; without it 15 % of train (at most 1000 rows)."""
    test: Text | None = None
    """File of rows for the final score; without it 20 % of train."""
    file: Text | None = None
    """One file that is divided by `shares`; instead of train, dev and test."""
    shares: Shares = Shares()
    """How `file` is divided."""
    preferences: Text | None = None
    """File of judged answers: prompt, chosen and rejected; or prompt, completion and label. Divided
    by a hash of the prompt."""
    preferences_test: Text | None = None
    """File of judged answers that are held out for the comparison at the end; then `preferences` is
    divided into train and dev alone."""
    input: Text | None = None
    """Column with the question, or a template: `"{subject}: {body}"`. Guessed when absent."""
    output: Text | None = None
    """Column with the wanted answer, or a template. Guessed when absent."""
    rationale: Text | None = None
    """Column with worked steps, for chain of thought."""
    format: Literal[
        "auto", "columns", "prompt_completion", "chat", "alpaca", "sharegpt", "steps"
    ] = "auto"
    """Shape of the rows; `auto` recognizes it and says so."""
    delimiter: Annotated[Letter | None, BeforeValidator(as_delimiter)] = None
    """Delimiter of CSV files when it is not the comma (`tab` for .tsv is known)."""
    encoding: Text = "utf-8"
    """Encoding of the files; never guessed."""
    cast: Literal["str"] | None = None
    """`str` accepts a column that is a number in some rows and text in others."""
    normalize: bool = False
    """Treat labels that differ only by case, spaces or Unicode form as one."""
    dedup: bool = False
    """Drop rows of train that repeat an earlier row."""
    leak: Literal["error", "drop_train", "allow"] = "error"
    """What to do with rows of train or dev whose input is in test or `preferences_test`, and with
    `preferences` likewise: stop, drop them, keep them."""
    group_by: Text | None = None
    """Column whose rows must stay in one split (a customer, a document)."""
    strict: bool = False
    """Make columns that are not used, and more than 1 % near duplicates, an error."""
    allow_drop: bool = False
    """Go on when more than 1 % of the rows cannot be used."""
    max_line: Annotated[int, Field(ge=1024, le=1 << 30), WHOLE] = 16 << 20
    """Longest line in bytes."""
    too_long: Literal["error", "drop", "truncate_prompt_left"] = "error"
    """What to do with a row whose question and answer do not fit the model's context; one whose
    question alone leaves no room is set aside, unless questions are cut."""

    @model_validator(mode="after")
    def _sources(self) -> Self:
        if self.file and (self.train or self.dev or self.test):
            raise ValueError(
                "'data' has both 'file' and 'train'/'dev'/'test'; give one or the other"
            )
        if not (self.file or self.train or self.test):
            raise ValueError("'data' names no file; write data.file, or data.train and data.test")
        return self
