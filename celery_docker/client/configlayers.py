"""The settings of somebody who submits jobs: where the broker is, and which queue to use.

Owns how layers are laid over each other, the later the stronger, and remembers where each value came from. Pure: files
and environment are read by the caller. An empty value counts as unset.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from celery_docker import errors
from celery_docker.core import gatewayurl, jobspec, kinds, ownredis, redisurl, settings, textinput

SYSTEM_FILE = "/etc/celery-docker/client.conf"
# In XDG_CONFIG_HOME, which is ~/.config if unset.
USER_FILE = "celery-docker/client.conf"
TOKEN_FILE = "celery-docker/token"  # noqa: S105  # its path
DEFAULT_SOURCE = "default"
_BROKER = f"{settings.PREFIX}BROKER_URL"

Layer = tuple[str, Mapping[str, str]]


@dataclass(frozen=True)
class Value:
    """One setting, and the name of the layer that it came from."""

    name: str
    value: str
    source: str

    def shown(self) -> str:
        """Return it fit to be printed: secrets are masked."""
        return f"{self.name}={redisurl.masked(self.value)} ({self.source})"


def parse_file(path: str, text: str) -> dict[str, str]:
    """Return the layer that a file makes; raises `SettingsError` that names the line or key that is not usable."""
    for number, line in enumerate(textinput.lines(text), 1):
        # The line itself may hold a password.
        if line.strip() and not line.strip().startswith(("#", ";")) and "=" not in line:
            raise errors.SettingsError(f"{path}, line {number}: must be KEY=value, or a comment after '#'")
    assignments = settings.read_assignments(text)
    names = [setting.variable for setting in KNOWN]
    strange = [f"{path}: {kinds.shown(key)} is not a setting of a client" for key in assignments if key not in names]
    if strange:
        raise errors.SettingsError("; ".join(strange) + f"; known are {', '.join(names)}")
    return assignments


def without_public_broker(public: Mapping[str, str], private: Mapping[str, str]) -> Mapping[str, str]:
    """Return a layer that everybody may read without a broker that the private one names too, with a login.

    Who may read both uses the login; to others the Redis says that it needs one.
    """
    is_the_same = ownredis.without_login(private.get(_BROKER, "")) == public.get(_BROKER)
    return {name: text for name, text in public.items() if name != _BROKER or not is_the_same}


def gateway_layer(public: Mapping[str, str]) -> dict[str, str]:
    """Return the layer of a host's gateway, for somebody who may not read the workers' settings.

    A URL with a login that everybody may read is meant for everybody, and stays.
    """
    url = public.get(_BROKER, "")
    return {_BROKER: gatewayurl.URL} if not url or ownredis.without_login(url) == url else {}


def default_layer(config_folder: str) -> Layer:
    """Return the layer of defaults that depend on a user's folder of settings."""
    return DEFAULT_SOURCE, {_TOKEN.variable: f"{config_folder}/{TOKEN_FILE}"}


def resolve(layers: Sequence[Layer], *names: str) -> list[Value]:
    """Return these settings, all without a name, each with its source. Layers are (name, variables), the weakest
    first; other variables are nobody's business here, so that the environment can be one of them.

    Raises `SettingsError` that names source, variable, value (masked) and what is allowed.
    """
    return [_resolved(setting, layers) for setting in KNOWN if not names or setting.field in names]


def _resolved(setting: settings.Setting, layers: Sequence[Layer]) -> Value:
    texts = [(source, layer.get(setting.variable, "").strip()) for source, layer in layers]
    source, text = next(((source, text) for source, text in reversed(texts) if text), (DEFAULT_SOURCE, setting.default))
    try:
        return Value(setting.field, setting.value_of(text), source)
    except ValueError as exc:
        raise errors.SettingsError(f"{source}: {setting.variable}={settings.shown(text)}: {exc}") from exc


def _queue(text: str) -> str:
    # A comma separates queues where a worker is told of them.
    if not text.isprintable() or any(character.isspace() or character == "," for character in text):
        raise ValueError("must be the name of one queue, without blanks and commas")
    return text


def _broker_url(text: str) -> str:
    if gatewayurl.is_gateway(text):
        return gatewayurl.parse(text)
    try:
        return redisurl.parse(text)
    except ValueError as exc:
        if redisurl.has_scheme(text):
            raise
        raise ValueError(f"{exc}; that of a gateway, like https://HOST or {gatewayurl.URL}") from exc


def _token_file(text: str) -> str:
    if text and not text.startswith("/"):
        raise ValueError("must be an absolute path")
    return text


_TOKEN = settings.Setting("token_file", "", _token_file)
KNOWN = (
    replace(next(setting for setting in settings.SETTINGS if setting.field == "broker_url"), parse=_broker_url),
    settings.Setting("queue", jobspec.DEFAULT_QUEUE, _queue),
    _TOKEN,
)
