import random
from datetime import UTC, datetime

import pytest

from savile.errors import InterruptedRun, UnusableBase
from savile.lm.endpoint import patience as waiting
from savile.lm.endpoint.failures import Failure, Stopped
from savile.lm.endpoint.patience import Patience, backoff, retry_after

NOW = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)


class Slept:
    """A clock that time only passes on while somebody waits."""

    def __init__(self, patience: Patience) -> None:
        self.now, self.waits = 100.0, list[float]()
        patience.clock = lambda: self.now
        patience.stopping.wait = self.wait  # type: ignore[method-assign]

    def wait(self, seconds: float | None = None) -> bool:
        self.waits.append(seconds or 0.0)
        self.now += seconds or 0.0
        return False


def waited(give_up: float = 600.0) -> tuple[Patience, Slept]:
    patience = Patience("here", give_up)
    return patience, Slept(patience)


@pytest.mark.usefixtures("hurried")
@pytest.mark.parametrize("failures", [0, 1, 5, 40, 10_000])
def test_waits_are_spread_below_a_limit_that_doubles(
    failures: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "FIRST_SECONDS", 0.5)
    rng = random.Random(failures)
    waits = [backoff(failures, rng) for _ in range(500)]
    limit = min(30.0, 0.5 * 2.0 ** min(failures, 100))
    assert 0.0 <= min(waits) < 0.05 * limit
    assert 0.95 * limit < max(waits) <= limit


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "0.25"}, 0.25),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"retry-after": "Thu, 01 Jan 2026 12:00:30 GMT"}, 30.0),
        ({"retry-after": "Thu, 01 Jan 2026 11:00:00 GMT"}, 0.0),
        ({"retry-after": "Thu, 01 Jan 2026 12:00:30"}, 30.0),
        ({"retry-after": "-3"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "tomorrow"}, None),
        ({"retry-after": ""}, None),
        ({}, None),
    ],
)
def test_what_a_server_asks_for_is_read(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers, NOW) == seconds


def test_a_server_is_given_the_time_it_asks_for() -> None:
    patience, slept = waited()
    patience.after(Failure("busy", after=12.0), 0, started=100.0)
    assert slept.waits == [12.0]
    assert patience.waited_seconds == 12.0


def test_a_rate_limit_makes_every_request_wait_and_another_failure_none() -> None:
    patience, slept = waited()
    patience.after(Failure("broke", after=3.0), 0, started=100.0)
    patience.enter()
    assert slept.waits == [3.0]
    patience.after(Failure("limit", after=9.0, everyone=True), 0, started=slept.now)
    slept.now -= 4.0  # as another request sees it, before that time is over
    patience.enter()
    assert slept.waits == [3.0, 9.0, pytest.approx(4.0)]


def test_it_is_given_up_before_a_wait_that_would_end_too_late() -> None:
    patience, slept = waited(60.0)
    with pytest.raises(InterruptedRun, match=r"it asks to wait 61 seconds"):
        patience.after(Failure("busy", after=61.0), 0, started=100.0)
    slept.now += 59.0
    with pytest.raises(InterruptedRun, match=r"4 attempts, base\.give_up_seconds is 60"):
        patience.after(Failure("busy", after=1.5), 3, started=100.0)
    assert slept.waits == []


def test_some_failures_are_final_after_a_few() -> None:
    patience, _ = waited()
    patience.after(Failure("not JSON", tries=3), 1, started=100.0)
    with pytest.raises(UnusableBase, match="not JSON"):
        patience.after(Failure("not JSON", tries=3), 2, started=100.0)


def test_nobody_waits_when_the_run_ends() -> None:
    patience = Patience("here", 600.0)
    patience.stopping.set()
    with pytest.raises(Stopped):
        patience.after(Failure("busy", after=500.0), 0, started=patience.clock())
    with pytest.raises(Stopped):
        patience.enter()
