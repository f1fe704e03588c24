"""The spec: everything a `task.yaml` may say, frozen, with a doc under every field.

The docs become the JSON schema (`savile schema`) and the editor's hints. `ladder` and `metric` are
checked against the parts that exist (see `ladder.py`), the rest by pydantic.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal, final

from pydantic import BeforeValidator, Field, PrivateAttr, WithJsonSchema, model_validator

from savile.errors import Problem, UsageError
from savile.prompts.base import DEFAULT_MARKER
from savile.spec import ladder as grammar
from savile.spec.budget import BudgetSection, PricesSection
from savile.spec.constraint import OBJECT_OR_FILE
from savile.spec.data import DataSection
from savile.spec.endpoint import ON, Base, EndpointSection, decisive, given_by, short_name
from savile.spec.faults import Fault
from savile.spec.judge import JudgeSection
from savile.spec.reward import RewardText
from savile.spec.section import Section, Text
from savile.spec.settings import REAL, WHOLE, closed_set, stop_strings
from savile.spec.teacher import TeacherSection


@final
class PromptSection(Section):
    """The words that every technique shares."""

    instruction: str | None = None
    """The task in words, shown once at the start."""
    variants: Annotated[tuple[Text, ...], Field(max_length=64)] = ()
    """Other wordings of `instruction`, tried by `searched_prompt`."""
    proposer: Base | None = None
    """A base that writes `searched_prompt`'s `proposals`; absent: the base itself."""
    system: str | None = None
    """Persona, policy or style; shown by the techniques that contain `system`."""
    labels: Annotated[tuple[str, ...] | Literal["auto"] | None, BeforeValidator(closed_set)] = None
    """The closed set of answers: a list, or `auto` for the outputs that occur in the file of train
    (before dev and test are cut out of it)."""
    trigger: Text | None = None
    """What is added to the question for chain of thought."""
    answer_marker: Text = DEFAULT_MARKER
    """What stands before the final answer in a chain of thought."""
    stop: Annotated[tuple[str, ...], BeforeValidator(stop_strings), Field(max_length=16)] = ()
    """Texts before which a written answer ends, such as `["\\n\\n"]`."""
    json_schema: Annotated[dict[str, Any], WithJsonSchema(OBJECT_OR_FILE)] | None = None
    """The JSON schema of written answers, in place or a file's path; `constrained_json` holds
    answers to it."""
    regex: Text | None = None
    """What written answers match as a whole; `constrained_regex` holds answers to it."""


@final
class ComputeSection(Section):
    """Where the model runs."""

    device: Annotated[str, Field(pattern=r"^(auto|cpu|mps|cuda(:[0-9]{1,3})?)$")] = "auto"
    """`auto`, `cpu`, `cuda`, `cuda:1` or `mps`."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Precision of the weights."""
    quantization: Literal["int8", "nf4"] | None = None
    """Keep the base's linear maps in 8 or 4 bits, a half or a quarter of bfloat16, and tune beside
    them; needs torchao. What trains the maps themselves (`full`) does not run on such a base."""
    threads: Annotated[int, Field(ge=1, le=1024), WHOLE] | None = None
    """CPU threads; absent: all cores, and one for a base of less than three million parameters."""

    @property
    def gives(self) -> frozenset[str]:
        """What a base of this kind gives techniques beyond its data."""
        return frozenset() if self.quantization else frozenset({"plain_weights"})


@final
class Spec(Section):
    """One business case: data, base model, metric, budget and the techniques to compare."""

    task: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
    """Name of the task: letters, digits, dots, hyphens, underscores."""
    description: str | None = None
    """What the task is, for people."""
    base: Base = "embedded"
    """Base model: `embedded`, `embedded-large`, a folder, a Hugging Face id, or a model behind an
    API: `{endpoint: URL, model: NAME}`."""
    teacher: TeacherSection | None = None
    """A larger or better model to learn from (`distill`) and to be held against."""
    bases: Annotated[tuple[Base, ...], Field(min_length=2, max_length=16)] | None = None
    """Several base models on one board, in the place of `base`: every technique on each of them."""
    data: DataSection
    """Where the rows are and how to read them."""
    prompt: PromptSection = PromptSection()
    """The words that every technique shares."""
    metric: Any = None
    """Name of the metric, or `{name: settings}`; absent: accuracy for labels, else exact_match."""
    also_metrics: tuple[Any, ...] = ()
    """Other metrics of the same answers, beside the score; they choose and rank nothing."""
    judge: JudgeSection | None = None
    """A model that compares answers in pairs, beside the metric; it chooses and ranks nothing."""
    reward: RewardText | None = None
    """What answers are worth to `ppo`, `grpo` and `rloo` in the place of the metric, as a Python
    function of your own: `FILE.py:FUNCTION`, called with input, answer and reference (texts), which
    returns a finite number, more for better. `savile run` runs the file with all your rights."""
    goal: Annotated[float, REAL] | None = None
    """The score that would be good enough."""
    budget: BudgetSection = BudgetSection()
    """What every tuned technique may spend."""
    prices: PricesSection | None = None
    """What things cost, in USD; absent: the board shows no money."""
    ladder: Any = "auto"
    """`auto`, or the list of techniques to compare."""
    seed: Annotated[int, Field(ge=0, lt=1 << 64), WHOLE] = 0
    """Seed of everything random."""
    seeds: Annotated[int, Field(ge=1, le=100), WHOLE] = 3
    """How many seeds each technique of chance is measured with; with 1 nothing is decided about
    techniques that are tuned or draw demonstrations."""
    compute: ComputeSection = ComputeSection()
    """Where the model runs."""

    _path: Path = PrivateAttr(default=Path("task.yaml"))

    @model_validator(mode="before")
    @classmethod
    def _first_base(cls, values: Any) -> Any:
        """Let `base` be the first of `bases`: its tokenizer counts, its context limits the rows."""
        several = values.get("bases") if isinstance(values, dict) else None
        if not isinstance(several, (list, tuple)) or not several:
            return values
        if "base" in values:
            raise ValueError("'base' and 'bases' are both given; give one of them")
        return {**values, "base": several[0]}

    @property
    def every_base(self) -> tuple[str | EndpointSection, ...]:
        """The base models of the ladder, then of teacher, proposer and a judge of its own."""
        teacher = () if self.teacher is None else (self.teacher.base,)
        proposer = () if self.prompt.proposer is None else (self.prompt.proposer,)
        own = self.judge is None or self.judge.base in self.ladder_bases
        judge = () if own or self.judge is None else (self.judge.base,)
        return (*self.ladder_bases, *teacher, *proposer, *judge)

    @property
    def ladder_bases(self) -> tuple[str | EndpointSection, ...]:
        """The base models that techniques stand on."""
        return self.bases or (self.base,)

    @property
    def judging_base(self) -> int:
        """The judge's place in `every_base`."""
        shared = [i for i, b in enumerate(self.ladder_bases) if self.judge and b == self.judge.base]
        return shared[0] if shared else len(self.every_base) - 1

    @property
    def proposing_base(self) -> int | None:
        """The proposer's place in `every_base`; None where the base itself proposes."""
        place = len(self.ladder_bases) + (self.teacher is not None)
        return None if self.prompt.proposer is None else place

    @property
    def teaching_candidate(self) -> grammar.Candidate | None:
        """The teacher as a row of the board."""
        if self.teacher is None:
            return None
        return replace(self.teacher.candidate, base=len(self.ladder_bases))

    @property
    def endpoints(self) -> tuple[EndpointSection, ...]:
        """The base models behind an API."""
        return tuple(base for base in self.every_base if isinstance(base, EndpointSection))

    @property
    def path(self) -> Path:
        """The file the spec was read from."""
        return self._path

    @property
    def folder(self) -> Path:
        """The folder that relative paths of the spec resolve against."""
        return self._path.parent

    @property
    def metric_name(self) -> str:
        """The metric's name; accuracy for a closed set and exact_match for text when not given."""
        if self.metric is None:
            return "accuracy" if self.prompt.labels else "exact_match"
        return str(next(iter(self.metric)) if isinstance(self.metric, Mapping) else self.metric)

    @property
    def metric_settings(self) -> dict[str, Any]:
        """The settings given for the metric."""
        if isinstance(self.metric, Mapping):
            return dict(next(iter(self.metric.values())) or {})
        return {}

    @property
    def other_metrics(self) -> dict[str, dict[str, Any]]:
        """The settings of the other metrics by their names."""
        return {
            str(next(iter(one)) if isinstance(one, Mapping) else one): dict(
                next(iter(one.values())) or {} if isinstance(one, Mapping) else {}
            )
            for one in self.also_metrics
        }

    def candidates(
        self, gives: frozenset[str], n_train: int | None = None
    ) -> tuple[grammar.Candidate, ...]:
        """Return the techniques of the ladder; those that cannot run carry their `reason`.

        Args:
            gives: what the data give (`pairs`, `rationales`, `system`, `labels`).
            n_train: train rows, which decide how far `auto` goes; None when not known.

        Raises:
            UsageError: when the ladder (of a spec made in Python) is not valid.
        """
        written = grammar.auto(gives, n_train) if self.ladder == "auto" else self.ladder
        found, faults = grammar.parse(written)
        if faults:
            raise UsageError(
                [Problem(where=_dotted(f.loc), what=f.what, fix=f.fix) for f in faults]
            )
        gives |= self.compute.gives
        gives |= {"teacher"} if self.teacher else frozenset()
        return tuple(
            replace(
                one,
                base=index,
                name=f"{one.name}{ON}{short_name(base)}" if self.bases else one.name,
                reason=one.reason or grammar.reason(one.needs, gives | given_by(base)),
            )
            for index, base in enumerate(self.ladder_bases)
            for one in found
        )

    def opponent_fault(self, candidates: Sequence[grammar.Candidate]) -> Fault | None:
        """Return what is wrong with the opponent that the judge's section names, None for nothing.

        Args:
            candidates: what runs.
        """
        return None if self.judge is None else self.judge.fault(self._names(candidates))

    def opponent(self, candidates: Sequence[grammar.Candidate]) -> str | None:
        """Return the technique that others are judged against, None for the wanted answers.

        Raises:
            UsageError: none of the candidates has its name, or several have.
        """
        if (fault := self.opponent_fault(candidates)) is not None:
            where = _dotted(fault.loc)
            raise UsageError(Problem(where=where, what=fault.what, expected=fault.expected))
        return None if self.judge is None else self.judge.opponent(self._names(candidates))

    def _names(self, candidates: Sequence[grammar.Candidate]) -> list[str]:
        rows = [*candidates, *filter(None, [self.teaching_candidate])]
        return [candidate.name for candidate in rows]

    def resolved(self) -> dict[str, Any]:
        """Return everything the spec says, defaults included, as plain JSON-able values."""
        values: dict[str, Any] = self.model_dump(mode="json")
        values["metric"] = {self.metric_name: self.metric_settings}
        return values

    def decisive(self) -> dict[str, Any]:
        """Return what can change a number: `resolved` without ceilings and ways of asking."""
        kept = self.resolved()
        del kept["budget"]["usd"], kept["bases"]
        bases = [decisive(base) for base in self.ladder_bases]
        kept["base"] = bases if self.bases else bases[0]
        if self.teacher is not None:
            kept["teacher"]["base"] = decisive(self.teacher.base)
        if self.judge is not None:
            kept["judge"] = self.judge.decisive
        if self.prompt.proposer is not None:
            kept["prompt"]["proposer"] = decisive(self.prompt.proposer)
        return kept


def _dotted(loc: tuple[str | int, ...]) -> str:
    return ".".join(map(str, loc))
