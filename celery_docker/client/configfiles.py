"""Where the settings of a submitter are read from: files, the environment, flags; for `celery-docker` and `tasks.py`.

The only reader of these files. One that may not be read is no error, for another layer may say what is needed; it is
remembered, and named where Redis then refuses.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from celery_docker import errors
from celery_docker.client import configlayers
from celery_docker.core import gatewayurl, settings, textinput

# The worker's own settings, the last resort before the defaults: on a worker's host they are right for its users too.
DEFAULTS_FILE = settings.FILE
ENVIRONMENT = "environment"
GATEWAY_SOCKET = gatewayurl.SOCKET
DEFAULT_DOCKER_HOST = next(setting.default for setting in settings.SETTINGS if setting.field == "docker_host")
_KEY = next(setting for setting in settings.SETTINGS if setting.field == "key_file")
_FLAG_VARIABLES = {"--broker": settings.PREFIX + "BROKER_URL", "--queue": settings.PREFIX + "QUEUE"}


@dataclass(frozen=True)
class Config:
    """The settings in use, the files that were asked for them, and those of them that this user may not read."""

    values: tuple[configlayers.Value, ...]
    files: tuple[str, ...]
    closed: tuple[str, ...]

    @property
    def broker_url(self) -> str:
        return self._of("broker_url")

    @property
    def queue(self) -> str:
        return self._of("queue")

    def _of(self, name: str) -> str:
        return next(value.value for value in self.values if value.name == name)

    def with_remedy(self, exc: errors.CeleryDockerError) -> errors.CeleryDockerError:
        """Return what Redis was complained of, with what to ask the administrator for, still in one line."""
        if gatewayurl.is_gateway(self.broker_url):
            return exc
        if self.closed:
            hint = (
                f"you may not read {', '.join(self.closed)}: ask the administrator for membership in group celery, or"
            )
        elif isinstance(exc, errors.StoreRefused):
            hint = "ask the administrator"
        else:
            return exc
        return type(exc)(f"{exc}; {hint} for a URL of your own to put into ~/.config/{configlayers.USER_FILE}")


def read(environ: Mapping[str, str], flags: Mapping[str, str]) -> Config:
    """Return the settings in use; `flags` are those that were given, by name.

    Raises `SettingsError` for what cannot be used, and `UsageError` where it came from a flag.
    """
    layers, files, closed = _layers(environ)
    layers += [(flag, {_FLAG_VARIABLES[flag]: text}) for flag, text in flags.items()]
    try:
        return Config(tuple(configlayers.resolve(layers)), files, closed)
    except errors.SettingsError as exc:
        if str(exc).startswith(tuple(_FLAG_VARIABLES)):
            raise errors.UsageError(str(exc)) from exc
        raise


def token_file(environ: Mapping[str, str]) -> str:
    """Return the file of the token for a gateway on another host, empty for somebody without a home."""
    layers, _, _ = _layers(environ)
    return configlayers.resolve(layers, "token_file")[0].value


def _layers(environ: Mapping[str, str]) -> tuple[list[configlayers.Layer], tuple[str, ...], tuple[str, ...]]:
    """Return the layers of settings, the weakest first, the files that they are from, and those that are closed."""
    user_file = next(iter(_user_file(environ)), "")
    files = [DEFAULTS_FILE, configlayers.SYSTEM_FILE, *_user_file(environ)]
    texts = {path: _text(path) for path in files}
    closed = tuple(path for path, text in texts.items() if text is None)
    layers: list[configlayers.Layer] = [
        # The worker's settings are its own business; of ours, only the broker's URL is among them.
        (path, settings.read_assignments(text) if path == DEFAULTS_FILE else configlayers.parse_file(path, text))
        for path, text in texts.items()
        if text
    ]
    private = dict(layers).get(DEFAULTS_FILE, {})
    layers = [
        (path, configlayers.without_public_broker(layer, private) if path == configlayers.SYSTEM_FILE else layer)
        for path, layer in layers
    ]
    if DEFAULTS_FILE in closed and Path(GATEWAY_SOCKET).is_socket():
        place = sum(path != user_file for path, _ in layers)
        public = dict(layers).get(configlayers.SYSTEM_FILE, {})
        layers.insert(place, (GATEWAY_SOCKET, configlayers.gateway_layer(public)))
    layers.append((ENVIRONMENT, environ))
    folder = home_folder(environ, "XDG_CONFIG_HOME", ".config")
    if folder:
        layers.insert(0, configlayers.default_layer(str(folder)))
    return layers, tuple(files), closed


def worker_settings(environ: Mapping[str, str]) -> settings.Settings:
    """Return the worker's settings as far as this user may read them, with the broker that a submitter uses."""
    config = read(environ, {})
    assignments = {
        **settings.read_assignments(_text(DEFAULTS_FILE) or ""),
        **{name: v for name, v in environ.items() if v},
    }
    if not gatewayurl.is_gateway(config.broker_url):
        assignments[_FLAG_VARIABLES["--broker"]] = config.broker_url
    return settings.parse(assignments)


def key_file(environ: Mapping[str, str]) -> str:
    """Return the file of the keys that sign jobs: the worker's, on a host that has one. Raises `SettingsError`."""
    private = settings.read_assignments(_text(DEFAULTS_FILE) or "")
    layers = (environ.get(_KEY.variable, ""), private.get(_KEY.variable, ""), _KEY.default)
    path = next(text.strip() for text in layers if text.strip())
    try:
        return str(_KEY.value_of(path))
    except ValueError as exc:
        raise errors.SettingsError(f"{_KEY.variable}={settings.shown(path)}: {exc}") from exc


def home_folder(environ: Mapping[str, str], variable: str, below_home: str) -> Path | None:
    """Return a folder of the XDG base directories; None for somebody without a home. A relative one is not valid."""
    folder = environ.get(variable, "")
    if folder.startswith("/"):
        return Path(folder)
    home = environ.get("HOME", "")
    return Path(home, below_home) if home.startswith("/") else None


def _user_file(environ: Mapping[str, str]) -> list[str]:
    folder = home_folder(environ, "XDG_CONFIG_HOME", ".config")
    return [str(folder / configlayers.USER_FILE)] if folder else []


def _text(path: str) -> str | None:
    """Return what a file says, nothing where there is none, None where this user may not read it."""
    try:
        with Path(path).open("rb") as file:
            return textinput.text(file.read(textinput.MAX_BYTES + 1))
    except (FileNotFoundError, NotADirectoryError):
        return ""
    except PermissionError:
        return None
    except OSError as exc:
        raise errors.SettingsError(f"cannot read {path}: {exc.strerror}; it must be a file of KEY=value lines") from exc
    except ValueError as exc:
        raise errors.SettingsError(f"{path}: {exc}") from exc
