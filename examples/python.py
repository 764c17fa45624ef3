"""Answer queries from Python, without and with steering."""

import json

import atv_local

with atv_local.load() as engine:  # or atv_local.load("model.gguf", "bundle")
    answer = engine.answer("How do I remove a stain from a shirt?")
    print(answer.text)
    print(json.dumps(answer.as_dict()))

    base = engine.answer("How do I remove a stain from a shirt?", steering=atv_local.OFF, max_tokens=20)
    print(base.text)

    queries = [
        "Book a table for four at a sushi bar in Boston",
        "I took money out of a cash machine and there was an extra charge. Why?",
    ]
    for answer in engine.answer_many(queries):
        print(answer.text)
