"""The mechanism of lockwatch: agents, holds, waits, the mutex and the detector.

Nothing here does I/O, renders text, or knows the policy of a particular lock. Nothing here imports any other
part of lockwatch; what the layers above have to say comes in through `hooks` and `settings`.
"""
