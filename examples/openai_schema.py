"""Answers that programs can use, from `atv-local serve` through OpenAI's client: a Pydantic object, and a choice.

Start the server first: atv-local serve
"""

import os
from typing import Literal

from openai import OpenAI
from pydantic import BaseModel


class Trip(BaseModel):
    """What is read from a message."""

    city: str
    days: int
    transport: Literal["train", "bus", "plane"]


client = OpenAI(base_url=os.environ.get("ATV_URL", "http://127.0.0.1:8080/v1"), api_key="not needed")

completion = client.chat.completions.parse(
    model="demo",
    messages=[{"role": "user", "content": "Extract the trip as JSON: we go to Rome for 4 days, by train"}],
    response_format=Trip,
    max_tokens=100,
    extra_body={"steering": False},
)
print(completion.choices[0].message.parsed)

completion = client.chat.completions.create(
    model="demo",
    messages=[{"role": "user", "content": "I took money out of a cash machine and there was an extra charge. Why?"}],
    extra_body={"choices": ["cash withdrawal charge", "transfer fee charged", "declined cash withdrawal"]},
)
choice = completion.choices[0]
print(choice.message.content, choice.model_extra["probabilities"])
