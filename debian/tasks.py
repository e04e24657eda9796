#!/opt/celery/venv/bin/python
"""Submit a job: the command /opt/celery/worker/tasks.py."""

from celery_docker.cli.tasks import main

if __name__ == "__main__":
    raise SystemExit(main())
