"""The Celery application that celery_run.py starts a worker of and asks: CELERY_URL names the server.

Everything is as Celery has it by default: tasks go over database 0, results come back over database 1.
"""

import os

from celery import Celery
from celery.exceptions import Ignore

app = Celery("weir", broker=os.environ["CELERY_URL"] + "/0", backend=os.environ["CELERY_URL"] + "/1")


@app.task
def add(x, y):
    return x + y


@app.task
def total(numbers):
    return sum(numbers)


@app.task(throws=ValueError)
def fails(text):
    raise ValueError(text)


@app.task(bind=True, max_retries=2, default_retry_delay=0)
def third_time_lucky(self):
    if self.request.retries < 2:
        raise self.retry()
    return self.request.retries


@app.task(bind=True)
def reports(self):
    self.update_state(state="HALFWAY", meta={"done": 50})
    raise Ignore()
