#!/usr/bin/env python3
"""Submit one container job and wait for its result; needs nothing but `pip install celery[redis]`.

usage: submit.py redis://HOST:6379/0 IMAGE [ARGS...]
"""

import json
import sys

from celery import Celery


def main() -> int:
    if len(sys.argv) < 3:
        print(__doc__, file=sys.stderr)
        return 2
    url, image, *command = sys.argv[1:]
    app = Celery(broker=url, backend=url)
    # Other arguments by keyword: user, inputpath, outputpath, logoutfile, logerrfile, retries, retry_on.
    sent = app.send_task("tasks.run_docker", kwargs={"image": image, "command": command})
    print(f"submitted {sent.id}", file=sys.stderr)
    try:
        receipt = sent.get()
    except Exception as error:  # noqa: BLE001  # a job that did not succeed says in one line why, whatever its class
        print(error, file=sys.stderr)
        return 1
    print(json.dumps(receipt, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
