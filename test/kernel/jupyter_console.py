"""A session in `jupyter console` on a terminal, as a user has it; what it showed, without colours, goes to stdout.

    python jupyter_console.py <jupyter> <kernel>

Fails with the terminal's text where an expected answer does not come.
"""

import re
import sys
import time

import pexpect

ANSI = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]|\x1b[=>()][0-9A-B]?|\r")


class Terminal:
    """A terminal that is typed into and read without its colours and cursor movements."""

    def __init__(self, command: str, arguments: list[str]) -> None:
        self._child = pexpect.spawn(command, arguments, encoding="utf8", dimensions=(40, 200))
        self._cut = ""  # An escape sequence whose end has not come.
        self._ahead = ""
        self.text = ""

    def expect(self, pattern: str, seconds: float = 60) -> None:
        """Waits for the pattern after what was expected before."""
        end = time.monotonic() + seconds
        while not (found := re.search(pattern, self._ahead)):
            if time.monotonic() > end:
                raise SystemExit(f"no {pattern!r} within {seconds} s after:\n{self.text}\n---\n{self._ahead}")
            try:
                self._read(self._child.read_nonblocking(4096, timeout=0.2))
            except pexpect.TIMEOUT:
                pass
            except pexpect.EOF:
                raise SystemExit(f"no {pattern!r} before the end:\n{self.text}\n---\n{self._ahead}") from None
        self.text += self._ahead[: found.end()]
        self._ahead = self._ahead[found.end() :]

    def _read(self, raw: str) -> None:
        whole, self._cut = re.fullmatch(r"(.*?)(\x1b[^a-zA-Z]*)?", self._cut + raw, re.DOTALL).groups("")
        self._ahead += ANSI.sub("", whole)

    def type(self, keys: str) -> None:
        self._child.send(keys)

    def ended(self, seconds: float = 20) -> bool:
        end = time.monotonic() + seconds
        while self._child.isalive() and time.monotonic() < end:
            try:
                self._child.read_nonblocking(4096, timeout=0.2)
            except (pexpect.TIMEOUT, pexpect.EOF):
                time.sleep(0.1)
        return not self._child.isalive()


def main() -> None:
    jupyter, kernel = sys.argv[1:]
    console = Terminal(jupyter, ["console", "--kernel", kernel])
    console.expect(r"Aronnax .*TypeScript on Node")
    console.expect(r"In \[1\]: ")
    console.type("const width: number = 6\r")
    console.expect(r"In \[2\]: ")
    console.type("width * 7\r")
    console.expect(r"Out\[2\]: 42")
    console.expect(r"In \[3\]: ")
    # A statement that goes on: the kernel says that it is not complete, and how far to indent.
    console.type("function twice(n: number) {\r")
    console.expect(r"\.\.\.: ")
    console.type("return 2 * n }\r")
    console.expect(r"In \[4\]: ")
    console.type("console.log('doubled', twice(width))\r")
    console.expect(r"\ndoubled 12")
    console.expect(r"In \[5\]: ")
    console.type("width.toFi\t")
    console.expect(r"toFixed")
    console.type("(1)\r")
    console.expect(r"Out\[5\]: '6\.0'")
    console.expect(r"In \[6\]: ")
    console.type("const wrong: string = 5\r")
    console.expect(r"Type 'number' is not assignable to type 'string'")
    console.expect(r"In \[7\]: ")
    console.type("prompt('Who? ')\r")
    console.expect(r"\nWho\? ")
    console.type("Nemo\r")
    console.expect(r"Out\[7\]: 'Nemo'")
    console.expect(r"In \[8\]: ")
    console.type("console.log('loop'); while (true) {}\r")
    console.expect(r"\nloop")
    console.type("\x03")
    console.expect(r"Interrupted: the cell was interrupted")
    console.expect(r"In \[9\]: ")
    console.type("width\r")
    console.expect(r"Out\[9\]: 6")
    console.expect(r"In \[10\]: ")
    console.type("\x04")
    console.expect(r"exit|Shutting|keep")
    console.type("y\r")
    if not console.ended():
        raise SystemExit(f"the console did not end:\n{console.text}")
    sys.stdout.write(console.text)


main()
