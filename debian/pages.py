"""Write man pages, completion scripts and the schema of a job where the package has them: pages.py FOLDER.

Runs on Debian's own Python when the package is built: what it imports needs no library. rst2man makes the man pages.
"""

import datetime
import json
import os
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from celery_docker.cli.syntax import completion, manual  # noqa: E402
from celery_docker.core import jobspec  # noqa: E402
from changelog import VERSION  # noqa: E402  # the source tree is known only now


def main(folder: pathlib.Path) -> None:
    """Write all files below the folder."""
    _write(folder, {f"rst/{name}": text for name, text in sources().items()})
    _write(folder, {f"man/{page.stem}": rst2man(page) for page in sorted((folder / "rst").glob("*.[158].rst"))})
    _write(
        folder,
        {
            "bash/celery-docker": completion.bash(),
            "zsh/_celery-docker": completion.zsh(),
            "fish/celery-docker.fish": completion.fish(),
            "schema/job.schema.json": json.dumps(jobspec.json_schema(), indent=2) + "\n",
        },
    )


def sources() -> dict[str, str]:
    """Return the man pages as reStructuredText, and the parts that they include, by file name."""
    # The build's own date would make each build another.
    built = datetime.datetime.fromtimestamp(int(os.environ.get("SOURCE_DATE_EPOCH", "0")), datetime.UTC)
    date = built.date().isoformat()
    pages = {path.name: path.read_text(encoding="utf-8") for path in (ROOT / "docs/man").glob("*.rst")}
    filled = {name: text.replace("@DATE@", date).replace("@VERSION@", VERSION) for name, text in pages.items()}
    parts = {
        **manual.parts(),
        "settings.rst": manual.settings(_etc("default/celery-worker")),
        "client-settings.rst": manual.settings(_etc("celery-docker/client.conf")),
        "rules.rst": manual.rules(_etc("celery-docker/policy.toml")),
    }
    return filled | {f"generated/{name}": text for name, text in parts.items()}


def rst2man(page: pathlib.Path) -> str:
    """Return a page as man(7) macros; a mistake in its markup ends the build."""
    command = ["rst2man", "--halt=warning", "--no-raw", str(page)]
    made = subprocess.run(command, check=True, stdout=subprocess.PIPE, encoding="utf-8").stdout  # noqa: S603
    # mandoc and groff complain of an empty line right behind a heading, and of a font that a terminal does not have.
    spaced = re.sub(r"^(\.S[HS] .*\n)\.sp\n", r"\1", made, flags=re.MULTILINE)
    return re.sub(r"^\.ft [CP]\n", "", spaced, flags=re.MULTILINE)


def _etc(name: str) -> str:
    return (ROOT / "etc" / name).read_text(encoding="utf-8")


def _write(folder: pathlib.Path, texts: dict[str, str]) -> None:
    for name, text in texts.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
