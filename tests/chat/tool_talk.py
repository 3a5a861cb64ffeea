"""A conversation in which the assistant calls a tool, for tests of templates."""

from __future__ import annotations

from jaxchat.chat.conversation import Conversation, Message, ToolCall

WEATHER = {
    "type": "function",
    "function": {"name": "weather", "description": "Says the weather", "parameters": {"type": "object"}},
}
CALLED = Conversation(
    "c",
    (
        Message("user", "Weather in Zürich?"),
        Message("assistant", None, tool_calls=(ToolCall("weather", {"city": "Zürich"}, "abcdefghi"),)),
        Message("tool", '{"sky": "clear"}', name="weather", tool_call_id="abcdefghi"),
        Message("assistant", "It is clear."),
        Message("user", "Thanks"),
        Message("assistant", "Bye"),
    ),
    (WEATHER,),
)
