"""SQLAlchemy's QueuePool, too small for 16 threads that share it, on one database in a file."""

import sys
import tempfile
import threading
from pathlib import Path

if len(sys.argv) > 1:
    import watched  # type: ignore[import-not-found]

    watched.begin()

import sqlalchemy
from sqlalchemy.pool import QueuePool

THREADS = 16
ROUNDS = 30

with tempfile.TemporaryDirectory() as folder:
    engine = sqlalchemy.create_engine(
        f"sqlite:///{Path(folder) / 'data.db'}",
        poolclass=QueuePool,
        pool_size=3,
        max_overflow=2,
        pool_timeout=30,
        connect_args={"check_same_thread": False, "timeout": 30},
    )
    with engine.begin() as connection:
        connection.execute(sqlalchemy.text("create table visits (thread integer, round integer)"))
    writing = threading.Lock()
    sums = [0] * THREADS

    def work(number: int) -> None:
        """Write and read in turn, a connection from the pool each time."""
        for turn in range(ROUNDS):
            with writing, engine.begin() as own:
                own.execute(sqlalchemy.text(f"insert into visits values ({number}, {turn})"))
            with engine.connect() as own:
                count = own.execute(sqlalchemy.text(f"select count(*) from visits where thread = {number}"))
                sums[number] += int(count.scalar_one())

    threads = [threading.Thread(target=work, args=(number,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with engine.connect() as connection:
        total = connection.execute(sqlalchemy.text("select count(*) from visits")).scalar_one()
    engine.dispose()
    print(total, sums, engine.pool.checkedout())  # type: ignore[attr-defined]
