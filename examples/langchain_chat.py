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

print(chain.invoke({"question": "how many teaspoons of salt should go in the soup"}).content)
for chunk in chain.stream({"question": "URGENT! You have won a prize. Txt CLAIM to 81010"}):
    print(chunk.content, end="", flush=True)
print()
