"""`python -m celery_docker.cli`."""

from celery_docker.cli.main import main

raise SystemExit(main())
