"""What clients send: OpenAI's requests, field by field, and the few that others have added to them.

A field that is unknown is refused, since whoever sets one expects it to matter; those that ask for nothing here (a
user's name, where to keep the answer) are taken and left alone. Values are never converted: "0.7" is no number.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from jaxchat.chat.conversation import Message, ToolCall
from jaxchat.serve.errors import unusable

Text = Annotated[str, Field(max_length=1_000_000)]
NAME = r"^[a-zA-Z0-9_.-]{1,64}$"


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")


class TextPart(_Strict):
    type: Literal["text"]
    text: Text


class FunctionCall(_Strict):
    name: str = Field(pattern=NAME)
    arguments: Text


class Call(BaseModel):
    """A call as a client sends it back; what else it holds (an index) was ours."""

    model_config = ConfigDict(strict=True)
    id: str | None = Field(None, max_length=256)
    type: Literal["function"] = "function"
    function: FunctionCall


class ChatMessage(BaseModel):
    """A turn. Clients send back what they were given, so what else a message holds (refusal, annotations) is left."""

    model_config = ConfigDict(strict=True)
    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Text | list[TextPart] | None = None
    name: str | None = Field(None, max_length=256)
    tool_calls: list[Call] | None = Field(None, max_length=128)
    tool_call_id: str | None = Field(None, max_length=256)
    reasoning_content: Text | None = None

    def message(self) -> Message:
        content = self.content if not isinstance(self.content, list) else "".join(part.text for part in self.content)
        calls = tuple(ToolCall(c.function.name, c.function.arguments, c.id) for c in self.tool_calls or ())
        extra = {"reasoning_content": self.reasoning_content} if self.reasoning_content else {}
        role = "system" if self.role == "developer" else self.role
        if content is None and not calls:
            content = ""
        return Message(role, content, self.name, calls, self.tool_call_id, extra=extra)


class Function(_Strict):
    name: str = Field(pattern=NAME)
    description: Text | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class Tool(_Strict):
    type: Literal["function"]
    function: Function


class NamedFunction(_Strict):
    name: str


class NamedTool(_Strict):
    type: Literal["function"]
    function: NamedFunction


class JsonSchema(_Strict):
    model_config = ConfigDict(strict=True, extra="forbid", populate_by_name=True, protected_namespaces=())
    name: str = Field(pattern=NAME)
    description: Text | None = None
    schema_: dict[str, Any] = Field(alias="schema")
    strict: bool | None = None


class PlainText(_Strict):
    type: Literal["text"]


class JsonObject(_Strict):
    type: Literal["json_object"]


class JsonBySchema(_Strict):
    type: Literal["json_schema"]
    json_schema: JsonSchema


ResponseFormat = Annotated[PlainText | JsonObject | JsonBySchema, Field(discriminator="type")]


class StreamOptions(_Strict):
    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class _Sampled(_Strict):
    """What both kinds of completion share. Where nothing is said, the model's own generation config decides."""

    model: str | None = Field(None, max_length=512)
    """The first that is served, by default."""
    temperature: float | None = Field(None, ge=0, le=2, allow_inf_nan=False)
    top_p: float | None = Field(None, gt=0, le=1, allow_inf_nan=False)
    top_k: int | None = Field(None, ge=0, le=2**31 - 1)
    min_p: float | None = Field(None, ge=0, le=1, allow_inf_nan=False)
    max_tokens: int | None = Field(None, ge=1, le=2**31 - 1)
    stop: str | list[str] | None = None
    seed: int | None = Field(None, ge=-(2**63), le=2**63 - 1)
    n: int | None = Field(None, ge=1, le=16)
    presence_penalty: float | None = Field(None, ge=-2, le=2, allow_inf_nan=False)
    frequency_penalty: float | None = Field(None, ge=-2, le=2, allow_inf_nan=False)
    repetition_penalty: float | None = Field(None, gt=0, le=10, allow_inf_nan=False)
    logit_bias: dict[str, Annotated[float, Field(ge=-100, le=100, allow_inf_nan=False)]] | None = Field(
        None, max_length=300
    )
    ignore_eos: bool | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    # Asking for nothing here:
    user: str | None = None
    metadata: dict[str, Any] | None = None
    store: bool | None = None
    service_tier: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _said(cls, asked: Any) -> Any:
        """Null says nothing, of a field that is unknown, too: clients send all theirs so."""
        return {name: value for name, value in asked.items() if value is not None} if isinstance(asked, dict) else asked

    @field_validator("stop")
    @classmethod
    def _stops(cls, stop: str | list[str] | None) -> str | list[str] | None:
        texts = [stop] if isinstance(stop, str) else stop or []
        if len(texts) > 16 or any(not 0 < len(text) <= 256 for text in texts):
            raise ValueError("stop is a text, or up to 16 of them, of 1 to 256 characters each")
        return stop

    @field_validator("logit_bias")
    @classmethod
    def _biases(cls, bias: dict[str, float] | None) -> dict[str, float] | None:
        if any(not (token.isascii() and token.isdigit() and len(token) < 10) for token in bias or ()):
            raise ValueError("logit_bias names tokens by their ids, in figures")
        return bias

    @property
    def stops(self) -> tuple[str, ...]:
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())

    @property
    def limit(self) -> int | None:
        return self.max_tokens


class ChatRequest(_Sampled):
    """POST /v1/chat/completions"""

    messages: list[ChatMessage] = Field(min_length=1, max_length=4096)
    max_completion_tokens: int | None = Field(None, ge=1, le=2**31 - 1)
    logprobs: bool | None = None
    top_logprobs: int | None = Field(None, ge=0, le=20)
    response_format: ResponseFormat | None = None
    tools: list[Tool] | None = Field(None, max_length=128)
    tool_choice: Literal["none", "auto", "required"] | NamedTool | None = None
    parallel_tool_calls: bool | None = None

    @model_validator(mode="after")
    def _together(self) -> ChatRequest:
        names = [tool.function.name for tool in self.tools or ()]
        if len(names) != len(set(names)):
            raise ValueError("tools: two functions have one name")
        if not names and self.tool_choice not in (None, "none"):
            raise ValueError("tool_choice: there are no tools to choose from")
        if isinstance(self.tool_choice, NamedTool) and self.tool_choice.function.name not in names:
            raise ValueError(f"tool_choice: no tool is called {self.tool_choice.function.name!r}")
        if self.top_logprobs and not self.logprobs:
            raise ValueError("top_logprobs: set logprobs as well")
        return self

    @property
    def limit(self) -> int | None:
        return self.max_completion_tokens if self.max_completion_tokens is not None else self.max_tokens


Prompts = Text | list[Text] | list[int] | list[list[int]]


def _each(prompts: Prompts) -> list[str | list[int]]:
    """One prompt, as text or ids, is a list of one."""
    if isinstance(prompts, str):
        return [prompts]
    if prompts and isinstance(prompts[0], int):
        return [[i for i in prompts if isinstance(i, int)]]
    return [prompt for prompt in prompts if isinstance(prompt, str | list)]


class CompletionRequest(_Sampled):
    """POST /v1/completions"""

    prompt: Prompts
    logprobs: int | None = Field(None, ge=0, le=20)
    echo: bool | None = None
    best_of: int | None = None
    suffix: str | None = None

    @model_validator(mode="after")
    def _together(self) -> CompletionRequest:
        if self.echo or self.suffix or (self.best_of or 1) > (self.n or 1):
            raise ValueError("echo, suffix and best_of beyond n are not offered")
        return self

    def prompts(self) -> list[str | list[int]]:
        prompts = _each(self.prompt)
        if not 0 < len(prompts) <= 128:
            raise unusable("prompt holds 1 to 128 prompts", "prompt")
        return prompts


class EmbeddingRequest(_Strict):
    """POST /v1/embeddings"""

    model: str | None = Field(None, max_length=512)
    input: Prompts
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: int | None = None
    user: str | None = None

    def inputs(self) -> list[str | list[int]]:
        inputs = _each(self.input)
        if not 0 < len(inputs) <= 256 or any(not part for part in inputs):
            raise unusable("input holds 1 to 256 texts, none of them empty", "input")
        return inputs


class FeedbackRequest(_Strict):
    """POST /v1/feedback: `rating` none takes an earlier one back."""

    id: str = Field(min_length=1, max_length=128)
    """Of the completion, and with several choices /1, /2 behind it."""
    rating: Literal["up", "down", "none"]
    messages: list[ChatMessage] = Field(min_length=2, max_length=4096)
    """The conversation up to and with the answer that is rated."""
    model: str | None = Field(None, max_length=512)
    tools: list[Tool] | None = Field(None, max_length=128)
    comment: str | None = Field(None, max_length=4096)

    @model_validator(mode="after")
    def _together(self) -> FeedbackRequest:
        if self.messages[-1].role != "assistant":
            raise ValueError("messages: the last is the assistant's answer that is rated")
        return self
