"""Makes the tests run from a checkout, with or without the compiled module.

Where `tokenrank._core` is missing, or with `TOKENRANK_CORE=reference` in the environment, `reference.py` takes its place.
"""

import importlib
import importlib.util
import os
import sys
import types
from pathlib import Path

import reference

if importlib.util.find_spec("tokenrank") is None:
    sys.path.insert(0, str(Path(__file__).parent.parent / "python"))


def _core() -> types.ModuleType:
    """Returns the compiled module, or a module in its place whose other functions are missing."""
    try:
        return importlib.import_module("tokenrank._core")
    except ImportError:
        name = "tokenrank._core"
        core = sys.modules[name] = types.ModuleType(name, "Stands in for the compiled module.")
        core.__version__ = "0"
        core.MASKED = reference.MASKED
        core.__getattr__ = lambda missing: None
        return core


core = _core()
if os.environ.get("TOKENRANK_CORE") == "reference" or getattr(core, "chains", None) is None:
    core.chains = reference.chains


def uses_reference() -> bool:
    """Whether the tests run without the compiled module."""
    return core.chains is reference.chains


def pytest_report_header() -> str:
    return f"tokenrank._core.chains: {'the numpy reference' if uses_reference() else 'compiled'}"
