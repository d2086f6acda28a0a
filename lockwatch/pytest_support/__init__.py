"""What the pytest plugin does once it is switched on; `lockwatch.pytest_plugin` is what pytest loads.

settings: options, variables, inis and markers, and which of them counts. scopes: which test a thread belongs to.
session: what was found, by whom it is told. leaks, unwinding: what a test left behind, and how it goes away.
stalls: the last resort. watch: the hooks. workers: pytest-xdist. neighbours: other plugins. wording: what is
written. view: the fixture.
"""
