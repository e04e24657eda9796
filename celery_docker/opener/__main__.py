"""The entry of the process: `python -m celery_docker.opener FOLDER`, with a listening socket from systemd."""

from __future__ import annotations

import sys

from celery_docker.opener.server import main

sys.exit(main(sys.argv[1:]))
