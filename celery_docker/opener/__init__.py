"""The process celery-docker-open: opens the paths of jobs as their users, and pins their folders for Docker.

May import: errors, core, host.
Invariants: no path is opened but by the rights of the user that is asked for; what is handed over lies below the roots
that were asked for; nothing is unmounted that this process has not mounted.
"""
