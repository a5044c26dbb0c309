"""The conformance suite of the Jupyter project, run against the kernel.

The environment names the kernel's folder of kernelspecs in JUPYTER_PATH.
"""

import unittest

import jupyter_kernel_test


class AronnaxKernelTests(jupyter_kernel_test.KernelTests):
    kernel_name = "aronnax-under-test"
    language_name = "typescript"
    file_extension = ".ts"

    code_hello_world = "console.log('hello, world')"
    code_stderr = "console.error('oops')"

    completion_samples = (
        {"text": "Math.cbr", "matches": {"cbrt"}},
        {"text": "structuredCl", "matches": {"structuredClone"}},
    )

    complete_code_samples = ("const a = 1", "console.log('hi')", "function f(x: number) {\n  return x * 2;\n}")
    incomplete_code_samples = ("console.log('hi'", "function f(x) {", "const t = `half")
    invalid_code_samples = ("const = 1;\n1", "let x x;\n2")

    code_generate_error = "throw new Error('on purpose')"
    code_execute_result = (
        {"code": "1 + 2 + 3", "result": "6"},
        {"code": "[1, 2].map((n) => n * 41)", "result": "[ 41, 82 ]"},
    )
    code_display_data = (
        {"code": "display({ 'text/html': '<b>x</b>' }, { raw: true })", "mime": "text/html"},
        {
            "code": "display(new Uint8Array([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a]))",
            "mime": "image/png",
        },
    )
    code_inspect_sample = "parseInt"
    code_page_something = "parseInt?"
    code_clear_output = "jupyter.clearOutput()"

    code_history_pattern = "1 + 2*"
    supported_history_operations = ("tail", "range", "search")


if __name__ == "__main__":
    unittest.main(verbosity=2)
