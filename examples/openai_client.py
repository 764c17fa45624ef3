"""Ask `atv-local serve` with OpenAI's client: steered by default, by a weaker vector, and not at all.

Start the server first: atv-local serve
"""

import os

from openai import OpenAI

client = OpenAI(base_url=os.environ.get("ATV_URL", "http://127.0.0.1:8080/v1"), api_key="not needed")
messages = [{"role": "user", "content": "How do I remove a stain from a shirt?"}]

for steering in (None, {"strength": 0.5}, False):
    completion = client.chat.completions.create(
        model="demo",
        messages=messages,
        max_tokens=40,
        extra_body={} if steering is None else {"steering": steering},
    )
    print(completion.choices[0].message.content)
    print(completion.model_extra["steering"])

stream = client.chat.completions.create(model="demo", messages=messages, max_tokens=40, stream=True)
print("".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices))
