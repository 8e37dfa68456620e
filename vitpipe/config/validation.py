"""How settings are checked, and messages about wrong ones: one line with the key, its value and what would be right."""

import difflib
from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict, ValidationError, ValidationInfo, field_validator


class Section(BaseModel):
    """A part of the settings: no unknown keys, no changes once made."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def reject_bool_as_number(cls, value: object, info: ValidationInfo) -> object:
        if isinstance(value, bool) and cls.model_fields[str(info.field_name)].annotation is float:
            raise ValueError("must be a number")  # pydantic takes true for 1.0
        return value

    @field_validator("*", mode="before")
    @classmethod
    def reject_blank(cls, value: object, info: ValidationInfo) -> object:
        kind = cls.model_fields[str(info.field_name)].annotation
        if isinstance(value, str) and not value.strip() and kind in (str, str | None):
            raise ValueError(f"must not be empty: give a value{'' if kind is str else ', or null'}")
        return value  # an empty path would be that of the repository, and an unset variable of a shell gives one


def fail(key: str, value: object, rule: str, choices: list[int] | None = None) -> None:
    """Raises ValueError with what is wrong; `choices` are values that would be right."""
    choice = f": {', '.join(map(str, choices))}" if choices else ""
    raise ValueError(f"{key} is {value!r}, but {rule}{choice}")


def divisors(number: int, largest: int) -> list[int]:
    return [d for d in range(1, largest + 1) if number % d == 0]


def nearest(word: str, choices: Sequence[str]) -> str:
    """The choice that was probably meant, as the end of a sentence; nothing where none is near."""
    close = difflib.get_close_matches(word, choices, n=1)
    return f" (did you mean {close[0]}?)" if close else ""


def describe(error: ValidationError, kind: type[BaseModel]) -> str:
    """The first error of settings of a kind in one line, and how many more there are."""
    fault = error.errors(include_url=False)[0]
    location = [str(part) for part in fault["loc"]]
    key, value = ".".join(location), fault["input"]
    if fault["type"] == "extra_forbidden":
        known = keys_of(kind, location[:-1])
        text = f"unknown key {key}{nearest(location[-1], known)}; known there: {', '.join(known)}"
    elif fault["type"] == "missing":
        text = f"{key} is missing"
    elif fault["type"] == "value_error" and not key:
        text = str(fault["ctx"]["error"])
    elif fault["type"] == "value_error":
        text = f"{key} is {value!r}, but {fault['ctx']['error']}"
    elif fault["type"] == "literal_error":
        choices = fault["ctx"]["expected"].replace(" or ", ", ").replace("'", "").split(", ")
        text = f"{key} is {value!r}, but must be one of {', '.join(choices)}{nearest(str(value), choices)}"
    else:
        text = f"{key} is {value!r}, but {fault['msg'][0].lower()}{fault['msg'][1:]}"
    more = error.error_count() - 1
    return " ".join(text.split()) + (f" (and {more} more)" if more else "")


def keys_of(kind: type[BaseModel], location: list[str]) -> tuple[str, ...]:
    """The keys of the section at `location`."""
    for part in location:
        kind = kind.model_fields[part].annotation  # type: ignore[assignment]
    return tuple(kind.model_fields)
