"""What is said beside deadlocks: a thread's lock held across an await, and tasks that a closed loop left behind."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.tasks.conftest import Loops

HELD = """
lock = threading.Lock()
async def body():
    for _ in range(3):
        with lock:
            await asyncio.sleep(0.01)
asyncio.run(body())
"""


def test_held_across_an_await(loops: Loops) -> None:
    """If asked for, it is said once for each place, as a warning, with the task and the lock."""
    (found,) = loops(HELD, settings={"held_across_await": True}).findings
    assert (found["kind"], found["level"]) == ("misuse", "warning")
    assert "Lock 'lock'" in found["message"]
    (party,) = found["parties"]
    assert party["stack"][0]["function"] == "body"


def test_not_said_unless_asked_for(loops: Loops) -> None:
    """By default a lock held across an await is the program's own business."""
    assert loops(HELD).findings == []


def test_a_lock_held_around_the_loop_is_not_held_across_an_await(loops: Loops) -> None:
    """It was taken before the loop began, so it is no task's."""
    outcome = loops(
        """
        lock = threading.Lock()
        with lock:
            asyncio.run(asyncio.sleep(0.01))
        """,
        settings={"held_across_await": True},
    )
    assert outcome.findings == []


def test_tasks_left_behind(loops: Loops) -> None:
    """A loop that is closed with tasks pending: a leak, with their names and where they wait."""
    outcome = loops(
        """
        loop = asyncio.new_event_loop()
        async def body():
            await asyncio.sleep(60)
        task = loop.create_task(body(), name="forgotten")
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()
        """
    )
    (found,) = outcome.findings
    assert (found["kind"], found["level"]) == ("leak", "warning")
    assert "Task 'forgotten'" in found["message"]


def test_a_loop_whose_tasks_have_ended_is_closed_in_silence(loops: Loops) -> None:
    """``asyncio.run`` cancels what is left before it closes the loop."""
    outcome = loops(
        """
        async def main():
            asyncio.create_task(asyncio.sleep(60))
            await asyncio.sleep(0)
        asyncio.run(main())
        """
    )
    assert outcome.findings == []
