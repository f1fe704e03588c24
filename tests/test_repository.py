"""The repository names no machine and no registry, and its modules stay small."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MAX_BYTES = 2_000_000
MAX_MODULE_LINES = 320
MAX_FUNCTION_LINES = 60
MAX_PARAMETERS = 8
MAX_OPTIONS = 13
"""A command's options are the parameters of its function, and nothing else calls it."""
TEXT_SUFFIXES = frozenset(
    {".py", ".md", ".toml", ".txt", ".yaml", ".yml", ".json", ".jsonl", ".sh", ""}
)
# Spelled in pieces, so that this file does not find itself.
HOSTS = ("py" + "pi", "python" + "hosted", "npm" + "js", "deb." + "debian", "download." + "pytorch")
REGISTRY = re.compile(r"https?://[^\s\"')]*(" + "|".join(map(re.escape, HOSTS)) + ")")
MACHINE_PATH = re.compile(
    r"(?<![\w.<>])/(" + "wo" + "rk|ho" + "me|ro" + "ot|Us" + r"ers|tm" + r"p)/\w"
)
PIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*==[0-9][0-9A-Za-z.]*")


def tracked() -> list[Path]:
    """Every file of the checkout that git does not ignore (all files where there is no git)."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if listed.returncode:
        pytest.skip("not a git checkout")
    return [path for line in listed.stdout.splitlines() if (path := ROOT / line).is_file()]


def modules() -> list[Path]:
    return sorted((ROOT / "src").rglob("*.py"))


def test_no_machine_and_no_registry_is_named() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()[:80]}"
        for path in tracked()
        if path.suffix in TEXT_SUFFIXES and path.stat().st_size < MAX_BYTES
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if REGISTRY.search(line) or MACHINE_PATH.search(line)
    ]
    assert not found, "\n".join(found)


def test_no_large_file_but_the_embedded_models() -> None:
    embedded = ROOT / "src" / "savile" / "embedded"
    large = [
        f"{path.relative_to(ROOT)}: {path.stat().st_size:,} bytes"
        for path in tracked()
        if path.stat().st_size > MAX_BYTES and not path.is_relative_to(embedded)
    ]
    assert not large


@pytest.mark.parametrize("path", modules(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_module_fits_in_a_head(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.count("\n") <= MAX_MODULE_LINES
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            assert lines <= MAX_FUNCTION_LINES, f"{node.name}: {lines} lines"
            count = len(node.args.posonlyargs + node.args.args + node.args.kwonlyargs)
            most = MAX_OPTIONS if path.parent.name == "cli" else MAX_PARAMETERS
            assert count <= most, f"{node.name}: {count} parameters"


@pytest.mark.parametrize("name", ["constraints.txt", "bench/requirements.txt"])
def test_pins_are_names_and_versions_only(name: str) -> None:
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    assert lines
    assert [line for line in lines if not PIN.fullmatch(line)] == []


def test_every_direct_dependency_is_pinned() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"].values()
    wanted = [*project["dependencies"], *(line for extra in extras for line in extra)]
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = {_canonical(line.split("==")[0]) for line in lines}
    names = {_canonical(re.split(r"[<>=!~\[; ]", requirement)[0]) for requirement in wanted}
    assert names - pinned == set()


def test_every_figure_in_the_documents_is_the_newest_result() -> None:
    command = [sys.executable, str(ROOT / "bench" / "table.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "bench/README.md", "Makefile"])
def test_every_make_command_that_is_named_exists(name: str) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    text = (ROOT / name).read_text(encoding="utf-8")
    named = re.findall(r"^[$#] +make (\w+)", text, re.MULTILINE)
    targets = re.findall(r"^(\w+):", makefile, re.MULTILINE)
    assert named
    assert set(named) <= set(targets)


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
