from .eval_progress import EvalProgress as EvalProgress
from .training_progress import TrainingProgress as TrainingProgress
