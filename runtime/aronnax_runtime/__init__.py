"""The persistent process of Aronnax: compiles and runs StableHLO on OpenXLA, and keeps the buffers."""

__version__ = "0.1.0"
PROTOCOL_VERSION = 1
