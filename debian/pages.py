"""Write man pages, completion scripts and the schema of a job where the package has them: pages.py FOLDER.

Runs on Debian's own Python when the package is built: what it imports needs no library.
"""

import datetime
import json
import os
import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from celery_docker.cli.syntax import completion, manual  # noqa: E402
from celery_docker.core import jobspec  # noqa: E402
from debian import version  # noqa: E402


def texts() -> dict[str, str]:
    """Return each file's path below the folder, and what it says."""
    # The build's own date would make each build another.
    built = datetime.datetime.fromtimestamp(int(os.environ.get("SOURCE_DATE_EPOCH", "0")), datetime.UTC)
    date = built.date().isoformat()
    settings = (ROOT / "etc/default/celery-worker").read_text(encoding="utf-8")
    return {
        "man/celery-docker.1": manual.celery_docker(version.VERSION, date),
        "man/celery-worker.8": manual.celery_worker(version.VERSION, date),
        "man/celery-worker.default.5": manual.defaults(version.VERSION, date, settings),
        "bash/celery-docker": completion.bash(),
        "zsh/_celery-docker": completion.zsh(),
        "fish/celery-docker.fish": completion.fish(),
        "schema/job.schema.json": json.dumps(jobspec.json_schema(), indent=2) + "\n",
    }


def write(folder: pathlib.Path) -> None:
    """Write all of them."""
    for name, text in texts().items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write(pathlib.Path(sys.argv[1]))
