"""What is said of an option beside its type and its default, and the groups of commands that look at one."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

RUN = ("run", "check")
CONNECT = ("run", "check", "listen", "push")
AUTH = (*CONNECT, "whoami")
STORED = ("outbox", "deadletters")
EVERY = (*AUTH, *STORED, "topics")
JSON = ("check", "whoami", *STORED, "topics")
LISTEN = ("listen",)
PUSH = ("push",)
STATE = (*RUN, *PUSH, *STORED, "topics")


@dataclass(frozen=True, slots=True)
class About:
    """
    What the type of a field does not say.

    Attributes:
        help: One sentence without its full stop, as shown by `--help`.
        commands: The commands that look at the option.
        unit: "s", "bytes", "events/s", "joins/s", or nothing.
        short: A one-letter flag.
        spellings: Where a command writes it otherwise: another flag, or an argument in capitals.
        variables: Further environment variables that are honoured, after `RIG_…`.
        metavar: What stands for the value in the help, where the type does not tell.
        expected: What a valid value looks like, where the type does not tell.
        holds: The form of a text: an existing "file" or "directory", a "folder" that may be missing, a "url", "pairs" (K=V),
            "headers" (K: V), or where the token comes from ("auth").
        secret: True if the value must not be printed.
        in_file: False if the option makes no sense in the file.
    """

    help: str
    commands: tuple[str, ...] = RUN
    unit: str = ""
    short: str = ""
    spellings: Mapping[str, str] = field(default_factory=dict)
    variables: tuple[str, ...] = ()
    metavar: str = ""
    expected: str = ""
    holds: Literal["", "file", "directory", "folder", "url", "pairs", "headers", "auth"] = ""
    secret: bool = False
    in_file: bool = True
