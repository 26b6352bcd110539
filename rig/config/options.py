"""
What follows from the declaration of an option: flags, environment variables, words for its type.

What must stay true: nothing here is written down a second time; a new field in `Settings` needs no line in this file.
"""

import functools
import typing
from dataclasses import dataclass
from typing import Any

import msgspec.inspect
from msgspec.inspect import BoolType, FloatType, IntType, LiteralType, NoneType, StructType, Type, UnionType, VarTupleType

from rig.config.about import About
from rig.config.settings import Settings
from rig.config.values import show_auth, show_size
from rig.masking import MASK


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """
    A field of `Settings` with everything that is derived from it.

    Attributes:
        name: Its name in `Settings`, and its key in rig.toml.
        type: Its type with all annotations, as msgspec understands it.
        about: Help, unit, commands and the rest of its declaration.
        flags: As most commands write it, the long one last; empty for an argument.
        variables: Environment variables; the first one that is set counts.
        expected: What a valid value looks like, in words.
        metavar: What stands for the value in the help.
        repeatable: True if the flag may be given several times.
        boolean: True for a switch, which has a `--no-…` form too.
    """

    name: str
    default: Any
    type: Any
    about: About
    flags: tuple[str, ...]
    variables: tuple[str, ...]
    expected: str
    metavar: str
    repeatable: bool
    boolean: bool

    def spelling(self, command: str) -> tuple[str, ...]:
        """Return the flags of one command, or the name of its argument, which does not start with a dash."""
        return (self.about.spellings[command],) if command in self.about.spellings else self.flags

    def show(self, value: object) -> str:
        """Write a value as a user would, with its unit. Secrets are masked."""
        if value in (None, (), {}):
            return "-"
        if self.about.secret:
            return MASK
        if self.about.holds == "auth":
            return show_auth(str(value))
        if isinstance(value, bool):
            return "yes" if value else "no"
        if isinstance(value, int) and self.about.unit == "bytes":
            return show_size(value)
        if isinstance(value, int | float):
            return f"{value:g} {self.about.unit}".rstrip()
        return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def options(command: str | None = None) -> tuple[Option, ...]:
    """
    Return the options of one command, or all, in the order of their declaration.

    Raises:
        Nothing.
    """
    return tuple(option for option in _all() if command is None or command in option.about.commands)


@functools.cache
def _all() -> tuple[Option, ...]:
    hints = typing.get_type_hints(Settings, include_extras=True)
    kinds = typing.cast(StructType, msgspec.inspect.type_info(Settings)).fields
    defaults = Settings()
    return tuple(_option(kind.name, hints[kind.name], kind.type, getattr(defaults, kind.name)) for kind in kinds)


def _option(name: str, hint: Any, kind: Type, default: object) -> Option:
    about = next(part for part in hint.__metadata__ if isinstance(part, About))
    spellings = about.spellings.values()
    is_argument = len(spellings) == len(about.commands) and not any(spelling.startswith("-") for spelling in spellings)
    long = () if is_argument else (f"--{name.replace('_', '-')}",)
    return Option(
        name=name,
        default=default,
        type=hint,
        about=about,
        flags=(about.short, *long) if about.short else long,
        variables=(f"RIG_{name.upper()}", *about.variables),
        expected=about.expected or _expected(hint, kind, about),
        metavar=about.metavar or _metavar(hint, kind, about),
        repeatable=isinstance(default, tuple | dict),
        boolean=isinstance(default, bool),
    )


def _expected(hint: Any, kind: Type, about: About) -> str:
    match kind:
        case IntType() | FloatType():
            return _expected_number(kind, about)
        case LiteralType():
            return " or ".join(f'"{choice}"' for choice in _choices(hint, kind))
        case UnionType():
            return " or ".join(_expected(hint, part, about) for part in kind.types if not isinstance(part, NoneType))
        case BoolType():
            return "true or false"
        case VarTupleType():
            return "a list of texts"
        case _:
            directory = "the path of a directory"
            return {"file": "the path of a file", "directory": directory, "folder": directory}.get(about.holds, "a text")


def _expected_number(kind: IntType | FloatType, about: About) -> str:
    if about.unit == "bytes":
        return f"a size from {show_size(int(kind.ge or 0))} to {show_size(int(kind.le or 0))}, such as 8MiB or 65536"
    noun = ("a whole number" if isinstance(kind, IntType) else "a number") + (" of seconds" if about.unit == "s" else "")
    if kind.ge is None:
        return noun
    return f"{noun} from {kind.ge:g} to {kind.le}" if kind.le is not None else f"{noun}, at least {kind.ge:g}"


def _metavar(hint: Any, kind: Type, about: About) -> str:
    match kind:
        case LiteralType():
            return "|".join(_choices(hint, kind))
        case IntType() | FloatType():
            return {"s": "SECONDS", "bytes": "SIZE", "events/s": "RATE"}.get(about.unit, "N")
        case _:
            return {"file": "FILE", "directory": "DIR", "folder": "DIR"}.get(about.holds, "TEXT")


def _choices(hint: Any, kind: LiteralType) -> list[str]:
    """List the choices in the order of the declaration, where msgspec has sorted them."""
    declared = [str(choice) for choice in typing.get_args(typing.get_args(hint)[0])]
    return sorted(map(str, kind.values), key=lambda choice: declared.index(choice) if choice in declared else 0)
