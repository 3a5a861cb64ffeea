"""A conversation, a form and a tool through OpenAI's client, with a server of `jaxchat serve MODEL`.

pip install openai
python examples/openai_client.py [http://127.0.0.1:8000/v1]
"""

import json
import sys

from openai import OpenAI

client = OpenAI(
    base_url=sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8000/v1", api_key="a key, if asked for"
)
model = client.models.list().data[0].id

question = [{"role": "user", "content": "What is the capital of France?"}]
for chunk in client.chat.completions.create(model=model, messages=question, stream=True, max_tokens=60):
    print(chunk.choices[0].delta.content or "", end="", flush=True)
print()

person = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
    "required": ["name", "age"],
    "additionalProperties": False,
}
answer = client.chat.completions.create(
    model=model,
    messages=[{"role": "user", "content": "Invent a person, as JSON."}],
    response_format={"type": "json_schema", "json_schema": {"name": "person", "schema": person}},
)
print(json.loads(answer.choices[0].message.content))

weather = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
asked = client.chat.completions.create(
    model=model,
    messages=[{"role": "user", "content": "How is the weather in Paris?"}],
    tools=[weather],
    tool_choice="required",
    parallel_tool_calls=False,
)
for call in asked.choices[0].message.tool_calls:
    print(call.function.name, call.function.arguments)
