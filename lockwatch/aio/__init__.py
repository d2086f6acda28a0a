"""asyncio: its locks in the wait-for graph, and its tasks as agents."""
