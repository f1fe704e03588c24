import io

from rich.console import Console

from savile.ladder.live import LiveProgress
from savile.ladder.progress import Step


def shown(*, terminal: bool, quiet: bool = False, verbose: bool = False) -> str:
    file = io.StringIO()
    console = Console(file=file, force_terminal=terminal, width=120)
    with LiveProgress(console, quiet=quiet, verbose=verbose) as live:
        live(Step(phase="load", unit="embedded", done=0.0, total=1.0))
        live(Step(phase="train", unit="[red]lora[/]", done=50.0, total=100.0))
        live(
            Step(
                phase="train", unit="[red]lora[/]", done=60.0, total=100.0, finished="lora: [b] 0.8"
            )
        )
    return file.getvalue()


def test_without_a_terminal_one_line_a_unit() -> None:
    assert shown(terminal=False) == " 60%  lora: [b] 0.8\n"


def test_on_a_terminal_a_bar_with_the_time_left_and_lines_when_verbose() -> None:
    bar = shown(terminal=True)
    assert "training" in bar
    assert "[red]lora[/]" in bar
    assert "0.8" not in bar
    assert "lora: [b] 0.8" in shown(terminal=True, verbose=True)


def test_quiet_says_nothing() -> None:
    assert shown(terminal=False, quiet=True) == ""
    assert shown(terminal=True, quiet=True) == ""
