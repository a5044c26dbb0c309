#!/usr/bin/env node
// A file of its own because npm links commands before the build, and the compiler's output is not executable.
import "../dist/cli.js";
