from .openapi import description as description
from .requests import ChatRequest as ChatRequest
from .requests import CompletionRequest as CompletionRequest
from .requests import SteeringRequest as SteeringRequest
from .responses import ReplyShape as ReplyShape
from .responses import Usage as Usage
from .stops import Stops as Stops
