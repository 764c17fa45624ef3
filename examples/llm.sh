#!/bin/sh
# Ask through the program llm, which needs the extra: pip install 'atv-local[demo,llm]'
set -eu

llm -m atv "URGENT! You have won a prize. Txt CLAIM to 81010"
llm -c "how many teaspoons of salt should go in the soup" # goes on with that conversation
llm -m atv -o off true -o max_tokens 20 "What is the capital of France?"
llm logs --json -n 1 | grep '"strength"' # what was applied
