"""Cutaway builds, adapts, aligns, grounds, serves and examines language models, with the casing off.

The names below are the public surface. Each is imported when it is first used, so that `import cutaway` stays cheap
and loads no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOME = {
    "Batch": "cutaway.data.batch",
    "Beam": "cutaway.decode.beam",
    "ChatRenderer": "cutaway.text.chat",
    "Config": "cutaway.core.config",
    "CutawayError": "cutaway.core.errors",
    "Detokenizer": "cutaway.text.detokenize",
    "Engine": "cutaway.infer.engine",
    "EngineConfig": "cutaway.infer.engine",
    "FinetuneConfig": "cutaway.train.finetune",
    "Index": "cutaway.retrieve.index",
    "Loaded": "cutaway.models.load",
    "LoraConfig": "cutaway.adapt.lora",
    "PretrainConfig": "cutaway.train.pretrain",
    "Request": "cutaway.infer.request",
    "Sampling": "cutaway.decode.sampling",
    "Tokenizer": "cutaway.text.tokenizer",
    "add_lora": "cutaway.adapt.lora",
    "answer": "cutaway.retrieve.answer",
    "create_app": "cutaway.serve.app",
    "finetune": "cutaway.train.finetune",
    "load": "cutaway.models.load",
    "load_adapter": "cutaway.adapt.peft_files",
    "load_tokenizer": "cutaway.text.load",
    "pretrain": "cutaway.train.pretrain",
    "save_adapter": "cutaway.adapt.peft_files",
    "save_model": "cutaway.models.huggingface",
    "train_tokenizer": "cutaway.text.train",
}
__all__ = ["__version__", *sorted(_HOME)]

if TYPE_CHECKING:
    from cutaway.adapt.lora import LoraConfig as LoraConfig
    from cutaway.adapt.lora import add_lora as add_lora
    from cutaway.adapt.peft_files import load_adapter as load_adapter
    from cutaway.adapt.peft_files import save_adapter as save_adapter
    from cutaway.core.config import Config as Config
    from cutaway.core.errors import CutawayError as CutawayError
    from cutaway.data.batch import Batch as Batch
    from cutaway.decode.beam import Beam as Beam
    from cutaway.decode.sampling import Sampling as Sampling
    from cutaway.infer.engine import Engine as Engine
    from cutaway.infer.engine import EngineConfig as EngineConfig
    from cutaway.infer.request import Request as Request
    from cutaway.models.huggingface import save_model as save_model
    from cutaway.models.load import Loaded as Loaded
    from cutaway.models.load import load as load
    from cutaway.retrieve.answer import answer as answer
    from cutaway.retrieve.index import Index as Index
    from cutaway.serve.app import create_app as create_app
    from cutaway.text.chat import ChatRenderer as ChatRenderer
    from cutaway.text.detokenize import Detokenizer as Detokenizer
    from cutaway.text.load import load_tokenizer as load_tokenizer
    from cutaway.text.tokenizer import Tokenizer as Tokenizer
    from cutaway.text.train import train_tokenizer as train_tokenizer
    from cutaway.train.finetune import FinetuneConfig as FinetuneConfig
    from cutaway.train.finetune import finetune as finetune
    from cutaway.train.pretrain import PretrainConfig as PretrainConfig
    from cutaway.train.pretrain import pretrain as pretrain


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'cutaway' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return __all__
