"""Use `atv-local serve` as a chat model in LangChain.

Start the server first: atv-local serve
"""

import os

from langchain_core.prompts import ChatPromptTemplate
from langchain_openai import ChatOpenAI

model = ChatOpenAI(
    model="demo",
    base_url=os.environ.get("ATV_URL", "http://127.0.0.1:8080/v1"),
    api_key="not needed",
    temperature=0,
    extra_body={"steering": {"strength": 1.0}},
)
chain = ChatPromptTemplate.from_messages([("user", "{question}")]) | model

print(chain.invoke({"question": "How do I remove a stain from a shirt?"}).content)
for chunk in chain.stream({"question": "I took money out of a cash machine and there was an extra charge. Why?"}):
    print(chunk.content, end="", flush=True)
print()
