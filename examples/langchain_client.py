"""LangChain with a server of `jaxchat serve MODEL`: an answer as it comes, and one as an object of a class.

pip install langchain-openai
python examples/langchain_client.py [http://127.0.0.1:8000/v1]
"""

import sys

from langchain_core.prompts import ChatPromptTemplate
from langchain_openai import ChatOpenAI
from openai import OpenAI
from pydantic import BaseModel

url = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8000/v1"
model = OpenAI(base_url=url, api_key="none").models.list().data[0].id
chat = ChatOpenAI(base_url=url, api_key="a key, if asked for", model=model, max_completion_tokens=100)


class Person(BaseModel):
    name: str
    age: int


ask = ChatPromptTemplate.from_messages([("system", "You answer in one sentence."), ("user", "{question}")])
for chunk in (ask | chat).stream({"question": "Why is the sky blue?"}):
    print(chunk.content, end="", flush=True)
print()
print(chat.with_structured_output(Person, method="json_schema").invoke("Invent a person, as JSON."))
