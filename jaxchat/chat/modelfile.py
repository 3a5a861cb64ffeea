"""A Modelfile for Ollama, which takes the weights and the tokenizer from a GGUF file but reads no Jinja.

Its template is in Go's language (text/template), and is found by rendering the model's own: what stands around the
texts of a short talk stands around those of any, where turns alternate. Tools are not told to it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from jaxchat.chat.conversation import Message
from jaxchat.chat.template import ChatFormat, ChatFormatError

# transformers' name of each, and Ollama's.
SAMPLING = {
    "temperature": "temperature",
    "top_k": "top_k",
    "top_p": "top_p",
    "min_p": "min_p",
    "repetition_penalty": "repeat_penalty",
}
_SYSTEM, _ASKED, _SAID, _AGAIN = (f"@{name}@" for name in ("system", "asked", "said", "again"))
_UNKNOWN = (
    "# The model's chat template has no like in Ollama's language: give a TEMPLATE of your own, or it guesses one.\n"
)


def modelfile(weights: str, format: ChatFormat | None, sampling: Mapping[str, Any]) -> str:
    """Its text. weights: the GGUF file's name, beside it. sampling: the content of generation_config.json."""
    text = f"FROM ./{weights}\n"
    if format is not None:
        template = go_template(format)
        text += _UNKNOWN if template is None else f'TEMPLATE """{template}"""\n'
        names = {i: name for name, i in format.tokenizer.added_tokens.items()}
        stops = [names[i] for i in sorted(format.stop_ids) if '"' not in names.get(i, '"')]
        text += "".join(f'PARAMETER stop "{name}"\n' for name in stops)
    if not sampling.get("do_sample"):
        return text + "PARAMETER temperature 0\n"
    given = {theirs: sampling[ours] for ours, theirs in SAMPLING.items() if isinstance(sampling.get(ours), int | float)}
    return text + "".join(f"PARAMETER {name} {value}\n" for name, value in given.items())


def go_template(format: ChatFormat) -> str | None:
    """The chat template in Go's language, for talks in which the user begins and ends; None where texts are not simply
    set between fixed ones.

    A system text that the template refuses stands before the first question. A date that the template tells is today's.
    BOS is left to llama.cpp where that writes it.
    """
    talk = (Message("user", _ASKED), Message("assistant", _SAID), Message("user", _AGAIN))
    told = (Message("system", _SYSTEM), *talk)
    plain = _pieces(format, talk, (_ASKED, _SAID, _AGAIN))
    if plain is None:
        return None
    begin, before, after, end = plain
    try:
        with_system = _pieces(format, told, (_SYSTEM, _ASKED, _SAID, _AGAIN))
    except ChatFormatError:
        with_system = [begin, "\n\n", before, after, end]
    if with_system is None or with_system[2:] != [before, after, end]:
        return None
    if _begins_with_bos(format):
        bos = format.tokenizer.special_tokens["bos_token"]
        begin, with_system[0] = begin.removeprefix(bos), with_system[0].removeprefix(bos)
    opening, between = with_system[:2]
    if any('"""' in piece for piece in (begin, *with_system)):
        return None
    begin, opening, between, before, after, end = map(_literal, (begin, opening, between, before, after, end))
    return (
        f"{{{{ if .System }}}}{opening}{{{{ .System }}}}{between}{{{{ else }}}}{begin}{{{{ end }}}}"
        '{{ range .Messages }}{{ if eq .Role "user" }}{{ .Content }}'
        f'{{{{ else if eq .Role "assistant" }}}}{before}{{{{ .Content }}}}{after}{{{{ end }}}}{{{{ end }}}}{end}'
    )


def _pieces(format: ChatFormat, talk: Sequence[Message], texts: Sequence[str]) -> list[str] | None:
    """What the template writes before, between and after the texts; None where a longer talk is written otherwise."""
    pieces = _split(format.prompt_text(talk), texts)
    if pieces is None:
        return None
    *head, before, after, end = pieces
    longer = (*talk, Message("assistant", _SAID), Message("user", _AGAIN))
    again = _split(format.prompt_text(longer), (*texts, _SAID, _AGAIN))
    short = _split(format.prompt_text(talk[:-2]), texts[:-2])
    same = again == [*head, before, after, before, after, end] and short == [*head, end]
    return pieces if same else None


def _split(text: str, parts: Sequence[str]) -> list[str] | None:
    """What stands around the parts, each of which is in the text once, in order; None where that is not so."""
    pieces = []
    for part in parts:
        piece, found, text = text.partition(part)
        if not found:
            return None
        pieces.append(piece)
    return None if any(part in text for part in parts) else [*pieces, text]


def _begins_with_bos(format: ChatFormat) -> bool:
    tokenizer = format.tokenizer
    return tokenizer.bos_id is not None and tokenizer.encode("a", add_special_tokens=True)[:1] == [tokenizer.bos_id]


def _literal(text: str) -> str:
    return text.replace("{{", '{{ "{{" }}')
