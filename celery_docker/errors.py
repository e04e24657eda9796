"""Every exception of celery-docker; owns the words, imports nothing of ours.

An exception here means that *we*, the host or the request failed before a container could say anything. A container
that ends badly is not an exception but an `Outcome` (see `lifecycle`). The docstring of a class is its default message.
"""

from __future__ import annotations

from collections.abc import Sequence


class CeleryDockerError(Exception):
    """celery-docker failed"""

    def __init__(self, message: str = "") -> None:
        super().__init__(message or (self.__doc__ or "").strip())


class SettingsError(CeleryDockerError):
    """a setting of the worker is not usable; names the variable, the value and what is allowed"""


class SpecError(CeleryDockerError):
    """the job's arguments are not usable; names the field, the value and what is allowed"""


class UsageError(CeleryDockerError):
    """the command line is not usable; names the word and what is allowed"""


class BatchError(SpecError):
    """some jobs of a batch are not usable; names the first ten of their problems, with line and column

    One problem a line: the reader mends a file with it, where one line for all would be of no use.
    """

    SHOWN = 10

    def __init__(self, problems: Sequence[str]) -> None:
        lines = list(problems[: self.SHOWN])
        if len(problems) > self.SHOWN:
            lines.append(f"and {len(problems) - self.SHOWN:,} more like these")
        super().__init__("\n".join(lines))
        self.problems = tuple(problems)


class NoSuchJob(CeleryDockerError):
    """no job has this id, or one that begins with it; list the jobs with: celery-docker ps --all"""


class NotAllowed(CeleryDockerError):
    """this user may not do that; names the user and who may"""


class NotPutBack(CeleryDockerError):
    """a refused message cannot be put back into its queue; names the reason and the remedy"""


class NotEnded(CeleryDockerError):
    """the job has not ended within the time that was given; wait longer, or cancel it"""


class AmbiguousId(CeleryDockerError):
    """several jobs have ids that begin with this; type more of it"""


class PolicyError(CeleryDockerError):
    """this host's policy refuses the job; names the rule"""


class RequestError(CeleryDockerError):
    """the job asks for something that cannot be had here, now or later (unknown image, missing path); never retried"""


class SignatureError(RequestError):
    """the job's signature is not usable; names what is wrong with it"""


class CannotStart(RequestError):
    """the container's command cannot be started

    `exit_code` is what `docker run` would have returned: 127 for a command that is not there, 126 for one that may not
    be executed.
    """

    def __init__(self, message: str = "", exit_code: int = 127) -> None:
        super().__init__(message or "the container's command cannot be started")
        self.exit_code = exit_code


class NotSent(CeleryDockerError):
    """a notice of a job's end was not taken by its target; names the reason, and no URL"""


class CannotSend(CeleryDockerError):
    """this host has no way to send a notice of a job's end, and another host may have one; names what is missing"""


class ImageMissing(CeleryDockerError):
    """the image is not on this host; pull it, then ask again"""


class HostError(CeleryDockerError):
    """this host cannot do it now (Docker away, no space, registry down); tried again later"""


class KeysError(HostError):
    """the keys that sign jobs cannot be read or written; names the file and the remedy"""


class TokensError(HostError):
    """the file of tokens cannot be read or written; names the file and the remedy"""


class EngineAway(HostError):
    """Docker does not answer"""


class EngineDenied(HostError):
    """Docker's socket refuses this user"""


class NoSpace(HostError):
    """a disk of this host is full"""


class NameTaken(CeleryDockerError):
    """a container of that name exists already; look at it instead of making another"""


class ContainerGone(CeleryDockerError):
    """its container was removed by somebody else, so its end is unknown"""


class IdentityTaken(CeleryDockerError):
    """another worker works under this host's name"""


class EndUnseen(CeleryDockerError):
    """Docker was killed as it started the container, which ran all the same; nobody knows how it ended"""


class StoreAway(CeleryDockerError):
    """Redis does not answer; the same call may succeed later"""


class Busy(StoreAway):
    """celery-docker-api has too much to do to take the request now; it takes it in a moment"""


class StoreRefused(CeleryDockerError):
    """Redis answers and refuses: wrong password, missing permission, not a Redis"""


class Fenced(CeleryDockerError):
    """this job has another owner now; nothing that this host says about it counts any more"""


class LogError(CeleryDockerError):
    """the job's log file cannot be written any more; the job must not go on with a hole in its log"""


class LogFull(LogError):
    """the disk of the job's log file is full"""


class JobFailed(CeleryDockerError):
    """the job ended without success; the message begins with its state

    This is the exception that a Celery client sees. It carries one argument, a string, because a plain client rebuilds
    it from JSON without this package.
    """
