"""The service: `python -m celery_docker.gateway`."""

from __future__ import annotations

import os
import sys

from celery_docker.gateway.main import main

sys.exit(main(os.environ))
