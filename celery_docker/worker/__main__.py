"""`python -m celery_docker.worker`: what celery-worker.service starts."""

import os
import sys

from celery_docker.worker.main import main

sys.exit(main(os.environ))
