"""What a rules file may say, as pydantic models: their fields are the format, and nothing else may be there.

Everything that can be read beforehand (globs, expressions, pointers, templates) is read here once, so that an error
names its line. `docs/rules.md` explains each field.
"""

from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SkipValidation,
    model_validator,
)
from pydantic_core import PydanticCustomError

from shadowcat_core.interceptors.rules import patterns, templates, values
from shadowcat_core.jsonrpc import ErrorCode, Json
from shadowcat_core.limits import MAX_RULE_WAIT_S, MAX_RULES


def _path(text: str) -> str:
    values.finder(text)
    return text


def _pointer(text: str) -> str:
    values.pointer_steps(text)
    return text


def _expression(text: str) -> str:
    patterns.expression(text)
    return text


def _text(text: str) -> str:
    templates.text_template(text)
    return text


def _content(content: Json) -> Json:
    templates.content_template(content)
    return content


def _number(value: Json) -> Json:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError("input should be a number")
    return value


def _as_list(value: object) -> object:
    return value if isinstance(value, list) else [value]


def _as_message(value: object) -> object:
    return {"jsonrpc": "2.0", **value} if isinstance(value, dict) else value


def _one_of(model: BaseModel, names: tuple[str, ...]) -> str:
    """The one field that was given."""
    given = [name for name in names if name in model.model_fields_set]
    if len(given) != 1:
        allowed = ", ".join(name.removesuffix("_") for name in names)
        raise PydanticCustomError("one_of", "exactly one of {allowed} must be given", {"allowed": allowed})
    return given[0]


type Value = Annotated[Json, SkipValidation]
type Path = Annotated[str, AfterValidator(_path)]
type Pointer = Annotated[str, AfterValidator(_pointer)]
type Expression = Annotated[str, AfterValidator(_expression)]
type Text = Annotated[str, AfterValidator(_text)]
type Content = Annotated[Value, AfterValidator(_content)]
type Globs = Annotated[list[str], BeforeValidator(_as_list), Field(min_length=1)]
type Number = Annotated[int | float, SkipValidation, AfterValidator(_number)]  # integers stay as long as they are
type Seconds = Annotated[float, Field(gt=0, le=int(MAX_RULE_WAIT_S), allow_inf_nan=False)]
type KindName = Literal["request", "notification", "response", "error", "invalid"]
type Given = Annotated[Value, BeforeValidator(_as_message)]


class Model(BaseModel):
    """A part of the format: no other fields, and no value of another type."""

    model_config = ConfigDict(extra="forbid", strict=True, validate_default=False)


# --- Conditions --------------------------------------------------------------------------------------------------


def _check_absence(test: "ValueTest | TextTest") -> None:
    if test.exists is False and len(test.model_fields_set) > 1:
        raise PydanticCustomError("absent", "what must not exist cannot be compared: leave `exists: false` alone")


class ValueTest(Model):
    """What a value must be; all that is given must hold. A plain value stands for `equals`."""

    equals: Value = None
    one_of: list[Value] | None = None
    matches: Expression | None = None
    contains: Value = None
    exists: bool | None = None
    gt: Number | None = None
    gte: Number | None = None
    lt: Number | None = None
    lte: Number | None = None

    @model_validator(mode="before")
    @classmethod
    def _short(cls, data: object) -> object:
        return data if isinstance(data, dict) else {"equals": data}

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if not self.model_fields_set:
            raise PydanticCustomError("empty", "say what the value must be: {allowed}", {"allowed": _names(ValueTest)})
        _check_absence(self)
        return self


class TextTest(Model):
    """What a text must be. A text or a list of them stands for `glob`."""

    glob: Globs | None = None
    matches: Expression | None = None
    exists: bool | None = None

    @model_validator(mode="before")
    @classmethod
    def _short(cls, data: object) -> object:
        return data if isinstance(data, dict) else {"glob": data}

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if not self.model_fields_set:
            raise PydanticCustomError("empty", "say what the text must be: {allowed}", {"allowed": _names(TextTest)})
        _check_absence(self)
        return self


class SizeTest(Model):
    """How large a message must be, in bytes."""

    gt: int | None = None
    gte: int | None = None
    lt: int | None = None
    lte: int | None = None

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if not self.model_fields_set:
            raise PydanticCustomError("empty", "compare the size with one of {allowed}", {"allowed": _names(SizeTest)})
        return self


class Condition(Model):
    """All that is given must hold."""

    direction: Literal["c2s", "s2c"] | None = None
    kind: Annotated[list[KindName], BeforeValidator(_as_list), Field(min_length=1)] | None = None
    method: Globs | None = None
    target: Globs | None = None
    params: dict[Path, ValueTest] | None = None
    result: dict[Path, ValueTest] | None = None
    error: dict[Path, ValueTest] | None = None
    session: TextTest | None = None
    transport: Literal["http", "stdio"] | None = None
    server: TextTest | None = None
    header: dict[str, TextTest] | None = None
    size: SizeTest | None = None
    all: Annotated[list["Condition"], Field(min_length=1)] | None = None
    any: Annotated[list["Condition"], Field(min_length=1)] | None = None
    not_: "Condition | None" = Field(None, alias="not")


class Nth(Model):
    """Which occurrences, counted from 1, of what holds otherwise. A plain number stands for `at`."""

    at: Annotated[list[Annotated[int, Field(ge=1)]], BeforeValidator(_as_list), Field(min_length=1)] | None = None
    every: Annotated[int, Field(ge=1)] | None = None
    first: Annotated[int, Field(ge=1)] | None = None
    after: Annotated[int, Field(ge=0)] | None = None
    per: Literal["rule", "session", "stream"] = "rule"

    @model_validator(mode="before")
    @classmethod
    def _short(cls, data: object) -> object:
        return data if isinstance(data, dict) else {"at": data}

    @model_validator(mode="after")
    def _one(self) -> Self:
        _one_of(self, ("at", "every", "first", "after"))
        return self


class When(Condition):
    """The condition of a rule, with what only a whole rule can have."""

    nth: Nth | None = None
    probability: Annotated[float, Field(ge=0, le=1)] | None = None


# --- Actions -----------------------------------------------------------------------------------------------------


class ContinueAction(Model):
    """Let it go on, and look no further."""


class ModifyAction(Model):
    """Let another message go on: this one with other values, or another one altogether."""

    set: dict[Pointer, Content] | None = None
    remove: Annotated[list[Pointer], BeforeValidator(_as_list)] | None = None
    content: Content = None
    reason: Text = ""

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        given = self.model_fields_set
        if ("content" in given) == bool(given & {"set", "remove"}):
            raise PydanticCustomError("one_of", "give `set` and `remove`, or else `content`")
        return self


class BlockAction(Model):
    """Stop it; who waits gets an error. A text stands for `reason`."""

    reason: Text = ""
    code: int = int(ErrorCode.BLOCKED)
    data: Content = None

    @model_validator(mode="before")
    @classmethod
    def _short(cls, data: object) -> object:
        return {"reason": data} if isinstance(data, str) else data


class ErrorContent(Model):
    """An error of JSON-RPC."""

    code: int
    message: Text
    data: Content = None


class MockAction(Model):
    """Answer it in its receiver's place."""

    result: Content = None
    error: ErrorContent | None = None
    reason: Text = ""

    @model_validator(mode="after")
    def _one(self) -> Self:
        _one_of(self, ("result", "error"))
        return self


class DelayAction(Model):
    """Let it go on later. A number stands for `seconds`."""

    seconds: Seconds
    reason: Text = ""

    @model_validator(mode="before")
    @classmethod
    def _short(cls, data: object) -> object:
        return {"seconds": data} if isinstance(data, int | float) else data


class InjectAction(Model):
    """Let other messages go on around it."""

    before: Annotated[list[Content], BeforeValidator(_as_list)] = Field(default_factory=list)
    after: Annotated[list[Content], BeforeValidator(_as_list)] = Field(default_factory=list)
    reason: Text = ""

    @model_validator(mode="after")
    def _something(self) -> Self:
        if not self.before and not self.after:
            raise PydanticCustomError("empty", "give messages to send `before` or `after`")
        return self


def _named(data: object) -> object:
    """An action without anything to say may be its name alone."""
    if isinstance(data, str):
        return {data: {}}
    if isinstance(data, dict):
        return {name: {} if value is None else value for name, value in data.items()}
    return data


class OnTimeout(Model):
    """What becomes of a message that nobody decided about."""

    continue_: ContinueAction | None = Field(None, alias="continue")
    modify: ModifyAction | None = None
    block: BlockAction | None = None
    mock: MockAction | None = None

    _before = model_validator(mode="before")(_named)

    @model_validator(mode="after")
    def _one(self) -> Self:
        _one_of(self, ("continue_", "modify", "block", "mock"))
        return self


class PauseAction(Model):
    """Hold it until somebody has decided, or the time is over."""

    timeout_s: Seconds
    on_timeout: OnTimeout = Field(default_factory=lambda: OnTimeout.model_validate("continue"))
    reason: Text = ""


class Do(OnTimeout):
    """The action of a rule: exactly one."""

    pause: PauseAction | None = None
    delay: DelayAction | None = None
    inject: InjectAction | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        _one_of(self, ("continue_", "modify", "block", "mock", "pause", "delay", "inject"))
        return self


# --- Rules and their tests ---------------------------------------------------------------------------------------


class Rule(Model):
    """When something holds for a message, do something with it."""

    name: Annotated[str, Field(min_length=1, max_length=100)] | None = None
    mode: Literal["enforce", "audit"] = "enforce"
    when: When
    do: Do


class Expectation(Model):
    """What shall become of a message; at least one of these."""

    verdict: Literal["continue", "modify", "block", "mock", "pause", "delay", "inject", "fail"] | None = None
    rule: str | None = None
    sent: Annotated[list[Given], BeforeValidator(_as_list)] | None = None
    replied: Given = None

    @model_validator(mode="before")
    @classmethod
    def _short(cls, data: object) -> object:
        return {"verdict": data} if isinstance(data, str) else data

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if not self.model_fields_set:
            raise PydanticCustomError("empty", "expect one of {allowed}", {"allowed": _names(Expectation)})
        return self


class Case(Model):
    """A test of the rules: messages that come one after the other, and what shall become of the last one."""

    name: str | None = None
    given: Annotated[list[Given], BeforeValidator(_as_list), Field(min_length=1)]
    times: Annotated[int, Field(ge=1, le=10_000)] = 1
    answers: Given = None
    direction: Literal["c2s", "s2c"] | None = None
    session: str | None = None
    transport: Literal["http", "stdio"] = "http"
    server: str | None = None
    headers: dict[str, str] = Field(default_factory=dict)
    expect: Expectation


class RulesFile(Model):
    """A whole file."""

    version: Literal[1] = 1
    mode: Literal["enforce", "audit"] = "enforce"
    fail: Literal["open", "closed"] = "closed"
    seed: int | None = None
    rules: Annotated[list[Rule], Field(max_length=int(MAX_RULES))]
    tests: list[Case] = Field(default_factory=list)


def _names(model: type[BaseModel]) -> str:
    return ", ".join(field.alias or name for name, field in model.model_fields.items())
