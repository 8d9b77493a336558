"""The example shops as their readers start them: gunicorn with four processes, and a worker."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

from support import WRITE_KEY, Gunicorn, Worker

EXAMPLES = Path(__file__).parents[1] / "examples"
#: The shops by their folder, with what gunicorn and what Celery is given.
SHOPS = {"django_shop": ("shop.wsgi", "shop"), "flask_shop": ("shop:app", "shop:celery")}


@contextmanager
def serving(shop: str, redis_url: str, segment_url: str, folder: Path):
    """Run a shop's web processes and its worker; yield the former."""
    environ = {
        "REDIS_URL": redis_url,
        "SEGMENT_HOST": segment_url,
        "SHOP_DATABASE": str(folder / "shop.sqlite3"),
        "PYTHONPATH": str(EXAMPLES / shop),
    }
    if (EXAMPLES / shop / "manage.py").exists():
        subprocess.run(
            [sys.executable, "manage.py", "migrate", "--verbosity=0"],
            cwd=EXAMPLES / shop,
            env={**os.environ, **environ},
            check=True,
        )
    keys = {**environ, "SEGMENT_WRITE_KEY": WRITE_KEY}
    wsgi, celery = SHOPS[shop]
    worker = Worker(folder, {}, "shop", ("--concurrency=2",), keys, celery)
    try:
        with Gunicorn(folder, wsgi, environ, processes=4) as web:
            worker.wait_ready()
            yield web
    finally:
        worker.kill()
