"""The log, of which each line is the runtime's own: what clients sent cannot begin one."""

import logging
import re
import sys

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


class _Formatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        record.message = _escaped(record.getMessage())
        record.asctime = self.formatTime(record)
        text = f"{record.asctime} {record.levelname} {record.message}"
        if record.exc_info:
            # A traceback's lines are indented: the words of its exception may be a client's.
            lines = self.formatException(record.exc_info).split("\n")
            text += "".join(f"\n    {_escaped(line)}" for line in lines)
        return text


def _escaped(text: str) -> str:
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def begin_log() -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Formatter())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    logging.getLogger("jax").setLevel(logging.WARNING)
