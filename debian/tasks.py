#!/opt/celery/venv/bin/python
"""Submit a job: the command /opt/celery/worker/tasks.py."""

from celery_docker.tasks_cli import main

if __name__ == "__main__":
    raise SystemExit(main())
