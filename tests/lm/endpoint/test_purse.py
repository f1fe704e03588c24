import threading
from collections.abc import Mapping
from typing import Any

import pytest

from savile.errors import InterruptedRun
from savile.lm.endpoint.failures import Stopped
from savile.lm.endpoint.purse import Purse

RUNNING = threading.Event()


def test_without_a_ceiling_everything_is_paid_and_recorded() -> None:
    seen: list[Mapping[str, Any]] = []
    purse = Purse(record=seen.append)
    purse.hold(1e9, RUNNING)
    purse.pay(1e9, 2.0, {"written": 3})
    purse.hold(1.0, RUNNING)
    purse.pay(1.0, 0.0, {})
    assert seen == [{"usd": 2.0, "written": 3}]
    assert purse.paid == 2.0


def test_what_does_not_fit_is_refused_with_all_three_numbers() -> None:
    purse = Purse(5.0, paid=4.5)
    purse.hold(0.5, RUNNING)
    purse.pay(0.5, 0.25, {})
    with pytest.raises(InterruptedRun) as error:
        purse.hold(0.3, RUNNING)
    said = error.value.problems[0]
    assert said.what == "stopped before the ceiling of 5 USD would be passed"
    assert said.found == "4.75 USD paid; the next answer may cost 0.3 USD"
    assert "--set budget.usd=USD" in said.fix


def test_a_ceiling_of_nothing_lets_only_free_requests_through() -> None:
    purse = Purse(0.0)
    purse.hold(0.0, RUNNING)
    with pytest.raises(InterruptedRun):
        purse.hold(1e-9, RUNNING)


@pytest.mark.parametrize(("cost", "sent"), [(0.2, True), (0.9, False)])
def test_near_the_ceiling_a_request_waits_for_what_another_costs(cost: float, sent: bool) -> None:
    purse, result = Purse(1.0), list[str]()
    purse.hold(0.9, RUNNING)

    def second() -> None:
        try:
            purse.hold(0.8, RUNNING)
            result.append("sent")
        except InterruptedRun:
            result.append("refused")

    thread = threading.Thread(target=second)
    thread.start()
    assert result == []
    purse.pay(0.9, cost, {})
    thread.join(10)
    assert result == ["sent" if sent else "refused"]


def test_waiting_ends_with_the_run() -> None:
    purse, stopping = Purse(1.0), threading.Event()
    purse.hold(0.9, stopping)
    stopping.set()
    with pytest.raises(Stopped):
        purse.hold(0.8, stopping)
