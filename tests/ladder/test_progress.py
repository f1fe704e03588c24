from savile.ladder.progress import Step, Work


def test_work_adds_up_and_lines_are_said_once_per_committed_unit() -> None:
    heard: list[Step] = []
    work = Work(100.0, heard.append)
    work.say("train", "lora")
    work.at(30.0)
    work.finish(60.0, "lora: 0.8 on dev")
    work.say("predict", "lora")
    work.at(10.0)
    work.finish(60.0, None)
    assert [step.done for step in heard] == [0.0, 30.0, 60.0, 60.0, 70.0, 100.0]
    assert [step.finished for step in heard if step.finished] == ["lora: 0.8 on dev"]
    assert {step.total for step in heard} == {100.0}
