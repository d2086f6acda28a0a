"""Five philosophers at a round table, and one fork between each two: a program that hangs, unless it is watched.

Each takes the left fork, then the right one. In the first round they wait for one another with the left fork in hand,
so that the deadlock is certain. Who is told of it puts the fork down, thinks for a moment and tries again.

    python philosophers.py                  hangs for ever (Ctrl-C ends it)
    lockwatch run philosophers.py           all get their meals
    lockwatch demo                          the same, with explanations

This is a program to be run, not a part of lockwatch: nothing imports it.
"""

import threading
import time

from lockwatch.errors import DeadlockError

MEALS = 2

fork_1 = threading.Lock()
fork_2 = threading.Lock()
fork_3 = threading.Lock()
fork_4 = threading.Lock()
fork_5 = threading.Lock()

everyone_has_one = threading.Barrier(5)


def dine(left: threading.Lock, right: threading.Lock) -> None:
    """Has ``MEALS`` meals with these two forks.

    Args:
        left: the fork taken first.
        right: the fork taken second, with the left one in hand.
    """
    name = threading.current_thread().name
    eaten = 0
    together = True
    while eaten < MEALS:
        try:
            with left:
                if together:
                    together = False
                    everyone_has_one.wait()
                with right:
                    eaten += 1
                    say(f"{name} eats (meal {eaten} of {MEALS})")
        except DeadlockError:
            say(f"{name} is told of the deadlock, puts the fork down and thinks for a while")
            time.sleep(0.1)


def say(words: str) -> None:
    """Prints a line at once, so that what several threads say stays in order."""
    print(words + "\n", end="", flush=True)


def main() -> None:
    """Seats all five and waits until they have finished."""
    places = [
        ("Hypatia", fork_1, fork_2),
        ("Socrates", fork_2, fork_3),
        ("Confucius", fork_3, fork_4),
        ("Avicenna", fork_4, fork_5),
        ("Spinoza", fork_5, fork_1),
    ]
    philosophers = [threading.Thread(target=dine, args=forks, name=name) for name, *forks in places]
    for philosopher in philosophers:
        philosopher.start()
    for philosopher in philosophers:
        philosopher.join()
    say(f"All {len(philosophers)} philosophers have had their {MEALS} meals.")


if __name__ == "__main__":
    main()
