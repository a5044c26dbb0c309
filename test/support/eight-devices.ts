/** Eight virtual CPU devices for this test file's runtime: import this before test/support/runtime.ts. */
process.env.ARONNAX_DEVICES = "cpu:8";
