"""The commands for hosts, queues and the package itself; `commandtable` says what else is true of them."""

from __future__ import annotations

from celery_docker.cli.syntax import flagtable
from celery_docker.cli.syntax.grammar import Command, Flag, Operands
from celery_docker.core import containerkinds, kinds, tokens

_HOSTS = Operands("[HOST...]", 0, None)

COMMANDS = (
    Command(
        "workers",
        "hosts",
        "list the hosts that run jobs",
        Operands(),
        (flagtable.QUIET, *flagtable.ALWAYS),
        (("their names", "celery-docker workers -q"),),
        "FREE is what no job has of the CPUs, memory and GPUs that a host offers, as of its last heartbeat. What a job "
        "takes of them is in celery-worker(8).",
    ),
    Command(
        "drain",
        "hosts",
        "keep hosts from taking new jobs",
        _HOSTS,
        (flagtable.REASON, *flagtable.ALWAYS),
        (("before a repair", "celery-docker drain --reason 'new disk' node3"),),
        "Without a name it drains this machine, with all of its workers. Running jobs go on. The drain holds until "
        "celery-docker resume.",
    ),
    Command(
        "resume",
        "hosts",
        "let hosts take jobs again",
        _HOSTS,
        flagtable.ALWAYS,
        (("after the repair", "celery-docker resume node3"),),
    ),
    Command(
        "images",
        "images",
        "list the images of the hosts, or have hosts pull one",
        Operands("[pull IMAGE]", 0, None, words=("pull",)),
        (
            Flag(("--host",), "this host only; default: all that are there", "HOST", repeated=True),
            Flag(
                ("--platform",), "with pull: the image's, not the host's own", "OS/ARCH", kind=containerkinds.PLATFORM
            ),
            flagtable.QUIET,
            *flagtable.ALWAYS,
        ),
        (
            ("the images of all hosts", "celery-docker images"),
            ("pull one before a batch needs it", "celery-docker images pull registry.example.org/lab/tool:2"),
            ("on two hosts", "celery-docker images pull --host node1 --host node2 busybox"),
        ),
        "The list has for each image its name, the beginning of its digest, its size and when a job used it last. Each "
        "host reports once a minute, the 200 images that were used last. pull asks the registry for what the tag is "
        "now, on each host, shows how far they are, and ends when all are done: with 0 if each host has the image, "
        "else with 1. A host does it once, by its own policy, with its own credentials; where the policy asks for "
        "signed jobs, for root and members of group celery only. One that is away does it when it comes back within a "
        "day. Both need the URL of Redis: celery-docker-api does neither.",
    ),
    Command(
        "queue",
        "queue",
        "show how many jobs wait, cancel them, or list refused messages",
        Operands(
            "[length|purge|refused|put-back NUMBER...|throw-away NUMBER...]",
            0,
            None,
            words=("length", "purge", "refused", "put-back", "throw-away", "all"),
        ),
        (
            Flag(("--queue",), "the queue; default: the one in client.conf, else celery", "NAME", kind=kinds.QUEUE),
            flagtable.YES,
            *flagtable.ALWAYS,
        ),
        (
            ("the number of waiting jobs", "celery-docker queue"),
            ("cancel all jobs of a queue", "celery-docker queue purge --queue night"),
            ("list the refused messages", "celery-docker queue refused"),
            ("put two of them back", "celery-docker queue put-back 3 4"),
            ("throw all of them away", "celery-docker queue throw-away all"),
        ),
        "Of jobs that no host takes, or no host could ever hold, the number comes with the reason. "
        "purge cancels every job of the queue that no host has taken, no matter who submitted it, also jobs that "
        "wait for "
        "a retry, for other jobs or for their batch. Running jobs go on. On a terminal purge asks first; elsewhere it "
        "needs --yes. A message that no worker can run is refused: it is put aside, with the reason. If it names its "
        "job, "
        "the job ends as rejected. put-back sends the message again, after an upgrade for example. NUMBER is that of "
        "the list, all stands for every one. The last 500 are kept, and the text of those up to 64 KiB; a longer one "
        "cannot be put back.",
    ),
    Command(
        "doctor",
        "doctor",
        "find problems, and show what to do about them",
        Operands(),
        flagtable.ALWAYS,
        (("check everything", "celery-docker doctor"),),
        "It checks Redis, the workers and, where a worker is installed, this host. The exit status is 1 if a check "
        "failed.",
    ),
    Command(
        "metrics",
        "metrics",
        "print figures of all hosts and queues for Prometheus",
        Operands(),
        (
            Flag(("--textfile",), "write them to FILE, all at once, for node_exporter", "FILE"),
            *(flag for flag in flagtable.ALWAYS if flag is not flagtable.JSON),
        ),
        (
            ("the figures", "celery-docker metrics"),
            (
                "for node_exporter, from cron",
                "celery-docker metrics --textfile /var/lib/prometheus/node-exporter/celery-docker.prom",
            ),
        ),
        "They are those of /metrics of celery-docker-api, which is asked with curl http://127.0.0.1:9809/metrics; this "
        "needs the URL of Redis. docs/METRICS.md has the list. Where Redis does not answer, celery_docker_redis_up is "
        "0 and the only one, and the exit status is 125. FILE has mode 0644, and is never half written.",
    ),
    Command(
        "config",
        "config",
        "show the settings in use and their sources",
        Operands(),
        flagtable.ALWAYS,
        (("the Redis in use", "celery-docker config"),),
    ),
    Command(
        "check-config",
        "checkconfig",
        "check the worker's settings and policy before a reload",
        Operands("[FILE]", 0, 1),
        (flagtable.HELP, flagtable.WORKER),
        (
            ("before systemctl reload celery-worker", "sudo celery-docker check-config"),
            ("before systemctl reload celery-worker@gpu", "sudo celery-docker check-config --worker gpu"),
        ),
        "It reads FILE, by default /etc/default/celery-worker, and the policy that it names, as the worker would, and "
        "changes nothing. With --worker that file is read first, and FILE is /etc/default/celery-worker-NAME. The exit "
        "status is 78 if the worker would not start with them. Redis and Docker are for celery-docker doctor.",
    ),
    Command(
        "policy",
        "policy",
        "show which rules of this host's policy a job would break",
        Operands("check DOCUMENT|-", 1, None, words=("check",)),
        (
            flagtable.HELP,
            flagtable.JSON,
            Flag(("--as",), "check the job as if this user submitted it; default: you", "USER"),
            Flag(("--policy",), "the policy; default: /etc/celery-docker/policy.toml", "FILE"),
        ),
        (
            ("a job", "celery-docker policy check job.json"),
            ("another user's", """echo '{"image": "busybox"}' | celery-docker policy check --as alice -"""),
            ("before a change of the policy", "celery-docker policy check --policy new.toml job.json"),
        ),
        "DOCUMENT is a job document as submit -f reads it. Each rule that the job would break is a line, and each path "
        "or user that is not on this host. The exit status is 0 if the job would be allowed, 1 if it would be refused, "
        "78 if the policy is not usable. Neither Redis nor Docker is asked, and the image is not looked at. Paths are "
        "looked up as you; the worker may enter folders that are closed to you.",
    ),
    Command(
        "key",
        "key",
        "show, change and copy the keys that sign jobs",
        Operands(
            "[show|new|prepare|use|drop-old|export|import]",
            0,
            1,
            words=("show", "new", "prepare", "use", "drop-old", "export", "import"),
        ),
        (flagtable.HELP, flagtable.JSON, flagtable.YES),
        (
            ("the fingerprints, and whether the file is in order", "celery-docker key"),
            (
                "bring the keys to a new host",
                "sudo celery-docker key export | ssh HOST sudo celery-docker key import --yes",
            ),
            ("change the key of a single host", "sudo celery-docker key new"),
            ("once no job waits that the old key has signed", "sudo celery-docker key drop-old"),
        ),
        "Who can read /etc/celery-docker/key, root and group celery, signs jobs; a host knows by it who submitted a "
        "job, and that nobody has changed it. The installation makes one; hosts that are to know each other's jobs "
        "need the same. new makes a key that signs from now on, and the old one stays valid until drop-old: what it "
        "has signed is refused after that. On several hosts prepare makes a key that does not sign yet; when import "
        "has brought it to each of them, use lets it sign, on one after the other. Workers see a change by "
        "themselves. import replaces the keys of a host; without --yes only where each of them is among the new ones. "
        "The exit status of show is 1 where the file is not in order.",
    ),
    Command(
        "token",
        "token",
        "make, list and remove tokens for users on other hosts",
        Operands("[list|add NAME|remove ID...]", 0, None, words=("list", "add", "remove")),
        (
            flagtable.HELP,
            flagtable.JSON,
            Flag(
                ("--rights",),
                "what the token may: some of read, submit, cancel, admin, with commas",
                "RIGHTS",
                kind=kinds.Kind("RIGHTS", tokens.parse_rights, {}),
            ),
            Flag(("--label",), "what it is for", "TEXT", kind=kinds.Kind("TEXT", tokens.parse_label, {})),
        ),
        (
            ("a token for a user", "sudo celery-docker token add alice --rights read,submit,cancel --label laptop"),
            ("those that there are", "sudo celery-docker token list"),
            ("one that is lost", "sudo celery-docker token remove 0badcafe"),
        ),
        "Over TCP celery-docker-api knows its users by a token: who has it acts as the account NAME of this host, and "
        "jobs run as that. read is to see the account's own jobs, submit to queue some, cancel to end them and to run "
        "them again; admin is all of it with everybody's jobs, and any user in a job, as root has it. An account may "
        "have several tokens. A token is printed once, on standard output; /etc/celery-docker/tokens has its hash "
        "only. A change counts at once. A token has no end of its own: it works until it is removed, or the account "
        "is gone. celery-docker-api(8) says how users reach the service. The exit status of list is 1 where the file "
        "is not in order.",
    ),
    Command(
        "setup-redis",
        "setupredis",
        "make a Redis for this queue alone that survives a power cut",
        Operands(),
        (
            flagtable.HELP,
            Flag(("--dry-run",), "say what would be changed, and change nothing"),
            Flag(("--remove",), "undo it; jobs and results stay on disk, for the next setup"),
            Flag(("--delete-data",), "with --remove: remove jobs and results too"),
            Flag(("--leave-jobs",), "go on although jobs run or wait; they stay in the Redis that is left"),
            Flag(("--port",), "its port on this host; default: 6380", "N", kind=kinds.number(1, 65535)),
            flagtable.YES,
        ),
        (
            ("what it would change", "sudo celery-docker setup-redis --dry-run"),
            ("set it up", "sudo celery-docker setup-redis"),
            ("go back to the Redis before", "sudo celery-docker setup-redis --remove"),
        ),
        "It starts an instance of its own, redis-server@celery-docker (valkey-server@celery-docker where only "
        "Valkey is installed), beside any other Redis. It listens on this host only, asks for a password, has each "
        "change on disk before it answers, and throws nothing away. Its URL goes into /etc/default/celery-worker, "
        "which members of group celery may read, and without the password into /etc/celery-docker/client.conf, so "
        "that others are refused. The workers, and celery-docker-api where it runs, are restarted. A second run does "
        "what is missing, and nothing else.",
    ),
    Command(
        "completion",
        "config",
        "print a shell's completion script",
        Operands("bash|zsh|fish", 1, 1, words=("bash", "zsh", "fish")),
        (flagtable.HELP,),
        (("where the package is not installed", "source <(celery-docker completion bash)"),),
    ),
)
