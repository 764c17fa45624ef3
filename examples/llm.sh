#!/bin/sh
# Ask through the program llm, which needs the extra: pip install 'atv-local[demo,llm]'
set -eu

llm -m atv "I took money out of a cash machine and there was an extra charge. Why?"
llm -c "I tried to get cash out of the machine but it refused my card" # goes on with that conversation
llm -m atv -o off true -o max_tokens 20 "What is the capital of France?"
llm logs --json -n 1 | grep '"strength"' # what was applied
