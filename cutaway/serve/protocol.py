"""What clients may send: OpenAI's requests with Cutaway's own fields (docs/api.md).

Every field is honoured or refused by name; only those in `WITHOUT_EFFECT` are accepted and mean nothing here. null means
"not given". Defaults and ranges of sampling are those of `decode.sampling.Sampling`.
"""

from base64 import b64decode
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from cutaway.core.config import make_config
from cutaway.core.errors import RequestError
from cutaway.data.parts import Part
from cutaway.decode.grammar import Constraint
from cutaway.decode.sampling import Sampling
from cutaway.retrieve.answer import PASSAGES

WITHOUT_EFFECT = {
    "user",
    "metadata",
    "store",
    "service_tier",
    "safety_identifier",
    "prompt_cache_key",
    "name",  # of a message
    "refusal",
    "annotations",
}
# Fields that are refused unless they ask for what happens anyway.
AS_IT_IS: dict[str, tuple[Any, ...]] = {
    "functions": ([],),
    "modalities": (["text"],),
    "best_of": (1,),
    "suffix": ("",),
    "truncation": ("disabled",),  # of /v1/responses, as the next
    "background": (False,),
    "include": ([],),
}
MAX_ALTERNATIVES = 20

TokenId = Annotated[str, Field(pattern=r"^\d{1,9}$")]
Bias = Annotated[float, Field(ge=-100, le=100)]


class Body(BaseModel):
    """Base of every request: exact types, and closed to unknown fields."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, protected_namespaces=())

    @model_validator(mode="before")
    @classmethod
    def _what_was_asked(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        return {
            name: value
            for name, value in values.items()
            if value is not None
            and (name in cls.model_fields or (name not in WITHOUT_EFFECT and value not in AS_IT_IS.get(name, ())))
        }


class StreamOptions(Body):
    """What a stream tells besides the reply."""

    include_usage: bool = False
    include_obfuscation: bool = False  # OpenAI pads chunks against eavesdroppers; there is nothing to turn off


class JsonSchema(Body):
    """A schema with a name."""

    name: str = Field(pattern=r"^[\w-]{1,64}$")
    description: str = ""
    wanted: dict[str, Any] = Field({"type": "object"}, alias="schema")
    strict: bool = True  # it always is


class ResponseFormat(Body):
    """What a reply must be."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None

    @model_validator(mode="after")
    def _whole(self) -> "ResponseFormat":
        if (self.type == "json_schema") != (self.json_schema is not None):
            raise RequestError("goes with type json_schema, and with it only", field="response_format.json_schema")
        return self


class Generation(Body):
    """What chat and completions share."""

    model: str
    stream: bool = False
    stream_options: StreamOptions = StreamOptions()
    n: int = Field(1, ge=1)
    stop: str | list[str] = []
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    typical_p: float | None = None
    repetition_penalty: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logit_bias: dict[TokenId, Bias] | None = None
    seed: int | None = None
    cache_salt: str = Field("", max_length=256)
    response_format: ResponseFormat | None = None
    guided_json: dict[str, Any] | None = None
    guided_regex: str | None = None
    guided_choice: list[str] | None = None
    guided_grammar: str | None = None

    def sampling(self, defaults: Sampling) -> Sampling:
        """The settings that were given, over the defaults.

        Raises:
            ConfigError: one is out of its range.
        """
        given = self.model_dump(include=set(Sampling.model_fields), exclude_none=True)
        return make_config(Sampling, {**defaults.model_dump(), **given})

    @property
    def guided_fields(self) -> list[str]:
        """The fields besides `response_format` that say what a reply must be, of those that are given."""
        return [
            name for name in Generation.model_fields if name.startswith("guided_") and getattr(self, name) is not None
        ]

    @property
    def stops(self) -> tuple[str, ...]:
        """The strings that end a reply."""
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop)


class TextPart(Body):
    """A part of a message's content; other types than text are refused."""

    type: Literal["text"]
    text: str


class CalledFunction(Body):
    """Whom a call called, and its arguments in JSON."""

    name: str
    arguments: str


class ToolCall(Body):
    """A call that a reply made."""

    id: str
    type: Literal["function"] = "function"
    function: CalledFunction


class Message(Body):
    """One message of a conversation."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[TextPart] | None = None
    tool_calls: list[ToolCall] = []
    tool_call_id: str | None = None

    @property
    def text(self) -> str:
        """The content, parts joined."""
        content = self.content or ""
        return content if isinstance(content, str) else "".join(part.text for part in content)

    @property
    def plain_role(self) -> str:
        """The role as templates know it."""
        return "system" if self.role == "developer" else self.role


class Function(Body):
    """A function that a reply may call."""

    name: str = Field(pattern=r"^[\w.-]{1,64}$")
    description: str = ""
    parameters: dict[str, Any] = {}
    strict: bool = False


class Tool(Body):
    """A function, as OpenAI's API wraps it."""

    type: Literal["function"]
    function: Function


class FunctionName(Body):
    """One of the functions."""

    name: str


class NamedTool(Body):
    """The function that must be called."""

    type: Literal["function"]
    function: FunctionName


class Documents(Body):
    """Which passages to ground the answer in."""

    k: int = Field(PASSAGES, ge=1, le=50)
    where: dict[str, str] = Field({}, max_length=3)


class ToolSettings(Body):
    """Functions that a reply may or must call."""

    tools: list[Tool] = Field([], max_length=128)
    tool_choice: Literal["none", "auto", "required"] | NamedTool = "auto"
    parallel_tool_calls: bool = True


class ChatRequest(Generation, ToolSettings):
    """The body of `POST /v1/chat/completions`."""

    messages: list[Message] = Field(min_length=1)
    max_tokens: int | None = Field(None, ge=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    logprobs: bool = False
    top_logprobs: int = Field(0, ge=0, le=MAX_ALTERNATIVES)
    documents: bool | Documents = False
    inspect: bool = False

    @model_validator(mode="after")
    def _messages_say_something(self) -> "ChatRequest":
        for number, message in enumerate(self.messages):
            if message.content is None and not message.tool_calls:
                raise RequestError("is required", field=f"messages.{number}.content")
            if message.tool_calls and message.role != "assistant":
                raise RequestError("are an assistant's", field=f"messages.{number}.tool_calls")
            if message.role == "tool" and not message.tool_call_id:
                raise RequestError("is required", field=f"messages.{number}.tool_call_id")
        return self

    @model_validator(mode="after")
    def _fits_together(self) -> "ChatRequest":
        if self.max_tokens and self.max_completion_tokens and self.max_tokens != self.max_completion_tokens:
            raise RequestError("differs from max_completion_tokens", field="max_tokens", value=self.max_tokens)
        if self.top_logprobs and not self.logprobs:
            raise RequestError("needs logprobs: true", field="top_logprobs", value=self.top_logprobs)
        if self.n > 1 and (self.inspect or self.documents):
            raise RequestError("must be 1 with inspect or documents", field="n", value=self.n)
        if self.documents and (self.tools or self.response_format or self.guided_fields):
            field = "tools" if self.tools else "response_format" if self.response_format else self.guided_fields[0]
            raise RequestError("does not go with documents", field=field)
        return self

    @property
    def limit(self) -> int | None:
        """New tokens at most; None: as many as the context holds."""
        return self.max_completion_tokens or self.max_tokens

    @property
    def alternatives(self) -> int | None:
        """Alternatives to list with each token; None: no log-probabilities."""
        return self.top_logprobs if self.logprobs else None


class CompletionRequest(Generation):
    """The body of `POST /v1/completions`."""

    prompt: str | list[str] | list[int] | list[list[int]]
    max_tokens: int = Field(16, ge=1)
    logprobs: int | None = Field(None, ge=0, le=MAX_ALTERNATIVES)
    echo: bool = False

    @model_validator(mode="after")
    def _fits_together(self) -> "CompletionRequest":
        if not self.prompt:
            raise RequestError("is empty", field="prompt")
        return self

    @property
    def prompts(self) -> list[str] | list[list[int]]:
        """One item per prompt."""
        if isinstance(self.prompt, str):
            return [self.prompt]
        return [self.prompt] if isinstance(self.prompt[0], int) else self.prompt  # type: ignore[list-item,return-value]


class EmbeddingRequest(Body):
    """The body of `POST /v1/embeddings`."""

    model: str
    input: str | list[str]
    encoding_format: Literal["float", "base64"] = "float"


class RerankRequest(Body):
    """The body of `POST /v1/rerank`."""

    model: str | None = None
    query: str = Field(min_length=1)
    documents: list[str | dict[str, str]] = Field(min_length=1)
    top_n: int | None = Field(None, ge=1)
    return_documents: bool = True

    @property
    def texts(self) -> list[str]:
        """The documents' texts."""
        for number, one in enumerate(self.documents):
            if not (one if isinstance(one, str) else one.get("text")):
                raise RequestError("holds no text", field=f"documents.{number}")
        return [one if isinstance(one, str) else one["text"] for one in self.documents]


class PiecesRequest(Body):
    """The body of `POST /v1/tokenize`."""

    model: str | None = None
    text: str


class TokenizeRequest(ToolSettings):
    """The body of `POST /tokenize`: a text or a conversation."""

    model: str | None = None
    prompt: str | None = None
    messages: list[Message] = []
    add_special_tokens: bool = True
    add_generation_prompt: bool = True

    @model_validator(mode="after")
    def _one(self) -> "TokenizeRequest":
        if (self.prompt is None) == (not self.messages):
            raise RequestError("is required, or messages, and not both", field="prompt")
        return self


class DetokenizeRequest(Body):
    """The body of `POST /detokenize`."""

    model: str | None = None
    tokens: list[int]


class InspectRequest(Body):
    """The body of `POST /v1/inspect`."""

    model: str | None = None
    ids: list[int]
    position: int
    prompt_length: int = 0
    sampling: Sampling = Sampling()
    grammar: Constraint | None = None
    alternatives: int = Field(10, ge=1, le=100)


class ViewPart(Body):
    """A text, or a file in base64 (or a `data:` address with it); a video is a list of images."""

    text: str | None = None
    image: str | None = None
    audio: str | None = None
    video: list[str] | None = Field(None, min_length=1)

    @model_validator(mode="after")
    def _one(self) -> "ViewPart":
        if len(self.model_fields_set) != 1:
            raise RequestError("must be one of text, image, audio and video", field="parts")
        return self

    @property
    def part(self) -> Part:
        """As it is read from a file of rows.

        Raises:
            RequestError: a file is no base64.
        """
        (kind,) = self.model_fields_set
        content = getattr(self, kind)
        if kind == "text":
            return Part(kind, content)
        return Part(kind, files=tuple(_decoded(kind, file) for file in ([content] if kind != "video" else content)))


class ViewRequest(Body):
    """The body of `POST /v1/inspect/views`."""

    model: str | None = None
    what: str
    text: str | None = None
    parts: list[ViewPart] | None = Field(None, min_length=1)

    @model_validator(mode="after")
    def _one_input(self) -> "ViewRequest":
        if self.text is None and self.parts is None:
            raise RequestError("is required, or parts", field="text")
        if self.text is not None and self.parts is not None:
            raise RequestError("does not go with text", field="parts")
        return self


def _decoded(kind: str, text: str) -> bytes:
    try:
        return b64decode(text.rpartition(";base64,")[2] if text.startswith("data:") else text, validate=True)
    except ValueError:
        raise RequestError("is no base64", field=f"parts.{kind}", value=text[:40]) from None
