"""The command line: fast help, one sentence for an error, exit codes, one JSON document."""

import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

import savile
from savile import cli
from savile.errors import Problem, UsageError
from savile.ladder.answer import Customized
from savile.ladder.folder import RunFolder
from tests import small_case

HEAVY = {"torch", "transformers", "scipy", "sklearn", "pyarrow", "tokenizers"}
LIGHT_COMMANDS = (["--help"], ["run", "--help"], ["--version"])
NO_TORCH_COMMANDS = (
    ["schema"],
    ["techniques"],
    ["check", "SPEC"],
    ["check", "SPEC", "--set", "base=no/such"],
    ["check", "SPEC", "--set", "base={endpoint: 'http://localhost:9/v1', model: m}"],
    ["report", "RUN"],
)


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a small case with a base, its spec, and a finished run."""
    folder = tmp_path_factory.mktemp("case")
    base = small_case.write_base(folder / "base")
    small_case.write_case(folder, base, ladder="[zero_shot, {lora: {learning_rate: 0.02}}]")
    assert cli.main(["run", str(folder / "task.yaml"), "-o", str(folder / "run"), "-q"]) == 0
    return folder


def modules_of(arguments: Sequence[str]) -> set[str]:
    """Return the top-level modules that a command imports, in a process of its own."""
    code = (
        "import sys; from savile.cli import main\n"
        "code = main(sys.argv[1:]); print('\\n', *sys.modules); sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True
    )
    return {name.split(".")[0] for name in done.stdout.splitlines()[-1].split()}


@pytest.mark.parametrize("arguments", LIGHT_COMMANDS)
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    assert not modules_of(arguments) & (HEAVY | {"numpy", "ruamel"})


@pytest.mark.parametrize("arguments", NO_TORCH_COMMANDS)
def test_what_trains_nothing_imports_no_torch(arguments: list[str], case: Path) -> None:
    places = {"SPEC": str(case / "task.yaml"), "RUN": str(case / "run")}
    given = [places.get(word, word) for word in arguments]
    assert not modules_of(given) & {"torch", "transformers", "scipy"}


def test_run_prints_the_board_and_writes_the_page(
    case: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["run", str(case / "task.yaml"), "-o", str(case / "run")]) == 0
    said = capsys.readouterr().out
    assert "zero_shot" in said
    assert "lora(learning_rate=0.02)" in said
    assert f"report: {case / 'run' / 'report.html'}" in said
    assert "<!doctype html>" in (case / "run" / "report.html").read_text().lower()


def test_json_is_the_board_and_nothing_else(case: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    for command in (["run", str(case / "task.yaml"), "-o"], ["report"]):
        assert cli.main([*command, str(case / "run"), "--json"]) == 0
        document = json.loads(capsys.readouterr().out)
        assert document == RunFolder(case / "run").board()


def test_json_is_one_document_also_when_nothing_worked(
    case: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    spec = [str(case / "task.yaml"), "--set", "ladder=[{few_shot: {k: 30}}]"]
    assert cli.main(["run", *spec, "-o", str(tmp_path / "run"), "--json"]) == 6
    said = capsys.readouterr()
    document = json.loads(said.out)
    assert {row["status"] for row in document["board"] if row["kind"] == "prompt"} == {"not_run"}
    assert "error: few_shot(k=30): prompt and answer need" in said.err


def test_a_folder_of_another_run_is_refused_or_forked(
    case: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["run", str(case / "task.yaml"), "--only", "zero_shot", "-q", "-o", str(case / "run")]
    assert cli.main(command) == 2
    assert "or --fork for one beside it" in capsys.readouterr().err
    assert cli.main([*command, "--fork"]) == 0
    assert f"report: {case / 'run-2' / 'report.html'}" in capsys.readouterr().out


def test_progress_goes_to_stderr_one_line_a_unit(
    case: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = ["run", str(case / "task.yaml"), "--only", "zero_shot"]
    assert cli.main([*spec, "-o", str(tmp_path / "loud")]) == 0
    lines = [line for line in capsys.readouterr().err.splitlines() if "zero_shot" in line]
    assert len(lines) == 2
    assert lines[1].lstrip().startswith("100%")
    assert cli.main([*spec, "-o", str(tmp_path / "still"), "--quiet"]) == 0
    assert "zero_shot" not in capsys.readouterr().err


def test_predict_answers_with_the_best_or_a_named_technique(
    case: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert cli.main(["predict", str(case / "run"), "lost cup", "sold rug", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert {p["answer"] for p in document["predictions"]} <= {"yes", "no"}
    assert cli.main(["predict", str(case / "run"), "lost cup", "--technique", "zero_shot"]) == 0
    assert capsys.readouterr().out.strip() in {"yes", "no"}


def test_predict_of_no_input_prints_no_line(
    case: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    capsys.readouterr()
    for given, lines in ((b"", 0), (b"lost cup\nsold rug\n", 2)):
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(given)))
        assert cli.main(["predict", str(case / "run"), "--technique", "zero_shot"]) == 0
        assert len(capsys.readouterr().out.splitlines()) == lines


def test_predict_prints_one_line_an_answer_whatever_stands_in_it(
    case: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = ["Dear customer,\r\n\nno.", None, "a\\nb", "été\t\x1b[31m\x85\u2028"]
    monkeypatch.setattr(Customized, "predict", lambda self, inputs: answers)
    command = ["predict", str(case / "run"), *"abcd", "--technique", "zero_shot"]
    capsys.readouterr()
    assert cli.main(command) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        r"Dear customer,\r\n\nno.",
        "",
        r"a\\nb",
        "été\t" + r"\x1b[31m\x85\u2028",
    ]
    assert cli.main([*command, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert [row["answer"] for row in document["predictions"]] == answers
    assert cli.main(["predict", "--help"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert r"printed as \n, a backslash as \\" in said


def test_check_tells_the_data(case: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["check", str(case / "task.yaml")]) == 0
    assert "train: 48 rows" in capsys.readouterr().out
    assert cli.main(["check", str(case / "task.yaml"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["task"] == "small"


@pytest.mark.parametrize(
    ("file", "content", "code"),
    [
        ("config.json", b'{"model_type": "never_seen"}', 4),
        ("config.json", b'{"model_type": "llama", "auto_map": {"AutoModel": "x.Y"}}', 5),
        ("model.safetensors", b"cut", 5),
        ("tokenizer.json", b"{", 4),
    ],
)
def test_check_looks_at_the_base_as_run_does(
    file: str, content: bytes, code: int, case: Path, tmp_path: Path
) -> None:
    shutil.copytree(case / "base", tmp_path / "base")
    (tmp_path / "base" / file).write_bytes(content)
    spec = [str(case / "task.yaml"), "--set", f"base={tmp_path / 'base'}"]
    assert cli.main(["check", *spec]) == code
    assert cli.main(["run", *spec, "-o", str(tmp_path / "run"), "-q"]) == code


def test_check_notes_a_base_that_is_not_in_the_cache(
    case: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    assert cli.main(["check", str(case / "task.yaml"), "--set", "base=no/such"]) == 0
    said = capsys.readouterr().out
    assert "note: base no/such: not in the local cache: not checked" in said
    assert "warning: only 16 dev rows: settings are chosen on 16 rows" in said


def test_init_writes_a_spec_that_checks(
    case: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = tmp_path / "new" / "task.yaml"
    assert cli.main(["init", str(case / "train.jsonl"), "-o", str(spec)]) == 0
    said = capsys.readouterr().out
    assert f"wrote {spec} and, for editors, {spec.parent / 'task.schema.json'}\n" in said
    assert f"savile run {spec}" in said
    assert cli.main(["check", str(spec)]) == 0
    assert cli.main(["init", str(case / "train.jsonl"), "-o", str(spec)]) == 2


@pytest.mark.parametrize("command", ["schema", "techniques", "env"])
def test_what_describes_itself_is_json(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([command, *(["--json"] if command != "schema" else [])]) == 0
    assert isinstance(json.loads(capsys.readouterr().out), dict)


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["runn"], 2, "No such command 'runn'"),
        (["run"], 2, "Missing argument"),
        (["run", "nowhere.yaml"], 2, "nowhere.yaml: the spec does not exist"),
        (["run", "SPEC", "--set", "seeed=1"], 2, "seeed"),
        (["run", "SPEC", "-o", "OUT", "--only", "loro"], 2, "Did you mean lora?"),
        (["run", "SPEC", "-o", "OUT", "--set", "base=./nothing"], 4, "was not found"),
        (["run", "SPEC", "-o", "RUN", "--seed=9"], 2, "`spec.seed` differs"),
        (["run", "SPEC", "-o", "OUT", "--set", "data.test=no.jsonl"], 3, "no.jsonl"),
        (["check", "SPEC", "--set", "base=./nothing"], 4, "was not found"),
        (["check", "DATA"], 2, "that is a data file: `savile init "),
        (["report", "nowhere"], 2, "nowhere: holds no finished run"),
        (["init", "nothing"], 2, "nothing"),
    ],
)
def test_an_error_is_a_sentence_with_its_exit_code(
    arguments: list[str],
    code: int,
    says: str,
    case: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    places = {
        "SPEC": case / "task.yaml",
        "RUN": case / "run",
        "OUT": tmp_path / "out",
        "DATA": case / "train.jsonl",
    }
    given = [str(places.get(word, word)) for word in arguments]
    assert cli.main(given) == code
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert says in error
    assert "Traceback" not in error
    assert cli.main([*given, "--json"]) == code
    document = json.loads(capsys.readouterr().out)
    assert document["error"]["exit_code"] == code
    assert document["error"]["problems"][0]["what"]


def test_at_most_twenty_problems_are_shown_and_all_are_counted(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def many(*_: object, **__: object) -> None:
        raise UsageError([Problem(what=f"wrong {i}") for i in range(25)])

    monkeypatch.setattr("savile.spec.load", many)
    assert cli.main(["check", "task.yaml"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 21
    assert lines[-1] == "error: ... and 5 more"


def test_a_bug_is_exit_1_with_a_file_and_a_traceback_only_with_debug(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def bug(*_: object, **__: object) -> None:
        raise ZeroDivisionError("oh")

    monkeypatch.setattr("savile.spec.load", bug)
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    assert cli.main(["check", "task.yaml"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: a bug in savile: ZeroDivisionError: oh")
    assert "Traceback" not in error
    (details,) = tmp_path.iterdir()
    assert str(details) in error
    assert "Traceback" in details.read_text()
    assert cli.main(["check", "task.yaml", "--debug"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_a_reader_that_leaves_and_a_closed_stdout_are_no_errors() -> None:
    command = f"{sys.executable} -m savile techniques"
    env = {**os.environ, "PYTHONPATH": str(Path(savile.__file__).parents[1])}
    for shell in (f"{command} | head -1; exit ${{PIPESTATUS[0]}}", f"{command} >&-"):
        done = subprocess.run(
            ["bash", "-c", shell], capture_output=True, text=True, env=env, check=False
        )
        assert (done.returncode, done.stderr) == (0, "")


def test_savile_is_cheap_to_import_and_gives_run() -> None:
    code = "import sys, savile; assert 'torch' not in sys.modules; print(savile.run.__module__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "savile.api\n"
    with pytest.raises(AttributeError, match="no attribute 'walk'"):
        savile.walk  # noqa: B018
