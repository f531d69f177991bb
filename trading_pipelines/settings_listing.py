"""The settings in force as a person reads them: variable, value, meaning; secrets masked.

Belongs here: the list. Does not belong here: any setting (`settings`).
"""

import ast
import inspect
import json
import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

from pydantic import BaseModel, SecretStr

from trading_pipelines.settings import ENV_PREFIX, Settings

_MASK = "••••••••"
_CREDENTIALS = re.compile(r"://[^/@\s]+@")


@dataclass(frozen=True)
class SettingLine:
    """One setting as a person reads it.

    Attributes
    ----------
    value : str
        As it would be written into `.env`; a secret is dots, however it is given.
    changed : bool
        Whether it differs from the default.
    meaning : str
        What the field says of itself, else what its group is about.
    """

    variable: str
    value: str
    changed: bool
    meaning: str


def list_settings(settings: Settings) -> list[SettingLine]:
    """Every setting in force by the name of its variable, secrets masked."""
    return list(_lines(settings, Settings.model_construct(), ENV_PREFIX))


def _lines(model: BaseModel, default: BaseModel, prefix: str) -> Iterator[SettingLine]:
    meanings = _meanings(type(model))
    for name in type(model).model_fields:
        value, usual = getattr(model, name), getattr(default, name)
        variable = f"{prefix}{name.upper()}"
        if isinstance(value, BaseModel):
            yield from _lines(value, usual, f"{variable}__")
        else:
            meaning = meanings.get(name) or inspect.cleandoc(type(model).__doc__ or "").partition("\n")[0]
            yield SettingLine(variable, _written(model, name), value != usual, meaning)


def _written(model: BaseModel, name: str) -> str:
    value = getattr(model, name)
    if isinstance(value, SecretStr):
        return _MASK
    plain = model.model_dump(mode="json", include={name})[name]
    if plain is None:
        return ""
    text = plain if isinstance(plain, str) else json.dumps(plain, ensure_ascii=False)
    return _CREDENTIALS.sub(f"://{_MASK}@", text)


@cache
def _meanings(model: type[BaseModel]) -> dict[str, str]:
    """The text below each field in the source, by field; empty where Python has no source."""
    found: dict[str, str] = {}
    for owner in reversed(model.__mro__):
        if not issubclass(owner, BaseModel) or owner.__module__.startswith("pydantic"):
            continue
        try:
            tree = ast.parse(textwrap.dedent(inspect.getsource(owner)))
        except OSError:
            continue
        definition = tree.body[0]
        assert isinstance(definition, ast.ClassDef)
        for field, text in pairwise(definition.body):
            match field, text:
                case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(meaning))):
                    found[name] = " ".join(meaning.split())
                case _:
                    pass
    return found
