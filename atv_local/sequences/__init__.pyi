from .sequence_context import SequenceContext as SequenceContext
from .shared_context import SharedContext as SharedContext
from .shared_sequence import SharedSequence as SharedSequence
from .token_context import Reader as Reader
from .token_context import Token as Token
from .token_context import TokenContext as TokenContext
