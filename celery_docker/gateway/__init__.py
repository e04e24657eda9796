"""The service celery-docker-api: jobs over HTTP, for users whom the kernel attests on its socket, or a token over TCP.

May import: errors, version, core, host, store, client. Only webserver imports waitress.
Invariant: nobody sees or changes a job that is not his, and every refusal is one line of JSON.
"""
