"""Benchmarks of lockwatch: ``python -m benchmarks``, described in ``docs/benchmarks.md``.

One runner (``runner``) and one module per topic. A topic says what to measure; the runner takes the samples
in interleaved rounds, so that a busy moment of the machine falls on both sides of a comparison. Results are
plain values (``results``) that go to JSON files and come back for the tables and the picture.

Assumes that it is run from a checkout: this package is not part of the wheel. Nothing here depends on more
than the standard library and lockwatch.
"""
