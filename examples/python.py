"""Answer queries from Python, without and with steering."""

import json

import atv_local

with atv_local.load() as engine:  # or atv_local.load("model.gguf", "bundle")
    answer = engine.answer("how many teaspoons of salt should go in the soup")
    print(answer.text)
    print(json.dumps(answer.as_dict()))

    base = engine.answer("how many teaspoons of salt should go in the soup", steering=atv_local.OFF, max_tokens=20)
    print(base.text)

    for answer in engine.answer_many(["book me a flight to rome", "URGENT! You have won a prize. Txt CLAIM to 81010"]):
        print(answer.text)
